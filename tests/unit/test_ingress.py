"""The scenario ingress: gateways, what they answer for, their certificates, and the application behind them."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
from cryptography import x509

from tests.unit.program import UPSTREAM, Program, run

CREDENTIAL = {"kind": "existing", "hosts": ["*.example.com"]}
LOAD_BALANCER = {"type": "LoadBalancer"}


def host(name: str, **settings: Any) -> dict[str, Any]:
    tls = {"mode": "SIMPLE", "credential": "www"}
    return {"host": name, "tls": tls, "backend": {"service": "www.shop.svc.cluster.local"}, **settings}


def ingress(balancer: dict[str, str] | None = None, **settings: Any) -> Program:
    """The scenario alone, with the gateway `web`, on a mesh of another stack."""
    web = {"service": LOAD_BALANCER, "hosts": [host("www.example.com")]}
    config = {
        "name": "prod",
        "layers": ["ingress"],
        "upstream": {"cluster": "base", "mesh": "base"},
        "ingress": {"certificates": {"www": CREDENTIAL}, "gateways": {"web": web}, **settings},
    }
    return run(config, stack="prod", references={"base": UPSTREAM}, balancer=balancer)


def gateway(balancer: dict[str, str] | None = None, **settings: Any) -> Program:
    """The same with other settings of the gateway `web`."""
    web = {"service": LOAD_BALANCER, "hosts": [host("www.example.com")], **settings}
    return ingress(balancer, gateways={"web": web})


def values(program: Program, name: str = "prod-ingress-web") -> dict[str, Any]:
    found: dict[str, Any] = program.one(f"{name}-release").inputs["values"]
    return found


def servers(program: Program, name: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = program.one(f"{name}-gateway").inputs["spec"]["servers"]
    return found


# Gateways


def https(host: str, mode: str, credential: str) -> dict[str, Any]:
    return {
        "hosts": [host],
        "port": {"number": 443, "name": f"https-{host}", "protocol": "HTTPS"},
        "tls": {"mode": mode, "credentialName": credential, "minProtocolVersion": "TLSV1_2"},
    }


def http(host: str) -> dict[str, Any]:
    return {"hosts": [host], "port": {"number": 80, "name": f"http-{host}", "protocol": "HTTP"}}


WEBAPP, CATALOG = "webapp.istioinaction.io", "catalog.istioinaction.io"


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("simple", [http(WEBAPP), https(WEBAPP, "SIMPLE", "webapp-credential")]),
        (
            "redirect",
            [http(WEBAPP) | {"tls": {"httpsRedirect": True}}, https(WEBAPP, "SIMPLE", "webapp-credential")],
        ),
        (
            "mutual",
            [http(WEBAPP) | {"tls": {"httpsRedirect": True}}, https(WEBAPP, "MUTUAL", "webapp-credential-mtls")],
        ),
        (
            "hosts",
            [https(WEBAPP, "SIMPLE", "webapp-credential"), https(CATALOG, "SIMPLE", "catalog-credential")],
        ),
    ],
)
def test_servers(dev_program: Program, name: str, expected: list[dict[str, Any]]) -> None:
    found = dev_program.one(f"dev-ingress-{name}-gateway")
    assert found.type == "kubernetes:networking.istio.io/v1:Gateway"
    assert found.inputs["metadata"] == {"name": name, "namespace": "istio-ingress"}
    assert found.inputs["spec"] == {"selector": {"istio": name}, "servers": expected}


def test_server_names_are_unique_in_a_gateway() -> None:
    hosts = [host(f"{name}.example.com", http="serve") for name in ("a", "b", "c")]
    names = [server["port"]["name"] for server in servers(gateway(hosts=hosts), "prod-ingress-web")]
    assert len(names) == 6
    assert len(set(names)) == 6


def test_redirect_unless_said_otherwise() -> None:
    assert servers(gateway(), "prod-ingress-web")[0]["tls"] == {"httpsRedirect": True}


@pytest.mark.parametrize(
    ("name", "gateway", "hostname", "service"),
    [
        ("dev-ingress-simple.webapp.istioinaction.io", "simple", WEBAPP, "webapp"),
        ("dev-ingress-mutual.webapp.istioinaction.io", "mutual", WEBAPP, "webapp"),
        ("dev-ingress-hosts.webapp.istioinaction.io", "hosts", WEBAPP, "webapp"),
        ("dev-ingress-hosts.catalog.istioinaction.io", "hosts", CATALOG, "catalog"),
    ],
)
def test_virtual_services(dev_program: Program, name: str, gateway: str, hostname: str, service: str) -> None:
    found = dev_program.one(name)
    assert found.type == "kubernetes:networking.istio.io/v1:VirtualService"
    assert found.inputs["metadata"]["namespace"] == "istio-ingress"
    destination = {"host": f"{service}.istioinaction.svc.cluster.local", "port": {"number": 80}}
    assert found.inputs["spec"] == {
        "hosts": [hostname],
        # Bound to its gateway alone: never `mesh`, which would catch sidecars' requests too.
        "gateways": [gateway],
        "exportTo": ["."],
        "http": [{"route": [{"destination": destination}]}],
    }


def test_port_of_the_backend() -> None:
    backend = {"service": "www.shop.svc.cluster.local", "port": 8443}
    program = gateway(hosts=[host("www.example.com", backend=backend)])
    route = program.one("prod-ingress-web.www.example.com").inputs["spec"]["http"][0]["route"][0]
    assert route["destination"] == {"host": "www.shop.svc.cluster.local", "port": {"number": 8443}}


@pytest.mark.parametrize(
    "gateways",
    [
        {"web": ["a.b-c.example.com", "a-b.c.example.com"]},
        {"a": ["b.shop.example.com"], "a-b": ["shop.example.com"]},
    ],
)
def test_names_differ(gateways: dict[str, list[str]]) -> None:
    names = [name for hosts in gateways.values() for name in hosts]
    program = ingress(
        certificates={"www": {"kind": "existing", "hosts": names}},
        gateways={
            key: {"service": LOAD_BALANCER, "hosts": [host(name) for name in hosts]} for key, hosts in gateways.items()
        },
    )
    resources = [resource.name for resource in program.of(":VirtualService")]
    objects = [resource.inputs["metadata"]["name"] for resource in program.of(":VirtualService")]
    assert len(set(resources)) == len(set(objects)) == 2


# Deployments and Services


def test_release(dev_program: Program) -> None:
    inputs = dev_program.one("dev-ingress-simple-release").inputs
    assert (inputs["name"], inputs["namespace"], inputs["chart"]) == ("simple", "istio-ingress", "gateway")
    chart = values(dev_program, "dev-ingress-simple")
    # Its namespace's label says who injects it; it is made anew when that is another control plane.
    assert "revision" not in chart
    assert chart["podAnnotations"]["meshgate.dev/revision"] == "1-31-1"
    # What Gateway selects by.
    assert chart["labels"] == {"app": "simple", "istio": "simple"}
    assert chart["resources"] == {"requests": {"cpu": "20m", "memory": "64Mi"}}
    assert chart["autoscaling"] == {"minReplicas": 1, "maxReplicas": 1}


def test_revision_is_that_of_the_mesh_in_another_stack() -> None:
    program = gateway()
    assert values(program)["podAnnotations"]["meshgate.dev/revision"] == "1-31-1"
    assert program.one("prod-ingress-namespace").inputs["metadata"]["labels"] == {"istio.io/rev": "canary"}


def test_counters_of_refused_handshakes(dev_program: Program) -> None:
    annotations = values(dev_program, "dev-ingress-mutual")["podAnnotations"]
    matcher = json.loads(annotations["proxy.istio.io/config"])["proxyStatsMatcher"]
    [expression] = matcher["inclusionRegexps"]
    for counted in (
        "listener.0.0.0.0_8443.ssl.fail_verify_no_cert",
        "listener.0.0.0.0_8443.ssl.fail_verify_error",
        "listener.0.0.0.0_8443.ssl.handshake",
        "listener.0.0.0.0_8443.no_filter_chain_match",
    ):
        assert re.fullmatch(expression, counted)
    assert not re.fullmatch(expression, "listener.0.0.0.0_8443.downstream_cx_total")
    # The dots are dots.
    assert not re.fullmatch(expression, "listenerX0.0.0.0_8443.ssl.handshake")


def test_disruption_budget_only_where_a_pod_can_be_spared() -> None:
    assert values(gateway(replicas={"min": 2, "max": 4}))["podDisruptionBudget"] == {"minAvailable": 1}
    one = values(gateway(replicas={"min": 1, "max": 4}))
    assert "podDisruptionBudget" not in one
    assert one["autoscaling"] == {"minReplicas": 1, "maxReplicas": 4}


PORTS = [
    {"name": "status-port", "port": 15021, "targetPort": 15021, "protocol": "TCP"},
    {"name": "http2", "port": 80, "targetPort": 80, "protocol": "TCP"},
    {"name": "https", "port": 443, "targetPort": 443, "protocol": "TCP"},
]


def test_load_balancer_as_it_is_without_settings(dev_program: Program) -> None:
    assert values(dev_program, "dev-ingress-redirect")["service"] == {
        "type": "LoadBalancer",
        "externalTrafficPolicy": "Local",
        "annotations": {},
        "loadBalancerSourceRanges": [],
        "ports": PORTS,
    }


def test_load_balancer_with_settings() -> None:
    service = {
        **LOAD_BALANCER,
        "loadBalancerIP": "203.0.113.150",
        "annotations": {"service.beta.kubernetes.io/aws-load-balancer-scheme": "internal"},
        "sourceRanges": ["203.0.113.10/32", "198.51.100.0/24"],
        "externalTrafficPolicy": "Cluster",
    }
    assert values(gateway(service=service))["service"] == {
        "type": "LoadBalancer",
        "externalTrafficPolicy": "Cluster",
        "annotations": {"service.beta.kubernetes.io/aws-load-balancer-scheme": "internal"},
        "loadBalancerIP": "203.0.113.150",
        "loadBalancerSourceRanges": ["203.0.113.10/32", "198.51.100.0/24"],
        "ports": PORTS,
    }


def test_node_ports() -> None:
    """Without a balancer clients meet the nodes, at their ports; the status port may be any."""
    service = {"type": "NodePort", "nodePorts": {"http": 31080, "https": 31443}, "addresses": ["192.0.2.7"]}
    program = gateway(service=service)
    assert values(program)["service"] == {
        "type": "NodePort",
        "externalTrafficPolicy": "Cluster",
        "ports": [PORTS[0], PORTS[1] | {"nodePort": 31080}, PORTS[2] | {"nodePort": 31443}],
    }
    assert program.outputs["ingress_gateways"] == {
        "web": {"address": "192.0.2.7", "http_port": 31080, "https_port": 31443}
    }
    assert program.outputs["ingress_balancers"] == {}


def test_contract(dev_program: Program) -> None:
    """Addresses: of a load balancer as the platform says, of one's own as the settings say."""
    balanced = {"address": "203.0.113.100", "http_port": 80, "https_port": 443}
    assert dev_program.outputs["ingress_gateways"] == {
        "simple": balanced,
        "redirect": balanced,
        "hosts": balanced,
        "mutual": {"address": "203.0.113.3", "http_port": 80, "https_port": 443},
    }
    assert dev_program.outputs["ingress_root_certificates"] == {
        "webapp": "<certificate dev-ingress-webapp-ca-root>",
        "catalog": "<certificate dev-ingress-catalog-ca-root>",
    }
    assert dev_program.outputs["ingress_balancers"].keys() == {"mutual"}
    assert "\n    bind 203.0.113.3:443\n" in dev_program.outputs["ingress_balancers"]["mutual"]


