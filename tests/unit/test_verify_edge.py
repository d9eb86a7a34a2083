"""The probes of the edge against gateways and balancers made of dev's promises, each of which can be broken."""

from __future__ import annotations

import base64
import hashlib
import re
import socket
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import pytest
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from settings import Settings, load
from tests.unit.edge_fakes import CLIENT_A, SETTINGS_CLIENTS, Counters, Edge
from tests.unit.test_verify_ingress import pem
from tests.unit.verify_fakes import FakeShell, context, impatient, option
from verify import scenarios
from verify.context import Context
from verify.counters import Firewall
from verify.errors import VerifyError
from verify.probe import Outcome, Probe


@pytest.fixture
def config(dev_config: dict[str, Any]) -> dict[str, Any]:
    dev_config["verify"] = {"clients": SETTINGS_CLIENTS}
    return dev_config


@pytest.fixture
def settings(config: dict[str, Any]) -> Settings:
    return load(config)


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    impatient(monkeypatch)
    monkeypatch.setattr(socket, "gethostbyname_ex", lambda name: (name, [], ["192.0.2.132", "192.0.2.4"]))


def _probes(settings: Settings) -> dict[str, Probe]:
    return {name: probe for name, probe in scenarios.probes(settings).items() if probe.scenario == "edge"}


def _asked(settings: Settings, directory: Path, edge: Edge, firewall: Firewall | None = None) -> Context:
    asked = context(directory, settings, kube=edge, contracts=edge.contracts(), firewall=firewall or Counters(edge))
    shells = tuple(
        FakeShell(partial(edge.curl, str(client.address or CLIENT_A)), client.name)
        for client in settings.verify.clients
    )
    return replace(asked, clients=shells)


def _outcomes(settings: Settings, directory: Path, edge: Edge, firewall: Firewall | None = None) -> dict[str, Outcome]:
    asked = _asked(settings, directory, edge, firewall)
    outcomes = {}
    for name, probe in _probes(settings).items():
        # Only what the probe says it needs is there.
        asked.pods.start(probe.workloads)
        outcomes[name] = probe.attempt(asked)
    return outcomes


def _short(outcomes: dict[str, Outcome]) -> str:
    return " ".join(name for name, outcome in outcomes.items() if outcome.ok is not True)


def test_every_row_and_gateway_has_its_probes(settings: Settings) -> None:
    probes = _probes(settings)
    rows = {
        row: sum(probe.row == row for probe in probes.values()) for row in (f"E{number}" for number in range(2, 10))
    }
    assert rows == {"E2": 11, "E3": 8, "E4": 6, "E5": 34, "E6": 6, "E7": 17, "E8": 18, "E9": 3}
    assert sum(rows.values()) == len(probes)
    assert [probe.row for probe in probes.values()] == sorted(probe.row for probe in probes.values())


def test_the_remedy_is_in_the_documents_order(settings: Settings) -> None:
    asked = [probe.expected for probe in _probes(settings).values() if probe.row == "E5"]
    names = [re.findall(r"at gateway ([a-z]+)", text)[0] for text in asked]
    assert list(dict.fromkeys(names)) == ["unserved", "split", "reencrypt"]


@pytest.mark.parametrize(
    ("denial", "success"),
    [
        ("E2e", "E8a"),
        ("E5a", "E5b"),
        ("E6e", "E6a"),
        ("E6f", "E6e"),
        ("E7c", "E7a"),
        ("E7d", "E7b"),
        ("E7e", "E7a"),
        ("E7h", "E7g"),
        ("E7q", "E6b"),
        ("E8e", "E8a"),
        ("E8q", "E8p"),
        ("E8r", "E8k"),
        ("E9c", "E9a"),
    ],
)
def test_a_denial_has_its_success(settings: Settings, denial: str, success: str) -> None:
    probes = _probes(settings)
    assert probes[denial].pair is probes[success]


def test_a_stack_without_the_layer_has_no_such_probe(config: dict[str, Any]) -> None:
    config["layers"].remove("edge")
    del config["edge"]
    assert _probes(load(config)) == {}


