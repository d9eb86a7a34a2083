"""The firewall: its rules as data, and what they let through (row G2)."""

from __future__ import annotations

import json
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path
from typing import Any

import pytest
import yaml

from components.network.firewall import FirewallRule, Traffic, platform_rules, rules
from settings.network import GkeNetwork
from verify.__main__ import main
from verify.firewall import Cell, Firewall, Party, Protocol, matrix, ways_out

DOCUMENT: dict[str, Any] = {
    "kind": "gke",
    "cidrs": {"gateway": None},
    "nat": {"subnets": "all"},
    "firewall": {"hardened": False, "calico": True, "kubeletReadonly": True},
}
"""The document's network, with the rules that it calls optional."""

BOTH = ("application", "gateway")
CHECKERS = ("130.211.0.0/22", "35.191.0.0/16", "209.85.152.0/22", "209.85.204.0/22")


def network(**settings: Any) -> GkeNetwork:
    return GkeNetwork.model_validate({"kind": "gke", **settings})


def described(rule: FirewallRule) -> tuple[Any, ...]:
    (traffic,) = rule.traffic
    return (
        rule.direction,
        rule.action,
        rule.priority,
        tuple(map(str, rule.ranges)),
        ":".join([traffic.protocol, *filter(None, [",".join(traffic.ports)])]),
        rule.targets,
    )


def test_the_documents_nine_rules() -> None:
    found = {rule.name: rule for rule in rules(GkeNetwork.model_validate(DOCUMENT))}
    assert {name: described(rule) for name, rule in found.items()} == {
        "global-deny-egress-all": ("EGRESS", "DENY", 65535, ("0.0.0.0/0",), "all", ()),
        "gateway-allow-egress-web": ("EGRESS", "ALLOW", 1000, ("0.0.0.0/0",), "tcp:80,443", ("gateway",)),
        "allow-egress-to-api-server": ("EGRESS", "ALLOW", 1000, ("10.5.0.0/28",), "tcp:443,10250", ()),
        "allow-ingress-api-server-to-webhook": ("INGRESS", "ALLOW", 1000, ("10.5.0.0/28",), "tcp:15017", ()),
        "allow-egress-pods-and-services": ("EGRESS", "ALLOW", 1000, ("10.1.0.0/16", "10.2.0.0/20"), "all", ()),
        "allow-egress-calico": ("EGRESS", "ALLOW", 1000, ("10.0.0.0/24",), "tcp:5473", ()),
        "allow-egress-kubelet-readonly": ("EGRESS", "ALLOW", 1000, ("10.0.0.0/24",), "tcp:10255", ()),
        "allow-egress-gcp-apis": ("EGRESS", "ALLOW", 1000, ("199.36.153.8/30",), "tcp", ()),
        "allow-ingress-gcp-health-checker": ("INGRESS", "ALLOW", 1000, CHECKERS, "tcp:80,443", ()),
        # Today's GKE needs these two besides.
        "allow-egress-konnectivity": ("EGRESS", "ALLOW", 1000, ("10.5.0.0/28",), "tcp:8132", ()),
        "allow-egress-kubelet": ("EGRESS", "ALLOW", 1000, ("10.0.0.0/24",), "tcp:10250", ()),
    }
    assert found["global-deny-egress-all"].description == "Default rule to deny all egress from the network."


def test_the_hardened_rules_are_for_the_node_accounts_and_both_subnets() -> None:
    found = {rule.name: described(rule) for rule in rules(network())}
    subnets, pods = ("10.0.0.0/24", "10.0.1.0/28"), ("10.1.0.0/16", "10.3.0.0/20")
    assert found == {
        "global-deny-egress-all": ("EGRESS", "DENY", 65535, ("0.0.0.0/0",), "all", ()),
        "gateway-allow-egress-web": ("EGRESS", "ALLOW", 1000, ("0.0.0.0/0",), "tcp:80,443", ("gateway",)),
        "allow-egress-to-api-server": ("EGRESS", "ALLOW", 1000, ("10.5.0.0/28",), "tcp:443,10250", BOTH),
        "allow-egress-konnectivity": ("EGRESS", "ALLOW", 1000, ("10.5.0.0/28",), "tcp:8132", BOTH),
        "allow-egress-pods-and-services": ("EGRESS", "ALLOW", 1000, (*pods, "10.2.0.0/20"), "all", BOTH),
        "allow-egress-kubelet": ("EGRESS", "ALLOW", 1000, subnets, "tcp:10250", BOTH),
        "allow-egress-gcp-apis": ("EGRESS", "ALLOW", 1000, ("199.36.153.8/30",), "tcp", BOTH),
        "allow-ingress-gcp-health-checker": ("INGRESS", "ALLOW", 1000, CHECKERS, "tcp:80,443", BOTH),
        "allow-ingress-api-server-to-webhook": ("INGRESS", "ALLOW", 1000, ("10.5.0.0/28",), "tcp:15017", BOTH),
        "allow-ingress-nodes-and-pods": ("INGRESS", "ALLOW", 1000, (*subnets, *pods), "all", BOTH),
    }


