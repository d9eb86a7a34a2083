"""Layer teams: rules as data, the resources made from them, and the credentials' files."""

from __future__ import annotations

import json
import re
import time
from collections import Counter
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.x509.oid import NameOID

from components.teams import istio
from components.teams.network_policy import team_policy
from components.teams.rules import Reach, TeamRules, label, matrix, outer_server_name, reach, short, team_rules
from settings import SettingsError
from settings.teams import FilesCredential, Requests, TeamsSettings
from stacks.teams import check
from tests.unit.conftest import stack_file
from tests.unit.program import UPSTREAM, Program, run
from tests.unit.test_settings_teams import BASE, direct, host, team

GATEWAY = istio.Gateway(
    namespace="out",
    service="istio-egressgateway.out.svc.cluster.local",
    gateway="out/egress-gateway",
    selector={"istio": "egressgateway"},
    identity="spiffe://mesh.example/ns/out/sa/istio-egressgateway",
    http_port=8080,
    tls_port=8443,
    originate_subset="originate-tls",
    mesh_namespace="istio-control",
    control_plane_cidrs=[],
)


def settings(*teams: dict[str, Any], **more: Any) -> TeamsSettings:
    found = TeamsSettings.model_validate({"teams": list(teams), **more})
    assert list(found.problems()) == []
    return found


def rules(*hosts: dict[str, Any], **more: Any) -> TeamRules:
    """Rules of the team `shop` with these hosts."""
    return team_rules(settings(team("shop", *hosts, **more)))["shop"]


def teams(*given: dict[str, Any], upstream: dict[str, Any] | None = None, **more: Any) -> Program:
    """The layer alone, on a gateway and a mesh of another stack."""
    config = {"name": "prod", "layers": ["teams"], "upstream": BASE, "teams": {"teams": list(given), **more}}
    return run(config, stack="prod", references={"base": {**UPSTREAM, **(upstream or {})}})


def custom(program: Program, kind: str, namespace: str) -> dict[str, dict[str, Any]]:
    """Specs of one kind in a namespace, by name."""
    return {
        resource.inputs["metadata"]["name"]: resource.inputs["spec"]
        for resource in program.of(f":{kind}")
        if resource.inputs["metadata"]["namespace"] == namespace
    }


@pytest.fixture(scope="module")
def document() -> TeamsSettings:
    """dev's teams: the source document's x and y, and z."""
    return TeamsSettings.model_validate(stack_file("dev")["teams"])


# Reachability


@pytest.mark.parametrize(
    ("name", "asked", "port", "how", "allow", "refusal"),
    [
        ("team-x", "example.com", 80, "originate", "all", "none"),
        ("team-x", "example.com", 443, "passthrough", "all", "none"),
        ("team-x", "httpbin.org", 80, "refused", "none", "403"),
        ("team-x", "httpbin.org", 443, "unknown", "none", "reset"),
        ("team-x", "storage.googleapis.com", 443, "direct", "all", "none"),
        ("team-y", "httpbin.org", 80, "http", (Requests(paths=("/status/418",)),), "403"),
        ("team-y", "httpbin.org", 443, "refused", "none", "reset"),
        ("team-y", "example.com", 80, "unknown", "none", "502"),
        ("team-y", "example.com", 443, "unknown", "none", "reset"),
        ("team-y", "storage.googleapis.com", 443, "unknown", "none", "reset"),
        ("team-z", "httpbin.org", 443, "passthrough-open", "all", "none"),
        ("team-z", "mutual.example.com", 80, "originate", "all", "none"),
        ("team-z", "mutual.example.com", 8080, "unknown", "none", "reset"),
    ],
)
def test_reach(document: TeamsSettings, name: str, asked: str, port: int, how: Any, allow: Any, refusal: Any) -> None:
    expected = Reach(team=name, host=asked, port=port, how=how, allow=allow, refusal=refusal)
    assert reach(team_rules(document)[name], asked, port) == expected


def test_matrix_has_every_team_against_everything(document: TeamsSettings) -> None:
    found = list(matrix(document))
    asked = {(one.host, one.port) for one in found}
    assert len(found) == 3 * len(asked) == 3 * 11
    assert Counter(one.how for one in found) == {
        **{"unknown": 19, "direct": 6, "originate": 2, "refused": 2, "http": 2},
        **{"passthrough": 1, "passthrough-open": 1},
    }