def test_fixed_node_ports_are_asked_for_first(dev_program: Program) -> None:
    """Before the API server gives a port to somebody who would take any."""
    for name in ("simple", "redirect", "hosts"):
        assert "dev-ingress-mutual-release" in dev_program.one(f"dev-ingress-{name}-release").dependencies
    assert "dev-ingress-simple-release" not in dev_program.one("dev-ingress-mutual-release").dependencies


def test_load_balancer_with_a_host_name() -> None:
    """As EKS gives it."""
    program = gateway({"hostname": "a1.elb.eu-central-1.amazonaws.com"})
    assert program.outputs["ingress_gateways"] == {
        "web": {"address": "a1.elb.eu-central-1.amazonaws.com", "http_port": 80, "https_port": 443}
    }


def test_no_authorities_is_an_empty_mapping() -> None:
    assert gateway().outputs["ingress_root_certificates"] == {}


def test_service_is_read_when_the_release_is_ready(dev_program: Program) -> None:
    service = dev_program.one("dev-ingress-simple-service")
    assert service.read
    # Name and namespace come from the release's status.
    assert service.inputs == {"id": "istio-ingress/simple"}
    assert service.parent == "dev-ingress-simple"


def test_namespace_of_ones_own() -> None:
    program = ingress(namespace="edge")
    assert program.one("prod-ingress-namespace").inputs["metadata"]["name"] == "edge"
    placed = [resource for resource in program.resources if "namespace" in resource.inputs.get("metadata", {})]
    assert len(placed) == 2
    assert {resource.inputs["metadata"]["namespace"] for resource in placed} == {"edge"}
    assert program.one("prod-ingress-web-release").inputs["namespace"] == "edge"