def test_gateways_that_keep_their_promises_pass(settings: Settings, tmp_path: Path) -> None:
    outcomes = _outcomes(settings, tmp_path, Edge())
    assert {name: outcome.observed for name, outcome in outcomes.items() if outcome.ok is not True} == {}
    assert {name for name, outcome in outcomes.items() if not outcome.evidence} == set()
    assert {name for name, outcome in outcomes.items() if not outcome.proven} == {"E2k", "E6f"}
    assert outcomes["E2a"].observed == "200, HTTP/2, TLSv1.3, leaf *.example.com issued by example intermediate"
    assert outcomes["E4c"].observed.endswith(
        "Location https://loop-gateway-redirect.example.com/; followed: exit 47 (too many redirects: Maximum (5) "
        "redirects followed), 5 redirects"
    )
    assert outcomes["E5a"].evidence == "gateway unserved listens on 8080, 15021, not on 8443"
    assert outcomes["E6e"].observed == "200, HTTP/2, TLSv1.3; client-b (203.0.113.20) is 10.0.0.11 to the gateway"
    assert outcomes["E8e"].observed == "200, HTTP/2, TLSv1.3; client-b (203.0.113.20) is 203.0.113.10 to the gateway"
    assert outcomes["E8q"].observed == "HTTP/1.1 400 Bad Request"
    assert outcomes["E8r"].evidence == "NetworkPolicy: counter ingress-istio-edge rose by 2"
    assert outcomes["E9c"].evidence == "balancer: counter nlb-istio-edge/ranges rose by 2"


SEEN = "E5e E5f E5l E5r E5u E5v E5ab E5ah"
DENIALS = "E7c E7d E7e E7k E7l E7m E8c E8d E8f E8l E8m E8n"


@pytest.mark.parametrize(
    ("broken", "short", "why"),
    [
        (
            "no backend",
            "E2a E2b E2c E2d E3a E3c E3e E3g E4a E4b E5b E5c E5d E5e E5f E5g E5i E5l E5m E5o E5r E5s E5t E5u "
            "E5v E5w E5y E5ab E5ac E5ae E5ah E6a E6b E6c E6d E6e E6f E7a E7b E7f E7g E7i E7j E7n E7o E7q E8a "
            "E8b E8e E8g E8j E8k E8o E8p E9a E9b",
            "503",
        ),
        (
            "wrong backend",
            "E2a E2b E2c E2d E3a E3c E3e E3g E4a E4b E5b E5c E5d E5e E5f E5g E5i E5l E5m E5o E5r E5s E5t E5u "
            "E5v E5w E5y E5ab E5ac E5ae E5ah E6a E6b E7a E7b E7f E7i E7j E7n E8a E8b E8j E8k E8o E9a E9b",
            "logged backend is outbound|80||other",
        ),
        (
            "no HTTP/2",
            "E2a E2c E2d E3a E3c E3e E3g E6a E6c E7a E7f E7i E7n E8a E8j E8o E9a",
            "HTTP version is 1.1, not 2",
        ),
        (
            "no intermediate",
            "E2a E2c E2d E3a E3c E3e E3g E6a E6c E7a E7f E7i E7n E8a E8j E8o E9a",
            "the server presented no intermediate",
        ),
        (
            "one port",
            "E2a E2c E2d E3a E3c E3e E3g E5c E5e E5g E5i E5k E5l E5m E5o E5q E5r E5s E5u E5w E5y E5aa E5ab "
            "E5ac E5ae E5ag E5ah E6a E6e E7a E7f E7i E7n E9a",
            "port of the gateway is 8080, not 8443",
        ),
        ("any name served", "E2e E2f E2g E2h E2i E2j E2k", "exit 60"),
        ("no other name served", "E2c E2d", "exit 35"),
        ("another certificate", "E2c E2d", "certificate is"),
        (
            "no redirect",
            "E3b E3c E3d E3f E3g E3h E4c E4d E4e E4f E5h E5i E5j E5k E5n E5o E5p E5q E5x E5y E5z E5aa E5ad "
            "E5ae E5af E5ag",
            "",
        ),
        (
            "redirect to http",
            "E3b E3d E3f E3h E4c E4d E4e E4f E5h E5j E5n E5p E5x E5z E5ad E5af",
            "Location is ['http://",
        ),
        ("redirected twice", "E3c E3g E5i E5k E5o E5q E5y E5aa E5ae E5ag", "number of redirects is 2, not 1"),
        ("no loop", "E4c E4d E4e E4f", ""),
        ("unserved listens", "E5a", "the gateway listens on 8443"),
        ("unserved answers", "E5a", "200"),
        ("scheme lost", "E5e E5l E5r E5u E5ab E5ah", "scheme is http, not https"),
        ("scheme believed", "E3d E3h E5e E5f E5j E5l E5p E5r E5u E5v E5z E5ab E5af E5ah", ""),
        ("host lost", SEEN, "host is nlb.elb.example"),
        ("headers lost", SEEN, "'x-meshgate-probe': None"),
        ("something else comes back", "E5c E5d E5g E5m E5q E5s E5t E5w E5ac E5ag", ""),
        ("nothing posted again", "E5q E5ag", "the second request is no POST"),
        ("address not lost", "E6e E6f E7q", ""),
        ("somebody else's address", "E6e E7q", "10.0.0.11 is no node's"),
        ("log not off", "E6f", "1 of the"),
        ("log not read", "E6f", "0 of the 0"),
        ("no rule", DENIALS, "status is 200, not 403"),
        ("refused by the backend", DENIALS, "the gateway did not refuse it: via_upstream"),
        (
            "address lost",
            "E7a E7b E7c E7d E7e E7f E7i E7j E7k E7l E7m E7n E8a E8b E8c E8d E8j E8k E8l E8m E8n E8o E9a E9b",
            "logged client is 10.0.0.11",
        ),
        ("headers believed", "E7e E7f E7m E7n E8n E8o", "with X-Forwarded-For:"),
        ("header has no weight", "E8e E8f", ""),
        ("own PROXY header believed", "E7h E7p E8h E8q", "status is 200, not 400"),
        ("past the balancer", "E8i E8r", ""),
        ("policy drops nothing", "E8i E8r", "but no NetworkPolicy dropped it"),
        ("everybody connects", "E9c", "200"),
    ],
)
def test_a_broken_promise_fails_its_probes(
    settings: Settings, tmp_path: Path, broken: str, short: str, why: str
) -> None:
    outcomes = _outcomes(settings, tmp_path, Edge(broken=broken))
    assert _short(outcomes) == short
    assert all(why in outcomes[name].observed for name in short.split())