def test_requests_that_leave_nothing_out_refuse_nothing() -> None:
    assert reach(rules(host(allow=[{}])), "api.example.com", 80).refusal == "none"
    assert reach(rules(host(allow=[{"methods": ["GET"]}])), "api.example.com", 80).refusal == "403"


def test_502_where_the_sidecar_listens_for_requests() -> None:
    listens = rules(host(port=8080, allow="all"), direct("b.example.com", 9090, "HTTP"))
    found = {port: reach(listens, "www.example.net", port).refusal for port in (80, 8080, 9090, 8081)}
    assert found == {80: "502", 8080: "502", 9090: "502", 8081: "reset"}


# Names


def test_names_stay_within_a_label_and_differ() -> None:
    names = ["a-b.c.example.com", "a.b-c.example.com", "a" * 60 + ".example.com", "a" * 61 + ".example.com"]
    for make in (label, short):
        made = [make(name) for name in names]
        assert len(set(made)) == len(names)
        assert all(len(name) <= 63 and re.fullmatch(r"[a-z0-9]([-a-z0-9.]*[a-z0-9])?", name) for name in made)
    assert "." not in label("a.b.c")
    assert short("shop.api.example.com") == "shop.api.example.com"


def test_names_of_many_teams_do_not_clash() -> None:
    """Names that try to be taken for each other: parts that end where others begin."""
    given = [
        team(
            name, *(host(f"{part}.example.com", mode) for part in ("a", "a-b", "b") for mode in ("http", "passthrough"))
        )
        for name in ("x", "x-passthrough", "x-egress", "egress", "egress-gateway", "allow-nothing", "http-80")
    ]
    program = teams(*given)
    resources = [resource for resource in program.resources if "metadata" in resource.inputs]
    keys = [
        (resource.type, resource.inputs["metadata"].get("namespace"), resource.inputs["metadata"]["name"])
        for resource in resources
    ]
    assert len(set(keys)) == len(keys)
    assert len({(resource.type, resource.name) for resource in program.resources}) == len(program.resources)
    # Nothing takes the place of what the layer egress has there.
    assert not {("AuthorizationPolicy", "allow-nothing"), ("Gateway", "egress-gateway")} & {
        (key[0].rsplit(":", 1)[1], key[2]) for key in keys
    }
    assert all(len(key[2]) <= 63 for key in keys)


def test_500_teams_with_20_hosts_each() -> None:
    began = time.monotonic()
    given = [
        team(
            f"team-{number}",
            *(
                host(f"h{index}-{number % 50}.example.com", ("http", "originate")[index % 2], allow="all")
                for index in range(20)
            ),
        )
        for number in range(500)
    ]
    found = team_rules(settings(*given))
    per_team = set()
    server_names = set()
    for one in found.values():
        specs = [
            *(istio.visible_entry(group) for group in one.visible),
            *(istio.upstream_entry(group) for group in one.upstream),
            *(istio.to_gateway_routes(one, GATEWAY, group) for group in one.visible),
            istio.from_gateway_routes(one, GATEWAY),
            istio.authorization(one, GATEWAY),
            istio.sidecar(one, GATEWAY, one.namespaces[0]),
            istio.to_gateway(one, GATEWAY),
            team_policy(one, GATEWAY, []),
        ]
        per_team.add(len(specs))
        server_names.add(outer_server_name("a.example.com", one.name))
    # The first team of those that share hosts brings the gateway's two ServiceEntries for them.
    assert per_team == {1 + 2 + 1 + 5, 1 + 1 + 5}
    assert len(server_names) == 500
    assert time.monotonic() - began < 20


def test_resources_do_not_grow_with_the_hosts() -> None:
    def made(hosts: int, mode: str) -> int:
        program = teams(team("shop", *(host(f"h{index}.example.com", mode, allow="all") for index in range(hosts))))
        return len([resource for resource in program.resources if resource.type.startswith("kubernetes:")])

    assert made(1, "http") == made(20, "http") == 9
    assert made(1, "originate") == made(20, "originate") == 9
    # One VirtualService for each, but for these the team's Gateway takes the place of the routes to hosts.
    assert (made(1, "passthrough"), made(20, "passthrough")) == (10, 29)