# Certificates


@pytest.mark.parametrize(
    ("name", "ca", "common_name", "use"),
    [
        ("webapp-credential", "webapp", WEBAPP, "server_auth"),
        ("webapp-credential-mtls", "webapp", WEBAPP, "server_auth"),
        ("catalog-credential", "catalog", CATALOG, "server_auth"),
        ("webapp-client", "webapp", WEBAPP, "client_auth"),
    ],
)
def test_certificates(dev_program: Program, name: str, ca: str, common_name: str, use: str) -> None:
    prefix, ca = f"dev-ingress-{name}", f"dev-ingress-{ca}-ca"
    request = dev_program.one(f"{prefix}-request").inputs
    assert request["subject"] == {"commonName": common_name}
    # A client is known by its subject; a server by its names.
    assert request.get("dnsNames") == ([common_name] if use == "server_auth" else None)
    certificate = dev_program.one(f"{prefix}-certificate").inputs
    assert certificate["allowedUses"] == ["digital_signature", use]
    assert "isCaCertificate" not in certificate
    assert certificate["caCertPem"] == f"<certificate {ca}-intermediate>"
    assert certificate["caPrivateKeyPem"] == f"<key {ca}-intermediate-key>"
    signed = x509.load_pem_x509_csr(certificate["certRequestPem"].encode())
    assert signed.subject.rfc4514_string() == f"CN={prefix}-request"
    assert (certificate["validityPeriodHours"], certificate["earlyRenewalHours"]) == (2160, 720)
    secret = dev_program.one(f"{prefix}-secret")
    assert secret.inputs["metadata"] == {"name": name, "namespace": "istio-ingress"}
    assert secret.inputs["type"] == "kubernetes.io/tls"
    clients = {"ca.crt": "<certificate dev-ingress-webapp-ca-root>"} if name == "webapp-credential-mtls" else {}
    assert secret.inputs["stringData"] == {
        "tls.key": f"<key {prefix}-key>",
        # The leaf first, then who signed it; the root is the client's affair.
        "tls.crt": f"<certificate {prefix}-certificate><certificate {ca}-intermediate>",
        **clients,
    }
    assert secret.secrets == {"stringData"}


