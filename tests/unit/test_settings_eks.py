"""An environment on EKS that cannot be built says so before anything is made, all at once."""

from __future__ import annotations

from typing import Any

import pytest

from settings import SettingsError, load
from tests.unit.conftest import stack_file

EDGE = {
    "kind": "nlb",
    "balancerCertificates": {"public": {"kind": "acm", "zone": "example.com", "hosts": ["*.example.com"]}},
    "gateways": {
        "split": {
            "tls": {"ends": "balancer", "certificate": "public"},
            "hosts": [
                {"host": "www.example.com", "redirect": "gateway", "backend": {"service": "www.web.svc.cluster.local"}}
            ],
        }
    },
}
PROXY_PROTOCOL = "service.beta.kubernetes.io/aws-load-balancer-proxy-protocol"


def found(config: dict[str, Any]) -> dict[str, str]:
    """What is said of a configuration, by key."""
    try:
        load(config)
    except SettingsError as error:
        return {problem.key: problem.message for problem in error.problems}
    return {}


@pytest.fixture
def eks() -> dict[str, Any]:
    """The example environment, with one gateway of its own."""
    return stack_file("eks") | {"edge": EDGE, "external": {"prefix": "external"}}


def test_the_example_is_right(eks: dict[str, Any]) -> None:
    assert found(eks) == {}


def test_one_bad_configuration_of_each_kind_all_at_once(eks: dict[str, Any]) -> None:
    network, cluster = dict(eks["network"]), dict(eks["cluster"])
    first, second = network["zones"]
    network["zones"] = [{**first, "name": "eu-west-1a"}, {**second, "private": "10.0.64.0/20"}]
    cluster["applicationNodes"] = {"name": "application", "zones": ["eu-central-1b", "eu-central-1c"]}
    cluster["serviceCidr"] = "10.0.128.0/20"
    gateway = {
        **EDGE["gateways"]["split"],  # type: ignore[index]
        "tls": {"ends": "balancer", "certificate": "other"},
        "balancer": {"annotations": {PROXY_PROTOCOL: "*"}},
    }
    edge = {**EDGE, "gateways": {"split": gateway}}
    assert found({**eks, "network": network, "cluster": cluster, "edge": edge}) == {
        "network.zones[0].name": "'eu-west-1a' is no zone of aws.region (eu-central-1); its zones are eu-central-1a, "
        "eu-central-1b and so on",
        "network.zones[0].private": "10.0.64.0/19 overlaps zones[1].private (10.0.64.0/20); the subnets must be "
        "disjoint",
        "cluster.applicationNodes.zones[1]": "'eu-central-1c' has no subnet: it is not under network.zones (there: "
        "eu-west-1a, eu-central-1b)",
        "cluster.serviceCidr": "10.0.128.0/20 overlaps network.cidr (10.0.0.0/16); Services need a range outside the "
        "VPC",
        "edge.gateways.split.tls.certificate": "'other' is not under balancerCertificates (public)",
        "edge.gateways.split.balancer.annotations": f"'{PROXY_PROTOCOL}' follows from settings; take it out and use "
        "clientAddress: proxy-protocol, which prepares the gateway for it too",
    }


def test_pool_without_a_subnet(eks: dict[str, Any]) -> None:
    eks["gateway_pool"] = {"kind": "eks", "version": "1.34", "zones": ["eu-central-1a", "eu-central-1c"]}
    assert found(eks) == {
        "gateway_pool.zones[1]": "'eu-central-1c' has no subnet: it is not under network.zones (there: eu-central-1a, "
        "eu-central-1b)"
    }


def test_zone_that_nobody_keeps(eks: dict[str, Any]) -> None:
    certificate = {"kind": "acm", "zone": "example.org", "hosts": ["www.example.org"]}
    edge = {**EDGE, "balancerCertificates": EDGE["balancerCertificates"] | {"other": certificate}}  # type: ignore[operator]
    assert found({**eks, "edge": edge}) == {
        "edge.balancerCertificates.other.zone": "'example.org' is not under network.dns.public (there: example.com)"
    }


def test_names_of_node_groups_differ(eks: dict[str, Any]) -> None:
    eks["gateway_pool"] = {"kind": "eks", "version": "1.34", "name": "application"}
    assert found(eks) == {
        "gateway_pool.name": "'application' is cluster.applicationNodes too; names must differ",
    }


def test_nodes_are_not_newer_than_their_control_plane(eks: dict[str, Any]) -> None:
    eks["gateway_pool"] = {"kind": "eks", "version": "1.35"}
    assert found(eks) == {
        "gateway_pool.version": "is 1.35, newer than the cluster (1.34); nodes follow their control plane"
    }


def test_credentials_of_the_region(eks: dict[str, Any]) -> None:
    arn = "arn:aws:secretsmanager:eu-west-1:123456789012:secret:ecr-pullthroughcache/docker-hub-AbCdEf"
    eks["network"] = {**eks["network"], "registries": [{"host": "docker.io", "credentialArn": arn}]}
    assert found(eks) == {
        "network.registries[0].credentialArn": "is in eu-west-1; ECR reads secrets of its own region alone "
        "(aws.region: eu-central-1)"
    }


