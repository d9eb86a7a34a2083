"""The layer edge: balancers by annotations, what gateways answer for and who may use them, certificates and names."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import pytest

from components.edge.routes import TARGET_HTTP, TARGET_HTTPS
from settings.edge import ANNOTATION_PREFIX, TYPED_ANNOTATIONS
from tests.unit import sdk
from tests.unit.conftest import CHECKOUT, stack_file
from tests.unit.program import UPSTREAM, Program, run

ARN = "arn:aws:acm:eu-central-1:123456789012:certificate/00000000-0000-4000-8000-000000000001"
BALANCER = "k8s-istioedg-web-0123456789.elb.eu-central-1.amazonaws.com"
AT_BALANCER = {"ends": "balancer", "certificate": "balancer"}
DENIED = ["203.0.113.20/32"]


def host(name: str = "www.example.com", **settings: Any) -> dict[str, Any]:
    return {"host": name, "redirect": "none", "backend": {"service": "www.shop.svc.cluster.local"}, **settings}


def edge(**sections: Any) -> Program:
    """The layer alone, on a network, a cluster and a mesh of another stack."""
    section = {
        "kind": "nlb",
        "certificates": {"www": {"kind": "existing", "hosts": ["*.example.com"]}},
        "balancerCertificates": {"balancer": {"kind": "existing", "arn": ARN, "hosts": ["*.example.com"]}},
        "balancerCidrs": ["10.9.0.0/24"],
        **sections,
    }
    believing = [one for one in section["gateways"].values() if one.get("balancer", {}).get("clientAddress") == PROXY]
    if not believing:
        del section["balancerCidrs"]
    config: dict[str, Any] = {"name": "prod", "layers": ["edge"], "edge": section}
    upstream = {"cluster": "base", "mesh": "base"}
    if any("zone" in part for part in (*section["gateways"].values(), *section["balancerCertificates"].values())):
        upstream["network"] = "base"
        config["aws"] = {"region": "eu-central-1"}
    references = {"base": {**UPSTREAM, "network_dns_zones": {"example.com": "Z0EXAMPLE"}}}
    return run({**config, "upstream": upstream}, stack="prod", references=references, balancer={"hostname": BALANCER})


PROXY = "proxy-protocol"


def gateway(**settings: Any) -> Program:
    """The layer with the gateway `web` alone."""
    web = {"tls": {"ends": "gateway", "credential": "www"}, "hosts": [host()], **settings}
    return edge(gateways={"web": web})


def values(program: Program, name: str = "prod-edge-web") -> dict[str, Any]:
    found: dict[str, Any] = program.one(f"{name}-release").inputs["values"]
    return found


def annotated(program: Program, name: str = "prod-edge-web") -> dict[str, str]:
    """Without their prefix."""
    found = values(program, name)["service"]["annotations"]
    return {key.removeprefix(ANNOTATION_PREFIX): value for key, value in found.items()}


def proxy_config(program: Program, name: str = "prod-edge-web") -> dict[str, Any]:
    found: dict[str, Any] = json.loads(values(program, name)["podAnnotations"]["proxy.istio.io/config"])
    return found


def spec(program: Program, name: str) -> dict[str, Any]:
    found: dict[str, Any] = program.one(name).inputs["spec"]
    return found


# The balancer

TCP_CHECK = {"healthcheck-protocol": "tcp", "healthcheck-port": "traffic-port"}
NODE_CHECK = {"healthcheck-protocol": "http", "healthcheck-path": "/healthz"}
READY_CHECK = {
    "healthcheck-protocol": "http",
    "healthcheck-port": "15021",
    "healthcheck-path": "/healthz/ready",
}
OFTEN = {"healthcheck-interval": "10", "healthcheck-healthy-threshold": "2", "healthcheck-unhealthy-threshold": "2"}
PUBLIC = {
    "type": "external",
    "scheme": "internet-facing",
    "attributes": "load_balancing.cross_zone.enabled=true",
    **OFTEN,
}
KEPT, NOT_KEPT = ({"target-group-attributes": f"preserve_client_ip.enabled={value}"} for value in ("true", "false"))
TLS_ENDED = {
    "ssl-cert": ARN,
    "ssl-ports": "443",
    "ssl-negotiation-policy": "ELBSecurityPolicy-TLS13-1-2-2021-06",
    "backend-protocol": "tcp",
}


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("tls", {"nlb-target-type": "instance", **NOT_KEPT, **TCP_CHECK}),
        ("loop", {"nlb-target-type": "instance", **NOT_KEPT, **TCP_CHECK, **TLS_ENDED}),
        ("unserved", {"nlb-target-type": "instance", **NOT_KEPT, **TCP_CHECK, **TLS_ENDED}),
        ("split", {"nlb-target-type": "instance", **NOT_KEPT, **TCP_CHECK, **TLS_ENDED}),
        (
            "reencrypt",
            {"nlb-target-type": "instance", **NOT_KEPT, **TCP_CHECK, **TLS_ENDED, "backend-protocol": "ssl"},
        ),
        ("hidden", {"nlb-target-type": "instance", **KEPT, **TCP_CHECK}),
        ("unlogged", {"nlb-target-type": "instance", **KEPT, **TCP_CHECK}),
        ("preserved-instance", {"nlb-target-type": "instance", **KEPT, **NODE_CHECK}),
        ("preserved-ip", {"nlb-target-type": "ip", **KEPT, **READY_CHECK}),
        ("proxy-protocol", {"nlb-target-type": "ip", **NOT_KEPT, "proxy-protocol": "*", **READY_CHECK}),
        ("forwarded", {"nlb-target-type": "ip", **NOT_KEPT, "proxy-protocol": "*", **READY_CHECK}),
        ("ranges", {"nlb-target-type": "ip", **KEPT, **READY_CHECK}),
    ],
)
def test_annotations_of_dev(dev_program: Program, name: str, expected: dict[str, str]) -> None:
    assert annotated(dev_program, f"dev-edge-{name}") == PUBLIC | expected


def test_policies_and_ranges_of_dev(dev_program: Program) -> None:
    def field(key: str) -> dict[str, Any]:
        names = stack_file("dev")["edge"]["gateways"]
        return {name: values(dev_program, f"dev-edge-{name}")["service"][key] for name in names}

    through_nodes = {"tls", "loop", "unserved", "split", "reencrypt", "hidden", "unlogged"}
    assert field("externalTrafficPolicy") == {
        name: "Cluster" if name in through_nodes else "Local" for name in field("type")
    }
    assert {name: ranges for name, ranges in field("loadBalancerSourceRanges").items() if ranges} == {
        "tls": ["0.0.0.0/0"],
        "ranges": ["203.0.113.10/32"],
    }
    assert set(field("type").values()) == {"LoadBalancer"}


def test_no_annotation_is_left_to_be_repeated(dev_program: Program) -> None:
    """What the program writes is what the settings refuse."""
    releases = [one for one in dev_program.of(":Release") if one.name.startswith("dev-edge-")]
    written = {name for release in releases for name in release.inputs["values"]["service"]["annotations"]}
    assert written <= set(TYPED_ANNOTATIONS)
    assert len(written) == 16


def test_balancer_by_settings() -> None:
    found = annotated(
        gateway(
            balancer={
                "targetType": "instance",
                "healthCheck": {"intervalSeconds": 30, "healthyThreshold": 3, "unhealthyThreshold": 5},
                "attributes": {"deletion_protection.enabled": "true"},
                "targetGroupAttributes": {"deregistration_delay.timeout_seconds": "30"},
                "annotations": {f"{ANNOTATION_PREFIX}eip-allocations": "eipalloc-1"},
            }
        )
    )
    assert found == {
        "type": "external",
        "nlb-target-type": "instance",
        "scheme": "internal",
        "attributes": "load_balancing.cross_zone.enabled=false,deletion_protection.enabled=true",
        "target-group-attributes": "preserve_client_ip.enabled=true,deregistration_delay.timeout_seconds=30",
        **NODE_CHECK,
        "healthcheck-interval": "30",
        "healthcheck-healthy-threshold": "3",
        "healthcheck-unhealthy-threshold": "5",
        "eip-allocations": "eipalloc-1",
    }


def test_health_of_nodes_behind_proxy_headers() -> None:
    """kube-proxy, which would be asked otherwise, does not understand them."""
    found = annotated(gateway(balancer={"targetType": "instance", "clientAddress": PROXY}))
    assert found["healthcheck-protocol"] == "tcp"
    assert found["healthcheck-port"] == "traffic-port"
    assert "healthcheck-path" not in found


@pytest.mark.parametrize(
    ("tls", "https"),
    [
        ({"ends": "gateway", "credential": "www"}, TARGET_HTTPS),
        (AT_BALANCER, TARGET_HTTPS),
        ({**AT_BALANCER, "targetPorts": "shared"}, TARGET_HTTP),
        ({**AT_BALANCER, "backendProtocol": "ssl", "credential": "www"}, TARGET_HTTPS),
    ],
)
def test_listeners(tls: dict[str, Any], https: int) -> None:
    """The status port is none of them."""
    assert values(gateway(tls=tls))["service"]["ports"] == [
        {"name": "http2", "port": 80, "targetPort": 8080, "protocol": "TCP"},
        {"name": "https", "port": 443, "targetPort": https, "protocol": "TCP"},
    ]


@pytest.mark.parametrize(("target_type", "expected"), [("ip", False), ("instance", None)])
def test_nodes_have_no_port_that_nobody_uses(target_type: str, expected: bool | None) -> None:
    """It would be another way to the gateway, and with another source address."""
    service = values(gateway(balancer={"targetType": target_type}))["service"]
    assert service.get("allocateLoadBalancerNodePorts") is expected


# What gateways answer for


def server(number: int, name: str, protocol: str, *hosts: str, **settings: Any) -> dict[str, Any]:
    return {"hosts": list(hosts), "port": {"number": number, "name": name, "protocol": protocol}, **settings}


def https(*hosts: str, credential: str = "example-com") -> dict[str, Any]:
    tls = {"mode": "SIMPLE", "credentialName": credential, "minProtocolVersion": "TLSV1_2"}
    return server(443, "https", "HTTPS", *hosts, tls=tls)


def three(name: str) -> tuple[str, str, str]:
    return f"{name}.example.com", f"{name}-gateway-redirect.example.com", f"{name}-route-redirect.example.com"


def http(served: str, redirected: str, by_route: str) -> list[dict[str, Any]]:
    return [
        server(80, "http", "HTTP", served, by_route),
        server(80, "http-redirect", "HTTP", redirected, tls={"httpsRedirect": True}),
    ]


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        (
            "tls",
            [
                *http("nginx.example.com", "gateway-redirect.example.com", "route-redirect.example.com"),
                https("*"),
            ],
        ),
        ("loop", http(*three("loop"))),
        ("unserved", [server(80, "http", "HTTP", "unserved.example.com")]),
        ("split", [*http(*three("split")), server(443, "http-tls-ended", "HTTP", *three("split"))]),
        ("reencrypt", [*http(*three("reencrypt")), https("*")]),
        (
            "proxy-protocol",
            [server(80, "http", "HTTP", "proxy-protocol.example.com"), https("proxy-protocol.example.com")],
        ),
    ],
)
def test_servers_of_dev(dev_program: Program, name: str, expected: list[dict[str, Any]]) -> None:
    found = dev_program.one(f"dev-edge-{name}-gateway")
    assert found.type == "kubernetes:networking.istio.io/v1:Gateway"
    assert found.inputs["metadata"] == {"name": name, "namespace": "istio-edge"}
    assert found.inputs["spec"] == {"selector": {"istio": name}, "servers": expected}


@pytest.mark.parametrize("tls", [AT_BALANCER, {**AT_BALANCER, "backendProtocol": "ssl", "credential": "www"}])
def test_no_server_of_443(tls: dict[str, Any]) -> None:
    program = gateway(tls={**tls, "httpsServer": False}, pitfalls=["https-unserved"])
    assert spec(program, "prod-edge-web-gateway")["servers"] == [server(80, "http", "HTTP", "www.example.com")]


def test_redirect_on_the_gateway_unless_said_otherwise() -> None:
    wanted = {key: value for key, value in host().items() if key != "redirect"}
    servers = spec(gateway(hosts=[wanted]), "prod-edge-web-gateway")["servers"]
    assert [one["tls"] for one in servers] == [{"httpsRedirect": True}, https(credential="www")["tls"]]


ROUTE = {"route": [{"destination": {"host": "www.shop.svc.cluster.local", "port": {"number": 80}}}]}
SAID_HTTPS = {
    "match": [{"port": 443}],
    "headers": {"request": {"set": {"x-forwarded-proto": "https"}}},
    **ROUTE,
}


def redirected(match: dict[str, Any]) -> dict[str, Any]:
    return {"match": [match], "redirect": {"scheme": "https", "redirectCode": 308}}


AT_GATEWAY = {"ends": "gateway", "credential": "www"}
AGAIN = {**AT_BALANCER, "backendProtocol": "ssl", "credential": "www"}
SHARED = {**AT_BALANCER, "targetPorts": "shared"}


@pytest.mark.parametrize(
    ("tls", "redirect", "expected"),
    [
        (AT_GATEWAY, "none", [ROUTE]),
        (AT_GATEWAY, "gateway", [ROUTE]),
        (AT_GATEWAY, "route", [redirected({"scheme": {"exact": "http"}}), ROUTE]),
        (AGAIN, "route", [redirected({"scheme": {"exact": "http"}}), ROUTE]),
        (AT_BALANCER, "none", [SAID_HTTPS, ROUTE]),
        (AT_BALANCER, "gateway", [SAID_HTTPS, ROUTE]),
        (AT_BALANCER, "route", [redirected({"port": 80}), SAID_HTTPS, ROUTE]),
        (SHARED, "none", [ROUTE]),
        (SHARED, "route", [redirected({"scheme": {"exact": "http"}}), ROUTE]),
    ],
)
def test_rules(tls: dict[str, Any], redirect: str, expected: list[dict[str, Any]]) -> None:
    pitfalls = ["redirect-loop"] if tls is SHARED and redirect != "none" else []
    program = gateway(tls=tls, hosts=[host(redirect=redirect)], pitfalls=pitfalls)
    found = program.one("prod-edge-web.www.example.com")
    assert found.type == "kubernetes:networking.istio.io/v1:VirtualService"
    assert found.inputs["metadata"] == {"name": "web.www.example.com", "namespace": "istio-edge"}
    assert found.inputs["spec"] == {
        "hosts": ["www.example.com"],
        "gateways": ["web"],
        "exportTo": ["."],
        "http": expected,
    }


# Who may use them


def test_no_policy_for_everybody() -> None:
    program = gateway()
    assert program.of(":AuthorizationPolicy") == []
    assert program.of(":NetworkPolicy") == []
    assert "gatewayTopology" not in proxy_config(program)
    assert "env" not in values(program)


@pytest.mark.parametrize(
    ("client_address", "denied", "others"),
    [("preserve", "ipBlocks", "notIpBlocks"), (PROXY, "remoteIpBlocks", "notRemoteIpBlocks")],
)
def test_clients(client_address: str, denied: str, others: str) -> None:
    program = gateway(
        balancer={"clientAddress": client_address}, deny=DENIED, allow=["203.0.113.0/24", "198.51.100.0/24"]
    )
    found = program.one("prod-edge-web-clients")
    assert found.type == "kubernetes:security.istio.io/v1:AuthorizationPolicy"
    assert found.inputs["metadata"] == {"name": "web-clients", "namespace": "istio-edge"}
    assert found.inputs["spec"] == {
        "selector": {"matchLabels": {"istio": "web"}},
        "action": "DENY",
        "rules": [
            {"from": [{"source": {denied: DENIED}}]},
            {"from": [{"source": {others: ["203.0.113.0/24", "198.51.100.0/24"]}}]},
        ],
    }
    assert found.name in program.one("prod-edge-web-release").dependencies


def test_denials_of_dev(dev_program: Program) -> None:
    found = {
        one.inputs["spec"]["selector"]["matchLabels"]["istio"]: one.inputs["spec"]["rules"]
        for one in dev_program.of(":AuthorizationPolicy")
        if one.inputs["metadata"]["namespace"] == "istio-edge"
    }
    by_source, by_header = ([{"from": [{"source": {field: DENIED}}]}] for field in ("ipBlocks", "remoteIpBlocks"))
    assert found == {
        **dict.fromkeys(["hidden", "unlogged", "preserved-instance", "preserved-ip"], by_source),
        **dict.fromkeys(["proxy-protocol", "forwarded"], by_header),
    }


def test_proxy_headers_come_from_the_balancer_alone() -> None:
    program = gateway(balancer={"clientAddress": PROXY})
    assert proxy_config(program)["gatewayTopology"] == {"proxyProtocol": {}}
    assert values(program)["env"] == {"ENVOY_STATUS_PORT_ENABLE_PROXY_PROTOCOL": "true"}
    found = program.one("prod-edge-web-balancer")
    assert found.type == "kubernetes:networking.k8s.io/v1:NetworkPolicy"
    assert found.inputs["spec"] == {
        "podSelector": {"matchLabels": {"istio": "web"}},
        "policyTypes": ["Ingress"],
        "ingress": [
            {
                "from": [{"ipBlock": {"cidr": "10.9.0.0/24"}}],
                "ports": [{"port": port, "protocol": "TCP"} for port in (8080, 8443, 15021)],
            }
        ],
    }
    assert found.name in program.one("prod-edge-web-release").dependencies


def test_metrics_of_a_gateway_that_is_closed_otherwise() -> None:
    web = {"tls": AT_GATEWAY, "hosts": [host()], "balancer": {"clientAddress": PROXY}}
    program = edge(gateways={"web": web}, metricsFrom=["monitoring"])
    assert spec(program, "prod-edge-web-balancer")["ingress"][1] == {
        "from": [{"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "monitoring"}}}],
        "ports": [{"port": 15020, "protocol": "TCP"}],
    }


def test_trusted_proxies(dev_program: Program) -> None:
    topology = {
        name: proxy_config(dev_program, f"dev-edge-{name}").get("gatewayTopology")
        for name in ("proxy-protocol", "forwarded", "preserved-ip")
    }
    assert topology == {
        "proxy-protocol": {"proxyProtocol": {}},
        "forwarded": {"proxyProtocol": {}, "numTrustedProxies": 1},
        "preserved-ip": None,
    }


def test_access_log(dev_program: Program) -> None:
    (found,) = [it for it in dev_program.of(":Telemetry") if it.inputs["metadata"]["namespace"] == "istio-edge"]
    assert found.inputs["metadata"]["name"] == "unlogged-unlogged"
    assert found.inputs["spec"] == {
        "selector": {"matchLabels": {"istio": "unlogged"}},
        "accessLogging": [{"providers": [{"name": "envoy"}], "disabled": True}],
    }


# Certificates and names


def test_gateways_certificate(dev_program: Program) -> None:
    secret = dev_program.one("dev-edge-example-com-secret")
    assert secret.inputs["metadata"] == {"name": "example-com", "namespace": "istio-edge"}
    assert secret.secrets == {"stringData"}
    request = dev_program.one("dev-edge-example-com-request")
    assert request.inputs["dnsNames"] == ["*.example.com"]
    assert dev_program.outputs["edge_root_certificates"] == {"example": "<certificate dev-edge-example-ca-root>"}


def acm(*hosts: str) -> dict[str, Any]:
    return {"kind": "acm", "zone": "example.com", "hosts": list(hosts)}


def in_acm(certificates: dict[str, Any], **settings: Any) -> Program:
    tls = {"ends": "balancer", "certificate": next(iter(certificates))}
    return edge(balancerCertificates=certificates, gateways={"web": {"tls": tls, "hosts": [host()], **settings}})


def test_certificate_of_acm_is_used_when_it_is_issued() -> None:
    program = in_acm({"www": acm("example.com", "*.example.com", "*.shop.example.com")})
    certificate = program.one("prod-edge-acm-www")
    assert certificate.inputs == {
        "domainName": "example.com",
        "subjectAlternativeNames": ["example.com", "*.example.com", "*.shop.example.com"],
        "validationMethod": "DNS",
    }
    records = {record.name: record.inputs for record in program.of(":Record")}
    assert records == {
        # The wildcard is proved by its apex's record.
        f"prod-edge-acm-{domain}": {
            "zoneId": "Z0EXAMPLE",
            "name": f"_proof.{domain}.",
            "type": "CNAME",
            "records": [f"_{domain}.acm-validations.aws."],
            "ttl": 300,
            "allowOverwrite": True,
        }
        for domain in ("example.com", "shop.example.com")
    }
    issued = program.one("prod-edge-acm-www-issued")
    assert issued.inputs == {
        "certificateArn": "<arn prod-edge-acm-www>",
        "validationRecordFqdns": ["_proof.example.com.", "_proof.shop.example.com."],
    }
    assert annotated(program)["ssl-cert"] == "<arn prod-edge-acm-www>"
    assert issued.name in program.one("prod-edge-web-release").dependencies
    assert {one.provider for one in program.resources if one.type.startswith("aws:")} == {"prod-aws"}


def test_certificates_of_one_domain_share_its_record() -> None:
    program = in_acm({"a": acm("*.example.com"), "b": acm("example.com", "www.example.com")})
    assert sorted(record.name for record in program.of(":Record")) == [
        "prod-edge-acm-example.com",
        "prod-edge-acm-www.example.com",
    ]
    assert program.one("prod-edge-acm-a-issued").inputs["validationRecordFqdns"] == ["_proof.example.com."]
    assert program.one("prod-edge-acm-b-issued").inputs["validationRecordFqdns"] == [
        "_proof.example.com.",
        "_proof.www.example.com.",
    ]


def test_names_of_hosts() -> None:
    program = gateway(zone="example.com", hosts=[host(), host("shop.example.com")])
    assert {record.name: record.inputs for record in program.of(":Record")} == {
        f"prod-edge-web-records-{name}": {
            "zoneId": "Z0EXAMPLE",
            "name": name,
            "type": "A",
            "aliases": [{"name": BALANCER, "zoneId": "<zone of network balancers>", "evaluateTargetHealth": True}],
        }
        for name in ("www.example.com", "shop.example.com")
    }


def test_inputs_are_what_the_sdk_asks_for() -> None:
    program = in_acm({"www": acm("*.example.com")}, zone="example.com")
    assert [
        problem
        for resource in program.resources
        if resource.type.startswith("aws:")
        for problem in sdk.problems(resource.type, resource.inputs)
    ] == []


def test_a_zone_that_the_network_lacks() -> None:
    section = {
        "kind": "nlb",
        "certificates": {"www": {"kind": "existing", "hosts": ["*.example.com"]}},
        "gateways": {"web": {"tls": AT_GATEWAY, "hosts": [host()], "zone": "example.com"}},
    }
    config = {
        "name": "prod",
        "layers": ["edge"],
        "upstream": {"network": "base", "cluster": "base", "mesh": "base"},
        "aws": {"region": "eu-central-1"},
        "edge": section,
    }
    references = {"base": {**UPSTREAM, "network_dns_zones": {"example.org": "Z0"}}}
    with pytest.raises(Exception, match=r"no public zone 'example\.com', which 'edge' names \(there: example\.org\)"):
        run(config, stack="prod", references=references)


def test_contract() -> None:
    program = gateway()
    assert program.outputs["edge_gateways"] == {"web": {"address": BALANCER, "http_port": 80, "https_port": 443}}
    assert program.outputs["edge_root_certificates"] == {}


# The whole


def test_demo_applications(dev_program: Program) -> None:
    deployments = {
        one.inputs["metadata"]["name"]: one.inputs["spec"]["template"]["spec"]
        for one in dev_program.of("apps/v1:Deployment")
        if one.inputs["metadata"]["namespace"] == "edge-demo"
    }
    assert {name: pod["containers"][0]["image"] for name, pod in deployments.items()} == {
        "nginx": "docker.io/library/nginx:1.29",
        "echo": "docker.io/youngwjung/flask-echo:latest",
    }
    for pod in deployments.values():
        assert pod["containers"][0]["ports"] == [{"name": "http", "containerPort": 80}]
        assert pod["containers"][0]["securityContext"]["runAsNonRoot"] is True
        # Without it nobody but root could listen there.
        assert pod["securityContext"]["sysctls"] == [{"name": "net.ipv4.ip_unprivileged_port_start", "value": "0"}]
    mounted = {mount["mountPath"] for mount in deployments["nginx"]["containers"][0]["volumeMounts"]}
    assert mounted == {"/var/cache/nginx", "/run"}
    assert dev_program.one("dev-edge-demo-namespace").inputs["metadata"]["labels"] == {"istio.io/rev": "stable"}


def test_no_demo_unless_wanted() -> None:
    program = gateway()
    assert [one.inputs["metadata"]["name"] for one in program.of("core/v1:Namespace")] == ["istio-edge"]


def test_authorities_are_protected() -> None:
    program = edge(
        authorities={"example": {}},
        certificates={"www": {"kind": "issued", "authority": "example", "hosts": ["*.example.com"]}},
        gateways={"web": {"tls": AT_GATEWAY, "hosts": [host()]}},
    )
    assert program.one("prod-edge-example-ca-root-key").protect


def test_without_zones_no_aws_is_loaded() -> None:
    """Its SDK takes seconds and a good part of a small machine's memory."""
    code = (
        "import sys, json; from tests.unit.test_edge import gateway; gateway();"
        "sys.exit(any(name.startswith('pulumi_aws') for name in sys.modules))"
    )
    assert subprocess.run([sys.executable, "-c", code], cwd=CHECKOUT, check=False).returncode == 0
