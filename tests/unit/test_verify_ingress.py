"""The ingress probes against a gateway made of its promises, each of which can be broken."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from settings import Settings, load
from tests.unit.verify_fakes import LOCAL, FakeKube, FakeShell, context, impatient, log_line, option, private, transfer
from verify import certificates, scenarios
from verify.context import Context
from verify.errors import VerifyError
from verify.probe import Outcome
from verify.shell import Completed

WEBAPP, CATALOG = "webapp.istioinaction.io", "catalog.istioinaction.io"
ROWS = {f"T{number}" for number in range(1, 8)}
PORTS = {"simple": 1000, "redirect": 2000, "mutual": 3000, "hosts": 4000}
ITEMS = json.dumps([{"name": "Elinor Glasses"}])


class Ca:
    """A root, its intermediate, and what they sign."""

    def __init__(self, name: str) -> None:
        self.root_key, self.key = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
        root, intermediate = certificates.common_name(f"{name} root"), certificates.common_name(f"{name} intermediate")
        self.root = _signed(root, self.root_key, root, self.root_key)
        self.intermediate = _signed(intermediate, self.key, root, self.root_key)

    def leaf(self, name: str) -> tuple[x509.Certificate, ec.EllipticCurvePrivateKey]:
        key = ec.generate_private_key(ec.SECP256R1())
        return _signed(certificates.common_name(name), key, self.intermediate.subject, self.key), key


def _signed(
    subject: x509.Name, key: ec.EllipticCurvePrivateKey, issuer: x509.Name, issuer_key: ec.EllipticCurvePrivateKey
) -> x509.Certificate:
    now = datetime.now(UTC)
    builder = x509.CertificateBuilder().subject_name(subject).issuer_name(issuer).public_key(key.public_key())
    builder = builder.serial_number(x509.random_serial_number()).not_valid_before(now)
    return builder.not_valid_after(now + timedelta(hours=1)).sign(issuer_key, SHA256())


def pem(certificate: x509.Certificate) -> str:
    return certificate.public_bytes(Encoding.PEM).decode()


class Gateways:
    """The four gateways of dev. `broken` names promises that they do not keep."""

    def __init__(self, broken: Sequence[str] = ()) -> None:
        self.broken = set(broken)
        self.cas = {"webapp": Ca("webapp"), "catalog": Ca("catalog")}
        self.kube = FakeKube(
            counters={"ssl.fail_verify_no_cert": 3, "ssl.fail_verify_error": 5, "no_filter_chain_match": 7}
        )
        client, key = self.cas["webapp"].leaf("client")
        self.client = pem(client)
        self.client_key = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        self.kube.secrets["webapp-client"] = {
            "tls.crt": (self.client + pem(self.cas["webapp"].intermediate)).encode(),
            "tls.key": self.client_key,
        }
        self.files: list[Path] = []

    def contracts(self) -> dict[str, dict[str, Any]]:
        gateways = {
            name: {"address": "127.0.0.1", "http_port": port + 80, "https_port": port + 443}
            for name, port in PORTS.items()
        }
        roots = {name: pem(ca.root) for name, ca in self.cas.items()}
        return {"ingress": {"gateways": gateways, "root_certificates": roots}}

    def curl(self, command: Sequence[str]) -> Completed:
        """What these gateways answer to a command line of curl."""
        url = urlsplit(command[-1])
        assert url.hostname
        self.files += [Path(path) for name in ("--cacert", "--cert", "--key") if (path := option(command, name))]
        if url.hostname == "127.0.0.1":
            return self._unknown(command, self._gateway(url.port or 0), "-")
        to = [value for name, value in pairwise(command) if name == "--connect-to"]
        gateway = self._gateway(int(to[0].rpartition(":")[2]))
        if url.hostname not in (WEBAPP, CATALOG):
            return self._unknown(command, gateway, url.hostname)
        if url.scheme == "http":
            return self._http(command, gateway, url.hostname, url.path)
        return self._https(command, gateway, url.hostname, url.path)

    def _gateway(self, port: int) -> str:
        return next(name for name, first in PORTS.items() if first <= port < first + 1000)

    def _unknown(self, command: Sequence[str], gateway: str, name: str) -> Completed:
        if "any name served" in self.broken:
            return transfer(command, exit_code=60, error="SSL certificate problem: no alternative name matches")
        if "no counter rises" not in self.broken:
            self.kube.counters["no_filter_chain_match"] += 1
        self._log(
            gateway,
            response_code_details="filter_chain_not_found",
            requested_server_name=name,
            downstream_remote_address="10.0.0.1:1" if "address hidden" in self.broken else LOCAL,
        )
        return transfer(command, exit_code=35, error="Recv failure: Connection reset by peer")

    def _https(self, command: Sequence[str], gateway: str, host: str, path: str, redirects: int = 0) -> Completed:
        ca = self.cas["catalog" if host == CATALOG else "webapp"]
        trust = option(command, "--cacert")
        if trust is None or (Path(trust).read_text() != pem(ca.root) and "anything trusted" not in self.broken):
            return transfer(command, exit_code=60, error="SSL certificate problem: unable to get local issuer")
        refusal = self._refused(option(command, "--cert")) if gateway == "mutual" else None
        if refusal is not None and "clients not checked" not in self.broken:
            if "no counter rises" not in self.broken:
                self.kube.counters[refusal] += 1
            return transfer(command, exit_code=56, error="alert certificate required")
        presented = [ca.leaf(host)[0], ca.intermediate]
        if "no intermediate" in self.broken:
            presented = presented[:1]
        if "another intermediate" in self.broken:
            presented[1] = Ca("webapp").intermediate
        self._log(
            gateway,
            user_agent=option(command, "--user-agent") or "",
            requested_server_name=host,
            upstream_cluster=self._backend(host),
        )
        return transfer(
            command,
            status=503 if "no backend" in self.broken else 200,
            http_version="1.1" if "no HTTP/2" in self.broken else "2",
            tls="TLSv1.2" if "old TLS" in self.broken else "TLSv1.3",
            body="[]" if "empty" in self.broken else ITEMS,
            certificates=presented,
            redirects=redirects,
            url=f"https://{host}{path}",
        )

    def _refused(self, certificate: str | None) -> str | None:
        if certificate is None:
            return "ssl.fail_verify_no_cert"
        return None if Path(certificate).read_text().startswith(self.client) else "ssl.fail_verify_error"

    def _http(self, command: Sequence[str], gateway: str, host: str, path: str) -> Completed:
        agent = option(command, "--user-agent") or ""
        if gateway == "hosts" and "port 80 open" not in self.broken:
            if "port 80 refused" in self.broken:
                return transfer(command, exit_code=7, error="Connection refused", tls=None)
            if "port 80 ended" in self.broken:
                return transfer(command, exit_code=52, error="Empty reply from server", tls=None)
            self._log(gateway, user_agent=agent, response_flags="NR", response_code="404")
            return transfer(command, status=404, http_version="1.1", tls=None)
        if gateway in ("redirect", "mutual") and "no redirect" not in self.broken:
            self._log(gateway, user_agent=agent, response_code="301")
            if "--location" in command:
                return self._https(command, gateway, host, path, redirects=2 if "redirect twice" in self.broken else 1)
            location = f"http://{host}{path}" if "redirect to http" in self.broken else f"https://{host}{path}"
            headers = {"location": [location]}
            return transfer(command, status=301, http_version="1.1", tls=None, headers=headers)
        self._log(gateway, user_agent=agent, upstream_cluster=self._backend(host))
        return transfer(command, http_version="1.1", tls=None, body=ITEMS)

    def _backend(self, host: str) -> str:
        name = "other" if "wrong backend" in self.broken else host.partition(".")[0]
        return f"outbound|80||{name}.istioinaction.svc.cluster.local"

    def _log(self, gateway: str, **operators: str) -> None:
        if "no log" not in self.broken:
            self.kube.lines.setdefault(gateway, []).append(log_line(**operators))


@pytest.fixture
def settings(dev_config: dict[str, Any]) -> Settings:
    return load(dev_config)


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    impatient(monkeypatch)


def _context(settings: Settings, gateways: Gateways, directory: Path) -> Context:
    return context(
        directory, settings, kube=gateways.kube, client=FakeShell(gateways.curl), contracts=gateways.contracts()
    )


def _outcomes(settings: Settings, gateways: Gateways, directory: Path) -> dict[str, Outcome]:
    asked = _context(settings, gateways, directory)
    probes = scenarios.probes(settings)
    return {name: probe.attempt(asked) for name, probe in probes.items() if probe.row in ROWS}


def test_every_row_and_gateway_has_its_probes(settings: Settings) -> None:
    probes = scenarios.probes(settings)
    rows = [name for name, probe in probes.items() if probe.row in ROWS]
    assert rows == [
        *(f"T1{letter}" for letter in "abcdefgh"),
        *(f"T2{letter}" for letter in "abcde"),
        *(f"T3{letter}" for letter in "abcd"),
        *(f"T4{letter}" for letter in "abcdefg"),
        "T5",
        *("T6a", "T6b"),
        *(f"T7{letter}" for letter in "abcde"),
    ]
    denials = {"T1g": "T3d", "T2c": "T6a", "T4a": "T3a", "T4b": "T3b", "T5": "T6a", "T6b": "T6a", "T7d": "T7b"}
    for denial, success in denials.items():
        assert probes[denial].pair is probes[success]


def test_a_stack_without_the_layer_has_no_such_probe(dev_config: dict[str, Any]) -> None:
    dev_config["layers"].remove("ingress")
    del dev_config["ingress"]
    assert "ingress" not in {probe.scenario for probe in scenarios.probes(load(dev_config)).values()}


def test_gateways_that_keep_their_promises_pass(settings: Settings, tmp_path: Path) -> None:
    outcomes = _outcomes(settings, Gateways(), tmp_path)
    assert {name: outcome.observed for name, outcome in outcomes.items() if outcome.ok is not True} == {}
    assert all(outcome.evidence for outcome in outcomes.values())
    assert outcomes["T3d"].observed == (
        "200, HTTP/2, TLSv1.3, leaf webapp.istioinaction.io issued by webapp intermediate, first item Elinor Glasses"
    )
    assert outcomes["T5"].evidence == "gateway mutual: counter ssl.fail_verify_no_cert rose by 1"
    assert outcomes["T1g"].evidence.startswith("gateway simple: [")


FOLLOWED = {"T4d", "T4f"}
SUCCESSES = {"T3d", "T3c", "T3a", "T3b", *FOLLOWED, "T6a", "T7a", "T7b"}


@pytest.mark.parametrize(
    ("broken", "short", "why"),
    [
        ("any name served", {f"T1{letter}" for letter in "abcdefgh"} | {"T7e"}, "exit 60"),
        ("anything trusted", {f"T2{letter}" for letter in "abcde"} | {"T7c", "T7d"}, ""),
        ("no backend", SUCCESSES, "status is 503, not 200"),
        ("wrong backend", SUCCESSES | {"T4g"}, "not outbound|80||"),
        ("no HTTP/2", SUCCESSES - FOLLOWED, "HTTP version is 1.1, not 2"),
        ("old TLS", SUCCESSES - FOLLOWED, "TLS version is TLSv1.2, not TLSv1.3"),
        ("no intermediate", SUCCESSES - FOLLOWED, "presented no intermediate"),
        ("another intermediate", SUCCESSES - FOLLOWED, "is not issued by webapp"),
        ("empty", SUCCESSES - FOLLOWED, "first item is None, not Elinor Glasses"),
        ("clients not checked", {"T5", "T6b"}, "200"),
        ("no counter rises", {"T5", "T6b"}, "did not rise"),
        ("no redirect", {"T4c", "T4e", *FOLLOWED}, ""),
        ("redirect twice", FOLLOWED, "number of redirects is 2, not 1"),
        ("redirect to http", {"T4c", "T4e"}, "Location is ['http://"),
        ("port 80 open", {"T4a", "T4b"}, "status is 200, not 404"),
        ("port 80 ended", {"T4a", "T4b"}, "exit 52"),
    ],
)
def test_a_broken_promise_fails_its_probes(
    settings: Settings, tmp_path: Path, broken: str, short: set[str], why: str
) -> None:
    outcomes = _outcomes(settings, Gateways([broken]), tmp_path)
    assert {name for name, outcome in outcomes.items() if not outcome.ok} == short
    assert all(why in outcomes[name].observed for name in short)


def test_without_log_and_counters_only_what_the_client_decides_passes(settings: Settings, tmp_path: Path) -> None:
    outcomes = _outcomes(settings, Gateways(["no log", "no counter rises"]), tmp_path)
    passed = {name for name, outcome in outcomes.items() if outcome.ok}
    assert passed == {*(f"T2{letter}" for letter in "abcde"), "T7c", "T7d"}
    assert "the gateway's access log does not have the request" in outcomes["T3d"].observed
    assert "neither the gateway's access log nor its counter has it" in outcomes["T1g"].observed


def test_a_closed_port(settings: Settings, tmp_path: Path) -> None:
    outcome = _outcomes(settings, Gateways(["port 80 refused"]), tmp_path)["T4a"]
    assert (outcome.ok, outcome.evidence) == (True, "the client: Connection refused")


@pytest.mark.parametrize(("listeners", "ok"), [([443], True), ([80, 443], False)])
def test_a_port_that_is_closed_behind_a_balancer(
    dev_config: dict[str, Any], tmp_path: Path, listeners: list[int], ok: bool
) -> None:
    """The balancer takes the connection before it asks; the gateway's own listeners say that it did not."""
    service = dev_config["ingress"]["gateways"]["mutual"]["service"] | {"balancer": {"address": "1.2.3.4"}}
    service["balancer"]["nodes"] = ["10.0.0.11"]
    del service["ports"], dev_config["ingress"]["gateways"]["mutual"]
    service["nodePorts"] |= {"status": 30021}
    dev_config["ingress"]["gateways"]["hosts"]["service"] = service
    gateways = Gateways(["port 80 ended"])
    gateways.kube.listeners = listeners
    outcome = _outcomes(load(dev_config), gateways, tmp_path)["T4a"]
    assert (outcome.ok, outcome.proven) == (ok, ok)
    assert outcome.evidence == ("gateway hosts listens on 443" if ok else "")


