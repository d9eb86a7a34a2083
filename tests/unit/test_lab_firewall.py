"""The router's rules as data and as nftables text."""

import pytest

from lab.firewall import DEFAULT, RULES, Rule, render
from lab.topology import ZONES


def decide(source: str, target: str) -> str:
    """The verdict on a packet from one machine to another, as far as the machines decide it."""
    for rule in RULES:
        if source in ZONES[rule.source] and target in ZONES[rule.target] and not rule.match:
            return rule.verdict
    return "drop"


@pytest.mark.parametrize(
    ("source", "target", "verdict"),
    [
        ("app-1", "internet", "drop"),
        ("app-2", "client-a", "drop"),
        ("open", "internet", "accept"),
        ("gateway", "internet", "accept"),
        ("app-1", "app-2", "accept"),
        ("gateway", "control", "accept"),
        ("control", "app-1", "accept"),
        ("client-a", "client-b", "accept"),
        ("client-a", "app-1", "drop"),
        ("internet", "control", "drop"),
    ],
)
def test_who_reaches_whom(source: str, target: str, verdict: str) -> None:
    assert decide(source, target) == verdict


def test_text_has_a_counter_and_a_comment_per_rule() -> None:
    text = render()
    for rule in RULES:
        assert text.count(f"counter {rule.name} {{ }}") == 1
        assert text.count(f'counter name "{rule.name}" {rule.verdict} comment "{rule.why}"') == 1
    assert f"counter {DEFAULT} {{ }}" in text
    assert "policy drop" in text


def test_text_of_one_rule() -> None:
    rule = Rule("x", "application", "internet", "drop", "because", "tcp dport 80")
    assert (
        'iifname { "app-1", "app-2" } oifname { "internet", "client-a", "client-b" } tcp dport 80 '
        'counter name "x" drop comment "because"\n'
    ) in render((rule,))


def test_names_differ_and_comments_fit() -> None:
    assert len({rule.name for rule in RULES}) == len(RULES)
    assert all(len(rule.why) < 128 for rule in RULES)  # nftables' limit
