"""Egress before and after changes of its settings, on the lab: rows G6, G9 and what a team's leaving does to others."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from lab.instance import Instance
from tests.deployment import DESTROY, UP, Stack, stack_file, write_stack_file
from tests.lab.outcomes import Outcomes, verify
from verify import certificates

pytestmark = pytest.mark.lab

UNNEEDED = ("workload_identity", "ingress")
"""Layers of dev that nothing here is about."""


def _config() -> dict[str, Any]:
    config = stack_file("dev")
    for layer in UNNEEDED:
        config["meshgate:layers"].remove(layer)
        del config[f"meshgate:{layer}"]
    return config


def _entry(config: dict[str, Any], team: str, host: str, mode: str) -> dict[str, Any]:
    """A team's entry of a host, to be changed."""
    hosts = next(it for it in config["meshgate:teams"]["teams"] if it["name"] == team)["hosts"]
    found: dict[str, Any] = next(it for it in hosts if (it["host"], it["mode"]) == (host, mode))
    return found


def _observed(outcomes: Outcomes, words: str) -> dict[str, Any]:
    """The one probe whose promise begins with these words."""
    (found,) = (probe for probe in outcomes.probes.values() if probe["expected"].startswith(words))
    return found


@pytest.fixture(scope="module")
def unrestricted(lab: Instance, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """dev before its policies: team-x and team-y may ask httpbin.org for anything."""
    config = _config()
    for team in ("team-x", "team-y"):
        _entry(config, team, "httpbin.org", "http")["allow"] = "all"
    stack = Stack(lab, "dev", write_stack_file(tmp_path_factory.mktemp("unrestricted"), "dev", config))
    stack.pulumi(*UP)
    yield stack
    stack.pulumi(*DESTROY, check=False)


@pytest.fixture(scope="module")
def restricted(unrestricted: Stack, tmp_path_factory: pytest.TempPathFactory) -> Stack:
    """dev as it is in its file."""
    file = write_stack_file(tmp_path_factory.mktemp("restricted"), "dev", _config())
    return Stack(unrestricted.instance, "dev", file)


def test_g6_before_the_policies_and_after(unrestricted: Stack, restricted: Stack) -> None:
    before = verify(unrestricted, "--only", "G5")
    assert before.failed() == []
    for team in ("team-x", "team-y"):
        assert _observed(before, f"http://httpbin.org/ from {team}:")["observed"].startswith("200")

    changes = restricted.changes(*UP)
    assert set(changes) <= {"same", "update"}, changes

    after = verify(restricted, "--only", "G5,G6,G7,G8")
    assert after.failed() == []
    for team in ("team-x", "team-y"):
        assert _observed(after, f"http://httpbin.org/ from {team}, not allowed")["observed"].startswith("403")
    assert _observed(after, "http://httpbin.org/status/418 from team-y:")["observed"].startswith("418")
    assert _observed(after, "http://example.com/ from team-x:")["observed"].startswith("200")
    assert _observed(after, "http://example.com/ from team-y, to which")["observed"].startswith("502")


def test_g9_a_wrong_upstream_ca_and_a_team_that_leaves(restricted: Stack, tmp_path: Path) -> None:
    """team-x is told to trust another CA for example.com; team-z, with its credential, is taken out."""
    config = _config()
    teams = config["meshgate:teams"]
    stranger = certificates.authority(certificates.common_name("not the lab internet's CA"))
    ca = tmp_path / "ca.pem"
    ca.write_bytes(stranger.certificate_pem)
    teams["credentials"]["wrong"] = {"kind": "files", "ca": str(ca)}
    _entry(config, "team-x", "example.com", "originate")["tls"] = {"credential": "wrong"}
    teams["teams"] = [team for team in teams["teams"] if team["name"] != "team-z"]
    changed = Stack(restricted.instance, "dev", write_stack_file(tmp_path, "dev", config))
    changes = changed.changes(*UP)
    assert changes.get("delete", 0) > 5, changes

    outcomes = verify(changed, "--only", "G5,G7,G8,G9,G10")
    # What was TLS that begins at the gateway fails there, whatever else is as before.
    broken = _observed(outcomes, "http://example.com/ from team-x: the gateway speaks")
    assert broken["ok"] is False
    assert broken["observed"].startswith("503")
    assert "CERTIFICATE_VERIFY_FAILED" in broken["observed"] + broken["evidence"]
    assert _observed(outcomes, "http://example.com/ from team-x: the host's")["ok"] is False
    assert len(outcomes.failed()) == 2, outcomes.failed()
    assert _observed(outcomes, "https://example.com/ from team-x:")["ok"] is True
    assert _observed(outcomes, "http://httpbin.org/status/418 from team-y:")["ok"] is True