def test_a_hidden_client_address_proves_less(settings: Settings, tmp_path: Path) -> None:
    outcomes = _outcomes(settings, Gateways(["address hidden"]), tmp_path)
    assert (outcomes["T1g"].ok, outcomes["T1g"].proven) == (True, False)
    assert outcomes["T1g"].evidence == "gateway simple: counter no_filter_chain_match rose by 1"
    # The made-up name of this attempt is in the line.
    assert (outcomes["T7e"].ok, outcomes["T7e"].proven) == (True, True)


def test_keys_are_private_files_and_in_no_command_line(settings: Settings, tmp_path: Path) -> None:
    gateways = Gateways()
    asked = _context(settings, gateways, tmp_path)
    client = asked.clients[0]
    assert isinstance(client, FakeShell)
    for name in ("T6a", "T6b"):
        scenarios.probes(settings)[name].attempt(asked)
    assert len(gateways.files) == 6
    assert all(private(path) for path in gateways.files)
    assert "PRIVATE KEY" not in str(client.commands)
    keys = [option(command, "--key") for command in client.commands]
    assert Path(keys[0] or "").read_bytes() == gateways.client_key


def test_only_the_contracts_root_is_trusted(settings: Settings, tmp_path: Path) -> None:
    gateways = Gateways()
    asked = _context(settings, gateways, tmp_path)
    scenarios.probes(settings)["T3d"].attempt(asked)
    (command,) = asked.clients[0].commands  # type: ignore[attr-defined]
    assert "--insecure" not in command
    assert "-k" not in command
    assert option(command, "--capath") == "/dev/null"
    assert Path(option(command, "--cacert") or "").read_text() == pem(gateways.cas["webapp"].root)