def names(settings: GkeNetwork) -> set[str]:
    return {rule.name for rule in rules(settings)}


@pytest.mark.parametrize(
    ("key", "value", "rule"),
    [
        ("calico", True, "allow-egress-calico"),
        ("kubeletReadonly", True, "allow-egress-kubelet-readonly"),
        ("inClusterIstiod", False, "allow-ingress-api-server-to-webhook"),
    ],
)
def test_a_choice_adds_or_takes_one_rule(key: str, value: bool, rule: str) -> None:
    assert names(network()) ^ names(network(firewall={key: value})) == {rule}


def test_restricted_apis_open_their_own_range() -> None:
    (rule,) = [it for it in rules(network(googleApis="restricted")) if it.name == "allow-egress-gcp-apis"]
    assert rule.ranges == (IPv4Network("199.36.153.4/30"),)


def test_in_an_adopted_vpc_other_machines_are_left_alone() -> None:
    (rule,) = [it for it in rules(network(adoptVpc="shared")) if it.name == "global-deny-egress-all"]
    assert rule.targets == BOTH
    other = Party("somebody else's", IPv4Address("10.9.0.1"), "other")
    web = Party("internet", IPv4Address("198.51.100.10"))
    assert Firewall.of(network(adoptVpc="shared")).ask(other, web, "tcp", 443).decided_by == "implied-allow-egress"
    assert not Firewall.of(network()).ask(other, web, "tcp", 443).allowed


def test_hardening_keeps_other_machines_of_the_vpc_away() -> None:
    other = Party("another machine", IPv4Address("10.0.0.99"), "other")
    pod = Party("pod", IPv4Address("10.1.0.7"), "application")
    document = Firewall.of(GkeNetwork.model_validate(DOCUMENT)).ask(other, pod, "tcp", 8080)
    assert (document.allowed, document.decided_by) == (True, "allow-egress-pods-and-services, gke-vms")
    hardened = Firewall.of(network()).ask(other, pod, "tcp", 8080)
    assert (hardened.allowed, hardened.decided_by) == (False, "global-deny-egress-all")


def test_a_rule_of_ones_own() -> None:
    own = {
        "name": "database",
        "direction": "egress",
        "action": "allow",
        "priority": 900,
        "ranges": ["10.9.0.0/24"],
        "ports": ["5432", "6000-6010"],
        "targets": ["application"],
        "description": "The database",
    }
    settings = network(firewall={"rules": [own]})
    assert described(rules(settings)[-1]) == (
        "EGRESS",
        "ALLOW",
        900,
        ("10.9.0.0/24",),
        "tcp:5432,6000-6010",
        ("application",),
    )
    firewall, database = Firewall.of(settings), Party("database", IPv4Address("10.9.0.7"))
    asked = {
        (role, port): firewall.ask(Party(role, IPv4Address("10.1.0.7"), role), database, "tcp", port).allowed
        for role in BOTH
        for port in (5432, 5433, 5999, 6000, 6005, 6010, 6011)
    }
    assert {which for which, allowed in asked.items() if allowed} == {
        ("application", port) for port in (5432, 6000, 6005, 6010)
    }


# Evaluation


def rule(
    name: str,
    direction: str = "EGRESS",
    action: str = "ALLOW",
    ranges: str = "0.0.0.0/0",
    traffic: tuple[Traffic, ...] = (Traffic("all"),),
    **more: Any,
) -> FirewallRule:
    return FirewallRule(
        name=name,
        direction="EGRESS" if direction == "EGRESS" else "INGRESS",
        action="ALLOW" if action == "ALLOW" else "DENY",
        ranges=(IPv4Network(ranges),),
        traffic=traffic,
        description="",
        **more,
    )