def test_order_does_not_depend_on_the_settings() -> None:
    hosts = [
        host("b.example.com"),
        host("a.example.com"),
        host("c.example.com", "passthrough"),
        direct("d.example.com", 1, "TCP"),
    ]
    one = rules(*hosts, namespaces=["b", "a"], ingressFrom=["z", "y"])
    other = rules(*reversed(hosts), namespaces=["a", "b"], ingressFrom=["y", "z"])
    assert one == other
    assert json.dumps(istio.from_gateway_routes(one, GATEWAY)) == json.dumps(istio.from_gateway_routes(other, GATEWAY))


# In the team's namespaces


def test_namespace() -> None:
    program = teams(team("shop", namespaces=["shop", "shop-batch"], labels={"cost": "12"}, members=["developers"]))
    for name in ("shop", "shop-batch"):
        assert program.one(f"prod-teams-shop.namespace.{name}").inputs["metadata"] == {
            "name": name,
            "labels": {
                "cost": "12",
                "meshgate.dev/team": "shop",
                "istio.io/rev": "canary",
                "pod-security.kubernetes.io/enforce": "privileged",
                "pod-security.kubernetes.io/warn": "baseline",
                "pod-security.kubernetes.io/audit": "baseline",
            },
        }
        binding = program.one(f"prod-teams-shop.namespace.{name}.members").inputs
        assert binding["roleRef"] == {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "edit"}
        assert binding["subjects"] == [{"apiGroup": "rbac.authorization.k8s.io", "kind": "Group", "name": "developers"}]
        assert binding["metadata"]["namespace"] == name
    assert program.outputs["teams_namespaces"] == {"shop": ["shop", "shop-batch"]}


def test_nobody_is_bound_unless_named() -> None:
    assert teams(team("shop")).of(":RoleBinding") == []


@pytest.mark.parametrize(("enforced", "warned"), [("baseline", "restricted"), ("restricted", "restricted")])
def test_pod_security(enforced: str, warned: str) -> None:
    labels = teams(team("shop"), podSecurity=enforced).of(":Namespace")[0].inputs["metadata"]["labels"]
    assert labels["pod-security.kubernetes.io/enforce"] == enforced
    assert labels["pod-security.kubernetes.io/warn"] == labels["pod-security.kubernetes.io/audit"] == warned


def test_sidecar_knows_its_own_the_gateway_and_whom_it_calls() -> None:
    program = teams(
        team("shop", namespaces=["shop", "shop-batch"], calls=["bank"]),
        team("bank", namespaces=["bank-b", "bank-a"], calledBy=["shop"]),
    )
    assert custom(program, "Sidecar", "shop") == {
        "default": {
            "outboundTrafficPolicy": {"mode": "REGISTRY_ONLY"},
            "egress": [{"hosts": ["./*", "out/*", "bank-a/*", "bank-b/*", "shop-batch/*"]}],
        }
    }
    # Being called needs to know nobody.
    assert custom(program, "Sidecar", "bank-a")["default"]["egress"] == [{"hosts": ["./*", "out/*", "bank-b/*"]}]


def test_mutual_tls_to_the_gateway_and_nobody_else() -> None:
    program = teams(
        team(
            "shop",
            host("a.example.com"),
            host("b.example.com", "passthrough"),
            host("c.example.com", "passthrough-open"),
        )
    )
    identity = "spiffe://cluster.local/ns/out/sa/istio-egressgateway"
    mutual = {"mode": "ISTIO_MUTUAL", "subjectAltNames": [identity]}
    assert custom(program, "DestinationRule", "shop") == {
        "egress-gateway": {
            "host": "istio-egressgateway.out.svc.cluster.local",
            "exportTo": ["."],
            "trafficPolicy": {"tls": mutual},
            "subsets": [
                {"name": label("b.example.com"), "trafficPolicy": {"tls": mutual | {"sni": "b.example.com.shop"}}},
                {"name": "passthrough-open", "trafficPolicy": {"tls": {"mode": "DISABLE"}}},
            ],
        }
    }


