"""What the lab's NLB reads in a Service, as the AWS Load Balancer Controller would."""

from __future__ import annotations

from ipaddress import IPv4Network
from typing import Any

import pytest
from lightkube.models.core_v1 import ServicePort, ServiceSpec
from lightkube.models.meta_v1 import ObjectMeta
from lightkube.resources.core_v1 import Service

from lab.nlb.spec import PREFIX, HealthCheck, Listener, LoadBalancer, Refused, Tls, is_wanted, parse
from lab.nlb.tls import POLICIES

ARN = "arn:aws:acm:eu-central-1:123456789012:certificate/00000000-0000-4000-8000-000000000001"
OLD, MODERN = ("TLSv1.0", "TLSv1.2"), ("TLSv1.2", "TLSv1.3")
PORTS = [ServicePort(80, name="http", nodePort=30080), ServicePort(443, name="https", nodePort=30443)]


def service(spec: dict[str, Any] | None = None, /, **annotations: str) -> Service:
    """A Service for an NLB; annotations have _ for - and no prefix."""
    given = {"type": "external", **annotations}
    return Service(
        metadata=ObjectMeta(
            name="gateway",
            namespace="edge",
            annotations={f"{PREFIX}aws-load-balancer-{key.replace('_', '-')}": text for key, text in given.items()},
        ),
        spec=ServiceSpec(**{"type": "LoadBalancer", "ports": PORTS, **(spec or {})}),
    )


def read(spec: dict[str, Any] | None = None, /, **annotations: str) -> LoadBalancer:
    return parse(service(spec, **annotations), {ARN})


@pytest.mark.parametrize(
    ("it", "expected"),
    [
        (service(), True),
        (service(type="nlb-ip"), True),
        (service(type="nlb"), False),  # the provider within Kubernetes
        (service({"type": "ClusterIP"}), False),
        (service({"type": "NodePort"}), False),
        (service({"loadBalancerClass": "service.k8s.aws/nlb"}, type=""), True),
        (service({"loadBalancerClass": "other.example/lb"}), False),
        (Service(spec=ServiceSpec(type="LoadBalancer")), False),
    ],
)
def test_which_services_are_for_the_controller(it: Service, expected: bool) -> None:
    assert is_wanted(it) is expected


def test_what_is_not_said_is_as_the_controller_has_it() -> None:
    found = read()
    assert (found.scheme, found.target_type, found.cross_zone) == ("internal", "instance", False)
    assert (found.keeps_client_address, found.proxy_protocol, found.is_sticky) == (True, False, False)
    assert found.source_ranges == (IPv4Network("0.0.0.0/0"),)
    assert found.listeners == (Listener(80, "http", 30080), Listener(443, "https", 30443))
    assert found.health == HealthCheck("TCP", None, "/", "200-399", 10, 10, 3, 3)


@pytest.mark.parametrize(
    ("annotations", "kept"),
    [
        ({"nlb_target_type": "instance"}, True),
        ({"nlb_target_type": "ip"}, False),
        ({"type": "nlb-ip"}, False),
        ({"nlb_target_type": "ip", "target_group_attributes": "preserve_client_ip.enabled=true"}, True),
        ({"nlb_target_type": "instance", "target_group_attributes": "preserve_client_ip.enabled=false"}, False),
    ],
)
def test_whether_the_clients_address_is_kept(annotations: dict[str, str], kept: bool) -> None:
    assert read(**annotations).keeps_client_address is kept


@pytest.mark.parametrize(
    ("annotations", "enabled"),
    [
        ({"proxy_protocol": "*"}, True),
        ({"target_group_attributes": "proxy_protocol_v2.enabled=true, stickiness.enabled=false"}, True),
        ({"target_group_attributes": "proxy_protocol_v2.enabled=false"}, False),
    ],
)
def test_proxy_protocol(annotations: dict[str, str], enabled: bool) -> None:
    assert read(**annotations).proxy_protocol is enabled