PLATFORM = platform_rules(network())
A = Party("a", IPv4Address("10.0.0.11"), "application")
G = Party("g", IPv4Address("10.0.1.11"), "gateway")
WEB = Party("web", IPv4Address("198.51.100.10"))
METADATA = Party("metadata", IPv4Address("169.254.169.254"))


def asked(
    *declared: FirewallRule,
    source: Party = A,
    target: Party = WEB,
    protocol: Protocol = "tcp",
    port: int | None = 443,
) -> str:
    answer = Firewall([*declared, *PLATFORM]).ask(source, target, protocol, port)
    return f"{'allowed' if answer.allowed else 'denied'} by {answer.decided_by}"


def test_without_rules_egress_is_allowed_and_ingress_denied() -> None:
    assert asked() == "allowed by implied-allow-egress"
    assert asked(source=WEB, target=A) == "denied by implied-deny-ingress"


def test_the_smaller_number_goes_first() -> None:
    allow, deny = rule("allow", priority=999), rule("deny", action="DENY", priority=1000)
    assert asked(allow, deny) == asked(deny, allow) == "allowed by allow"


def test_deny_goes_before_allow_at_the_same_priority() -> None:
    allow, deny = rule("allow"), rule("deny", action="DENY")
    assert asked(allow, deny) == asked(deny, allow) == "denied by deny"


def test_deny_at_the_lowest_priority_goes_before_the_implied_rule() -> None:
    assert asked(rule("deny", action="DENY", priority=65535)) == "denied by deny"


def test_an_ingress_rule_that_allows_at_the_lowest_priority_never_takes_effect() -> None:
    late, early = (rule("allow", "INGRESS", priority=priority) for priority in (65535, 65534))
    assert asked(late, source=WEB, target=A) == "denied by implied-deny-ingress"
    assert asked(early, source=WEB, target=A) == "allowed by allow"


def test_a_rule_is_for_its_direction_and_its_accounts() -> None:
    assert asked(rule("in", "INGRESS", "DENY")) == "allowed by implied-allow-egress"
    gateways = rule("gateways", action="DENY", targets=("gateway",))
    assert asked(gateways) == "allowed by implied-allow-egress"
    assert asked(gateways, source=G) == "denied by gateways"


def test_a_rule_is_for_its_ranges_protocols_and_ports() -> None:
    deny = rule("deny", action="DENY", ranges="198.51.100.0/28", traffic=(Traffic("tcp", ("443", "8000-8010")),))
    assert asked(deny) == "denied by deny"
    assert asked(deny, port=8010) == "denied by deny"
    assert asked(deny, port=8011) == "allowed by implied-allow-egress"
    assert asked(deny, protocol="udp") == "allowed by implied-allow-egress"
    assert asked(deny, protocol="icmp", port=None) == "allowed by implied-allow-egress"
    assert asked(deny, target=Party("web", IPv4Address("198.51.100.16"))) == "allowed by implied-allow-egress"
    two = rule("two", action="DENY", traffic=(Traffic("udp"), Traffic("icmp")))
    assert asked(two, protocol="icmp", port=None) == "denied by two"


def test_between_machines_both_ends_decide() -> None:
    leave, enter = rule("leave", ranges="10.0.1.0/28"), rule("enter", "INGRESS", ranges="10.0.0.0/24")
    deny = rule("deny", action="DENY", priority=2000)
    no_platform = [it for it in PLATFORM if it.name.startswith("implied")]
    both = Firewall([leave, enter, deny, *no_platform]).ask(A, G, "tcp", 80)
    assert (both.allowed, both.decided_by) == (True, "leave, enter")
    one = Firewall([leave, deny, *no_platform]).ask(A, G, "tcp", 80)
    assert (one.allowed, one.decided_by) == (False, "implied-deny-ingress")
    other = Firewall([enter, deny, *no_platform]).ask(A, G, "tcp", 80)
    assert (other.allowed, other.decided_by) == (False, "deny")


