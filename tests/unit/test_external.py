"""Scenario external: what each step's sidecars let out, and a proxy that is nobody else's."""

from __future__ import annotations

import hashlib
from typing import Any

import pytest

from components.external.squid import configuration
from settings import SettingsError, load
from settings.external import STEPS
from tests.unit.program import UPSTREAM, Program, run

EXTERNAL = "prod-external"
SQUID = f"{EXTERNAL}-squid"
NODES = {"labels": {"pool": "open"}, "taints": [{"key": "dedicated", "value": "open", "effect": "NoSchedule"}]}
PROXY = "10.2.0.99"
"""The address that the mocks give a Service."""


def config(**section: Any) -> dict[str, Any]:
    return {
        "name": "prod",
        "layers": ["external"],
        "upstream": {"cluster": "base", "mesh": "base"},
        "external": {"registered": "httpbin.org", "unregistered": "www.google.com", **section},
    }


def external(**section: Any) -> Program:
    """The layer alone, on a cluster and a mesh of another stack."""
    return run(config(**section), stack="prod", references={"base": dict(UPSTREAM)})


@pytest.fixture(scope="module")
def program() -> Program:
    """One run for all tests that only look at it."""
    return external()


@pytest.fixture(scope="module")
def other() -> Program:
    """With everything said that the first leaves out."""
    return external(prefix="out", unregistered="www.example.com", nodes=NODES, dnsAddresses=["169.254.20.10/32"])


def spec(program: Program, name: str) -> dict[str, Any]:
    found: dict[str, Any] = program.one(f"{EXTERNAL}-{name}").inputs["spec"]
    return found


# The steps


def test_each_step_has_a_namespace_and_only_those_with_sidecars_join_the_mesh(program: Program) -> None:
    labels = {
        namespace.inputs["metadata"]["name"]: namespace.inputs["metadata"]["labels"]
        for namespace in program.of("core/v1:Namespace")
    }
    restricted = {f"pod-security.kubernetes.io/{mode}": "restricted" for mode in ("enforce", "warn", "audit")}
    assert labels == {
        **{f"external-{step}": {"istio.io/rev": "canary"} for step in STEPS},
        "external-proxy": restricted,
        "external-client": restricted,
    }


def test_modes_are_those_of_the_steps_and_the_proxy_is_unknown_to_all(program: Program) -> None:
    modes = {
        sidecar.inputs["metadata"]["namespace"].removeprefix("external-"): (
            sidecar.inputs["spec"]["outboundTrafficPolicy"]["mode"],
            sidecar.inputs["spec"]["egress"],
        )
        for sidecar in program.of(":Sidecar")
    }
    own = [{"hosts": ["./*"]}]
    assert modes == {
        "allow-any": ("ALLOW_ANY", own),
        "registry-only": ("REGISTRY_ONLY", own),
        "service-entry": ("REGISTRY_ONLY", own),
        "client-allow-any": ("ALLOW_ANY", own),
        "client-registry-only": ("REGISTRY_ONLY", own),
        "client-http": ("REGISTRY_ONLY", own),
        "client-tcp": ("REGISTRY_ONLY", own),
    }


def test_registered_host(program: Program) -> None:
    assert spec(program, "service-entry-serviceentry") == {
        "hosts": ["httpbin.org"],
        "exportTo": ["."],
        "location": "MESH_EXTERNAL",
        "resolution": "DNS",
        "ports": [
            {"number": 80, "name": "http", "protocol": "HTTP"},
            {"number": 443, "name": "tls", "protocol": "TLS"},
        ],
    }


@pytest.mark.parametrize(("step", "protocol"), [("client-http", "HTTP"), ("client-tcp", "TCP")])
def test_the_proxy_is_declared_at_its_address_by_protocol(program: Program, step: str, protocol: str) -> None:
    found = spec(program, f"{step}-serviceentry")
    assert (found["addresses"], found["resolution"], found["endpoints"]) == ([PROXY], "STATIC", [{"address": PROXY}])
    assert found["ports"] == [{"number": 3128, "name": protocol.lower(), "protocol": protocol}]
    assert found["exportTo"] == ["."]


def test_only_three_entries_and_each_in_its_step(program: Program) -> None:
    entries = {entry.inputs["metadata"]["namespace"] for entry in program.of(":ServiceEntry")}
    assert entries == {"external-service-entry", "external-client-http", "external-client-tcp"}


@pytest.mark.parametrize("step", ["allow-any", "registry-only"])
def test_http_listener_without_pods(program: Program, step: str) -> None:
    service = program.one(f"{EXTERNAL}-{step}-listener").inputs
    assert service["metadata"]["namespace"] == f"external-{step}"
    # A selector would make Pulumi wait for pods, of which there are none.
    assert service["spec"] == {"ports": [{"name": "http", "port": 80}]}


# Squid


def test_squid_lets_the_pods_to_the_hosts_and_nothing_else() -> None:
    text = configuration(("httpbin.org", "www.google.com"), "10.1.0.0/16", "10.2.0.0/20")
    lines = [line for line in text.splitlines() if line.startswith(("acl ", "http_access "))]
    assert lines == [
        "acl clients src 10.1.0.0/16",
        "acl hosts dstdomain httpbin.org www.google.com",
        "acl inside dst 10.1.0.0/16 10.2.0.0/20 169.254.0.0/16 127.0.0.0/8 0.0.0.0/32 ::1/128 fe80::/10 fc00::/7",
        "acl http_port port 80",
        "acl https_port port 443",
        "http_access deny !clients",
        "http_access deny !hosts",
        "http_access deny inside",
        "http_access deny CONNECT !https_port",
        "http_access deny !CONNECT !http_port",
        "http_access allow clients",
        "http_access deny all",
        "acl asked has request",
    ]


