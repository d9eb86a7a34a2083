"""Scenario standalone-envoy: what Envoy is told, and who reaches it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

from components.standalone_envoy.configuration import demo, override
from settings import SettingsError, load
from settings.standalone_envoy import AdminOverride, Upstream
from tests.unit.program import UPSTREAM, Program, run

ENVOY = "prod-standalone-envoy"
HOST = "www.envoyproxy.io"
NODES = {"labels": {"pool": "open"}, "taints": [{"key": "dedicated", "value": "open", "effect": "NoSchedule"}]}


def config(upstream: dict[str, Any] | None = None, **section: Any) -> dict[str, Any]:
    return {
        "name": "prod",
        "layers": ["standalone_envoy"],
        "upstream": {"cluster": "base"},
        "standalone_envoy": {"upstream": {"host": HOST, **(upstream or {})}, **section},
    }


def envoy(**section: Any) -> Program:
    """The layer alone, on a cluster of another stack."""
    return run(config(**section), stack="prod", references={"base": dict(UPSTREAM)})


@pytest.fixture(scope="module")
def program() -> Program:
    """One run for all tests that only look at it."""
    return envoy()


@pytest.fixture(scope="module")
def other(ca: Path) -> Program:
    """With everything said that the first leaves out."""
    return envoy(
        upstream={"ca": str(ca), "port": 8443},
        admin={"address": "0.0.0.0", "port": 9902},
        nodes=NODES,
        dnsAddresses=["169.254.20.10/32"],
    )


@pytest.fixture(scope="module")
def ca(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file with a CA's certificate."""
    return certificate(tmp_path_factory.mktemp("ca") / "ca.pem", days=1)


def certificate(path: Path, days: int) -> Path:
    key, now = ec.generate_private_key(ec.SECP256R1()), datetime.now(UTC)
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "internet")])
    begin = now - timedelta(days=10)
    made = x509.CertificateBuilder(name, name, key.public_key(), 1, begin, now + timedelta(days=days))
    path.write_bytes(made.sign(key, SHA256()).public_bytes(Encoding.PEM))
    return path


def spec(program: Program, name: str) -> dict[str, Any]:
    found: dict[str, Any] = program.one(f"{ENVOY}-{name}").inputs["spec"]
    return found


def container(program: Program) -> dict[str, Any]:
    (found,) = spec(program, "deployment")["template"]["spec"]["containers"]
    return dict(found)


# What Envoy is told


def test_the_listener_takes_everything_to_the_upstream_under_its_name() -> None:
    (listener,) = demo(Upstream(host=HOST), "/ca.pem")["static_resources"]["listeners"]
    assert listener["address"] == {"socket_address": {"address": "0.0.0.0", "port_value": 10000}}
    manager = listener["filter_chains"][0]["filters"][0]["typed_config"]
    (host,) = manager["route_config"]["virtual_hosts"]
    assert host["domains"] == ["*"]
    assert host["routes"] == [
        {"match": {"prefix": "/"}, "route": {"host_rewrite_literal": HOST, "cluster": "service_envoyproxy_io"}}
    ]


def test_the_upstream_is_reached_by_tls_with_its_name_and_only_with_its_certificate() -> None:
    (cluster,) = demo(Upstream(host=HOST, port=8443), "/ca.pem")["static_resources"]["clusters"]
    assert (cluster["type"], cluster["dns_lookup_family"]) == ("LOGICAL_DNS", "V4_ONLY")
    (endpoint,) = cluster["load_assignment"]["endpoints"][0]["lb_endpoints"]
    assert endpoint["endpoint"]["address"] == {"socket_address": {"address": HOST, "port_value": 8443}}
    tls = cluster["transport_socket"]["typed_config"]
    assert tls["@type"].endswith(".tls.v3.UpstreamTlsContext")
    assert tls["sni"] == HOST
    versions = tls["common_tls_context"]["tls_params"]
    assert versions == {"tls_minimum_protocol_version": "TLSv1_2", "tls_maximum_protocol_version": "TLSv1_3"}
    assert tls["common_tls_context"]["validation_context"] == {
        "trusted_ca": {"filename": "/ca.pem"},
        "match_typed_subject_alt_names": [{"san_type": "DNS", "matcher": {"exact": HOST}}],
    }


def test_the_override_moves_the_administration_interface_and_nothing_else() -> None:
    base = demo(Upstream(host=HOST), "/ca.pem")
    assert base["admin"] == {"address": {"socket_address": {"address": "127.0.0.1", "port_value": 9901}}}
    documents = AdminOverride(address="0.0.0.0", port=9902)
    assert override(documents) == {"admin": {"address": {"socket_address": {"address": "0.0.0.0", "port_value": 9902}}}}
    assert override(AdminOverride())["admin"]["address"]["socket_address"]["address"] == "127.0.0.1"


def test_files_and_command(program: Program, other: Program, ca: Path) -> None:
    plain, full = (one.one(f"{ENVOY}-configuration").inputs["data"] for one in (program, other))
    assert yaml.safe_load(plain["envoy-demo.yaml"]) == demo(Upstream(host=HOST), "/etc/ssl/certs/ca-certificates.crt")
    assert set(plain) == {"envoy-demo.yaml", "envoy-override.yaml"}
    assert yaml.safe_load(full["envoy-demo.yaml"]) == demo(Upstream(host=HOST, port=8443), "/etc/meshgate/ca.pem")
    assert full["ca.pem"] == ca.read_text()
    assert yaml.safe_load(full["envoy-override.yaml"]) == override(AdminOverride(address="0.0.0.0", port=9902))
    assert container(program)["command"] == [
        *("envoy", "--config-path", "/etc/meshgate/envoy-demo.yaml", "--config-yaml", "$(ENVOY_OVERRIDE)"),
        *("--concurrency", "2", "--disable-hot-restart"),
        *("--file-flush-interval-msec", "1000"),
    ]
    assert container(program)["env"] == [
        {
            "name": "ENVOY_OVERRIDE",
            "valueFrom": {"configMapKeyRef": {"name": "envoy", "key": "envoy-override.yaml"}},
        }
    ]
    assert container(program)["volumeMounts"] == [
        {"name": "configuration", "mountPath": "/etc/meshgate", "readOnly": True}
    ]