def test_sidecars_know_names_and_no_addresses() -> None:
    program = teams(team("shop", host("a.example.com", "originate"), host("b.example.com", port=8080)))
    entries = custom(program, "ServiceEntry", "shop")
    common = {"location": "MESH_EXTERNAL", "resolution": "STATIC", "exportTo": ["."]}
    assert entries == {
        # Not 443, where only the gateway goes.
        "egress.http-80": common
        | {"hosts": ["a.example.com"], "ports": [{"number": 80, "name": "http-80", "protocol": "HTTP"}]},
        "egress.http-8080": common
        | {"hosts": ["b.example.com"], "ports": [{"number": 8080, "name": "http-8080", "protocol": "HTTP"}]},
    }
    upstream = custom(program, "ServiceEntry", "out")
    assert upstream["shop.tls-443"] == common | {
        "hosts": ["a.example.com"],
        "resolution": "DNS",
        "ports": [{"number": 443, "name": "tls-443", "protocol": "TLS"}],
    }


def test_the_gateway_has_one_entry_for_a_host() -> None:
    """Of several teams that see a host the first brings it, with what all of them need of it."""
    program = teams(
        team("sales", host("a.example.com", "passthrough"), host("b.example.com")),
        team("books", host("a.example.com", "http")),
    )
    upstream = custom(program, "ServiceEntry", "out")
    assert {name: entry["hosts"] for name, entry in upstream.items()} == {
        "books.http-80-tls-443": ["a.example.com"],
        "sales.http-80": ["b.example.com"],
    }


def test_direct_hosts() -> None:
    http = {
        "ports": [{"number": 443, "protocol": "TLS"}, {"number": 80, "protocol": "HTTP"}],
        "addresses": ["199.36.153.8/30"],
    }
    given = team(
        "shop",
        host("storage.googleapis.com", "direct", **http),
        host("private.googleapis.com", "direct", **http),
        direct("db.example.com", 5432, "TCP", "10.20.0.0/24")
        | {"redirects": [{"address": "127.0.0.1/32", "port": 988}]},
    )
    program = teams(given)
    entries = list(custom(program, "ServiceEntry", "shop").values())
    assert entries == [
        {
            "hosts": ["private.googleapis.com", "storage.googleapis.com"],
            "ports": [
                {"number": 80, "name": "http-80", "protocol": "HTTP"},
                {"number": 443, "name": "tls-443", "protocol": "TLS"},
            ],
            "location": "MESH_EXTERNAL",
            "resolution": "DNS",
            "exportTo": ["."],
        },
        {
            "hosts": ["db.example.com"],
            "ports": [{"number": 5432, "name": "tcp-5432", "protocol": "TCP"}],
            "location": "MESH_EXTERNAL",
            # Only the addresses tell where such a connection goes.
            "resolution": "NONE",
            "addresses": ["10.20.0.0/24"],
            "exportTo": ["."],
        },
    ]
    assert custom(program, "ServiceEntry", "out") == {}
    egress = program.one("prod-teams-shop.namespace.shop.network").inputs["spec"]["egress"]
    assert egress[-3:] == [
        {
            "to": [{"ipBlock": {"cidr": "199.36.153.8/30"}}],
            "ports": [{"port": 80, "protocol": "TCP"}, {"port": 443, "protocol": "TCP"}],
        },
        {"to": [{"ipBlock": {"cidr": "10.20.0.0/24"}}], "ports": [{"port": 5432, "protocol": "TCP"}]},
        {"to": [{"ipBlock": {"cidr": "127.0.0.1/32"}}], "ports": [{"port": 988, "protocol": "TCP"}]},
    ]


def names_of(*teams: str) -> dict[str, Any]:
    values = {"key": "meshgate.dev/team", "operator": "In", "values": list(teams)}
    return {"namespaceSelector": {"matchExpressions": [values]}}