@pytest.mark.parametrize("region", ["cn-north-1", "us-gov-west-1", "frankfurt", "eu-central-1a"])
def test_regions_of_the_commercial_partition(eks: dict[str, Any], region: str) -> None:
    eks["aws"] = {"region": region}
    assert found(eks) == {
        "aws.region": f"is '{region}'; it must be a region of AWS's commercial partition, for example eu-central-1"
    }


def test_account_is_twelve_digits(eks: dict[str, Any]) -> None:
    eks["aws"] = {"region": "eu-central-1", "accountId": "12345"}
    assert found(eks) == {"aws.accountId": "is '12345'; it must be an account id: 12 digits, in quotes"}


def test_aws_needs_a_region(eks: dict[str, Any]) -> None:
    del eks["aws"]
    assert found(eks) == {"aws": "is missing; network is in AWS: give its region"}


def test_edge_needs_aws_only_for_what_it_keeps_there() -> None:
    alone = {"name": "prod", "layers": ["edge"], "upstream": {"cluster": "prod-cluster", "mesh": "prod-mesh"}}
    arn = "arn:aws:acm:eu-central-1:123456789012:certificate/00000000-0000-4000-8000-000000000001"
    existing = {"public": {"kind": "existing", "arn": arn, "hosts": ["*.example.com"]}}
    assert found({**alone, "edge": {**EDGE, "balancerCertificates": existing}}) == {}
    assert found({**alone, "edge": EDGE}) == {
        "aws": "is missing; edge is in AWS: give its region",
        "upstream.network": "is missing; 'edge' needs the layer 'network': add it to layers, or name the stack that "
        "holds it",
    }


def test_a_balancers_certificate_is_of_the_region(eks: dict[str, Any]) -> None:
    arn = "arn:aws:acm:us-east-1:123456789012:certificate/00000000-0000-4000-8000-000000000001"
    existing = {"public": {"kind": "existing", "arn": arn, "hosts": ["*.example.com"]}}
    assert found({**eks, "edge": {**EDGE, "balancerCertificates": existing}}) == {
        "edge.balancerCertificates.public.arn": "is in us-east-1; a balancer takes certificates of its own region "
        "alone (aws.region: eu-central-1)"
    }


@pytest.mark.parametrize(
    ("scheme", "sort", "subnet"),
    [("internet-facing", "public", "10.0.1.0/24"), ("internal", "private", "10.0.96.0/19")],
)
def test_balancers_may_send_their_headers(eks: dict[str, Any], scheme: str, sort: str, subnet: str) -> None:
    gateway = {
        **EDGE["gateways"]["split"],  # type: ignore[index]
        "balancer": {"scheme": scheme, "clientAddress": "proxy-protocol"},
    }
    eks["edge"] = {**EDGE, "gateways": {"split": gateway}, "balancerCidrs": ["10.0.0.0/24", "10.0.64.0/19"]}
    assert found(eks) == {
        "edge.balancerCidrs": f"lacks {subnet}, the {sort} subnet in eu-central-1b: the balancer of gateways.split is "
        "there, and would be kept out"
    }
    eks["edge"]["balancerCidrs"].append(subnet)
    assert found(eks) == {}


def test_gateways_have_names_of_their_own() -> None:
    """Istio's Gateway selects pods by their label, in every namespace."""
    dev = stack_file("dev")
    dev["edge"]["gateways"] |= {name: dev["edge"]["gateways"]["tls"] for name in ("simple", "egressgateway")}
    message = "has the name of {}; each would configure the other's pods: use another name"
    assert found(dev) == {
        "edge.gateways.simple": message.format("ingress.gateways.simple"),
        "edge.gateways.egressgateway": message.format("the egress gateway"),
    }


@pytest.mark.parametrize(
    ("section", "said"),
    [
        (
            {"gateway_pool": {"kind": "gke"}},
            {"gateway_pool.kind": "is gke, but the cluster is of the kind eks; use eks"},
        ),
        (
            {"mesh": {"kind": "managed"}},
            {"mesh.kind": "is managed, which only a cluster of the kind gke has; use istiod"},
        ),
        (
            {"cluster": {"kind": "gke", "location": "europe-west1"}},
            {
                "network.kind": "is eks, but the cluster is of the kind gke; use gke",
                "gateway_pool.kind": "is eks, but the cluster is of the kind gke; use gke",
                "edge.kind": "is nlb, a load balancer of AWS, but the cluster is of the kind gke; "
                "use the layer ingress",
            },
        ),
    ],
)
def test_kinds_fit_together(eks: dict[str, Any], section: dict[str, Any], said: dict[str, str]) -> None:
    got = found({**eks, **section, "gcp": {"project": "my-project", "region": "europe-west1"}})
    assert {key: got.get(key) for key in said} == said