@pytest.mark.parametrize(
    ("annotations", "cross_zone"),
    [
        ({"attributes": "load_balancing.cross_zone.enabled=true"}, True),
        ({"cross_zone_load_balancing_enabled": "true"}, True),
        ({"attributes": "load_balancing.cross_zone.enabled=false"}, False),
        # A target group may say otherwise than its load balancer.
        (
            {
                "attributes": "load_balancing.cross_zone.enabled=true",
                "target_group_attributes": "load_balancing.cross_zone.enabled=false",
            },
            False,
        ),
    ],
)
def test_cross_zone(annotations: dict[str, str], cross_zone: bool) -> None:
    assert read(**annotations).cross_zone is cross_zone


def test_scheme() -> None:
    assert read(scheme="internet-facing").scheme == "internet-facing"
    assert read(internal="false").scheme == "internet-facing"


def test_tls_at_the_ports_that_are_named() -> None:
    http, https = read(ssl_cert=ARN, ssl_ports="443").listeners
    assert http.tls is None
    assert https.tls == Tls((ARN,), OLD)
    assert not https.speaks_tls
    assert [it.tls is not None for it in read(ssl_cert=ARN, ssl_ports="https, 8443").listeners] == [False, True]
    assert [it.tls is not None for it in read(ssl_cert=ARN).listeners] == [True, True]
    assert [it.tls for it in read(ssl_ports="443").listeners] == [None, None]


def test_tls_policy_and_backend() -> None:
    modern = "ELBSecurityPolicy-TLS13-1-2-2021-06"
    http, https = read(
        ssl_cert=ARN,
        ssl_ports="443",
        ssl_negotiation_policy=modern,
        backend_protocol="ssl",
        alpn_policy="HTTP2Preferred",
    ).listeners
    assert https.tls == Tls((ARN,), MODERN, ("h2", "http/1.1", "http/1.0"))
    assert (http.speaks_tls, https.speaks_tls) == (False, True)
    # Where the target does not speak TLS, nobody asks it for a protocol.
    assert read(ssl_cert=ARN, backend_protocol="tcp", alpn_policy="HTTP2Preferred").listeners[0].tls == Tls((ARN,), OLD)
    assert POLICIES["ELBSecurityPolicy-TLS13-1-3-2021-06"] == ("TLSv1.3", "TLSv1.3")


def test_health_of_local_instances_is_kube_proxys() -> None:
    local = {"externalTrafficPolicy": "Local", "healthCheckNodePort": 32000}
    assert read(local).health == HealthCheck("HTTP", 32000, "/healthz", "200-399", 10, 6, 2, 2)
    assert read(local, nlb_target_type="ip").health == HealthCheck()
    assert read(local, healthcheck_port="traffic-port").health.port is None


def test_health_check_as_annotated() -> None:
    found = read(
        healthcheck_protocol="http",
        healthcheck_port="15021",
        healthcheck_path="/healthz/ready",
        healthcheck_interval="5",
        healthcheck_timeout="4",
        healthcheck_healthy_threshold="2",
        healthcheck_unhealthy_threshold="2",
        healthcheck_success_codes="200",
    ).health
    assert found == HealthCheck("HTTP", 15021, "/healthz/ready", "200", 5, 4, 2, 2)
    assert read(healthcheck_port="https").health.port == 30443
    ports = [ServicePort(80, name="http", nodePort=30080, targetPort=8080)]
    assert read({"ports": ports}, healthcheck_port="http", nlb_target_type="ip").health.port == 8080


def test_source_ranges() -> None:
    assert read({"loadBalancerSourceRanges": ["203.0.113.10/32", "10.0.0.1/8"]}).source_ranges == (
        IPv4Network("203.0.113.10/32"),
        IPv4Network("10.0.0.0/8"),
    )
    annotated = service()
    assert annotated.metadata
    assert annotated.metadata.annotations
    annotated.metadata.annotations[f"{PREFIX}load-balancer-source-ranges"] = "203.0.113.0/24, 198.51.100.0/24"
    assert [str(it) for it in parse(annotated).source_ranges] == ["203.0.113.0/24", "198.51.100.0/24"]


