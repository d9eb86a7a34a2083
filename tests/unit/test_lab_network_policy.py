"""What NetworkPolicies permit, as networking.k8s.io/v1 says it, and the nftables text of it."""

from __future__ import annotations

import json
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any

import pytest
import yaml
from lightkube.resources.core_v1 import Pod as PodResource
from lightkube.resources.networking_v1 import NetworkPolicy

from lab import network_policy
from lab.instance import Instance
from lab.network_policy import Cluster, networked, new_pod
from lab.network_policy_rules import Direction, Pod, Rules, compute, render
from lab.topology import RESOLVER

NAMESPACES = {
    name: {"kubernetes.io/metadata.name": name, **labels}
    for name, labels in {
        "team-x": {"team": "x"},
        "team-y": {"team": "y"},
        "istio-egress": {},
        "kube-system": {},
    }.items()
}


def pod(address: str, namespace: str, node: str = "one", ports: dict[str, int] | None = None, **labels: str) -> Pod:
    named = {(name, "tcp"): number for name, number in (ports or {}).items()}
    return Pod(namespace, labels, node, IPv4Address(address), named)


A = pod("10.1.1.1", "team-x", app="a", ports={"http": 8080})
B = pod("10.1.1.2", "team-x", app="b", ports={"http": 9090})
FAR = pod("10.1.2.1", "team-x", "two", app="far")
Y = pod("10.1.2.2", "team-y", "two", app="a", ports={"http": 7070})
GATEWAY = pod("10.1.4.1", "istio-egress", "two", istio="egressgateway")
PODS = [A, B, FAR, Y, GATEWAY]
OUTSIDE = "198.51.100.10"


def policy(text: str, namespace: str = "team-x", name: str = "p") -> NetworkPolicy:
    """A policy of a namespace from its spec as YAML."""
    metadata = {"name": name, "namespace": namespace}
    found = NetworkPolicy.from_dict({"metadata": metadata, "spec": {"podSelector": {}, **yaml.safe_load(text)}})
    assert isinstance(found, NetworkPolicy)
    return found


def rules(*policies: NetworkPolicy, node: str = "one") -> Rules:
    return compute(node, policies, PODS, NAMESPACES)


def passes(direction: Direction, own: str, source: str, target: str, port: int = 80, protocol: str = "tcp") -> bool:
    """What the kernel does with a new connection, as far as one direction of one node decides it."""
    if IPv4Address(own) not in {it for pods in direction.isolated.values() for it in pods} or source == target:
        return True
    return any(
        (accept.sources is None or any(IPv4Address(source) in it for it in accept.sources))
        and (accept.targets is None or any(IPv4Address(target) in it for it in accept.targets))
        and accept.protocol in ("", protocol)
        and (accept.ports is None or accept.ports[0] <= port <= accept.ports[1])
        for accept in direction.accepts
    )


def out(found: Rules, source: Pod, target: Pod | str, port: int = 80, protocol: str = "tcp") -> bool:
    """Whether a pod may send there, as its own node decides."""
    address = target if isinstance(target, str) else str(target.address)
    return passes(found.egress, str(source.address), str(source.address), address, port, protocol)


def into(found: Rules, source: Pod | str, target: Pod, port: int = 80, protocol: str = "tcp") -> bool:
    """Whether a pod may be reached from there, as its own node decides."""
    address = source if isinstance(source, str) else str(source.address)
    return passes(found.ingress, str(target.address), address, str(target.address), port, protocol)


def test_without_a_policy_all_passes() -> None:
    found = rules()
    assert found.counters == []
    assert out(found, A, OUTSIDE)
    assert into(found, OUTSIDE, A)