def test_squid_logs_to_its_output_and_keeps_nothing(program: Program) -> None:
    text = program.one(f"{SQUID}-configuration").inputs["data"]["squid.conf"]
    assert "access_log stdio:/dev/stdout logformat=meshgate asked\n" in text
    assert '%>a %Ss/%03>Hs %<st %rm %ru %[un %Sh/%<a %mt "%{User-Agent}>h"\n' in text
    for line in ("cache deny all", "pid_filename none", "coredump_dir none", "forwarded_for delete"):
        assert f"\n{line}\n" in text


def test_network_policy_of_the_proxy(other: Program) -> None:
    found = spec(other, "squid-network")
    names = {"matchLabels": {"kubernetes.io/metadata.name": "kube-system"}}
    clients = ("client", "client-allow-any", "client-registry-only", "client-http", "client-tcp")
    assert found == {
        "podSelector": {},
        "policyTypes": ["Ingress", "Egress"],
        "ingress": [
            {
                "from": [
                    {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": f"out-{step}"}}}
                    for step in clients
                ],
                "ports": [{"port": 3128, "protocol": "TCP"}],
            }
        ],
        "egress": [
            {
                "to": [{"namespaceSelector": names}, {"ipBlock": {"cidr": "169.254.20.10/32"}}],
                "ports": [{"port": 53, "protocol": "UDP"}, {"port": 53, "protocol": "TCP"}],
            },
            {
                "to": [
                    {
                        "ipBlock": {
                            "cidr": "0.0.0.0/0",
                            "except": ["10.1.0.0/16", "10.2.0.0/20", "169.254.0.0/16"],
                        }
                    }
                ],
                "ports": [{"port": 80, "protocol": "TCP"}, {"port": 443, "protocol": "TCP"}],
            },
        ],
    }


def test_squid_is_closed_before_its_first_pod(program: Program) -> None:
    assert f"{SQUID}-network" in program.one(f"{SQUID}-deployment").dependencies


def test_squid_runs_as_nobody_on_the_nodes_that_may_go_out(other: Program) -> None:
    pod = spec(other, "squid-deployment")["template"]["spec"]
    assert pod["nodeSelector"] == {"pool": "open"}
    assert pod["tolerations"] == [{"key": "dedicated", "operator": "Equal", "value": "open", "effect": "NoSchedule"}]
    assert pod["automountServiceAccountToken"] is False
    (container,) = pod["containers"]
    assert container["securityContext"] == {
        "runAsNonRoot": True,
        "runAsUser": 13,
        "runAsGroup": 13,
        "readOnlyRootFilesystem": True,
        "allowPrivilegeEscalation": False,
        "capabilities": {"drop": ["ALL"]},
        "seccompProfile": {"type": "RuntimeDefault"},
    }
    assert container["command"] == ["squid", "-N", "-f", "/etc/meshgate/squid.conf"]
    assert container["resources"]["limits"] == {"memory": "256Mi"}


def test_squid_runs_anywhere_when_nothing_is_said(program: Program) -> None:
    pod = spec(program, "squid-deployment")["template"]["spec"]
    assert not pod.get("nodeSelector")
    assert not pod.get("tolerations")


def test_squid_starts_anew_when_its_configuration_changes(program: Program, other: Program) -> None:
    first, second = (
        spec(one, "squid-deployment")["template"]["metadata"]["annotations"]["meshgate.dev/configuration"]
        for one in (program, other)
    )
    assert first != second
    text = program.one(f"{SQUID}-configuration").inputs["data"]["squid.conf"]
    assert first == hashlib.sha256(text.encode()).hexdigest()


def test_contract(other: Program) -> None:
    outputs = other.outputs
    assert outputs["external_namespaces"] == {step: f"out-{step}" for step in STEPS}
    assert outputs["external_proxy"] == f"{PROXY}:3128"


# Settings


@pytest.mark.parametrize(
    ("section", "key", "message"),
    [
        ({"unregistered": "httpbin.org"}, "external.unregistered", "is httpbin.org, as `registered`"),
        ({"prefix": "External"}, "external.prefix", "lower-case letters"),
        # A namespace has 63 characters, and -client-registry-only 21.
        ({"prefix": "e" * 41}, "external.prefix", "at most 40"),
        ({"registered": "localhost"}, "external.registered", "fully qualified host name"),
        ({"nodes": {"taints": [{"key": "a", "effect": "Never"}]}}, "external.nodes.taints[0].effect", "NoSchedule"),
        ({"nodes": {"pool": "open"}}, "external.nodes.pool", ""),
        ({"dnsAddresses": ["10.5.0.3/24"]}, "external.dnsAddresses[0]", ""),
    ],
)
def test_bad_settings(section: dict[str, Any], key: str, message: str) -> None:
    with pytest.raises(SettingsError) as error:
        load(config(**section))
    (problem,) = error.value.problems
    assert problem.key == key
    assert message in problem.message


def test_namespaces_of_other_layers_are_not_taken() -> None:
    both = config(prefix="istio")
    both["layers"] = ["egress", "external"]
    both["upstream"]["gateway_pool"] = "base"
    both["egress"] = {"namespace": "istio-proxy"}
    with pytest.raises(SettingsError, match=r"'istio-proxy' is egress\.namespace too"):
        load(both)