def test_no_rule_forbids_the_metadata_server() -> None:
    deny = rule("deny", action="DENY", priority=0)
    for protocol, port in (("tcp", 80), ("udp", 53), ("udp", 67), ("udp", 123)):
        answer = asked(deny, target=METADATA, protocol="tcp" if protocol == "tcp" else "udp", port=port)
        assert answer == "allowed by always-allowed-metadata-server"
    assert asked(deny, target=Party("beside", IPv4Address("169.254.169.253"))) == "denied by deny"


# The matrix

DENIED = "global-deny-egress-all"
PODS = "allow-egress-pods-and-services"
CLUSTER = "allow-ingress-nodes-and-pods"

ANY_ACCOUNT: dict[tuple[str, str], tuple[bool, str | None, str | None]] = {
    ("internet", "tcp/22"): (False, DENIED, None),
    ("internet", "tcp/25"): (False, DENIED, None),
    ("internet", "tcp/8443"): (False, DENIED, None),
    ("internet", "udp/443"): (False, DENIED, None),
    ("internet", "icmp"): (False, DENIED, None),
    ("public DNS", "udp/53"): (False, DENIED, None),
    ("public DNS", "tcp/53"): (False, DENIED, None),
    ("control plane", "tcp/8132"): (True, "allow-egress-konnectivity", None),
    ("control plane", "tcp/10250"): (True, "allow-egress-to-api-server", None),
    ("control plane", "tcp/22"): (False, DENIED, None),
    ("application pods", "tcp/8080"): (True, PODS, CLUSTER),
    ("application pods", "tcp/15012"): (True, PODS, CLUSTER),
    ("application pods", "udp/53"): (True, PODS, CLUSTER),
    ("gateway pods", "tcp/8080"): (True, PODS, CLUSTER),
    ("gateway pods", "tcp/15012"): (True, PODS, CLUSTER),
    ("gateway pods", "udp/53"): (True, PODS, CLUSTER),
    ("services", "udp/53"): (True, PODS, None),
    ("application nodes", "tcp/10250"): (True, "allow-egress-kubelet", CLUSTER),
    ("application nodes", "tcp/5473"): (False, DENIED, CLUSTER),
    ("application nodes", "tcp/22"): (False, DENIED, CLUSTER),
    ("gateway nodes", "tcp/10250"): (True, "allow-egress-kubelet", CLUSTER),
    ("gateway nodes", "tcp/5473"): (False, DENIED, CLUSTER),
    ("gateway nodes", "tcp/22"): (False, DENIED, CLUSTER),
    ("metadata server", "tcp/80"): (True, "always-allowed-metadata-server", None),
    ("metadata server", "udp/53"): (True, "always-allowed-metadata-server", None),
}
"""What is the same for both accounts: target and traffic -> allowed, and the rules that decided egress and ingress."""

APPLICATION = ANY_ACCOUNT | {
    ("internet", "tcp/80"): (False, DENIED, None),
    ("internet", "tcp/443"): (False, DENIED, None),
    ("control plane", "tcp/443"): (True, "allow-egress-to-api-server", None),
    ("services", "tcp/443"): (True, PODS, None),
    ("application nodes", "tcp/10255"): (False, DENIED, "gke-inkubelet"),
    ("gateway nodes", "tcp/10255"): (False, DENIED, "gke-inkubelet"),
    ("private Google APIs", "tcp/443"): (True, "allow-egress-gcp-apis", None),
    ("restricted Google APIs", "tcp/443"): (False, DENIED, None),
}
WEB_RULE = "gateway-allow-egress-web"
GATEWAY = ANY_ACCOUNT | {
    ("internet", "tcp/80"): (True, WEB_RULE, None),
    ("internet", "tcp/443"): (True, WEB_RULE, None),
    # The rule for the web has no end: it fits first wherever it fits at all.
    ("control plane", "tcp/443"): (True, WEB_RULE, None),
    ("services", "tcp/443"): (True, WEB_RULE, None),
    ("application nodes", "tcp/10255"): (False, DENIED, "gke-exkubelet"),
    ("gateway nodes", "tcp/10255"): (False, DENIED, "gke-exkubelet"),
    ("private Google APIs", "tcp/443"): (True, WEB_RULE, None),
    ("restricted Google APIs", "tcp/443"): (True, WEB_RULE, None),
}
CHECKER = "allow-ingress-gcp-health-checker"
INTO = {
    ("control plane", "nodes", "tcp/443"): (True, None, "gke-master"),
    ("control plane", "nodes", "tcp/10250"): (True, None, "gke-master"),
    ("control plane", "nodes", "tcp/10255"): (False, None, "gke-exkubelet"),
    ("control plane", "nodes", "tcp/22"): (False, None, "implied-deny-ingress"),
    ("control plane", "pods", "tcp/15017"): (True, None, "allow-ingress-api-server-to-webhook"),
    ("health checkers", "pods", "tcp/80"): (True, None, CHECKER),
    ("health checkers", "pods", "tcp/443"): (True, None, CHECKER),
    ("health checkers", "pods", "tcp/15021"): (False, None, "implied-deny-ingress"),
    ("internet", "nodes", "tcp/80"): (False, None, "implied-deny-ingress"),
    ("internet", "nodes", "tcp/443"): (False, None, "implied-deny-ingress"),
    ("internet", "nodes", "tcp/22"): (False, None, "implied-deny-ingress"),
    ("internet", "nodes", "tcp/10250"): (False, None, "implied-deny-ingress"),
    ("internet", "nodes", "tcp/10255"): (False, None, "gke-exkubelet"),
}
HARDENED = {
    **{("application pods", *where): answer for where, answer in APPLICATION.items()},
    **{("gateway pods", *where): answer for where, answer in GATEWAY.items()},
    **{
        (source, f"{role} {target}", traffic): answer
        for (source, target, traffic), answer in INTO.items()
        for role in BOTH
    },
}