def test_without_log_only_what_something_else_says_passes(settings: Settings, tmp_path: Path) -> None:
    outcomes = _outcomes(settings, tmp_path, Edge(broken="no log"))
    passed = {name for name, outcome in outcomes.items() if outcome.ok}
    # The gateway's ports, those of the gateway that keeps no log, and packets dropped.
    assert passed == {"E2k", "E5a", "E6c", "E6d", "E6f", "E8i", "E8r", "E9c"}
    assert "the gateway's access log does not have the request" in outcomes["E7c"].observed


def test_clients_without_address_are_asked_what_does_not_need_it(dev_config: dict[str, Any], tmp_path: Path) -> None:
    outcomes = _outcomes(load(dev_config), tmp_path, Edge())
    absent = {name: outcome.observed for name, outcome in outcomes.items() if outcome.ok is None}
    rules = {name for name in outcomes if name.startswith(("E7", "E8", "E9"))} - {"E8i", "E8r"}
    # Whether an unknown name is served is asked of gateways that let in who is known only.
    assert set(absent) == rules | {"E2e", "E2g", "E2h", "E2i", "E2j", "E6e", "E6f"}
    assert absent["E7c"] == (
        "nobody to ask: no client of meshgate:verify.clients has an `address` that the rules of gateway "
        "preserved-instance turn away"
    )
    assert all(outcome.ok for name, outcome in outcomes.items() if name not in absent)


def test_without_a_client_that_is_turned_away_nothing_is_forged(config: dict[str, Any], tmp_path: Path) -> None:
    config["verify"]["clients"] = SETTINGS_CLIENTS[:1]
    outcomes = _outcomes(load(config), tmp_path, Edge())
    assert outcomes["E7a"].ok is True
    assert outcomes["E7c"].ok is None
    assert outcomes["E7f"].ok is None
    assert "needs one client that the rules of gateway preserved-instance turn away" in outcomes["E7f"].observed


@pytest.mark.parametrize(
    ("firewall", "evidence"),
    [
        (
            Firewall(),
            "the settings name no counter of the balancer (verify.firewallCounters), so its part was not seen",
        ),
        (None, "the settings name no counter of the balancer (verify.firewallCounters), so its part was not seen"),
    ],
)
def test_a_balancer_that_is_not_counted_is_said(
    settings: Settings, tmp_path: Path, firewall: Firewall | None, evidence: str
) -> None:
    edge = Edge()
    asked = _asked(settings, tmp_path, edge, firewall or Counters(edge, "ingress-istio-edge"))
    outcome = _probes(settings)["E9c"].attempt(asked)
    assert (outcome.ok, outcome.proven, outcome.evidence) == (True, False, evidence)


