"""What the configuration may be, and what is said about one that cannot be used."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any, get_args

import pulumi.runtime.config
import pytest
import yaml

from settings import Layer, Settings, SettingsError, load, stack_config
from settings.authority import SelfSignedAuthority
from settings.cluster import OnpremCluster
from settings.gateway_service import LoadBalancerService
from settings.ingress import ExistingCertificate
from settings.mesh import IstiodMesh
from tests.unit.conftest import CHECKOUT, stack_file

LABEL = "it must be lower-case letters, digits and, between them, '-', at most 63 (a DNS label)"
NETWORK = "it must be an IPv4 network without host bits, for example 10.0.0.0/24"
TEXT = "it must be text, in quotes where YAML reads something else"

GONE = object()
"""In place of a value: the key is taken out."""

INGRESS = ("ingress",)
GATEWAYS = (*INGRESS, "gateways")
HOST = (*GATEWAYS, "simple", "hosts", 0)
CERTIFICATES = (*INGRESS, "certificates")
CREDENTIAL = (*CERTIFICATES, "webapp-credential")
POOLS = ("cluster", "nodePools")


LAYERS = ["cluster", "authority", "mesh", "ingress"]
"""Those of this file; the others have files of their own."""


@pytest.fixture
def config() -> dict[str, Any]:
    dev = stack_file("dev")
    others = {*get_args(Layer)} - {*LAYERS}
    kept = {key: value for key, value in dev.items() if key not in others}
    return {**kept, "layers": [*LAYERS], "authority": {"kind": "self-signed"}}


def put(config: dict[str, Any], path: tuple[str | int, ...], value: Any) -> None:
    """Change one value of the configuration."""
    at: Any = config
    for part in path[:-1]:
        at = at[part]
    if value is GONE:
        del at[path[-1]]
    else:
        at[path[-1]] = value


def found(config: dict[str, Any]) -> dict[str, str]:
    """What is wrong with the configuration: messages by key, each key once."""
    with pytest.raises(SettingsError) as error:
        load(config)
    keys = [problem.key for problem in error.value.problems]
    assert len(keys) == len(set(keys)), keys
    return {problem.key: problem.message for problem in error.value.problems}


@pytest.mark.parametrize(
    ("path", "value", "key", "message"),
    [
        # Keys
        (("gateway",), {}, "gateway", "is not a known key"),
        ((*HOST, "tls", "minimum"), "TLSV1_3", "ingress.gateways.simple.hosts[0].tls.minimum", "is not a known key"),
        ((*CREDENTIAL, "host"), [], "ingress.certificates.webapp-credential.host", "is not a known key"),
        # snake_case is not YAML's way here.
        (("mesh", "trust_domain"), "a", "mesh.trust_domain", "is not a known key"),
        (("name",), GONE, "name", "is missing"),
        (("mesh", "revision"), GONE, "mesh.revision", "is missing"),
        (("cluster", "cidrs", "pods"), GONE, "cluster.cidrs.pods", "is missing"),
        ((*HOST, "backend"), GONE, "ingress.gateways.simple.hosts[0].backend", "is missing"),
        # Types
        (("layers",), "mesh", "layers", "is 'mesh'; it must be a list"),
        (("layers",), [], "layers", "is empty; it needs at least one entry"),
        (("protect",), "perhaps", "protect", "is 'perhaps'; it must be true or false"),
        (("cluster",), "onprem", "cluster", "is 'onprem'; it must be a mapping"),
        (("cluster", "cidrs"), "10.0.0.0/8", "cluster.cidrs", "is '10.0.0.0/8'; it must be a mapping"),
        (("cluster", "minimumVersion"), 1.32, "cluster.minimumVersion", f"is 1.32; {TEXT}"),
        (POOLS, [], "cluster.nodePools", "is empty; it needs at least one entry"),
        ((*POOLS, 0, "count"), "two", "cluster.nodePools[0].count", "is 'two'; it must be a whole number"),
        ((*POOLS, 0, "count"), 1.5, "cluster.nodePools[0].count", "is 1.5; it must be a whole number"),
        ((*POOLS, 0, "labels", "pool"), True, "cluster.nodePools[0].labels.pool", f"is True; {TEXT}"),
        ((*POOLS, 0, "labels"), {}, "cluster.nodePools[0].labels", "is empty; it needs at least one entry"),
        ((*GATEWAYS, "simple", "service"), "x", "ingress.gateways.simple.service", "is 'x'; it must be a mapping"),
        ((*GATEWAYS, "simple", "hosts"), [], "ingress.gateways.simple.hosts", "is empty; it needs at least one entry"),
        (GATEWAYS, {}, "ingress.gateways", "is empty; it needs at least one entry"),
        (("verify",), {"clients": []}, "verify.clients", "is empty; it needs at least one entry"),
        (
            ("verify",),
            {"clients": [{"name": "here", "address": "203.0.113.10/32"}]},
            "verify.clients[0].address",
            "is '203.0.113.10/32'; it must be an IPv4 address, for example 10.0.0.1",
        ),
        # Values
        (
            ("name",),
            "x" * 21,
            "name",
            f"is '{'x' * 21}'; it must be lower-case letters, digits and '-', a letter first, at most 20",
        ),
        (("mesh", "revision"), "1.31.1", "mesh.revision", f"is '1.31.1'; {LABEL}"),
        (("mesh", "revision"), "-1", "mesh.revision", f"is '-1'; {LABEL}"),
        (("mesh", "revisionTags"), ["a" * 64], "mesh.revisionTags[0]", f"is '{'a' * 64}'; {LABEL}"),
        (
            ("mesh", "trustDomain"),
            "Cluster.Local",
            "mesh.trustDomain",
            "is 'Cluster.Local'; it must be lower-case letters, digits, '.', '-' and '_', for example cluster.local",
        ),
        (
            ("authority", "namespace"),
            "kube-system",
            "authority.namespace",
            "is 'kube-system'; it must be a namespace that Kubernetes does not make",
        ),
        (
            (*HOST, "host"),
            "webapp",
            "ingress.gateways.simple.hosts[0].host",
            "is 'webapp'; it must be a fully qualified host name, for example www.example.com",
        ),
        (
            (*HOST, "host"),
            "*.istioinaction.io",
            "ingress.gateways.simple.hosts[0].host",
            "is '*.istioinaction.io'; it must be a fully qualified host name, for example www.example.com",
        ),
        (
            (*CREDENTIAL, "hosts"),
            ["webapp.*.io"],
            "ingress.certificates.webapp-credential.hosts[0]",
            "is 'webapp.*.io'; it must be a host name or a wildcard, for example *.example.com",
        ),
        (
            (*HOST, "path"),
            "api",
            "ingress.gateways.simple.hosts[0].path",
            "is 'api'; it must be a path, for example /api/catalog",
        ),
        (("cluster", "cidrs", "pods"), "10.1.0.1/16", "cluster.cidrs.pods", f"is '10.1.0.1/16'; {NETWORK}"),
        (("cluster", "cidrs", "pods"), "fd00::/8", "cluster.cidrs.pods", f"is 'fd00::/8'; {NETWORK}"),
        (
            (*GATEWAYS, "simple", "service", "sourceRanges"),
            ["203.0.113.0/24", "everybody"],
            "ingress.gateways.simple.service.sourceRanges[1]",
            f"is 'everybody'; {NETWORK}",
        ),
        (
            (*GATEWAYS, "simple", "service", "loadBalancerIP"),
            "203.0.113.300",
            "ingress.gateways.simple.service.loadBalancerIP",
            "is '203.0.113.300'; it must be an IPv4 address, for example 10.0.0.1",
        ),
        (
            ("mesh", "resources", "memory"),
            "200 MB",
            "mesh.resources.memory",
            "is '200 MB'; it must be a Kubernetes quantity, for example 100m or 128Mi",
        ),
        (
            ("cluster", "minimumVersion"),
            "1.32.1",
            "cluster.minimumVersion",
            "is '1.32.1'; it must be a Kubernetes minor version, for example 1.32",
        ),
        (
            ("istio",),
            {"version": "1.31"},
            "istio.version",
            "is '1.31'; it must be an Istio version, for example 1.31.1",
        ),
        (
            ("istio",),
            {"charts": "http://charts.example.com"},
            "istio.charts",
            "is 'http://charts.example.com'; it must be https://..., oci://... or the path of a directory",
        ),
        (
            (*POOLS, 1, "taints", 0, "effect"),
            "NoStart",
            "cluster.nodePools[1].taints[0].effect",
            "is 'NoStart'; it must be 'NoSchedule', 'PreferNoSchedule' or 'NoExecute'",
        ),
        (
            (*GATEWAYS, "mutual", "service", "nodePorts", "http"),
            80,
            "ingress.gateways.mutual.service.nodePorts.http",
            "is 80; it must be greater than or equal to 30000",
        ),
        (
            (*HOST, "backend", "port"),
            65536,
            "ingress.gateways.simple.hosts[0].backend.port",
            "is 65536; it must be less than or equal to 65535",
        ),
        (("mesh", "replicas", "min"), 0, "mesh.replicas.min", "is 0; it must be greater than or equal to 1"),
        (
            (*INGRESS, "clients", "webapp-client", "commonName"),
            "x" * 65,
            "ingress.clients.webapp-client.commonName",
            f"is '{'x' * 65}'; it must be 1 to 64 characters (RFC 5280)",
        ),
        # Unions
        (("cluster", "kind"), "kind", "cluster", "'kind' is 'kind'; it must be one of 'onprem', 'gke', 'eks'"),
        (("mesh", "kind"), "asm", "mesh", "'kind' is 'asm'; it must be one of 'istiod', 'managed'"),
        (("authority",), {"organization": "x"}, "authority", "'kind' is missing"),
        (
            ("authority", "kind"),
            "vault",
            "authority",
            "'kind' is 'vault'; it must be one of 'self-signed', 'hsm', 'hsm-kms'",
        ),
        (
            (*CREDENTIAL, "kind"),
            "bought",
            "ingress.certificates.webapp-credential",
            "'kind' is 'bought'; it must be one of 'issued', 'existing'",
        ),
        ((*CREDENTIAL, "kind"), GONE, "ingress.certificates.webapp-credential", "'kind' is missing"),
        (
            (*GATEWAYS, "simple", "service", "type"),
            "ClusterIP",
            "ingress.gateways.simple.service",
            "'type' is 'ClusterIP'; it must be one of 'LoadBalancer', 'NodePort'",
        ),
        (
            (*GATEWAYS, "simple", "service", "nodePorts"),
            {"http": 30000, "https": 30001},
            "ingress.gateways.simple.service.nodePorts",
            "is not a known key",
        ),
        # Layers
        (
            ("layers",),
            ["cluster", "authority", "mesh", "ingress", "labs"],
            "layers[4]",
            "is 'labs'; it must be 'network', 'cluster', 'gateway_pool', 'standalone_envoy', 'authority', 'mesh', "
            "'egress', 'teams', 'workload_identity', 'ingress', 'edge', 'external', 'sidecar', 'bookinfo', "
            "'rate_limit', 'peer_authentication' or 'observability'",
        ),
        (("layers",), ["cluster", "authority", "mesh", "ingress", "mesh"], "layers", "'mesh' is there twice"),
        (("mesh",), GONE, "mesh", "is missing; layers has 'mesh', which is configured here"),
        (("layers",), ["cluster", "authority", "mesh"], "ingress", "is configured, but layers has no 'ingress'"),
        (
            ("upstream",),
            {"mesh": "prod-mesh"},
            "upstream.mesh",
            "names a stack, but layers has it too; take it out",
        ),
        (("upstream",), {"cluster": ""}, "upstream.cluster", "is ''; it must not be empty"),
        (("upstream",), ["prod"], "upstream", "is ['prod']; it must be a mapping"),
        # Between values
        (
            ("cluster", "cidrs", "services"),
            "10.1.128.0/20",
            "cluster.cidrs.pods",
            "10.1.0.0/16 overlaps services (10.1.128.0/20); the ranges must be disjoint",
        ),
        (
            (*POOLS, 1, "labels"),
            {"cloud.google.com/gke-nodepool": "application", "zone": "a"},
            "cluster.nodePools[1].labels",
            "do not tell pool 'open' from 'application' (nodePools[0]); give each a label value of its own",
        ),
        (
            (*POOLS, 2, "name"),
            "open",
            "cluster.nodePools[2].name",
            "'open' names two pools; names must differ",
        ),
        (
            ("authority", "intermediateValidityHours"),
            87601,
            "authority.intermediateValidityHours",
            "is 87601; the root lives only 87600 hours",
        ),
        (
            ("authority", "earlyRenewalHours"),
            17520,
            "authority.earlyRenewalHours",
            "is 17520, not less than intermediateValidityHours (17520): "
            "the certificate would be renewed at every `pulumi up`",
        ),
        (("mesh", "replicas"), {"min": 3, "max": 2}, "mesh.replicas.min", "is 3, more than max (2)"),
        (
            (*GATEWAYS, "simple", "replicas"),
            {"max": 1},
            "ingress.gateways.simple.replicas.min",
            "is 2, more than max (1)",
        ),
        (
            ("mesh", "revisionTags"),
            ["stable", "1-31-1"],
            "mesh.revisionTags",
            "'1-31-1' is the revision itself; a tag needs another name",
        ),
        (
            ("mesh", "revisionTags"),
            ["stable", "stable"],
            "mesh.revisionTags",
            "'stable' is there 2 times; name each tag once",
        ),
        (
            (*CREDENTIAL, "authority"),
            "public",
            "ingress.certificates.webapp-credential.authority",
            "'public' is not under authorities (catalog, webapp)",
        ),
        (
            (*CERTIFICATES, "webapp-credential-mtls", "clientAuthority"),
            "partners",
            "ingress.certificates.webapp-credential-mtls.clientAuthority",
            "'partners' is not under authorities (catalog, webapp)",
        ),
        (
            (*INGRESS, "clients", "webapp-client", "authority"),
            "partners",
            "ingress.clients.webapp-client.authority",
            "'partners' is not under authorities (catalog, webapp)",
        ),
        (
            (*HOST, "tls", "credential"),
            "nobodys",
            "ingress.gateways.simple.hosts[0].tls.credential",
            "'nobodys' is not under certificates (catalog-credential, webapp-credential, webapp-credential-mtls)",
        ),
        (
            (*HOST, "tls", "credential"),
            "catalog-credential",
            "ingress.gateways.simple.hosts[0].tls.credential",
            "'catalog-credential' is not for webapp.istioinaction.io but for catalog.istioinaction.io",
        ),
        (
            (*HOST, "tls", "mode"),
            "MUTUAL",
            "ingress.gateways.simple.hosts[0].tls.mode",
            "MUTUAL needs certificates.webapp-credential.clientAuthority: who signs the clients' certificates",
        ),
        (
            (*CREDENTIAL, "earlyRenewalHours"),
            2160,
            "ingress.certificates.webapp-credential.earlyRenewalHours",
            "is 2160, not less than validityHours (2160): the certificate would be renewed at every `pulumi up`",
        ),
        (
            (*INGRESS, "clients", "webapp-client", "validityHours"),
            17521,
            "ingress.clients.webapp-client.validityHours",
            "is 17521; its signer lives only 17520 hours",
        ),
        (
            (*INGRESS, "authorities", "catalog"),
            {"intermediateValidityHours": 2160},
            "ingress.authorities.catalog.earlyRenewalHours",
            "is 2160, not less than intermediateValidityHours (2160): "
            "the certificate would be renewed at every `pulumi up`",
        ),
        (
            (*GATEWAYS, "hosts", "hosts", 1, "host"),
            "webapp.istioinaction.io",
            "ingress.gateways.hosts.hosts",
            "'webapp.istioinaction.io' is there 2 times; each host needs one entry",
        ),
        (
            (*INGRESS, "clients", "webapp-credential"),
            {"authority": "webapp", "commonName": "a"},
            "ingress.clients.webapp-credential",
            "is also a name under certificates; both would be the same Secret",
        ),
        (
            (*INGRESS, "namespace"),
            "istio-system",
            "ingress.namespace",
            "'istio-system' is authority.namespace too; each needs a namespace of its own",
        ),
        (
            (*INGRESS, "coolstore", "namespace"),
            "istio-ingress",
            "ingress.coolstore.namespace",
            "'istio-ingress' is ingress.namespace too; each needs a namespace of its own",
        ),
        (
            ("verify",),
            {"clients": [{"name": "one"}, {"name": "one"}]},
            "verify.clients",
            "'one' names 2 clients; names must differ",
        ),
    ],
    ids=lambda value: ".".join(str(part) for part in value) if isinstance(value, tuple) else None,
)
def test_wrong(config: dict[str, Any], path: tuple[str | int, ...], value: Any, key: str, message: str) -> None:
    """One wrong value: one error, with its key, what is wrong and what would be right."""
    put(config, path, value)
    said = found(config)
    # The host that is there twice is also not that of its certificate.
    said.pop("ingress.gateways.hosts.hosts[1].tls.credential", None)
    assert said == {key: message}


@pytest.mark.parametrize("name", ["1st", "Simple", "my_gateway", "g" * 54])
def test_gateway_names_are_names_of_services_and_releases(config: dict[str, Any], name: str) -> None:
    put(config, (*GATEWAYS, name), config["ingress"]["gateways"].pop("simple"))
    said = f"is '{name}'; it must be lower-case letters, digits and '-', a letter first, at most 53"
    assert found(config) == {f"ingress.gateways.{name}": said}


def test_leaf_outlives_its_signer_because_the_signer_is_short(config: dict[str, Any]) -> None:
    put(config, (*INGRESS, "authorities", "catalog"), {"intermediateValidityHours": 2159, "earlyRenewalHours": 1})
    assert found(config) == {
        "ingress.certificates.catalog-credential.validityHours": "is 2160; its signer lives only 2159 hours"
    }


def test_node_ports_belong_to_one_gateway(config: dict[str, Any]) -> None:
    second = json.loads(json.dumps(config["ingress"]["gateways"]["mutual"]))
    second["service"] = {"type": "NodePort", "nodePorts": {"http": 30043, "https": 31444}, "addresses": ["10.0.0.11"]}
    put(config, (*GATEWAYS, "second"), second)
    assert found(config) == {
        "ingress.gateways.second.service.nodePorts.http": "30043 is taken by gateways.mutual.service.nodePorts.https; "
        "ports are the nodes', so each must differ"
    }


def test_node_ports_of_one_gateway_differ(config: dict[str, Any]) -> None:
    put(config, (*GATEWAYS, "mutual", "service", "nodePorts", "https"), 30080)
    put(config, (*GATEWAYS, "mutual", "service", "ports", "tcp", "nodePort"), 30021)
    assert list(found(config)) == [
        "ingress.gateways.mutual.service.nodePorts.https",
        "ingress.gateways.mutual.service.ports.tcp.nodePort",
    ]


def test_load_balancer_addresses_belong_to_one_gateway(config: dict[str, Any]) -> None:
    for gateway in ("simple", "redirect"):
        put(config, (*GATEWAYS, gateway, "service", "loadBalancerIP"), "203.0.113.150")
    assert found(config) == {
        "ingress.gateways.redirect.service.loadBalancerIP": "203.0.113.150 is taken by "
        "gateways.simple.service.loadBalancerIP; each gateway needs its own"
    }


def test_ranges_overlap_pair_by_pair(config: dict[str, Any]) -> None:
    put(config, ("cluster", "cidrs"), {"nodes": "10.0.0.0/8", "pods": "10.1.0.0/16", "services": "10.2.0.0/20"})
    with pytest.raises(SettingsError) as error:
        load(config)
    assert [(problem.key, problem.message) for problem in error.value.problems] == [
        ("cluster.cidrs.nodes", "10.0.0.0/8 overlaps pods (10.1.0.0/16); the ranges must be disjoint"),
        ("cluster.cidrs.nodes", "10.0.0.0/8 overlaps services (10.2.0.0/20); the ranges must be disjoint"),
    ]


@pytest.mark.parametrize(
    ("layer", "missing"),
    [
        ("authority", {"cluster"}),
        ("mesh", {"cluster", "authority"}),
        ("ingress", {"cluster", "mesh"}),
    ],
)
def test_layer_needs_the_layers_below(config: dict[str, Any], layer: str, missing: set[str]) -> None:
    alone = {"name": "dev", "layers": [layer], layer: config[layer]}
    assert found(alone) == {
        f"upstream.{below}": f"is missing; '{layer}' needs the layer '{below}': add it to layers, "
        "or name the stack that holds it"
        for below in missing
    }
    load({**alone, "upstream": dict.fromkeys(missing, "other")})


def test_upstream_that_nobody_needs(config: dict[str, Any]) -> None:
    alone = {"name": "dev", "layers": ["cluster"], "cluster": config["cluster"], "upstream": {"mesh": "prod-mesh"}}
    assert found(alone) == {"upstream.mesh": "names a stack, but no layer here needs it; take it out"}


def test_all_errors_at_once(config: dict[str, Any]) -> None:
    """One run names everything: wrong types in some sections do not hide what does not fit together in others."""
    config["extra"] = 1
    config["name"] = "Dev"
    config["layers"] = ["cluster", "authority", "mesh", "ingress", "cluster"]
    config["upstream"] = {"mesh": "prod"}
    put(config, ("cluster", "cidrs", "services"), "10.1.0.0/20")
    put(config, ("authority", "earlyRenewalHours"), 99999)
    put(config, ("mesh", "replicas", "min"), "many")
    put(config, ("mesh", "typo"), True)
    put(config, (*HOST, "tls", "credential"), "nobodys")
    put(config, (*INGRESS, "namespace"), "istio-system")
    assert set(found(config)) == {
        "extra",
        "name",
        "layers",
        "upstream.mesh",
        "cluster.cidrs.pods",
        "authority.earlyRenewalHours",
        "mesh.replicas.min",
        "mesh.typo",
        "ingress.gateways.simple.hosts[0].tls.credential",
        "ingress.namespace",
    }


def test_text_of_the_error(config: dict[str, Any]) -> None:
    put(config, ("cluster", "cidrs", "services"), "10.1.0.0/20")
    put(config, ("mesh", "replicas", "min"), 0)
    with pytest.raises(SettingsError) as error:
        load(config)
    assert str(error.value) == (
        "the configuration has 2 errors; nothing was made:\n"
        "  meshgate:mesh.replicas.min: is 0; it must be greater than or equal to 1\n"
        "  meshgate:cluster.cidrs.pods: 10.1.0.0/16 overlaps services (10.1.0.0/20); the ranges must be disjoint"
    )
    put(config, ("mesh", "replicas", "min"), 1)
    with pytest.raises(SettingsError, match=r"^the configuration has 1 error; "):
        load(config)


def test_empty_configuration() -> None:
    assert found({}) == {"name": "is missing", "layers": "is missing"}


# What is right


def test_defaults_are_the_hardened_ones() -> None:
    settings = load(
        {
            "name": "prod",
            "layers": ["authority", "mesh", "ingress"],
            "upstream": {"cluster": "prod-cluster"},
            "authority": {"kind": "self-signed"},
            "mesh": {"revision": "1-31-1"},
            "ingress": {
                "certificates": {"www": {"kind": "existing", "hosts": ["www.example.com"]}},
                "gateways": {
                    "web": {
                        "service": {"type": "LoadBalancer"},
                        "hosts": [
                            {
                                "host": "www.example.com",
                                "tls": {"mode": "SIMPLE", "credential": "www"},
                                "backend": {"service": "www.shop.svc.cluster.local"},
                            }
                        ],
                    }
                },
            },
        }
    )
    assert settings.protect is True
    assert settings.cluster is None
    assert settings.istio.version == "1.31.1"
    assert settings.istio.hub == "registry.istio.io/release"
    assert settings.istio.charts == "https://istio-release.storage.googleapis.com/charts"
    assert isinstance(settings.authority, SelfSignedAuthority)
    assert settings.authority.namespace == "istio-system"
    assert settings.authority.root_validity_hours == 10 * 365 * 24
    assert isinstance(settings.mesh, IstiodMesh)
    assert settings.mesh.revision_tags == ("stable",)
    assert settings.mesh.replicas.min == 2
    assert settings.ingress is not None
    assert settings.ingress.coolstore is None
    assert settings.ingress.namespace == "istio-ingress"
    gateway = settings.ingress.gateways["web"]
    assert (gateway.replicas.min, gateway.replicas.max) == (2, 5)
    assert isinstance(gateway.service, LoadBalancerService)
    assert gateway.service.external_traffic_policy == "Local"
    assert gateway.service.load_balancer_ip is None
    host = gateway.hosts[0]
    assert (host.http, host.path, host.backend.port) == ("redirect", "/", 80)


@pytest.mark.parametrize(
    ("name", "host", "covers"),
    [
        ("webapp.istioinaction.io", "webapp.istioinaction.io", True),
        ("*.istioinaction.io", "webapp.istioinaction.io", True),
        # A wildcard stands for one label (RFC 6125).
        ("*.istioinaction.io", "istioinaction.io", False),
        ("*.istioinaction.io", "a.webapp.istioinaction.io", False),
        ("*.io.example", "webapp.istioinaction.io", False),
    ],
)
def test_wildcard_certificates(config: dict[str, Any], name: str, host: str, covers: bool) -> None:
    put(config, (*CERTIFICATES, "webapp-credential", "hosts"), [name])
    config["ingress"]["gateways"] = {"simple": config["ingress"]["gateways"]["simple"]}
    put(config, (*HOST, "host"), host)
    if covers:
        load(config)
    else:
        assert found(config) == {
            "ingress.gateways.simple.hosts[0].tls.credential": f"'webapp-credential' is not for {host} but for {name}"
        }


def test_existing_certificate_does_for_mutual(config: dict[str, Any]) -> None:
    """Whether its Secret has a ca.crt is its keeper's affair."""
    put(config, (*CERTIFICATES, "webapp-credential"), {"kind": "existing", "hosts": ["webapp.istioinaction.io"]})
    put(config, (*HOST, "tls", "mode"), "MUTUAL")
    settings = load(config)
    assert settings.ingress is not None
    assert isinstance(settings.ingress.certificates["webapp-credential"], ExistingCertificate)


