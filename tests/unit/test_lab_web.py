"""The lab's own web servers: requests and answers, TLS, and clients that must show a certificate."""

from __future__ import annotations

import http.client
import json
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from ipaddress import IPv4Address
from pathlib import Path

import pytest
from cryptography import x509

from lab import internet, mutual, pki, site, web
from lab.instance import Instance

LOCAL = IPv4Address("127.0.0.1")


@pytest.fixture
def start() -> Iterator[Callable[..., int]]:
    """Starts a server and returns its port."""
    servers = []

    def start(answer: web.Answering, tls: ssl.SSLContext | None = None) -> int:
        server = web.Server(web.Listener(str(LOCAL), 0, answer, tls))
        servers.append(server)
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}).start()
        return int(server.server_address[1])

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


@pytest.fixture
def instance(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Instance:
    monkeypatch.setenv("MESHGATE_LAB_DIR", str(tmp_path))
    instance = Instance("test")
    internet.certificates(instance)
    return instance


def logged(caplog: pytest.LogCaptureFixture, line: str) -> None:
    """Wait for a line of the log: the server writes it when the answer is on its way already."""
    end = time.monotonic() + 5
    while line not in caplog.text and time.monotonic() < end:
        time.sleep(0.01)
    assert line in caplog.text


def test_requests_and_answers_on_one_connection(start: Callable[..., int], caplog: pytest.LogCaptureFixture) -> None:
    seen = []

    def answer(request: web.Request) -> web.Answer:
        seen.append(request)
        return web.Answer(404, "nö\n", headers={"X-A": "b"}, caller="somebody")

    caplog.set_level("INFO", "web")
    connection = http.client.HTTPConnection(str(LOCAL), start(answer), timeout=5)
    for method, body in (("HEAD", ""), ("GET", "nö\n")):
        connection.request(method, "/a%2Fb/c?d=e%20f", headers={"Metadata-Flavor": "Google", "Host": "x.test"})
        response = connection.getresponse()
        assert (response.status, response.read().decode(), response.headers["X-A"]) == (404, body, "b")
        assert response.headers["Content-Length"] == "4"
    request = seen[0]
    assert (request.path, dict(request.query), request.client) == ("/a%2Fb/c", {"d": "e f"}, "127.0.0.1")
    assert request.headers["metadata-flavor"] == "Google"
    assert (request.secure, request.certificate) == (False, None)
    connection.close()
    logged(caplog, "GET x.test/a%2Fb/c?d=e%20f 404 127.0.0.1 somebody")


def test_an_error_is_no_silence(start: Callable[..., int], caplog: pytest.LogCaptureFixture) -> None:
    def answer(request: web.Request) -> web.Answer:
        raise ValueError("on purpose")

    connection = http.client.HTTPConnection(str(LOCAL), start(answer), timeout=5)
    connection.request("GET", "/")
    response = connection.getresponse()
    assert (response.status, response.read()) == (500, b"internal error\n")
    connection.request("POST", "/", body="x")
    assert connection.getresponse().status == 501
    connection.close()
    logged(caplog, "no answer to /")


def test_a_stuck_handshake_holds_nobody_up(start: Callable[..., int], instance: Instance) -> None:
    authority = pki.internet_authority(instance)
    pair = authority.issue("web", "web", addresses=[LOCAL])
    port = start(
        lambda request: web.Answer(200, str(request.secure)), web.server_tls(str(pair.certificate), str(pair.key))
    )
    silent = http.client.HTTPConnection(str(LOCAL), port, timeout=5)
    trust = ssl.create_default_context(cafile=str(authority.certificate))
    connection = http.client.HTTPSConnection(str(LOCAL), port, timeout=5, context=trust)
    with closing(silent), closing(connection):
        silent.connect()
        connection.request("GET", "/")
        assert connection.getresponse().read() == b"True"


def test_a_client_is_known_by_its_certificate(start: Callable[..., int], instance: Instance, tmp_path: Path) -> None:
    authority, clients = pki.internet_authority(instance), pki.internet_client_authority(instance)
    pair = authority.issue("mutual", "mutual", addresses=[LOCAL])
    port = start(mutual.answer, web.server_tls(str(pair.certificate), str(pair.key), str(clients.certificate)))

    def ask(certificate: Path | None, key: Path | None) -> object:
        trust = ssl.create_default_context(cafile=str(authority.certificate))
        if certificate:
            trust.load_cert_chain(certificate, key)
        connection = http.client.HTTPSConnection(str(LOCAL), port, timeout=5, context=trust)
        try:
            connection.request("GET", "/")
            return json.loads(connection.getresponse().read())
        finally:
            connection.close()

    assert ask(instance.internet_client_certificate, instance.internet_client_key) == {
        "client": {"organizationName": "meshgate-lab", "commonName": "egress-gateway"}
    }
    stranger = authority.issue("stranger", "egress-gateway", ["meshgate-lab"])
    for certificate, key in ((None, None), (stranger.certificate, stranger.key)):
        with pytest.raises(OSError):  # noqa: PT011  an alert, or the connection's end: whichever the client sees first
            ask(certificate, key)


def test_a_site_answers_for_its_own_name_alone(start: Callable[..., int], instance: Instance) -> None:
    authority, name = pki.internet_authority(instance), "www.envoyproxy.io"
    (service,) = [service for service in internet.servers(instance) if service.name == name]
    given = dict(zip(service.command[3::2], service.command[4::2], strict=True))
    assert (given["--host"], given["--address"], service.ready) == (name, "198.51.100.40", "tcp://198.51.100.40:443")
    trust = ssl.create_default_context(cafile=str(authority.certificate))
    trust.check_hostname = False
    answer = site.answering(name)
    secure = start(answer, web.server_tls(given["--certificate"], given["--key"]))
    plain = start(answer)

    def ask(connection: http.client.HTTPConnection, host: str) -> tuple[int, str, str | None]:
        with closing(connection):
            connection.request("GET", "/docs?<x>", headers={"Host": host})
            response = connection.getresponse()
            return response.status, response.read().decode(), response.headers["Location"]

    def https(host: str) -> tuple[int, str, str | None]:
        return ask(http.client.HTTPSConnection(str(LOCAL), secure, timeout=5, context=trust), host)

    page = f"<!DOCTYPE html>\n<title>{name}</title>\n<p>This is {name}, /docs</p>\n"
    assert https(name) == https(f"{name}:443") == (200, page, None)
    for other in ("localhost", "envoyproxy.io", f"{name}.test"):
        assert https(other) == (421, f"this is {name}\n", None)
    connection = http.client.HTTPConnection(str(LOCAL), plain, timeout=5)
    assert ask(connection, name) == (301, "", f"https://{name}/docs")


def test_the_certificate_of_a_site_has_its_name(instance: Instance) -> None:
    (service,) = [service for service in internet.servers(instance) if service.name == "www.envoyproxy.io"]
    pem = Path(service.command[service.command.index("--certificate") + 1]).read_bytes()
    names = x509.load_pem_x509_certificate(pem).extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == ["www.envoyproxy.io"]


def test_the_clients_key_is_private(instance: Instance) -> None:
    assert instance.internet_client_key.stat().st_mode & 0o777 == 0o600
    before = instance.internet_client_certificate.read_bytes()
    internet.certificates(instance)
    assert instance.internet_client_certificate.read_bytes() == before
    assert instance.internet_ca.exists()
