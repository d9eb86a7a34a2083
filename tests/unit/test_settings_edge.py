"""Settings of the layer edge: what cannot work is refused with the reason, and allowed only to show that."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from settings import SettingsError, load
from settings.edge import TYPED_ANNOTATIONS, hosted_zones
from tests.unit.conftest import stack_file

PREFIX = "service.beta.kubernetes.io/aws-load-balancer-"
ARN = "arn:aws:acm:eu-central-1:123456789012:certificate/00000000-0000-4000-8000-000000000001"
EXISTING = {"kind": "existing", "hosts": ["*.example.com"]}
AT_BALANCER = {"ends": "balancer", "certificate": "balancer"}
REDIRECTED = {"host": "www.example.com", "backend": {"service": "www.shop.svc.cluster.local"}}
SERVED = {**REDIRECTED, "redirect": "none"}


def edge(**sections: Any) -> dict[str, Any]:
    return {
        "kind": "nlb",
        "authorities": {"example": {}},
        "certificates": {"www": {"kind": "issued", "authority": "example", "hosts": ["*.example.com"]}},
        "balancerCertificates": {"balancer": {"kind": "existing", "arn": ARN, "hosts": ["*.example.com"]}},
        "gateways": {"web": gateway()},
        **sections,
    }


def gateway(**settings: Any) -> dict[str, Any]:
    return {"tls": {"ends": "gateway", "credential": "www"}, "hosts": [SERVED], **settings}


def problems(section: dict[str, Any]) -> dict[str, str]:
    """What is wrong with the section, by key below edge."""
    config = {"name": "prod", "layers": ["edge"], "upstream": {"cluster": "base", "mesh": "base"}, "edge": section}
    if hosted_zones(section):
        config |= {"aws": {"region": "eu-central-1"}}
        config["upstream"] |= {"network": "base"}  # type: ignore[operator]
    try:
        load(config)
    except SettingsError as error:
        return {problem.key.removeprefix("edge."): problem.message for problem in error.problems}
    return {}


def one(section: dict[str, Any], key: str) -> str:
    """The one thing that is wrong, which is at this key."""
    found = problems(section)
    assert list(found) == [key], found
    return found[key]


def web(**settings: Any) -> dict[str, Any]:
    """The section with the gateway `web` alone."""
    return edge(gateways={"web": gateway(**settings)})


def test_hardened_unless_said_otherwise() -> None:
    assert problems(edge()) == {}
    made = load(
        {"name": "prod", "layers": ["edge"], "upstream": {"cluster": "base", "mesh": "base"}, "edge": edge()}
    ).edge
    assert made is not None
    found = made.gateways["web"]
    assert (found.balancer.scheme, found.balancer.target_type) == ("internal", "ip")
    assert (found.balancer.client_address, found.external_traffic_policy) == ("preserve", "Local")
    assert found.access_log
    assert found.num_trusted_proxies == 0
    assert found.replicas.min == 2


PITFALLS: Mapping[str, tuple[dict[str, Any], dict[str, Any], str, str]] = {
    # what is wrong, what would be right, where it is said, what is said
    "redirect-loop": (
        {"tls": {**AT_BALANCER, "targetPorts": "shared"}, "hosts": [REDIRECTED]},
        {"tls": AT_BALANCER, "hosts": [REDIRECTED]},
        "hosts[0].redirect",
        "redirected for ever",
    ),
    "https-unserved": (
        {"tls": {**AT_BALANCER, "httpsServer": False}},
        {"tls": AT_BALANCER},
        "tls.httpsServer",
        "would not listen",
    ),
    "client-address-lost": (
        {"balancer": {"targetType": "instance"}, "externalTrafficPolicy": "Cluster"},
        {"balancer": {"targetType": "instance"}, "externalTrafficPolicy": "Local"},
        "externalTrafficPolicy",
        "in place of the client's",
    ),
    "forgeable-forwarded-for": (
        {"numTrustedProxies": 1},
        {"numTrustedProxies": 0},
        "numTrustedProxies",
        "a client could write any address",
    ),
}


@pytest.mark.parametrize("pitfall", PITFALLS)
def test_pitfalls(pitfall: str) -> None:
    wrong, right, key, reason = PITFALLS[pitfall]
    message = one(web(**wrong), f"gateways.web.{key}")
    assert reason in message
    assert f"'{pitfall}'" in message
    assert problems(web(**wrong, pitfalls=[pitfall])) == {}
    assert problems(web(**right)) == {}
    assert "does not occur" in one(web(**right, pitfalls=[pitfall]), "gateways.web.pitfalls")


@pytest.mark.parametrize("redirect", ["gateway", "route"])
def test_either_redirect_loops(redirect: str) -> None:
    hosts = [SERVED, {**REDIRECTED, "host": "shop.example.com", "redirect": redirect}]
    section = web(tls={**AT_BALANCER, "targetPorts": "shared"}, hosts=hosts)
    assert f"is '{redirect}'" in one(section, "gateways.web.hosts[1].redirect")


def test_shared_ports_without_redirect_work() -> None:
    assert problems(web(tls={**AT_BALANCER, "targetPorts": "shared"})) == {}


@pytest.mark.parametrize("field", ["deny", "allow"])
def test_clients_by_addresses_that_the_gateway_never_sees(field: str) -> None:
    unseen = {field: ["203.0.113.20/32"], "balancer": {"clientAddress": "none"}}
    assert "sees the balancer's" in one(web(**unseen), f"gateways.web.{field}")
    assert problems(web(**unseen, pitfalls=["client-address-lost"])) == {}
    assert problems(web(**{field: ["203.0.113.20/32"]})) == {}


def test_address_of_a_node_where_no_address_is_asked_for() -> None:
    assert (
        problems(web(balancer={"targetType": "instance", "clientAddress": "none"}, externalTrafficPolicy="Cluster"))
        == {}
    )


# PROXY protocol

BELIEVING = {"targetType": "ip", "clientAddress": "proxy-protocol"}


def test_proxy_headers_are_believed_of_named_balancers_alone() -> None:
    gateways = {"web": gateway(balancer=BELIEVING)}
    assert "name the subnets" in one(edge(gateways=gateways), "balancerCidrs")
    assert problems(edge(gateways=gateways, balancerCidrs=["10.0.0.0/24"])) == {}
    assert "everybody" in one(edge(gateways=gateways, balancerCidrs=["0.0.0.0/0"]), "balancerCidrs[0]")
    assert "has no use" in one(edge(balancerCidrs=["10.0.0.0/24"]), "balancerCidrs")


def test_proxy_headers_from_a_node_cannot_be_told_apart() -> None:
    def through_nodes(policy: str) -> dict[str, Any]:
        balancer = {**BELIEVING, "targetType": "instance"}
        return edge(
            balancerCidrs=["10.0.0.0/24"],
            gateways={"web": gateway(balancer=balancer, externalTrafficPolicy=policy)},
        )

    assert "could not tell" in one(through_nodes("Cluster"), "gateways.web.externalTrafficPolicy")
    assert problems(through_nodes("Local")) == {}


# Annotations


@pytest.mark.parametrize("annotation", TYPED_ANNOTATIONS)
def test_annotations_that_follow_from_settings(annotation: str) -> None:
    message = one(web(balancer={"annotations": {annotation: "x"}}), "gateways.web.balancer.annotations")
    assert f"'{annotation}' follows from settings" in message


def test_proxy_protocol_without_the_gateway() -> None:
    """A header that the gateway does not expect would make every request a bad one."""
    section = web(balancer={"annotations": {f"{PREFIX}proxy-protocol": "*"}})
    assert "prepares the gateway" in one(section, "gateways.web.balancer.annotations")
    section = web(balancer={"targetGroupAttributes": {"proxy_protocol_v2.enabled": "true"}})
    assert "follows from clientAddress" in one(section, "gateways.web.balancer.targetGroupAttributes")


@pytest.mark.parametrize(
    ("annotation", "value", "refused"),
    [
        ("proxy-protocol", "*", True),
        ("target-group-attributes", "preserve_client_ip.enabled=true,proxy_protocol_v2.enabled=true", True),
        ("target-group-attributes", "preserve_client_ip.enabled=true,proxy_protocol_v2.enabled=false", False),
        ("scheme", "internet-facing", False),
    ],
)
def test_proxy_protocol_before_a_gateway_of_ingress(annotation: str, value: str, refused: bool) -> None:
    """The layer ingress takes annotations as they are, but its gateways take no PROXY header."""
    web = {
        "service": {"type": "LoadBalancer", "annotations": {f"{PREFIX}{annotation}": value}},
        "hosts": [
            {
                "host": "www.example.com",
                "tls": {"mode": "SIMPLE", "credential": "www"},
                "backend": {"service": "www.shop.svc.cluster.local"},
            }
        ],
    }
    config = {
        "name": "prod",
        "layers": ["ingress"],
        "upstream": {"cluster": "base", "mesh": "base"},
        "ingress": {"certificates": {"www": EXISTING}, "gateways": {"web": web}},
    }
    if not refused:
        load(config)
        return
    with pytest.raises(SettingsError, match="no request would get through") as error:
        load(config)
    assert [problem.key for problem in error.value.problems] == ["ingress.gateways.web.service.annotations"]


def test_further_annotations_and_attributes() -> None:
    further = {
        "annotations": {f"{PREFIX}eip-allocations": "eipalloc-1"},
        "attributes": {"deletion_protection.enabled": "true"},
        "targetGroupAttributes": {"deregistration_delay.timeout_seconds": "30"},
    }
    assert problems(web(balancer=further)) == {}


@pytest.mark.parametrize(
    ("field", "attribute", "setting"),
    [
        ("attributes", "load_balancing.cross_zone.enabled", "crossZone"),
        ("targetGroupAttributes", "preserve_client_ip.enabled", "clientAddress"),
    ],
)
def test_attributes_that_follow_from_settings(field: str, attribute: str, setting: str) -> None:
    message = one(web(balancer={field: {attribute: "true"}}), f"gateways.web.balancer.{field}")
    assert f"'{attribute}' follows from {setting}" in message


# Certificates


@pytest.mark.parametrize(
    ("tls", "key", "section"),
    [
        ({"ends": "gateway", "credential": "lost"}, "credential", "certificates (www)"),
        ({"ends": "balancer", "certificate": "lost"}, "certificate", "balancerCertificates (balancer)"),
        ({**AT_BALANCER, "backendProtocol": "ssl", "credential": "lost"}, "credential", "certificates (www)"),
    ],
)
def test_certificates_that_are_not_there(tls: dict[str, Any], key: str, section: str) -> None:
    assert one(web(tls=tls), f"gateways.web.tls.{key}") == f"'lost' is not under {section}"


@pytest.mark.parametrize(
    ("tls", "key"), [({"ends": "gateway"}, "gateways.web.tls.credential"), ({"ends": "balancer"}, "certificate")]
)
def test_tls_needs_a_certificate(tls: dict[str, Any], key: str) -> None:
    ((found, message),) = problems(web(tls=tls)).items()
    assert found.endswith(key.rpartition(".")[2])
    assert message == "is missing"


@pytest.mark.parametrize("host", ["www.example.org", "www.shop.example.com", "example.com"])
def test_certificates_cover_the_hosts(host: str) -> None:
    hosts = [{**SERVED, "host": host}]
    assert f"is not for {host}" in one(web(hosts=hosts), "gateways.web.tls.credential")
    assert f"is not for {host}" in one(web(hosts=hosts, tls=AT_BALANCER), "gateways.web.tls.certificate")


def test_tls_to_the_gateway_needs_its_certificate_and_a_port_of_its_own() -> None:
    again = {**AT_BALANCER, "backendProtocol": "ssl"}
    assert "is missing" in one(web(tls=again), "gateways.web.tls.credential")
    assert problems(web(tls={**again, "credential": "www"})) == {}
    assert "both http and TLS" in one(
        web(tls={**again, "credential": "www", "targetPorts": "shared"}), "gateways.web.tls.targetPorts"
    )
    assert "has no use" in one(web(tls={**AT_BALANCER, "credential": "www"}), "gateways.web.tls.credential")


def test_no_https_server_to_leave_out() -> None:
    tls = {**AT_BALANCER, "targetPorts": "shared", "httpsServer": False}
    assert "there is none anyway" in one(web(tls=tls), "gateways.web.tls.httpsServer")


def test_clients_are_asked_for_no_certificate() -> None:
    certificate = {"kind": "issued", "authority": "example", "hosts": ["*.example.com"], "clientAuthority": "example"}
    assert "ask clients for no" in one(edge(certificates={"www": certificate}), "certificates.www.clientAuthority")


def test_certificates_are_signed_by_an_authority_that_is_there_long_enough() -> None:
    certificate = {"kind": "issued", "authority": "other", "hosts": ["*.example.com"]}
    assert "not under authorities (example)" in one(
        edge(certificates={"www": certificate}), "certificates.www.authority"
    )
    long = {"kind": "issued", "authority": "example", "hosts": ["*.example.com"], "validityHours": 20000}
    assert "lives only 17520 hours" in one(edge(certificates={"www": long}), "certificates.www.validityHours")


@pytest.mark.parametrize(
    "arn",
    [
        "arn:aws:iam::123456789012:server-certificate/www",
        "arn:aws:acm:eu-central-1:12345:certificate/00000000-0000-4000-8000-000000000001",
        f"{ARN} ",
    ],
)
def test_arns(arn: str) -> None:
    certificates = {"balancer": {"kind": "existing", "arn": arn, "hosts": ["*.example.com"]}}
    ((key, message),) = problems(edge(balancerCertificates=certificates)).items()
    assert key.startswith("balancerCertificates.balancer")
    assert "must be the ARN of a certificate" in message


# Zones


def acm(**settings: Any) -> dict[str, Any]:
    return {"balancer": {"kind": "acm", "zone": "example.com", "hosts": ["*.example.com"], **settings}}


def test_certificates_are_proved_in_their_zone() -> None:
    assert problems(edge(balancerCertificates=acm(hosts=["example.com", "*.example.com", "*.a.example.com"]))) == {}
    assert "not in the zone" in one(
        edge(balancerCertificates=acm(hosts=["*.example.com", "*.badexample.com"])),
        "balancerCertificates.balancer.hosts[1]",
    )
    assert "2 times" in one(
        edge(balancerCertificates=acm(hosts=["*.example.com", "*.example.com"])), "balancerCertificates.balancer.hosts"
    )


def test_records_are_in_their_zone_and_of_one_gateway() -> None:
    assert problems(web(zone="example.com")) == {}
    assert "not in the zone" in one(web(zone="example.org"), "gateways.web.hosts[0].host")
    both = {"a": gateway(zone="example.com"), "b": gateway(zone="example.com")}
    assert "a name has one record" in one(edge(gateways=both), "gateways.b.hosts[0].host")
    assert problems(edge(gateways=both | {"b": gateway()})) == {}


@pytest.mark.parametrize(
    ("section", "expected"),
    [
        (edge(), False),
        (web(zone="example.com"), True),
        (edge(balancerCertificates=acm()), True),
        (None, False),
        ([], False),
        ("acm", False),
        ({}, False),
        ({"gateways": None, "balancerCertificates": 3}, False),
        ({"gateways": {"web": None}, "balancerCertificates": {"b": ["acm"]}}, False),
        ({"gateways": [{"zone": "example.com"}]}, False),
        ({"gateways": {"web": {"zone": 3}}}, True),
    ],
)
def test_hosted_zones(section: Any, expected: bool) -> None:
    assert hosted_zones(section) is expected


def test_network_is_needed_only_for_zones() -> None:
    config = {"name": "prod", "layers": ["edge"], "upstream": {"cluster": "base", "mesh": "base"}}
    with pytest.raises(SettingsError) as error:
        load({**config, "edge": web(zone="example.com")})
    assert {problem.key for problem in error.value.problems} == {"upstream.network", "aws"}
    load({**config, "edge": edge()})


# Everything at once


def test_hosts_are_there_once() -> None:
    assert "2 times" in one(web(hosts=[SERVED, SERVED]), "gateways.web.hosts")


def test_all_problems_at_once() -> None:
    section = edge(
        gateways={
            "a": gateway(numTrustedProxies=1, tls={"ends": "gateway", "credential": "lost"}),
            "b": gateway(balancer={"clientAddress": "proxy-protocol", "attributes": {}}),
        }
    )
    assert set(problems(section)) == {
        "gateways.a.numTrustedProxies",
        "gateways.a.tls.credential",
        "balancerCidrs",
    }


def test_gateways_of_eks_are_those_of_dev() -> None:
    """The lab shows with dev what eks has; only what is the machine's size may differ."""
    dev, eks = (stack_file(stack)["edge"] for stack in ("dev", "eks"))
    shown = {
        name: {key: value for key, value in settings.items() if key not in ("replicas", "resources", "zone")}
        for name, settings in dev["gateways"].items()
    }
    wanted = {
        name: {key: value for key, value in settings.items() if key != "zone"}
        for name, settings in eks["gateways"].items()
    }
    assert wanted == {name: settings for name, settings in shown.items() if "pitfalls" not in settings}
    assert set(wanted) == {
        "tls",
        "split",
        "reencrypt",
        "preserved-instance",
        "preserved-ip",
        "proxy-protocol",
        "ranges",
    }
    assert dev["certificates"] == eks["certificates"]
    hosts = [section["balancerCertificates"]["balancer"]["hosts"] for section in (dev, eks)]
    assert hosts[0] == hosts[1] == ["example.com", "*.example.com"]
    assert eks["balancerCertificates"]["balancer"]["kind"] == "acm"