@pytest.mark.parametrize(
    ("text", "egress", "ingress"),
    [
        ("{policyTypes: [Egress]}", True, False),
        ("{policyTypes: [Ingress]}", False, True),
        ("{policyTypes: [Ingress, Egress]}", True, True),
        ("{policyTypes: [Ingress], egress: [{to: [{podSelector: {}}]}]}", False, True),
        ("{}", False, True),
        ("{ingress: []}", False, True),
        ("{egress: [{to: [{podSelector: {}}]}]}", True, True),
    ],
)
def test_which_directions_a_policy_isolates(text: str, egress: bool, ingress: bool) -> None:
    found = rules(policy(text))
    assert out(found, A, OUTSIDE) is not egress
    assert into(found, OUTSIDE, A) is not ingress
    assert ("egress-team-x" in found.counters) is egress
    assert ("ingress-team-x" in found.counters) is ingress


def test_only_selected_pods_of_its_own_namespace_and_node_are_isolated() -> None:
    neighbour = pod("10.1.1.3", "team-y", app="a")
    selecting = policy("{podSelector: {matchLabels: {app: a}}, policyTypes: [Egress, Ingress]}")
    found = compute("one", [selecting], [*PODS, neighbour], NAMESPACES)
    assert found.egress.isolated == found.ingress.isolated == {"team-x": (A.address,)}
    assert out(found, B, OUTSIDE)
    assert out(found, neighbour, OUTSIDE)
    other = rules(policy("{podSelector: {matchLabels: {app: a}}, policyTypes: [Egress]}", "team-y"), node="two")
    assert other.egress.isolated == {"team-y": (Y.address,)}


def test_a_rule_without_limits_permits_all() -> None:
    for text in ("{egress: [{}], ingress: [{}]}", "{egress: [{to: [], ports: []}], ingress: [{from: [], ports: []}]}"):
        found = rules(policy(text))
        for protocol in ("tcp", "udp", "icmp"):
            assert out(found, A, OUTSIDE, 1234, protocol)
            assert into(found, OUTSIDE, A, 1234, protocol)


@pytest.mark.parametrize(
    ("peer", "reached"),
    [
        ("{podSelector: {}}", [A, B, FAR]),
        ("{podSelector: {matchLabels: {app: a}}}", [A]),
        ("{namespaceSelector: {}}", PODS),
        ("{namespaceSelector: {matchLabels: {kubernetes.io/metadata.name: team-y}}}", [Y]),
        ("{namespaceSelector: {}, podSelector: {matchLabels: {app: a}}}", [A, Y]),
        ("{namespaceSelector: {matchLabels: {team: x}}, podSelector: {matchLabels: {app: a}}}", [A]),
        ("{namespaceSelector: {matchExpressions: [{key: team, operator: In, values: [x, y]}]}}", [A, B, FAR, Y]),
        ("{namespaceSelector: {matchExpressions: [{key: team, operator: NotIn, values: [x]}]}}", [Y, GATEWAY]),
        ("{namespaceSelector: {matchExpressions: [{key: team, operator: Exists}]}}", [A, B, FAR, Y]),
        ("{namespaceSelector: {matchExpressions: [{key: team, operator: DoesNotExist}]}}", [GATEWAY]),
        ("{podSelector: {matchLabels: {app: a}, matchExpressions: [{key: app, operator: NotIn, values: [a]}]}}", []),
        ("{ipBlock: {cidr: 10.1.2.0/24}}", [FAR, Y]),
        ("{ipBlock: {cidr: 10.1.2.0/24, except: [10.1.2.2/32]}}", [FAR]),
        ("{ipBlock: {cidr: 'fd00::/8', except: ['fd00:1::/32']}}", []),
    ],
)
def test_peers(peer: str, reached: list[Pod]) -> None:
    found = rules(policy(f"{{egress: [{{to: [{peer}]}}], ingress: [{{from: [{peer}]}}]}}"))
    for other in PODS:
        assert out(found, B, other) is (other in reached or other is B), other
        assert into(found, other, B) is (other in reached or other is B), other
    assert not out(found, B, OUTSIDE)
    assert not into(found, OUTSIDE, B)