def test_it_starts_anew_when_a_file_changes(program: Program, other: Program) -> None:
    first, second = (
        spec(one, "deployment")["template"]["metadata"]["annotations"]["meshgate.dev/configuration"]
        for one in (program, other)
    )
    assert first != second


# Who reaches it


def test_the_service_has_the_administration_port_only_when_it_is_exposed(program: Program, other: Program) -> None:
    listener = {"name": "http", "port": 10000, "targetPort": "http"}
    assert spec(program, "service")["ports"] == [listener]
    assert spec(other, "service")["ports"] == [listener, {"name": "http-admin", "port": 9902, "targetPort": "admin"}]
    assert {port["name"]: port["containerPort"] for port in container(other)["ports"]} == {"http": 10000, "admin": 9902}


def test_network_policy(other: Program) -> None:
    names = {"matchLabels": {"kubernetes.io/metadata.name": "kube-system"}}
    world = {"cidr": "0.0.0.0/0", "except": ["10.1.0.0/16", "10.2.0.0/20", "169.254.0.0/16"]}
    assert spec(other, "network") == {
        "podSelector": {},
        "policyTypes": ["Ingress", "Egress"],
        "ingress": [
            {"from": [{"namespaceSelector": {}}], "ports": [{"port": 10000, "protocol": "TCP"}]},
            {"from": [{"podSelector": {}}]},
        ],
        "egress": [
            {
                "to": [{"namespaceSelector": names}, {"ipBlock": {"cidr": "169.254.20.10/32"}}],
                "ports": [{"port": 53, "protocol": "UDP"}, {"port": 53, "protocol": "TCP"}],
            },
            {"to": [{"podSelector": {}}]},
            {"to": [{"ipBlock": world}], "ports": [{"port": 8443, "protocol": "TCP"}]},
        ],
    }


def test_it_is_closed_before_its_first_pod(program: Program) -> None:
    assert f"{ENVOY}-network" in program.one(f"{ENVOY}-deployment").dependencies


def test_it_runs_as_nobody_on_the_nodes_that_may_go_out(program: Program, other: Program) -> None:
    assert program.one(f"{ENVOY}-namespace").inputs["metadata"]["labels"] == {
        f"pod-security.kubernetes.io/{mode}": "restricted" for mode in ("enforce", "warn", "audit")
    }
    pod = spec(other, "deployment")["template"]["spec"]
    assert pod["nodeSelector"] == {"pool": "open"}
    assert pod["tolerations"] == [{"key": "dedicated", "operator": "Equal", "value": "open", "effect": "NoSchedule"}]
    assert pod["automountServiceAccountToken"] is False
    assert container(other)["securityContext"] == {
        "runAsNonRoot": True,
        "runAsUser": 101,
        "runAsGroup": 101,
        "readOnlyRootFilesystem": True,
        "allowPrivilegeEscalation": False,
        "capabilities": {"drop": ["ALL"]},
        "seccompProfile": {"type": "RuntimeDefault"},
    }
    assert container(other)["lifecycle"] == {"preStop": {"sleep": {"seconds": 5}}}


def test_contract(program: Program) -> None:
    assert program.outputs["standalone_envoy_namespace"] == "standalone-envoy"
    assert program.outputs["standalone_envoy_service"] == "envoy.standalone-envoy.svc.cluster.local"


# Settings


@pytest.mark.parametrize(
    ("section", "key", "message"),
    [
        ({"upstream": {"host": "localhost"}}, "standalone_envoy.upstream.host", "fully qualified host name"),
        ({"admin": {"address": "10.0.0.1"}}, "standalone_envoy.admin.address", "0.0.0.0"),
        ({"admin": {"port": 10000}}, "standalone_envoy.admin.port", "the listener's"),
        ({"admin": {"port": 9901}}, "standalone_envoy.admin.port", "moves it away from"),
        ({"upstream": {"ca": ""}}, "standalone_envoy.upstream.ca", ""),
        ({"namespace": "default"}, "standalone_envoy.namespace", "a namespace that Kubernetes does not make"),
    ],
)
def test_bad_settings(section: dict[str, Any], key: str, message: str) -> None:
    with pytest.raises(SettingsError) as error:
        load(config(**section))
    (problem,) = error.value.problems
    assert problem.key == key
    assert message in problem.message


@pytest.mark.parametrize(
    ("days", "message"), [(None, "No such file"), (0, "does not hold certificates in PEM"), (-1, "expired on")]
)
def test_a_bad_file_is_told_before_anything_is_made(tmp_path: Path, days: int | None, message: str) -> None:
    path = tmp_path / "ca.pem"
    if days is not None:
        certificate(path, days)
    if days == 0:
        path.write_text("nothing")
    with pytest.raises(SettingsError) as error:
        envoy(upstream={"ca": str(path)})
    (problem,) = error.value.problems
    assert problem.key == "standalone_envoy.upstream.ca"
    assert message in problem.message