def test_lifetimes_names_and_clients_follow_the_settings() -> None:
    program = ingress(
        authorities={"public": {}, "partners": {"rootValidityHours": 20000}},
        certificates={
            "www": {
                "kind": "issued",
                "authority": "public",
                "hosts": ["*.example.com", "example.com"],
                "validityHours": 48,
                "earlyRenewalHours": 12,
                "clientAuthority": "partners",
            }
        },
        clients={"partner": {"authority": "partners", "commonName": "Partner 1", "validityHours": 1000}},
    )
    request = program.one("prod-ingress-www-request").inputs
    assert request["dnsNames"] == ["*.example.com", "example.com"]
    assert request["subject"] == {"commonName": "*.example.com"}
    certificate = program.one("prod-ingress-www-certificate").inputs
    assert (certificate["validityPeriodHours"], certificate["earlyRenewalHours"]) == (48, 12)
    data = program.one("prod-ingress-www-secret").inputs["stringData"]
    assert data["ca.crt"] == "<certificate prod-ingress-partners-ca-root>"
    assert data["tls.crt"].endswith("<certificate prod-ingress-public-ca-intermediate>")
    client = program.one("prod-ingress-partner-certificate").inputs
    assert client["caCertPem"] == "<certificate prod-ingress-partners-ca-intermediate>"
    assert client["validityPeriodHours"] == 1000
    assert program.one("prod-ingress-partners-ca-root").inputs["validityPeriodHours"] == 20000