def test_several_peers_and_policies_add_up() -> None:
    either = policy("{egress: [{to: [{podSelector: {matchLabels: {app: a}}}, {ipBlock: {cidr: 198.51.100.0/24}}]}]}")
    found = rules(either)
    assert [out(found, B, it) for it in (A, OUTSIDE, Y)] == [True, True, False]
    found = rules(either, policy("{policyTypes: [Egress]}", name="none"))
    assert [out(found, B, it) for it in (A, OUTSIDE, Y)] == [True, True, False]
    to_y = "{policyTypes: [Egress], egress: [{to: [{namespaceSelector: {matchLabels: {team: y}}}]}]}"
    found = rules(either, policy(to_y, name="more"))
    assert [out(found, B, it) for it in (A, OUTSIDE, Y)] == [True, True, True]


def test_block_with_nested_exceptions() -> None:
    block = "{cidr: 0.0.0.0/0, except: [10.1.2.0/24, 10.0.0.0/8, 198.51.100.10/32]}"
    found = rules(policy(f"{{egress: [{{to: [{{ipBlock: {block}}}]}}]}}"))
    assert [out(found, A, it) for it in (Y, GATEWAY, OUTSIDE, "198.51.100.11", "11.0.0.0", "9.255.255.255")] == [
        *(False, False, False),
        *(True, True, True),
    ]


@pytest.mark.parametrize(
    ("ports", "permitted", "refused"),
    [
        ("[{port: 443}]", [("tcp", 443)], [("udp", 443), ("tcp", 442), ("sctp", 443)]),
        ("[{port: 53, protocol: UDP}]", [("udp", 53)], [("tcp", 53)]),
        ("[{port: 53, protocol: UDP}, {port: 53}]", [("udp", 53), ("tcp", 53)], [("sctp", 53)]),
        ("[{port: 8000, endPort: 8010}]", [("tcp", 8000), ("tcp", 8010)], [("tcp", 7999), ("tcp", 8011)]),
        ("[{protocol: SCTP}]", [("sctp", 1), ("sctp", 65535)], [("tcp", 1)]),
        ("[{}]", [("tcp", 1), ("tcp", 65535)], [("udp", 1)]),
    ],
)
def test_ports(ports: str, permitted: list[tuple[str, int]], refused: list[tuple[str, int]]) -> None:
    found = rules(policy(f"{{egress: [{{ports: {ports}}}], ingress: [{{ports: {ports}}}]}}"))
    for protocol, port in permitted:
        assert out(found, A, Y, port, protocol)
        assert into(found, Y, A, port, protocol)
    for protocol, port in refused:
        assert not out(found, A, Y, port, protocol)
        assert not into(found, Y, A, port, protocol)


def test_a_named_port_is_that_of_the_target_pod() -> None:
    found = rules(policy("{ingress: [{ports: [{port: http}]}]}"))
    assert into(found, OUTSIDE, A, 8080)
    assert not into(found, OUTSIDE, A, 9090)
    assert into(found, OUTSIDE, B, 9090)
    assert not into(found, OUTSIDE, B, 9090, "udp")
    found = rules(policy("{policyTypes: [Egress], egress: [{to: [{namespaceSelector: {}}], ports: [{port: http}]}]}"))
    assert out(found, A, Y, 7070)
    assert out(found, A, B, 9090)
    assert not out(found, A, Y, 9090)
    assert not out(found, A, FAR, 8080)  # has no port of this name
    found = rules(policy("{policyTypes: [Egress], egress: [{ports: [{port: http}]}]}"))
    assert out(found, A, Y, 7070)
    assert not out(found, A, OUTSIDE, 7070)
    found = rules(policy("{egress: [{to: [{ipBlock: {cidr: 0.0.0.0/0}}], ports: [{port: http}]}]}"))
    assert not out(found, A, Y, 7070)  # a block has no names