@pytest.mark.parametrize("charts", ["oci://registry.example.com/istio", "~/charts", "/opt/charts", "charts"])
def test_sources_of_charts(config: dict[str, Any], charts: str) -> None:
    assert load({**config, "istio": {"charts": charts}}).istio.charts == charts


def test_settings_never_change(config: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="frozen"):
        load(config).name = "other"


# Where the configuration comes from


@pytest.fixture
def pulumi_config(monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, str]]:
    """The running stack's configuration, as the engine hands it to the program."""
    values: dict[str, str] = {}
    monkeypatch.delenv("PULUMI_CONFIG", raising=False)
    token = pulumi.runtime.config.CONFIG.set(values)
    yield values
    pulumi.runtime.config.CONFIG.reset(token)


def test_stack_config_is_parsed(pulumi_config: dict[str, str]) -> None:
    pulumi_config |= {
        "meshgate:name": "dev",
        "meshgate:layers": '["cluster", "mesh"]',
        "meshgate:protect": "false",
        "meshgate:cluster": '{"kind": "onprem", "cidrs": {"pods": "10.1.0.0/16"}}',
        "meshgate:upstream": "{}",
        "kubernetes:context": "other",
        "meshgate-other:name": "other",
    }
    assert stack_config() == {
        "name": "dev",
        "layers": ["cluster", "mesh"],
        "protect": "false",
        "cluster": {"kind": "onprem", "cidrs": {"pods": "10.1.0.0/16"}},
        "upstream": {},
    }