def of_namespace(name: str, **pods: str) -> dict[str, Any]:
    selected = {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": name}}}
    return selected | ({"podSelector": {"matchLabels": pods}} if pods else {})


def test_network_policy() -> None:
    program = teams(
        team("shop", host(), calls=["bank"], calledBy=["desk"], ingressFrom=["istio-ingress"]),
        team("bank", calledBy=["shop"]),
        team("desk", calls=["shop"]),
        dnsAddresses=["169.254.20.10/32"],
    )
    policy = program.one("prod-teams-shop.namespace.shop.network")
    assert policy.type == "kubernetes:networking.k8s.io/v1:NetworkPolicy"
    assert policy.inputs["metadata"] == {"name": "team", "namespace": "shop"}
    assert policy.inputs["spec"] == {
        "podSelector": {},
        "policyTypes": ["Ingress", "Egress"],
        "ingress": [{"from": [names_of("shop", "desk"), of_namespace("istio-ingress")]}],
        "egress": [
            {
                "to": [of_namespace("kube-system"), {"ipBlock": {"cidr": "169.254.20.10/32"}}],
                "ports": [{"port": 53, "protocol": "UDP"}, {"port": 53, "protocol": "TCP"}],
            },
            {"to": [of_namespace("istio-control", app="istiod")], "ports": [{"port": 15012, "protocol": "TCP"}]},
            {
                "to": [of_namespace("out", istio="egressgateway")],
                "ports": [{"port": 8080, "protocol": "TCP"}, {"port": 8443, "protocol": "TCP"}],
            },
            {"to": [names_of("shop", "bank")]},
        ],
    }


def test_control_plane_outside_the_cluster() -> None:
    program = teams(team("shop"), upstream={"mesh_control_plane_cidrs": ["199.36.153.8/30"]})
    egress = program.one("prod-teams-shop.namespace.shop.network").inputs["spec"]["egress"]
    assert {
        "to": [{"ipBlock": {"cidr": "199.36.153.8/30"}}],
        "ports": [{"port": 443, "protocol": "TCP"}, {"port": 15012, "protocol": "TCP"}],
    } in egress
    for policy in program.of(":NetworkPolicy"):
        # An empty list would be everywhere.
        assert all(rule["to"] for rule in policy.inputs["spec"]["egress"])


# At the gateway


def test_routes_to_the_gateway() -> None:
    program = teams(
        team(
            "shop",
            host("a.example.com"),
            host("a.example.com", "passthrough"),
            host("b.example.com"),
            host("b.example.com", "passthrough-open"),
            namespaces=["shop", "shop-batch"],
        )
    )
    assert custom(program, "VirtualService", "out")["shop.http-80-tls-443"] == {
        "hosts": ["a.example.com", "b.example.com"],
        "gateways": ["mesh"],
        # Nobody else's sidecars, and not the gateway.
        "exportTo": ["shop", "shop-batch"],
        "http": [
            {
                "match": [{"port": 80}],
                "headers": {"request": {"set": {"x-meshgate-team": "shop"}}},
                "route": [
                    {
                        "destination": {
                            "host": "istio-egressgateway.out.svc.cluster.local",
                            "port": {"number": 80},
                        }
                    }
                ],
            }
        ],
        "tls": [
            {
                "match": [{"port": 443, "sniHosts": [name]}],
                "route": [
                    {
                        "destination": {
                            "host": "istio-egressgateway.out.svc.cluster.local",
                            "port": {"number": 443},
                            "subset": subset,
                        }
                    }
                ],
            }
            for name, subset in (("a.example.com", label("a.example.com")), ("b.example.com", "passthrough-open"))
        ],
    }


def test_routes_from_the_gateway() -> None:
    program = teams(
        team(
            "shop",
            host("a.example.com", port=8080),
            host("b.example.com", "originate"),
            host("c.example.com", "originate", targetPort=8443, tls={"credential": "partner"}),
        ),
        credentials={"partner": {"kind": "existing"}},
    )
    found = custom(program, "VirtualService", "out")["shop.egress"]
    assert found["hosts"] == ["a.example.com", "b.example.com", "c.example.com"]
    assert found["gateways"] == ["out/egress-gateway"]
    assert found["exportTo"] == ["."]
    destinations = [
        {"host": "a.example.com", "port": {"number": 8080}},
        {"host": "b.example.com", "port": {"number": 443}, "subset": "originate-tls"},
        {"host": "c.example.com", "port": {"number": 8443}, "subset": "tls-shop"},
    ]
    assert [route["route"] for route in found["http"]] == [[{"destination": it}] for it in destinations]
    for route, name, port in zip(found["http"], found["hosts"], (8080, 80, 80), strict=True):
        assert route["match"] == [
            {
                "gateways": ["out/egress-gateway"],
                "port": 80,
                "authority": {"exact": authority},
                # Another team's way to the same host may be another.
                "headers": {"x-meshgate-team": {"exact": "shop"}},
            }
            for authority in (name, f"{name}:{port}")
        ]
        removed = route["headers"]["request"]["remove"]
        assert {"x-meshgate-team", "x-forwarded-for", "x-forwarded-client-cert"} <= set(removed)


def test_policy_wants_namespace_and_header_together() -> None:
    program = teams(
        team(
            "shop",
            host("a.example.com", allow="all"),
            host("b.example.com", allow=[{"methods": ["GET"], "paths": ["/v1/*"]}, {"paths": ["/health"]}]),
            host("c.example.com", allow="none"),
            host("d.example.com", "passthrough", allow="all"),
            host("e.example.com", "passthrough", allow="none"),
            host("f.example.com", "passthrough-open"),
            namespaces=["shop", "shop-batch"],
        )
    )
    of_the_team = [{"source": {"namespaces": ["shop", "shop-batch"]}}]
    assert custom(program, "AuthorizationPolicy", "out") == {
        "shop-egress": {
            "selector": {"matchLabels": {"istio": "egressgateway"}},
            "action": "ALLOW",
            "rules": [
                {
                    "from": of_the_team,
                    "to": [
                        {"operation": {"hosts": ["a.example.com", "a.example.com:80"]}},
                        {
                            "operation": {
                                "hosts": ["b.example.com", "b.example.com:80"],
                                "methods": ["GET"],
                                "paths": ["/v1/*"],
                            }
                        },
                        {"operation": {"hosts": ["b.example.com", "b.example.com:80"], "paths": ["/health"]}},
                    ],
                    "when": [
                        {"key": "destination.port", "values": ["8080"]},
                        {"key": "request.headers[x-meshgate-team]", "values": ["shop"]},
                    ],
                },
                {
                    "from": of_the_team,
                    "when": [
                        {"key": "destination.port", "values": ["8443"]},
                        {"key": "connection.sni", "values": ["d.example.com.shop"]},
                    ],
                },
                {
                    "when": [
                        {"key": "destination.port", "values": ["8443"]},
                        {"key": "connection.sni", "values": ["f.example.com"]},
                    ],
                },
            ],
        }
    }


def test_no_policy_where_nothing_is_allowed() -> None:
    assert custom(teams(team("shop", host(allow="none"))), "AuthorizationPolicy", "out") == {}


def test_passthrough() -> None:
    program = teams(
        team("shop", host("a.example.com", "passthrough", port=5671), host("b.example.com", "passthrough-open")),
        team("bank", host("a.example.com", "passthrough", port=5671), host("b.example.com", "passthrough-open")),
    )
    found = custom(program, "Gateway", "out")

    def server(name: str, host: str, mode: str) -> dict[str, Any]:
        port = {"number": 443, "name": label(name), "protocol": "TLS"}
        return {"port": port, "hosts": [host], "tls": {"mode": mode}}

    assert found["shop-passthrough"] == {
        "selector": {"istio": "egressgateway"},
        "servers": [server("a.example.com", "a.example.com.shop", "ISTIO_MUTUAL")],
    }
    # The open one has one server name for all teams, so one team's Gateway has it.
    assert found["bank-passthrough"]["servers"] == [
        server("a.example.com", "a.example.com.bank", "ISTIO_MUTUAL"),
        server("b.example.com", "b.example.com", "PASSTHROUGH"),
    ]
    routes = custom(program, "VirtualService", "out")
    assert routes["shop.a.example.com"] == {
        "hosts": ["a.example.com.shop"],
        "gateways": ["out/shop-passthrough"],
        "exportTo": ["."],
        "tcp": [
            {
                "match": [{"port": 443}],
                "route": [{"destination": {"host": "a.example.com", "port": {"number": 5671}}}],
            }
        ],
    }
    assert "shop.egress" not in routes
    assert routes["bank.egress"]["tls"] == [
        {
            "match": [{"gateways": ["out/bank-passthrough"], "port": 443, "sniHosts": ["b.example.com"]}],
            "route": [{"destination": {"host": "b.example.com", "port": {"number": 443}}}],
        }
    ]


def test_credential_of_a_team() -> None:
    program = teams(
        team("shop", host("a.example.com", "originate", tls={"mode": "MUTUAL", "credential": "partner"})),
        credentials={"partner": {"kind": "existing"}},
    )
    assert custom(program, "DestinationRule", "out") == {
        "shop.a.example.com": {
            "host": "a.example.com",
            "exportTo": ["."],
            "subsets": [
                {
                    "name": "tls-shop",
                    "trafficPolicy": {"tls": {"mode": "MUTUAL", "credentialName": "partner"}},
                },
                # For teams without a credential for the host: this rule hides the common one.
                {"name": "originate-tls", "trafficPolicy": {"tls": {"mode": "SIMPLE"}}},
            ],
        }
    }
    assert program.of(":Secret") == []


# Credentials' files


def pem(directory: Path, name: str = "a", *, days: int = 30, begin: int = -1) -> dict[str, Path]:
    """A certificate that signs itself, and its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder(
            subject, subject, key.public_key(), 1, now + timedelta(days=begin), now + timedelta(days=days)
        )
    ).sign(key, SHA256())
    files = {"certificate": directory / f"{name}.pem", "key": directory / f"{name}-key.pem"}
    files["certificate"].write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    files["key"].write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return files


def credential(**files: Any) -> TeamsSettings:
    given = {"kind": "files", **{key: str(path) for key, path in files.items()}}
    return settings(team("shop"), credentials={"partner": given})


def wrong(**files: Any) -> dict[str, str]:
    return {problem.key: problem.message for problem in check(credential(**files))}


def test_good_files(tmp_path: Path) -> None:
    own = pem(tmp_path, "own")
    assert wrong(ca=pem(tmp_path, "ca")["certificate"], **own) == {}
    assert wrong(ca=pem(tmp_path, "ca")["certificate"]) == {}


def test_bad_files(tmp_path: Path) -> None:
    ca, own, other = pem(tmp_path, "ca"), pem(tmp_path, "own"), pem(tmp_path, "other")
    text = tmp_path / "text"
    text.write_text("hello")
    old, young = pem(tmp_path, "old", days=-1, begin=-3), pem(tmp_path, "young", begin=2)
    where = "credentials.partner"
    said = wrong(ca=tmp_path / "missing.pem", certificate=text, key=text)
    assert said == {
        f"{where}.ca": f"{tmp_path}/missing.pem: No such file or directory",
        f"{where}.certificate": f"{text}: does not hold certificates in PEM",
        f"{where}.key": f"{text}: does not hold a private key without a passphrase in PEM",
    }
    assert wrong(ca=ca["certificate"], certificate=own["certificate"], key=other["key"]) == {
        f"{where}.key": f"{other['key']}: is not the key of the first certificate in the file under `certificate`"
    }
    assert "the certificate CN=old expired on 20" in wrong(ca=old["certificate"])[f"{where}.ca"]
    assert "CN=young is not valid before 20" in wrong(ca=young["certificate"])[f"{where}.ca"]
    assert f"{where}.ca" in wrong(ca=tmp_path)


def test_key_with_a_passphrase(tmp_path: Path) -> None:
    own = pem(tmp_path, "own")
    key = serialization.load_pem_private_key(own["key"].read_bytes(), None)
    locked = serialization.BestAvailableEncryption(b"not told")
    own["key"].write_bytes(key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, locked))
    (said,) = wrong(ca=own["certificate"], **own).values()
    assert said == f"{own['key']}: does not hold a private key without a passphrase in PEM"


def test_nothing_is_made_with_bad_files(tmp_path: Path) -> None:
    files = {"kind": "files", "ca": str(tmp_path / "missing.pem")}
    with pytest.raises(SettingsError) as error:
        teams(team("shop"), credentials={"partner": files})
    assert [problem.key for problem in error.value.problems] == ["teams.credentials.partner.ca"]


def test_secret(tmp_path: Path) -> None:
    ca, own = pem(tmp_path, "ca"), pem(tmp_path, "own")
    mutual = {"kind": "files", "ca": str(ca["certificate"]), **{key: str(path) for key, path in own.items()}}
    program = teams(
        team("shop"), credentials={"partner": mutual, "trust": {"kind": "files", "ca": str(ca["certificate"])}}
    )
    secret = program.one("prod-teams-credential-partner-secret")
    assert secret.inputs["metadata"] == {"name": "partner", "namespace": "out"}
    assert secret.inputs["stringData"] == {
        "ca.crt": ca["certificate"].read_text(),
        "tls.crt": own["certificate"].read_text(),
        "tls.key": own["key"].read_text(),
    }
    assert secret.secrets == {"stringData"}
    assert set(program.one("prod-teams-credential-trust-secret").inputs["stringData"]) == {"ca.crt"}
    assert own["key"].read_text()[30:60] not in json.dumps(program.outputs)


def test_files_belong_together() -> None:
    assert [problem.key for problem in FilesCredential(kind="files", ca="ca.pem", key="k").problems()] == [
        "certificate"
    ]