def test_without_a_client_certificate_there_is_nothing_to_ask_with(dev_config: dict[str, Any], tmp_path: Path) -> None:
    dev_config["ingress"]["clients"] = {}
    outcomes = _outcomes(load(dev_config), Gateways(), tmp_path)
    assert outcomes["T6a"].ok is None
    assert "meshgate:ingress.clients" in outcomes["T6a"].observed
    assert outcomes["T5"].ok is True
    assert outcomes["T6b"].ok is True


def test_an_existing_certificate_is_checked_by_the_clients_own_cas(dev_config: dict[str, Any], tmp_path: Path) -> None:
    dev_config["ingress"]["certificates"]["webapp-credential"] = {"kind": "existing", "hosts": [WEBAPP]}
    settings = load(dev_config)
    gateways = Gateways()
    asked = _context(settings, gateways, tmp_path)
    probes = scenarios.probes(settings)
    outcome = probes["T3d"].attempt(asked)
    assert "--cacert" not in asked.clients[0].commands[0]  # type: ignore[attr-defined]
    assert outcome.ok is False
    assert "CURL_CA_BUNDLE" in outcome.observed
    # Only one of the hosts still has an authority of its own.
    assert not any(name.startswith("T7") for name in probes)


def test_settings_newer_than_the_outputs_say_so(settings: Settings, tmp_path: Path) -> None:
    gateways = Gateways()
    contracts = gateways.contracts()
    del contracts["ingress"]["gateways"]["simple"]
    asked = context(tmp_path, settings, kube=gateways.kube, client=FakeShell(gateways.curl), contracts=contracts)
    with pytest.raises(VerifyError, match=r"ingress_gateways has no 'simple': run `pulumi up`"):
        scenarios.probes(settings)["T3d"].attempt(asked)


def test_a_client_secret_without_key_says_so(settings: Settings, tmp_path: Path) -> None:
    gateways = Gateways()
    del gateways.kube.secrets["webapp-client"]["tls.key"]
    with pytest.raises(VerifyError, match=r"Secret istio-ingress/webapp-client lacks tls\.key"):
        scenarios.probes(settings)["T6a"].attempt(_context(settings, gateways, tmp_path))
