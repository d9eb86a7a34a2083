"""The router's rules: those of the VPC firewall, what the lab needs besides, and their nftables text."""

from __future__ import annotations

import re
from ipaddress import IPv4Address

import pytest

from components.network.firewall import FirewallRule, Traffic, platform_rules, rules
from lab import topology
from lab.firewall import ACCOUNTS, DEFAULT, LAB_RULES, NETWORK, OPEN, WAYS, pool_rules, render
from lab.topology import POOLS, ZONES
from verify.firewall import Firewall, Party, Protocol

ENDS = {
    "internet": topology.SERVERS["httpbin.org"],
    "control": topology.CONTROL_PLANE,
    "resolver": topology.RESOLVER,
    "app-1": topology.NODES[0].address,
    "google": topology.PRIVATE_APIS[0],
    "vault": topology.VAULT_ADDRESS,
}


def decide(pool: str, target: str, protocol: Protocol, port: int) -> tuple[bool, str]:
    """What the rules of a pool say of its nodes' egress."""
    asking = Party(pool, IPv4Address("10.0.0.11"), ACCOUNTS[pool])
    answer = Firewall(pool_rules(pool)).ask(asking, Party(target, ENDS[target]), protocol, port)
    assert answer.egress
    return answer.egress.allowed, answer.egress.rule


@pytest.mark.parametrize(
    ("pool", "target", "protocol", "port", "allowed", "rule"),
    [
        ("application", "internet", "tcp", 80, False, "global-deny-egress-all"),
        ("application", "internet", "udp", 53, False, "global-deny-egress-all"),
        ("gateway", "internet", "tcp", 443, True, "gateway-allow-egress-web"),
        ("gateway", "internet", "tcp", 25, False, "global-deny-egress-all"),
        ("open", "internet", "tcp", 25, True, "lab-open-allow-egress-all"),
        ("application", "google", "tcp", 443, True, "allow-egress-gcp-apis"),
        # The lab's own needs.
        ("application", "control", "tcp", topology.API_PORT, True, "allow-egress-to-api-server"),
        ("application", "control", "tcp", 443, False, "global-deny-egress-all"),
        ("gateway", "control", "udp", 53, True, "lab-allow-egress-dns"),
        ("gateway", "resolver", "udp", 53, True, "lab-allow-egress-dns"),
        ("gateway", "resolver", "tcp", topology.REGISTRY_PORT, False, "global-deny-egress-all"),
        ("application", "control", "tcp", topology.REGISTRY_PORT, True, "lab-allow-egress-registry"),
        ("application", "vault", "tcp", 8200, True, "lab-allow-egress-vault"),
        ("gateway", "vault", "tcp", 8200, True, "lab-allow-egress-vault"),
        ("application", "vault", "tcp", 8201, False, "global-deny-egress-all"),
        ("gateway", "vault", "udp", 8200, False, "global-deny-egress-all"),
    ],
)
def test_who_reaches_what(pool: str, target: str, protocol: Protocol, port: int, allowed: bool, rule: str) -> None:
    assert decide(pool, target, protocol, port) == (allowed, rule)


def test_the_rules_are_those_of_the_analysis_and_few_more() -> None:
    analysed = {rule.name: rule for rule in [*rules(NETWORK), *platform_rules(NETWORK)]}
    for pool in POOLS:
        for rule in pool_rules(pool.name):
            if rule.name == "allow-egress-to-api-server":
                assert rule.traffic == (Traffic("tcp", (str(topology.API_PORT), "10250")),)
            elif rule not in LAB_RULES and rule != OPEN:
                assert rule == analysed[rule.name]
        names = {rule.name for rule in pool_rules(pool.name)}
        account = ACCOUNTS[pool.name]
        assert names >= {rule.name for rule in analysed.values() if not rule.targets or account in rule.targets}
        assert (OPEN.name in names) == (pool.name == "open")


def test_the_network_is_the_labs() -> None:
    assert list(NETWORK.problems()) == []
    assert NETWORK.cidrs.named() == {
        "nodes": topology.NODES_RANGE,
        "pods": topology.PODS_RANGE,
        "services": topology.SERVICES_RANGE,
        "controlPlane": topology.CONTROL_PLANE_RANGE,
    }
    assert NETWORK.google_apis_cidr == topology.PRIVATE_APIS


def test_text_has_a_counter_for_each_rule_of_each_pool() -> None:
    text = render()
    declared = re.findall(r"^    counter (\S+) \{ \}$", text, re.MULTILINE)
    used = set(re.findall(r'counter name "([^"]+)"', text))
    assert len(declared) == len(set(declared))
    assert set(declared) == used
    assert used == {
        *(way.name for way in WAYS),
        *(f"{pool.name}/{rule.name}" for pool in POOLS for rule in pool_rules(pool.name)),
        DEFAULT,
    }