def test_a_rule_for_nobody_has_no_text() -> None:
    """nftables refuses an empty set."""
    for rule in (
        "{to: [{podSelector: {matchLabels: {app: none}}}]}",
        "{to: [{ipBlock: {cidr: 'fd00::/8'}}]}",
        "{to: [{podSelector: {}}], ports: [{port: nowhere}]}",
    ):
        found = rules(policy(f"{{policyTypes: [Egress], egress: [{rule}]}}"))
        assert found.egress.accepts == ()
        assert "{  }" not in render(found)


def test_a_pod_reaches_itself() -> None:
    found = rules(policy("{policyTypes: [Ingress, Egress]}"))
    assert out(found, A, A)
    assert into(found, A, A)
    assert not out(found, A, B)
    assert (
        'ip saddr . ip daddr { 10.1.1.1 . 10.1.1.1, 10.1.1.2 . 10.1.1.2 } accept comment "a pod to itself"'
        in render(found)
    )


def test_the_resolver_is_a_pod_of_kube_system() -> None:
    found = rules(
        policy(
            """
            policyTypes: [Egress]
            egress:
            - to: [{namespaceSelector: {matchLabels: {kubernetes.io/metadata.name: kube-system}}}]
              ports: [{port: 53, protocol: UDP}, {port: 53, protocol: TCP}]
            """
        )
    )
    assert out(found, A, str(RESOLVER), 53, "udp")
    assert out(found, A, str(RESOLVER), 53, "tcp")
    assert not out(found, A, str(RESOLVER), 8080)
    assert not out(found, A, "10.5.0.2", 53)
    for peer, reached in (("{podSelector: {}}", False), ("{namespaceSelector: {}}", True)):
        assert out(rules(policy(f"{{egress: [{{to: [{peer}]}}]}}")), A, str(RESOLVER)) is reached


def test_text() -> None:
    found = rules(
        policy(
            """
            egress:
            - to: [{ipBlock: {cidr: 198.51.100.0/24}}]
              ports: [{port: 443}, {port: 8000, endPort: 8010, protocol: UDP}, {protocol: SCTP}]
            ingress: [{}]
            """
        )
    )
    assert render(found, ["egress-gone"]) == (
        """table ip network-policy {
    counter egress-team-x { }
    counter ingress-team-x { }
    chain egress { type filter hook forward priority filter; policy accept; }
    chain ingress { type filter hook forward priority filter + 1; policy accept; }
}
flush table ip network-policy
delete counter ip network-policy egress-gone
table ip network-policy {
    chain egress {
        ct state established,related accept
        ip saddr . ip daddr { 10.1.1.1 . 10.1.1.1, 10.1.1.2 . 10.1.1.2 } accept comment "a pod to itself"
        ip saddr { 10.1.1.1/32, 10.1.1.2/32 } ip daddr { 198.51.100.0/24 } tcp dport 443 accept comment "team-x/p"
        ip saddr { 10.1.1.1/32, 10.1.1.2/32 } ip daddr { 198.51.100.0/24 } udp dport 8000-8010 accept comment "team-x/p"
        ip saddr { 10.1.1.1/32, 10.1.1.2/32 } ip daddr { 198.51.100.0/24 } meta l4proto sctp accept comment "team-x/p"
        ip saddr { 10.1.1.1, 10.1.1.2 } counter name "egress-team-x" drop
    }
    chain ingress {
        ct state established,related accept
        ip saddr . ip daddr { 10.1.1.1 . 10.1.1.1, 10.1.1.2 . 10.1.1.2 } accept comment "a pod to itself"
        ip daddr { 10.1.1.1/32, 10.1.1.2/32 } accept comment "team-x/p"
        ip daddr { 10.1.1.1, 10.1.1.2 } counter name "ingress-team-x" drop
    }
}
"""
    )


def test_a_comment_is_no_longer_than_nftables_takes() -> None:
    text = render(rules(policy("{ingress: [{}]}", name="p" * 250)))
    comment = next(line for line in text.splitlines() if "ppp" in line).split('"')[1]
    assert comment.startswith("team-x/ppp")
    assert len(comment) == 127