def test_gateway_comes_after_its_secrets(dev_program: Program) -> None:
    assert "dev-ingress-webapp-credential-mtls-secret" in dev_program.one("dev-ingress-mutual-gateway").dependencies


def test_existing_certificate_makes_nothing() -> None:
    program = ingress()
    assert [resource.type for resource in program.resources if resource.type.startswith("tls:")] == []
    assert program.of(":Secret") == []
    assert servers(program, "prod-ingress-web")[1]["tls"]["credentialName"] == "www"


# The application


def test_no_application_unless_wanted() -> None:
    assert ingress().of(":Deployment") == []


def test_application_namespace_is_in_the_mesh(dev_program: Program) -> None:
    metadata = dev_program.one("dev-ingress-coolstore-namespace").inputs["metadata"]
    assert metadata == {"name": "istioinaction", "labels": {"istio.io/rev": "stable"}}


@pytest.mark.parametrize(
    ("app", "port", "env"),
    [
        ("webapp", 8080, {"CATALOG_SERVICE_HOST": "catalog.istioinaction", "CATALOG_SERVICE_PORT": "80"}),
        ("catalog", 3000, {}),
    ],
)
def test_application(dev_program: Program, app: str, port: int, env: dict[str, str]) -> None:
    deployment = dev_program.one(f"dev-ingress-coolstore-{app}").inputs
    metadata = {"name": app, "namespace": "istioinaction", "labels": {"app": app}}
    assert deployment["metadata"] == metadata
    assert deployment["spec"]["selector"] == {"matchLabels": {"app": app}}
    assert deployment["spec"]["template"]["metadata"]["labels"] == {"app": app}
    pod = deployment["spec"]["template"]["spec"]
    # An identity of its own: the mesh knows workloads by their ServiceAccount.
    assert pod["serviceAccountName"] == app
    assert dev_program.one(f"dev-ingress-coolstore-{app}-account").inputs["metadata"] == metadata
    [container] = pod["containers"]
    assert container["image"] == f"docker.io/istioinaction/{app}:latest"
    assert container["ports"] == [{"name": "http", "containerPort": port}]
    assert {entry["name"]: entry["value"] for entry in container["env"] if "value" in entry} == env
    assert container["securityContext"] == {
        "runAsNonRoot": True,
        "runAsUser": 1000,
        "allowPrivilegeEscalation": False,
        "capabilities": {"drop": ["ALL"]},
        "seccompProfile": {"type": "RuntimeDefault"},
    }
    service = dev_program.one(f"dev-ingress-coolstore-{app}-service").inputs
    assert service["metadata"] == metadata
    assert service["spec"] == {
        "selector": {"app": app},
        "ports": [{"name": "http", "port": 80, "targetPort": "http"}],
    }


def test_images_and_namespace_of_the_application() -> None:
    images = {"webappImage": "registry.example.com/webapp:1", "catalogImage": "registry.example.com/catalog:2"}
    program = ingress(coolstore={"namespace": "shop", **images})
    pods = {
        deployment.inputs["metadata"]["name"]: deployment.inputs["spec"]["template"]["spec"]["containers"][0]
        for deployment in program.of(":Deployment")
    }
    assert pods["webapp"]["image"] == "registry.example.com/webapp:1"
    assert pods["catalog"]["image"] == "registry.example.com/catalog:2"
    assert {"name": "CATALOG_SERVICE_HOST", "value": "catalog.shop"} in pods["webapp"]["env"]
    assert program.one("prod-ingress-coolstore-namespace").inputs["metadata"]["labels"] == {"istio.io/rev": "canary"}