def chain(name: str) -> list[str]:
    (found,) = re.findall(rf"    chain {name} {{\n(.*?)\n    }}", render(), re.DOTALL)
    return [line.strip() for line in found.splitlines()]


def test_text_of_a_pools_egress() -> None:
    lines = chain("gateway-egress")
    assert lines[0].startswith('ip daddr { 169.254.169.254/32 } counter name "gateway/always-allowed-metadata-server" ')
    assert (
        'tcp dport { 80, 443 } counter name "gateway/gateway-allow-egress-web" return comment '
        '"Allow the nodes running the egress gateways to connect to the web"'
    ) in lines
    assert (
        'ip daddr { 199.36.153.8/30 } meta l4proto tcp counter name "gateway/allow-egress-gcp-apis" return comment '
        '"Allow access to the VIPs used by Google Cloud APIs (Private Google Access)"'
    ) in lines
    # Deny goes before allow at the same priority.
    assert [line.split('"')[1] for line in lines[-2:]] == [
        "gateway/global-deny-egress-all",
        "gateway/implied-allow-egress",
    ]
    assert lines[-2].startswith('counter name "gateway/global-deny-egress-all" drop ')
    assert not any("gateway-allow-egress-web" in line for line in chain("application-egress"))


def test_text_of_a_pools_ingress() -> None:
    lines = chain("application-ingress")
    assert lines[0].startswith("ip saddr { 10.0.0.0/24, 10.1.0.0/16 } tcp dport { 10255 } counter name")
    assert lines[-1].startswith('counter name "application/implied-deny-ingress" drop ')
    assert any("ip saddr { 10.5.0.0/28 } tcp dport { 15017 } counter name" in line for line in lines)


def test_text_asks_for_egress_then_for_ingress_then_lets_through() -> None:
    lines = chain("forward")
    assert lines[0] == "type filter hook forward priority filter; policy drop;"
    assert lines[1] == "ct state established,related accept"
    steps = [line for line in lines if " jump " in line or "is allowed" in line]
    assert [line.split(" ", 1)[0] for line in steps] == ["iifname"] * 3 + ["oifname"] * 3 + ["iifname", "oifname"]
    assert 'iifname { "app-1", "app-2" } jump application-egress' in lines
    assert 'oifname { "gateway" } jump gateway-ingress' in lines
    assert lines[-1].startswith(f'counter name "{DEFAULT}"')


def test_text_of_ways() -> None:
    lines = chain("forward")
    for line in (
        'iifname { "control" } oifname { "vault" } tcp dport 8200 counter name "control-to-vault" accept',
        'iifname { "vault" } oifname { "control" } tcp dport 6443 counter name "vault-to-control" accept',
        'iifname { "internet", "client-a", "client-b" } oifname { "balancer" } ip daddr 203.0.113.3 counter name',
        'iifname { "balancer" } oifname { "app-1", "app-2", "open", "gateway" } tcp dport 30000-32767 counter name',
        'iifname { "internet", "client-a", "client-b" } oifname { "app-1", "app-2", "open", "gateway" } '
        "ip daddr { 203.0.113.1, 203.0.113.100-203.0.113.199 } counter name",
    ):
        assert any(found.startswith(line) for found in lines), line


def test_vault_and_the_balancer_have_no_other_ways() -> None:
    ways = {(way.source, way.target) for way in WAYS if {"vault", "balancer"} & {way.source, way.target}}
    assert ways == {
        ("control", "vault"),
        ("vault", "control"),
        ("internet", "balancer"),
        ("control", "balancer"),
        ("balancer", "nodes"),
    }


def test_replies_to_a_proxy_go_back_to_it() -> None:
    assert chain("proxied") == [
        "type filter hook prerouting priority mangle;",
        'iifname { "nlb" } ct state new ct mark set 1',
        'iifname != { "nlb" } ct mark 1 meta mark set 1 comment "its source is not where it goes"',
    ]
    proxies = {link.machine for link in topology.LINKS if link.is_proxy}
    assert proxies == set(ZONES["nlb"])


def test_an_nlb_sees_the_clusters_public_address() -> None:
    (line,) = [line for line in chain("source-nat") if "snat" in line]
    assert line.startswith(
        'ip saddr 10.0.0.0/8 oifname { "internet", "client-a", "client-b", "nlb" } snat to 203.0.113.2'
    )


def test_no_way_begins_at_a_node() -> None:
    nodes = set(ZONES["nodes"])
    assert [way.name for way in WAYS if nodes & set(ZONES[way.source])] == []


def test_names_differ_and_comments_fit() -> None:
    every: list[FirewallRule] = [rule for pool in POOLS for rule in pool_rules(pool.name)]
    assert all(len(rule.description) < 128 for rule in every)  # nftables' limit
    assert all(len(way.why) < 128 for way in WAYS)
    assert all('"' not in rule.description for rule in every)
