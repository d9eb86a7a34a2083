"""What the sections `egress` and `teams` may be, and what is said about those that cannot be used."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from settings import SettingsError, load
from settings.egress import EgressSettings
from settings.model import Replicas
from settings.teams import HttpHost, OriginateHost, PassthroughHost, Requests, TeamsSettings
from tests.unit.conftest import part, stack_file

FILES = {"kind": "files", "ca": "ca.pem", "certificate": "gateway.pem", "key": "gateway-key.pem"}
BASE = {"cluster": "base", "mesh": "base", "egress": "base"}


def host(name: str = "api.example.com", mode: str = "http", **settings: Any) -> dict[str, Any]:
    return {"host": name, "mode": mode, **settings}


def direct(name: str, number: int, protocol: str, address: str = "198.51.100.7/32") -> dict[str, Any]:
    return host(name, "direct", ports=[{"number": number, "protocol": protocol}], addresses=[address])


def team(name: str = "shop", *hosts: dict[str, Any], **settings: Any) -> dict[str, Any]:
    return {"name": name, "namespaces": [name], "hosts": list(hosts), **settings}


def config(*teams: dict[str, Any], **settings: Any) -> dict[str, Any]:
    return {"name": "prod", "layers": ["teams"], "upstream": BASE, "teams": {"teams": list(teams), **settings}}


def teams(*given: dict[str, Any], **settings: Any) -> TeamsSettings:
    found = load(config(*given, **settings)).teams
    assert found is not None
    return found


def found(config: dict[str, Any]) -> dict[str, str]:
    """What is wrong with the configuration: messages by key, each key once."""
    with pytest.raises(SettingsError) as error:
        load(config)
    keys = [problem.key for problem in error.value.problems]
    assert len(keys) == len(set(keys)), keys
    return {problem.key: problem.message for problem in error.value.problems}


# What may be


def test_dev_is_the_documents() -> None:
    settings = load(stack_file("dev")).teams
    assert settings is not None
    x, y, _ = settings.teams
    assert (x.name, x.namespaces, x.labels) == ("team-x", ("team-x",), {"team": "x"})
    assert [(it.host, it.mode) for it in x.hosts[:3]] == [
        ("example.com", "originate"),
        ("example.com", "passthrough"),
        ("httpbin.org", "http"),
    ]
    assert y.hosts[0] == HttpHost(mode="http", host="httpbin.org", allow=(Requests(paths=("/status/418",)),))


def test_defaults_allow_nothing() -> None:
    hosts = teams(team("shop", host(), host("b.example.com", "originate"), host("c.example.com", "passthrough")))
    plain, originate, passthrough = hosts.teams[0].hosts
    assert plain == HttpHost(mode="http", host="api.example.com", port=80, allow="none")
    assert isinstance(originate, OriginateHost)
    assert (originate.port, originate.target_port, originate.tls, originate.allow) == (80, 443, None, "none")
    assert passthrough == PassthroughHost(mode="passthrough", host="c.example.com", port=443, allow="none")


def test_defaults_of_the_gateway() -> None:
    egress = EgressSettings()
    assert egress.namespace == "istio-egress"
    assert egress.replicas == Replicas(min=2, max=5)
    assert (egress.administrators, egress.metrics_from, egress.dns_addresses) == ((), (), ())


def test_one_host_by_requests_and_by_passthrough() -> None:
    assert len(teams(team("shop", host(), host(mode="passthrough"))).teams[0].hosts) == 2


@pytest.mark.parametrize("path", ["/", "/status/418", "/status/*", "*/health", "*"])
def test_paths(path: str) -> None:
    (allowed,) = teams(team("shop", host(allow=[{"paths": [path]}]))).teams[0].hosts
    assert isinstance(allowed, HttpHost)
    assert allowed.allow == (Requests(paths=(path,)),)


def test_teams_that_call_each_other() -> None:
    teams(team("a", calls=["b"]), team("b", calledBy=["a"]))


def test_tcp_ports_are_told_apart_by_their_addresses() -> None:
    teams(team("shop", direct("a.example.com", 5432, "TCP"), direct("b.example.com", 5432, "TCP", "198.51.100.8/32")))


# One mistake

HOST = "teams.teams[0].hosts[0]"


@pytest.mark.parametrize(
    ("bad", "key", "message"),
    [
        (host("*.example.com"), "host", "is '*.example.com'; it must be a fully qualified host name, for example"),
        (host("EXAMPLE.com"), "host", "is 'EXAMPLE.com'; it must be a fully qualified host name, for example"),
        (host("web.shop.svc.cluster.local"), "host", "it must be a host outside the cluster"),
        (host("a." * 120 + "com"), "host", "it must be at most 200 characters"),
        (host(mode="tcp"), "", "'mode' is 'tcp'; it must be one of 'http', 'originate', 'passthrough', "),
        ({"host": "a.example.com"}, "", "'mode' is missing"),
        ({"mode": "http"}, "host", "is missing"),
        (host(port=0), "port", "is 0; it must be greater than or equal to 1"),
        (host(alow="all"), "alow", "is not a known key"),
        (host(mode="passthrough-open", allow="all"), "allow", "is not a known key"),
        (host(allow="some"), "allow", "is 'some'; it must be none, all, or a list of methods and paths"),
        (host(allow=[]), "allow", "is empty; it needs at least one entry"),
        (host(allow={"paths": ["/"]}), "allow", "it must be none, all, or a list of methods and paths"),
        (host(allow=[{"path": ["/"]}]), "allow[0].path", "is not a known key"),
        (host(allow=[{"paths": ["status"]}]), "allow[0].paths[0]", "is 'status'; it must be a path, with '*' only as"),
        (host(allow=[{"paths": ["/a/*/b"]}]), "allow[0].paths[0]", "is '/a/*/b'; it must be a path, with '*' only as"),
        (host(allow=[{"paths": [""]}]), "allow[0].paths[0]", "is ''; it must be a path"),
        (host(allow=[{"methods": ["get"]}]), "allow[0].methods[0]", "is 'get'; it must be a method in capital letters"),
        (
            host(mode="passthrough", allow=[{"paths": ["/"]}]),
            "allow",
            "must be 'none' or 'all'",
        ),
        (host(mode="direct", addresses=["198.51.100.7/32"]), "ports", "is missing"),
        (host(mode="direct", ports=[], addresses=[]), "ports", "is empty; it needs at least one entry"),
        (direct("a.example.com", 5432, "TCP", "198.51.100.7/24"), "addresses[0]", "must be an IPv4 network"),
        (direct("a.example.com", 5432, "UDP"), "ports[0].protocol", "is 'UDP'; it must be 'HTTP', 'TLS' or 'TCP'"),
        (
            host(mode="originate", tls={"credential": "internet"}),
            "tls.credential",
            "'internet' is not under credentials (there: ours, trust)",
        ),
        (
            host(mode="originate", tls={"mode": "MUTUAL", "credential": "trust"}),
            "tls.credential",
            "'trust' has no certificate and key; MUTUAL needs both",
        ),
        (host(mode="originate", tls={}), "tls.credential", "is missing"),
        (host(mode="originate", tls={"mode": "NONE", "credential": "ours"}), "tls.mode", "is 'NONE'; it must be"),
    ],
)
def test_host(bad: dict[str, Any], key: str, message: str) -> None:
    said = found(config(team("shop", bad), credentials={"ours": FILES, "trust": {"kind": "files", "ca": "ca.pem"}}))
    where = f"{HOST}.{key}" if key else HOST
    assert where in said, said
    assert message in said[where]


TEAM = "teams.teams[0]"


@pytest.mark.parametrize(
    ("bad", "key", "message"),
    [
        (team("Shop"), f"{TEAM}.name", "is 'Shop'; it must be lower-case letters"),
        (team("a" * 41), f"{TEAM}.name", "it must be at most 40 characters: names in the cluster carry it"),
        (team(namespaces=[]), f"{TEAM}.namespaces", "is empty; it needs at least one entry"),
        (
            team(namespaces=["kube-system"]),
            f"{TEAM}.namespaces[0]",
            "it must be a namespace that Kubernetes does not make",
        ),
        (team(namespaces=["a", "a"]), f"{TEAM}.namespaces", "'a' is shop's already; a namespace has one team"),
        (
            team(labels={"istio.io/rev": "old"}),
            f"{TEAM}.labels.istio.io/rev",
            "is set by the program; take it out",
        ),
        (team(labels={"team": True}), f"{TEAM}.labels.team", "is True; it must be text, in quotes"),
        (team(calls=["shop"]), f"{TEAM}.calls", "has 'shop' itself; its own namespaces may always call each other"),
        (
            team(calls=["bank"]),
            f"{TEAM}.calls",
            "has 'bank', which is no team here (there are: shop); teams that call each other are in one stack",
        ),
        (
            team("shop", host(), host(mode="originate")),
            f"{TEAM}.hosts[1].host",
            "'api.example.com' has more than one entry of http or originate; keep one",
        ),
        (
            team("shop", host(mode="passthrough"), host(mode="passthrough-open")),
            f"{TEAM}.hosts[1].host",
            "'api.example.com' has more than one entry of passthrough; keep one",
        ),
        (
            team("shop", host(), direct("api.example.com", 8080, "HTTP")),
            f"{TEAM}.hosts[1].host",
            "'api.example.com' is reached directly; it can have no other entry",
        ),
        (
            team("shop", host(port=443), host("b.example.com", "passthrough")),
            f"{TEAM}.hosts[1]",
            "'b.example.com' has TLS on port 443, but 'api.example.com' HTTP; "
            "a team's hosts agree on what is spoken on a port",
        ),
    ],
)
def test_team(bad: dict[str, Any], key: str, message: str) -> None:
    said = found(config(bad))
    assert key in said, said
    assert message in said[key]


@pytest.mark.parametrize(
    ("given", "key", "message"),
    [
        (config(), "teams.teams", "is empty; it needs at least one entry"),
        (
            config(team("a"), team("a", namespaces=["b"])),
            "teams.teams[1].name",
            "'a' names two teams; names must differ",
        ),
        (
            config(team("a"), team("b", namespaces=["b", "a"])),
            "teams.teams[1].namespaces",
            "'a' is a's already; a namespace has one team",
        ),
        (
            config(team("a", calls=["b"]), team("b")),
            "teams.teams[0].calls",
            "has 'b', whose calledBy lacks 'a'",
        ),
        (
            config(team("a"), team("b", calledBy=["a"])),
            "teams.teams[1].calledBy",
            "has 'a', whose calls lacks 'b'",
        ),
        (
            config(team("a", host(mode="passthrough-open")), team("b", host(mode="passthrough-open", port=8443))),
            "teams.teams[1].hosts[0].port",
            "is 8443, but team 'a' has 443 for 'api.example.com'; passthrough-open has one port for a host",
        ),
        (
            config(team("a", host(port=8443)), team("b", host(mode="originate", targetPort=8443))),
            "teams.teams[1].hosts[0]",
            "has the gateway speak TLS to 'api.example.com' on port 8443, but team 'a' HTTP; "
            "a host speaks one of them on a port",
        ),
        (
            config(team("a", *(host(f"h{number}.example.com") for number in range(257)))),
            "teams.teams[0].hosts",
            "has 257 entries; it takes at most 256",
        ),
        (
            config(team(), credentials={"x": {"kind": "files", "ca": "ca.pem", "key": "key.pem"}}),
            "teams.credentials.x.certificate",
            "is missing; certificate and key are given together or not at all",
        ),
        (
            config(team(), credentials={"x": {"kind": "vault"}}),
            "teams.credentials.x",
            "'kind' is 'vault'; it must be one of 'files', 'existing'",
        ),
        (
            config(team(), podSecurity="strict"),
            "teams.podSecurity",
            "is 'strict'; it must be 'privileged', 'baseline' or 'restricted'",
        ),
    ],
)
def test_between_teams(given: dict[str, Any], key: str, message: str) -> None:
    said = found(given)
    assert key in said, said
    assert message in said[key]


def test_everything_at_once() -> None:
    said = found(
        config(
            team("a", host("*.example.com"), host(allow="some"), host("b.example.com", "tcp")),
            team("b", calls=["c"], namespaces=["default"]),
            credentials={"x": {"kind": "files"}},
            podSecurity="none",
        )
    )
    assert {
        "teams.teams[0].hosts[0].host",
        "teams.teams[0].hosts[1].allow",
        "teams.teams[0].hosts[2]",
        "teams.teams[1].namespaces[0]",
        "teams.credentials.x.ca",
        "teams.podSecurity",
    } <= set(said)


def test_namespaces_of_other_layers() -> None:
    dev = stack_file("dev")
    dev["teams"]["teams"][2]["namespaces"] = ["istio-egress"]
    said = found(dev)
    assert said["teams.teams[2].namespaces"] == (
        "'istio-egress' is egress.namespace too; each needs a namespace of its own"
    )


@pytest.mark.parametrize(
    ("bad", "key", "message"),
    [
        ({"replicas": {"min": 3, "max": 2}}, "egress.replicas.min", "is 3, more than max (2)"),
        ({"namespace": "default"}, "egress.namespace", "it must be a namespace that Kubernetes does not make"),
        ({"dnsAddresses": ["169.254.20.10/16"]}, "egress.dnsAddresses[0]", "must be an IPv4 network"),
        ({"metricsFrom": ["Monitoring"]}, "egress.metricsFrom[0]", "it must be lower-case letters"),
        ({"adminstrators": []}, "egress.adminstrators", "is not a known key"),
    ],
)
def test_egress(bad: dict[str, Any], key: str, message: str) -> None:
    stack = part(stack_file("dev") | {"egress": bad}, ["egress"], "base")
    said = found(stack)
    assert list(said) == [key]
    assert message in said[key]


# In a file of their own


def test_teams_in_a_file(tmp_path: Path) -> None:
    """More teams than Pulumi can hand on are as good as in the stack's file."""
    given = config(team("shop", host("a.example.com", allow="all")))
    file = tmp_path / "teams.yaml"
    file.write_text(yaml.safe_dump(given["teams"]))
    assert load({**given, "teams": {"file": str(file)}}) == load(given)


@pytest.mark.parametrize(
    ("content", "key", "message"),
    [
        (None, "teams.file", "cannot be read: No such file or directory; it must be a YAML file with this section"),
        (b"\xff\xfe\xff", "teams.file", "cannot be read: it is no text; it must be a YAML file with this section"),
        (b"teams: [", "teams.file", "is no YAML: "),
        (b"[]", "teams", "is []; it must be a mapping"),
        (b"{teams: [{name: a, namespaces: [a], hosts: 1}]}", "teams.teams[0].hosts", "is 1; it must be a list"),
    ],
)
def test_what_is_wrong_with_the_file(tmp_path: Path, content: bytes | None, key: str, message: str) -> None:
    file = tmp_path / "teams.yaml"
    if content is not None:
        file.write_bytes(content)
    # The file hides no other mistake.
    said = found({**config(team()), "name": "Prod", "teams": {"file": str(file)}})
    assert said.keys() == {"name", key}
    assert said[key].startswith(f"'{file}' {message}" if key == "teams.file" else message)