def resource(spec: dict[str, Any] | None = None, status: dict[str, Any] | None = None) -> PodResource:
    found = PodResource.from_dict(
        {
            "metadata": {"name": "p", "namespace": "team-x", "uid": "u", "labels": {"app": "a"}},
            "spec": {"nodeName": "one", "containers": [{"name": "c"}], **(spec or {})},
            "status": {"phase": "Running", "podIP": "10.1.1.9", **(status or {})},
        }
    )
    assert isinstance(found, PodResource)
    return found


def test_pods_that_have_a_network_of_their_own() -> None:
    found = networked(resource(), None)
    assert found == pod("10.1.1.9", "team-x", app="a")
    assert networked(resource({"hostNetwork": True}), None) is None
    assert networked(resource(status={"phase": "Succeeded"}), None) is None
    assert networked(resource(status={"phase": "Failed"}), None) is None
    assert networked(resource(status={"podIP": None}), None) is None
    assert networked(resource({"nodeName": None}), None) is None


def test_the_plugins_address_wins_over_an_older_one() -> None:
    found = networked(resource(), IPv4Address("10.1.1.10"))
    assert found is not None
    assert found.address == IPv4Address("10.1.1.10")
    assert networked(resource(status={"phase": "Pending", "podIP": None}), IPv4Address("10.1.1.10")) == found


def test_named_ports_are_those_of_containers_and_sidecars() -> None:
    def ports(**numbers: int) -> list[dict[str, Any]]:
        return [{"name": name, "containerPort": number} for name, number in numbers.items()]

    found = networked(
        resource(
            {
                "containers": [
                    {
                        "name": "c",
                        "ports": [*ports(http=8080), {"name": "dns", "containerPort": 53, "protocol": "UDP"}],
                    },
                    {"name": "d", "ports": [*ports(http=1), {"containerPort": 2}]},
                ],
                "initContainers": [
                    {"name": "proxy", "restartPolicy": "Always", "ports": ports(metrics=15090)},
                    {"name": "init", "ports": ports(gone=3)},
                ],
            }
        ),
        None,
    )
    assert found is not None
    assert found.ports == {("http", "tcp"): 8080, ("dns", "udp"): 53, ("metrics", "tcp"): 15090}


def test_a_pod_that_the_api_server_gave_no_address_yet_is_isolated() -> None:
    cluster = Cluster()
    cluster.pods["u"] = resource(status={"phase": "Pending", "podIP": None})
    cluster.policies["p"] = policy("{policyTypes: [Egress]}")
    assert cluster.rules(["one"])["one"].counters == []
    cluster.assigned.update({"u": IPv4Address("10.1.1.10"), "gone": IPv4Address("10.1.1.11")})
    assert cluster.rules(["one", "two"])["one"].egress.isolated == {"team-x": (IPv4Address("10.1.1.10"),)}
    assert cluster.rules(["two"])["two"].counters == []
    assert list(cluster.assigned) == ["u"]


def test_what_the_plugin_is_told() -> None:
    arguments = "IgnoreUnknown=1;K8S_POD_NAMESPACE=team-x;K8S_POD_NAME=p;K8S_POD_UID=u-1"
    network = {"prevResult": {"ips": [{"address": "10.1.1.9/24", "gateway": "10.1.1.1"}]}}
    assert new_pod(arguments, network) == ("u-1", IPv4Address("10.1.1.9"))


def test_the_plugin_and_the_engine_meet_at_the_same_socket(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MESHGATE_LAB_DIR", str(tmp_path))
    instance = Instance("unit")
    socket = str(tmp_path / "unit" / "control" / "network-policy.sock")
    assert f"--unix-socket {socket} " in network_policy.plugin(instance)
    assert json.dumps(["--socket", socket])[1:-1] in json.dumps(network_policy.agent(instance).command)
    assert network_policy.agent(instance).ready == f"unix://{socket}"