def test_the_nodes_port_is_asked_too(settings: Settings, tmp_path: Path) -> None:
    edge = Edge(node_ports=True)
    asked = _asked(settings, tmp_path, edge)
    probe = _probes(settings)["E8r"]
    asked.pods.start(probe.workloads)
    assert probe.attempt(asked).ok is True
    places = [urlsplit(command[-1]).netloc for _, command in edge.ran]
    assert sorted(places) == ["10.0.0.11:30080", "10.1.4.5:8080", "10.1.4.5:8443"]
    assert all("PROXY TCP4 203.0.113.10 " in unquote(command[-1]) for _, command in edge.ran)


def test_an_unmade_connection_is_not_waited_for(settings: Settings, tmp_path: Path) -> None:
    asked = _asked(settings, tmp_path, Edge())
    _probes(settings)["E9c"].attempt(asked)
    client = asked.clients[1]
    assert isinstance(client, FakeShell)
    assert [option(command, "--connect-timeout") for command in client.commands] == ["2", "2"]


def test_certificates_are_always_checked(settings: Settings, tmp_path: Path) -> None:
    edge = Edge()
    asked = _asked(settings, tmp_path, edge)
    probes = _probes(settings)
    for name in ("E2a", "E2d", "E7c"):
        probes[name].attempt(asked)
    commands = [command for client in asked.clients for command in client.commands]  # type: ignore[attr-defined]
    assert len(commands) == 6
    for command in commands:
        if "--insecure" in command:
            # The key that was checked by name just before.
            assert option(command, "--pinnedpubkey") == f"sha256//{_key_hash(edge)}"
        else:
            assert Path(option(command, "--cacert") or "").read_text() == pem(edge.ca.root)


def test_a_balancers_certificate_is_checked_by_the_settings_cas(config: dict[str, Any], tmp_path: Path) -> None:
    config["verify"]["trust"] = "/etc/ssl/company.pem"
    settings = load(config)
    asked = _asked(settings, tmp_path, Edge())
    probe = _probes(settings)["E5c"]
    with pytest.raises(AssertionError):
        # The fake balancer is of a public CA, and says so when another is named.
        probe.attempt(asked)
    (command,) = asked.clients[0].commands  # type: ignore[attr-defined]
    assert option(command, "--cacert") == "/etc/ssl/company.pem"


def test_the_original_echo_application_tells_nothing(settings: Settings, tmp_path: Path) -> None:
    outcomes = _outcomes(settings, tmp_path, Edge(broken="original image"))
    assert {name for name, outcome in outcomes.items() if outcome.ok is None} == set(SEEN.split())
    assert _short(outcomes) == SEEN
    assert "405" in outcomes["E5i"].observed


def test_a_rule_for_addresses_that_nobody_sees_lets_nobody_in(config: dict[str, Any], tmp_path: Path) -> None:
    hidden = config["edge"]["gateways"]["hidden"]
    hidden["allow"] = ["203.0.113.10/32"]
    del hidden["deny"]
    settings = load(config)
    probes = _probes(settings)
    blind = [name for name, probe in probes.items() if "gateway hidden" in probe.expected]
    assert blind == ["E6a"]
    edge = Edge()
    asked = _asked(settings, tmp_path, edge)
    assert probes["E6a"].attempt(asked).ok is False
    edge = Edge(broken="a node is denied")
    outcome = probes["E6a"].attempt(_asked(settings, tmp_path, edge))
    assert (outcome.ok, outcome.observed) == (True, "403, HTTP/2, TLSv1.3, RBAC: access denied")


@pytest.mark.parametrize(("cidrs", "ok"), [(["10.6.0.0/24"], True), (["10.7.0.0/24"], False)])
def test_a_balancers_own_address(config: dict[str, Any], tmp_path: Path, cidrs: list[str], ok: bool) -> None:
    config["edge"]["balancerCidrs"] = cidrs
    hidden = config["edge"]["gateways"]["hidden"]
    hidden["balancer"] = {"targetType": "ip", "clientAddress": "none"}
    hidden["externalTrafficPolicy"] = "Local"
    settings = load(config)
    outcome = _probes(settings)["E6e"].attempt(_asked(settings, tmp_path, Edge(broken="balancer's address")))
    assert outcome.ok is ok
    assert "is 10.6.0.7 to the gateway" in outcome.observed
    # Not kept by the balancer: nothing that a node could lose.
    assert "E7q" not in _probes(settings)


