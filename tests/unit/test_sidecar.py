"""Scenario sidecar: a web server that is injected by its namespace's label, behind a gateway of its own."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest

from components.sidecar.web_server import LOG_FIELDS, SITE
from settings import SettingsError, load
from tests.unit.program import UPSTREAM, Program, run

SIDECAR = "prod-sidecar"
HOST = "www.okms1017.name"
GATEWAY = {"service": {"type": "NodePort", "nodePort": 30050, "addresses": ["10.0.0.11"]}}


def config(**section: Any) -> dict[str, Any]:
    return {
        "name": "prod",
        "layers": ["sidecar"],
        "upstream": {"cluster": "base", "mesh": "base"},
        "sidecar": {"host": HOST, "gateway": GATEWAY, **section},
    }


@pytest.fixture(scope="module")
def program() -> Program:
    """One run for all tests that only look at it: the layer alone, one of its namespaces moved to a canary."""
    references = {"base": {**UPSTREAM, "mesh_moved": {"sidecar": "1-32-0"}}}
    return run(config(), stack="prod", references=references)


def inputs(program: Program, name: str) -> dict[str, Any]:
    return program.one(f"{SIDECAR}-{name}").inputs


def template(program: Program) -> dict[str, Any]:
    found: dict[str, Any] = inputs(program, "server-deployment")["spec"]["template"]
    return found


def test_both_namespaces_are_injected_by_their_label(program: Program) -> None:
    labels = {
        namespace.inputs["metadata"]["name"]: namespace.inputs["metadata"]["labels"]
        for namespace in program.of("core/v1:Namespace")
    }
    assert labels == {"sidecar": {"istio.io/rev": "1-32-0"}, "sidecar-ingress": {"istio.io/rev": "canary"}}


def test_names_are_the_documents(program: Program) -> None:
    names = {
        key: inputs(program, key)["metadata"]["name"]
        for key in ("server-account", "server-deployment", "server-service", "route")
    }
    assert names == {
        "server-account": "kans-nginx",
        "server-deployment": "deploy-websrv",
        "server-service": "svc-clusterip",
        "route": "nginx-service",
    }
    assert template(program)["spec"]["serviceAccountName"] == "kans-nginx"


def test_the_service_says_what_is_spoken(program: Program) -> None:
    assert inputs(program, "server-service")["spec"] == {
        "type": "ClusterIP",
        "selector": {"app": "deploy-websrv"},
        "ports": [{"name": "http", "port": 80, "targetPort": "http"}],
    }
    assert template(program)["metadata"]["labels"] == {"app": "deploy-websrv"}


def test_pods_are_made_anew_with_another_control_plane(program: Program) -> None:
    assert template(program)["metadata"]["annotations"]["meshgate.dev/revision"] == "1-32-0"


def test_nginx_logs_what_of_a_request_gets_to_it(program: Program) -> None:
    assert inputs(program, "server-site")["data"] == {"default.conf": SITE}
    (container,) = template(program)["spec"]["containers"]
    assert (container["name"], container["image"]) == ("deploy-websrv", "docker.io/library/nginx:1.29")
    assert [(port["name"], port["containerPort"]) for port in container["ports"]] == [("http", 80)]
    mounts = {mount["mountPath"]: (mount["name"], mount.get("readOnly")) for mount in container["volumeMounts"]}
    assert mounts["/etc/nginx/conf.d"] == ("files-0", True)
    volumes = {volume["name"]: volume for volume in template(program)["spec"]["volumes"]}
    assert volumes["files-0"]["configMap"] == {"name": "deploy-websrv"}
    assert container["securityContext"]["runAsNonRoot"] is True
    (line,) = re.findall(r"log_format received escape=json '(.*)';", SITE)
    assert json.loads(line) == LOG_FIELDS
    assert "access_log /dev/stdout received;" in SITE


def test_the_gateway_is_at_a_port_of_the_nodes(program: Program) -> None:
    service = inputs(program, "gateway-release")["values"]["service"]
    assert service["type"] == "NodePort"
    assert [(port["port"], port["nodePort"]) for port in service["ports"]] == [(80, 30050)]
    assert inputs(program, "gateway-gateway")["spec"]["selector"] == {"istio": "sidecar-gateway"}


def test_the_route_is_the_gateways_alone(program: Program) -> None:
    route = inputs(program, "route")
    assert route["metadata"] == {"name": "nginx-service", "namespace": "sidecar-ingress"}
    assert route["spec"] == {
        "hosts": [HOST],
        "gateways": ["sidecar-gateway"],
        "exportTo": ["."],
        "http": [
            {"route": [{"destination": {"host": "svc-clusterip.sidecar.svc.cluster.local", "port": {"number": 80}}}]}
        ],
    }


def test_contract(program: Program) -> None:
    assert program.outputs["sidecar_namespace"] == "sidecar"
    # The mocks' Service has this port of the nodes.
    assert program.outputs["sidecar_gateway"] == {"address": "10.0.0.11", "port": 31080}


@pytest.mark.parametrize(
    ("section", "key", "message"),
    [
        ({"host": "okms1017"}, "sidecar.host", "fully qualified host name"),
        ({"gatewayNamespace": "sidecar"}, "sidecar.gatewayNamespace", "is sidecar.namespace too"),
        ({"gateway": {"service": {"type": "NodePort"}}}, "sidecar.gateway.service.addresses", "missing"),
        (
            {"gateway": {**GATEWAY, "replicas": {"min": 3, "max": 2}}},
            "sidecar.gateway.replicas.min",
            "more than max",
        ),
    ],
)
def test_bad_settings(section: dict[str, Any], key: str, message: str) -> None:
    with pytest.raises(SettingsError) as error:
        load(config(**section))
    (problem,) = error.value.problems
    assert problem.key == key
    assert message in problem.message