def seen(cells: tuple[Cell, ...]) -> dict[tuple[str, str, str], tuple[bool, str | None, str | None]]:
    return {
        (cell.source.name, cell.target.name, cell.traffic): (
            cell.answer.allowed,
            cell.answer.egress.rule if cell.answer.egress else None,
            cell.answer.ingress.rule if cell.answer.ingress else None,
        )
        for cell in cells
    }


MATRIX = seen(matrix(network()))


@pytest.mark.parametrize("cell", HARDENED, ids=lambda cell: " ".join(cell))
def test_cell(cell: tuple[str, str, str]) -> None:
    assert MATRIX[cell] == HARDENED[cell]


def test_every_cell_is_expected() -> None:
    assert MATRIX.keys() == HARDENED.keys()


def test_the_documents_matrix_differs_where_its_rules_do() -> None:
    document = seen(matrix(GkeNetwork.model_validate(DOCUMENT)))
    assert document.keys() == MATRIX.keys()
    verdicts = {cell for cell in document if document[cell][0] != MATRIX[cell][0]}
    # The read-only kubelet port and Calico's are open within the subnet: the document's nodes need them.
    assert verdicts == {
        (f"{source} pods", f"{target} nodes", f"tcp/{port}")
        for source in BOTH
        for target in BOTH
        for port in (5473, 10255)
    }
    assert document["application pods", "gateway pods", "tcp/8080"] == (True, PODS, "gke-all")
    assert document["application pods", "gateway nodes", "tcp/10255"] == (
        True,
        "allow-egress-kubelet-readonly",
        "gke-inkubelet",
    )


def test_without_the_webhook_rule_the_control_plane_does_not_reach_istiod() -> None:
    cells = seen(matrix(network(firewall={"inClusterIstiod": False})))
    assert cells["control plane", "application pods", "tcp/15017"] == (False, None, "implied-deny-ingress")


def test_restricted_apis_close_the_others() -> None:
    cells = seen(matrix(network(googleApis="restricted")))
    assert cells["application pods", "private Google APIs", "tcp/443"] == (False, DENIED, None)
    assert cells["application pods", "restricted Google APIs", "tcp/443"] == (True, "allow-egress-gcp-apis", None)


# Ways out


@pytest.mark.parametrize("settings", [{}, DOCUMENT, {"googleApis": "restricted"}, {"adoptVpc": "shared"}], ids=str)
def test_application_nodes_have_no_way_out(settings: dict[str, Any]) -> None:
    assert ways_out(network(**settings), "application") == ()


def test_gateways_have_the_web_alone() -> None:
    found = ways_out(network(), "gateway")
    assert {cell.traffic for cell in found} == {"tcp/80", "tcp/443"}
    assert {cell.answer.decided_by for cell in found} == {"gateway-allow-egress-web"}