def test_node_labels() -> None:
    assert read(target_node_labels="pool=edge, tier=a").node_labels == {"pool": "edge", "tier": "a"}


@pytest.mark.parametrize(
    ("spec", "annotations", "reason", "message"),
    [
        (
            {},
            {"nlb_target_type": "pod"},
            "FailedBuildModel",
            "unsupported target type 'pod': it must be instance or ip",
        ),
        ({}, {"scheme": "public"}, "FailedBuildModel", "unknown scheme: public"),
        ({}, {"proxy_protocol": "true"}, "FailedBuildModel", "invalid value true for Load Balancer proxy protocol v2"),
        ({}, {"attributes": "cross_zone"}, "FailedBuildModel", "failed to parse stringMap annotation, service.beta"),
        (
            {},
            {"attributes": "load_balancing.crosszone.enabled=true"},
            "FailedDeployModel",
            "load balancer attribute key 'load_balancing.crosszone.enabled' is not recognized",
        ),
        (
            {},
            {"target_group_attributes": "preserve_client_ip=true"},
            "FailedDeployModel",
            "target group attribute key 'preserve_client_ip' is not recognized",
        ),
        (
            {},
            {"target_group_attributes": "preserve_client_ip.enabled=yes"},
            "FailedBuildModel",
            "failed to parse attribute preserve_client_ip.enabled: 'yes' is neither true nor false",
        ),
        ({}, {"ssl_cert": f"{ARN[:-1]}2"}, "FailedDeployModel", f"Certificate '{ARN[:-1]}2' not found"),
        (
            {},
            {"ssl_cert": ARN, "ssl_negotiation_policy": "ELBSecurityPolicy-2099-01"},
            "FailedDeployModel",
            "SSL policy 'ELBSecurityPolicy-2099-01' not found",
        ),
        ({}, {"alpn_policy": "h2"}, "FailedBuildModel", "invalid ALPN policy h2"),
        ({}, {"healthcheck_protocol": "udp"}, "FailedBuildModel", "unsupported health check protocol UDP"),
        ({}, {"healthcheck_interval": "soon"}, "FailedBuildModel", "failed to parse int32 annotation"),
        ({}, {"healthcheck_interval": "2"}, "FailedDeployModel", "'2' must be between 5 and 300"),
        ({}, {"healthcheck_path": "healthz"}, "FailedDeployModel", "Health check path 'healthz' must begin with /"),
        ({}, {"healthcheck_path": "/a\n  server x"}, "FailedDeployModel", "must begin with / and be a path"),
        ({}, {"healthcheck_success_codes": "2xx"}, "FailedDeployModel", "Health check matcher HTTP code '2xx'"),
        ({}, {"healthcheck_port": "status"}, "FailedBuildModel", "unable to find port status on service"),
        ({"loadBalancerSourceRanges": ["203.0.113.300/32"]}, {}, "FailedDeployModel", "loadBalancerSourceRanges"),
        ({"ports": [ServicePort(80)]}, {}, "FailedBuildModel", "instance target type with an unallocated NodePort"),
        ({"ports": [ServicePort(53, protocol="UDP", nodePort=30053)]}, {}, "FailedBuildModel", "port 53 is UDP"),
    ],
)
def test_what_is_wrong_is_refused(spec: dict[str, Any], annotations: dict[str, str], reason: str, message: str) -> None:
    with pytest.raises(Refused) as refused:
        read(spec, **annotations)
    assert refused.value.reason == reason
    assert message in str(refused.value)
    assert str(refused.value).startswith(refused.value.prefix)


def test_certificates_may_be_somebody_elses_concern() -> None:
    (listener, _) = parse(service(ssl_cert="arn:aws:acm:any")).listeners
    assert listener.tls == Tls(("arn:aws:acm:any",), OLD)