@pytest.mark.parametrize(
    ("broken", "observed"),
    [
        ("", "200, HTTP/1.1, TLSv1.3, leaf *.example.com issued by public intermediate, at 192.0.2.4"),
        ("record elsewhere", "198.51.100.66 is no address of the balancer"),
    ],
)
def test_a_host_with_a_record_is_asked_by_its_name(
    eks: dict[str, Any], tmp_path: Path, broken: str, observed: str
) -> None:
    eks["verify"] = {"clients": SETTINGS_CLIENTS}
    settings = load(eks)
    probes = [probe for probe in _probes(settings).values() if "by its own name" in probe.expected]
    assert [probe.expected.split("/")[2] for probe in probes] == [
        "split.example.com",
        "split-gateway-redirect.example.com",
        "split-route-redirect.example.com",
    ]
    asked = _asked(settings, tmp_path, Edge(broken=broken))
    outcome = probes[0].attempt(asked)
    assert outcome.ok is not bool(broken)
    assert observed in outcome.observed
    assert "--connect-to" not in asked.clients[0].commands[0]  # type: ignore[attr-defined]


def test_the_environment_on_eks_has_its_probes(eks: dict[str, Any], tmp_path: Path) -> None:
    eks["verify"] = {"clients": SETTINGS_CLIENTS}
    outcomes = _outcomes(load(eks), tmp_path, Edge())
    assert _short(outcomes) == ""
    rows = {name.rstrip("abcdefghijklmnopqrstuvwxyz") for name in outcomes}
    # E4 and E6 are pitfalls, which nobody has there.
    assert rows == {"E2", "E3", "E5", "E7", "E8", "E9"}


@pytest.mark.parametrize(
    ("gateway", "asked"),
    [
        # Nobody answers https there.
        ("unserved", ["http from a client that the rules turn away", "http as bare bytes", "http as bare bytes"]),
        # Whoever is let in is redirected for ever.
        ("loop", ["https from", "http from", "http as bare bytes", "http as bare bytes"]),
    ],
)
def test_rules_at_a_gateway_with_another_pitfall(config: dict[str, Any], gateway: str, asked: list[str]) -> None:
    settings = config["edge"]["gateways"][gateway]
    settings["balancer"] = {"targetType": "ip"}
    settings["deny"] = ["203.0.113.20/32"]
    settings["hosts"] = settings["hosts"][-1:]
    found = [
        re.sub(r"://\S+ at gateway \S+", "", probe.expected)
        for probe in _probes(load(config)).values()
        if f"at gateway {gateway} " in probe.expected and probe.row == "E7"
    ]
    assert len(found) == len(asked)
    assert all(text.startswith(start) for text, start in zip(found, asked, strict=True))


def test_what_the_log_believes_is_not_forged(config: dict[str, Any]) -> None:
    preserved = config["edge"]["gateways"]["preserved-ip"]
    preserved["numTrustedProxies"] = 1
    preserved["pitfalls"] = ["forgeable-forwarded-for"]
    forged = [probe.expected for probe in _probes(load(config)).values() if "X-Real-IP" in probe.expected]
    names = {re.findall("at gateway ([a-z-]+)", text)[0]: "X-Forwarded-For" in text for text in forged}
    assert names == {"preserved-instance": True, "preserved-ip": False, "proxy-protocol": True}


def test_settings_newer_than_the_outputs_say_so(settings: Settings, tmp_path: Path) -> None:
    edge = Edge()
    asked = _asked(settings, tmp_path, edge)
    contracts = edge.contracts()
    del contracts["edge"]["gateways"]["tls"]
    asked = replace(asked, contracts=contracts)  # type: ignore[arg-type]
    with pytest.raises(VerifyError, match=r"edge_gateways has no 'tls': run `pulumi up`"):
        _probes(settings)["E2a"].attempt(asked)


def test_a_gateway_without_pod_says_so(settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    edge = Edge()
    monkeypatch.setattr(edge, "running", lambda namespace, labels: [])
    asked = _asked(settings, tmp_path, edge)
    probe = _probes(settings)["E8r"]
    asked.pods.start(probe.workloads)
    with pytest.raises(VerifyError, match="no pod of gateway proxy-protocol runs in istio-edge"):
        probe.attempt(asked)


def _key_hash(edge: Edge) -> str:
    key = edge.leaf.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return base64.b64encode(hashlib.sha256(key).digest()).decode()