def test_an_empty_object_is_what_pulumi_gives_for_nothing(config: dict[str, Any]) -> None:
    base = {key: config[key] for key in ("name", "cluster")} | {"layers": ["cluster"]}
    assert load(base | {"mesh": {}, "ingress": {}, "upstream": {}, "verify": {}}) == load(base)


def test_stack_config_from_the_environment(pulumi_config: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PULUMI_CONFIG", json.dumps({"meshgate:name": "env", "meshgate:layers": '["mesh"]'}))
    pulumi_config["meshgate:name"] = "dev"
    assert stack_config() == {"name": "dev", "layers": ["mesh"]}


def test_empty_text_and_broken_json_are_errors_with_a_key(pulumi_config: dict[str, str]) -> None:
    pulumi_config |= {"meshgate:name": "", "meshgate:layers": '["mesh"'}
    assert set(found(stack_config())) == {"name", "layers"}


def test_what_the_engine_hands_over_loads(pulumi_config: dict[str, str], config: dict[str, Any]) -> None:
    """Objects arrive as JSON, scalars as text: protect is 'false' then, and means false."""
    for key, value in config.items():
        text = str(value).lower() if isinstance(value, bool) else value if isinstance(value, str) else json.dumps(value)
        pulumi_config[f"meshgate:{key}"] = text
    assert load(stack_config()) == load(config)
    assert load(config).protect is False


def test_pulumi_yaml_describes_every_key() -> None:
    described = yaml.safe_load((CHECKOUT / "Pulumi.yaml").read_text())["config"]
    assert set(described) == set(Settings.model_fields)
    for key, declaration in described.items():
        assert declaration["type"] in ("string", "boolean", "array", "object"), key
        assert len(declaration["description"]) > 20, key
    optional = {name for name, field in Settings.model_fields.items() if not field.is_required()}
    assert {key for key, declaration in described.items() if "default" in declaration} == optional
    assert described["protect"]["default"] is Settings.model_fields["protect"].default


def test_dev_is_the_embedded_default() -> None:
    settings = load(stack_file("dev"))
    assert settings.upstream == {}
    assert isinstance(settings.cluster, OnpremCluster)
    assert str(settings.cluster.cidrs.pods) == "10.1.0.0/16"
    assert [str(taint) for taint in settings.cluster.node_pools[2].taints] == ["dedicated=gateway:NoSchedule"]


GCP = {"project": "my-project", "region": "europe-west1"}
GKE_POOL = {"kind": "gke"}


@pytest.mark.parametrize(
    ("section", "needs"),
    [
        ({"cluster": {"kind": "gke", "location": "europe-west1"}, "gcp": GCP}, {"network"}),
        ({"gateway_pool": GKE_POOL, "gcp": GCP}, {"network", "cluster"}),
        ({"gateway_pool": {"kind": "onprem", "labels": {"pool": "gateway"}}}, {"cluster"}),
        ({"mesh": {"kind": "managed"}, "gcp": GCP}, {"cluster"}),
        ({"egress": {"replicas": {"min": 2}}}, {"cluster", "gateway_pool", "mesh"}),
        ({"teams": {"teams": [{"name": "team-x", "namespaces": ["team-x"]}]}}, {"cluster", "mesh", "egress"}),
        # What is wrong in a section does not hide what its kind needs.
        ({"gateway_pool": {**GKE_POOL, "nodes": "many"}, "gcp": GCP}, {"network", "cluster"}),
    ],
)
def test_what_a_layer_needs_follows_its_kind(section: dict[str, Any], needs: set[str]) -> None:
    (layer,) = section.keys() - {"gcp"}
    said = found({"name": "prod", "layers": [layer], **section})
    said.pop("gateway_pool.nodes", None)
    assert set(said) == {f"upstream.{below}" for below in needs}


def test_google_cloud_needs_a_project() -> None:
    alone = {"name": "prod", "layers": ["gateway_pool"], "gateway_pool": GKE_POOL}
    upstream = {"network": "prod-network", "cluster": "prod-cluster"}
    assert found({**alone, "upstream": upstream}) == {
        "gcp": "is missing; gateway_pool is in Google Cloud: give its project and region"
    }
    load({**alone, "upstream": upstream, "gcp": GCP})


def test_managed_mesh_has_its_limits(config: dict[str, Any]) -> None:
    config["gcp"] = GCP
    config["mesh"] = {"kind": "managed"}
    config["istio"] = {"values": {"pilot": {}}}
    said = found(config)
    assert said["authority"] == "has no use: the managed mesh has a CA of its own; take it out, or use istiod"
    assert said["istio.values"] == "are those of istiod's chart; the managed mesh takes none, take them out"
    assert said["mesh.kind"] == "is managed, which only a cluster of the kind gke has; use istiod"