@pytest.mark.parametrize(
    ("opened", "traffic"),
    [
        ({"ranges": ["93.184.215.14/32"], "ports": ["8883"]}, ["tcp/8883"]),
        (
            {"ranges": ["93.184.215.14/32"], "ports": ["9000-9002"], "protocol": "udp"},
            ["udp/9000", "udp/9001", "udp/9002"],
        ),
        ({"ranges": ["0.0.0.0/0"], "protocol": "icmp"}, ["icmp"]),
        ({"ranges": ["0.0.0.0/0"], "protocol": "esp"}, ["esp"]),
    ],
    ids=str,
)
def test_the_smallest_way_out_is_found(opened: dict[str, Any], traffic: list[str]) -> None:
    hole = {"name": "hole", "direction": "egress", "action": "allow", "targets": ["application"], "description": "x"}
    found = ways_out(network(firewall={"rules": [{**hole, **opened}]}), "application")
    assert sorted({cell.traffic for cell in found}) == traffic
    assert {cell.answer.decided_by for cell in found} == {"hole"}


def test_a_way_to_private_addresses_is_no_way_out() -> None:
    rule = {
        "name": "vpn",
        "direction": "egress",
        "action": "allow",
        "ranges": ["192.168.0.0/16"],
        "targets": ["application"],
        "description": "x",
    }
    assert ways_out(network(firewall={"rules": [rule]}), "application") == ()


# The command

HOLE = {
    "name": "hole",
    "direction": "egress",
    "action": "allow",
    "ranges": ["0.0.0.0/0"],
    "ports": ["5432"],
    "targets": ["application"],
    "description": "x",
}


@pytest.fixture
def directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project's directory, and no pulumi on the PATH."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PATH", str(tmp_path))
    return tmp_path


def write(directory: Path, section: Any) -> None:
    (directory / "Pulumi.gke.yaml").write_text(yaml.safe_dump({"config": {"meshgate:network": section}}))


def test_command_prints_the_matrix(directory: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(directory, {"kind": "gke"})
    assert main(["--firewall", "--stack", "acme/meshgate/gke"]) == 0
    said = capsys.readouterr()
    assert said.out.count("│ application pods │") + said.out.count("│ gateway pods     │") >= 66
    assert "gateway-allow-egress-web" in said.out
    assert said.err == "application nodes do not reach the internet\n"


def test_command_prints_json(directory: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(directory, {"kind": "gke"})
    assert main(["--firewall", "--json", "--stack", "gke"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["stack"] == "gke"
    assert found["leaks"] == []
    assert len(found["cells"]) == len(HARDENED)
    assert found["cells"][0] == {
        "source": "application pods",
        "target": "internet",
        "address": "198.51.100.10",
        "traffic": "tcp/80",
        "allowed": False,
        "egress": "global-deny-egress-all",
        "ingress": None,
    }


def test_command_fails_when_application_nodes_reach_the_internet(
    directory: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write(directory, {"kind": "gke", "firewall": {"rules": [HOLE]}})
    assert main(["--firewall", "--json", "--stack", "gke"]) == 1
    said = capsys.readouterr()
    assert json.loads(said.out)["leaks"][0]["egress"] == "hole"
    assert said.err.startswith("application nodes REACH the internet, by hole (for example tcp/5432 to ")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (None, "there is no Pulumi.gke.yaml in "),
        (
            "config: {meshgate:cluster: {}}",
            "Pulumi.gke.yaml has no meshgate:network: name the stack that holds the layer",
        ),
        ("", "Pulumi.gke.yaml has no meshgate:network"),
        ("config: [", "Pulumi.gke.yaml is no YAML"),
        ("config: {meshgate:network: {kind: gke, nat: {subnets: none}}}", "meshgate:network.nat.subnets: is 'none'"),
        (
            "config: {meshgate:network: {kind: gke, cidrs: {gateway: null}}}",
            "meshgate:network.nat.subnets: is 'gateway'",
        ),
    ],
)
def test_command_says_what_is_wrong(
    directory: Path, capsys: pytest.CaptureFixture[str], text: str | None, said: str
) -> None:
    if text is not None:
        (directory / "Pulumi.gke.yaml").write_text(text)
    assert main(["--firewall", "--stack", "gke"]) == 2
    assert said in capsys.readouterr().err
