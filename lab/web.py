"""Web servers of the lab's own, where no ready program serves what is needed: a function from request to answer.

Threads, standard library, HTTP/1.1 with connections kept open. One line of log for each request.
"""

import logging
import socket
import ssl
import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from socketserver import ThreadingTCPServer
from typing import Any
from urllib.parse import parse_qsl, urlsplit

IDLE = 4000
"""Seconds after which a silent connection is closed: later than Envoy does, so that it never sends on a closed one."""

log = logging.getLogger("web")


@dataclass(frozen=True)
class Request:
    """A GET or HEAD request."""

    path: str
    """As it was sent, percent signs and all."""
    query: Mapping[str, str] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)
    """By their names in small letters."""
    client: str = ""
    """The caller's address."""
    secure: bool = False
    certificate: Mapping[str, str] | None = None
    """The subject of the caller's certificate, such as commonName: somebody."""


@dataclass(frozen=True)
class Answer:
    """What goes back."""

    status: int
    body: str = ""
    content_type: str = "text/plain; charset=utf-8"
    headers: Mapping[str, str] = field(default_factory=dict)
    caller: str = ""
    """Who asked, for the log."""


Answering = Callable[[Request], Answer]


@dataclass(frozen=True)
class Listener:
    """Where something is served; with TLS if there is a context."""

    address: str
    port: int
    answer: Answering
    tls: ssl.SSLContext | None = None


def serve(listeners: Sequence[Listener]) -> None:
    """Serve for ever. All ports are open before the first request is answered; OSError if one is not free."""
    servers = [Server(listener) for listener in listeners]
    threads = [threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 3600}) for server in servers]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def server_tls(certificate: str, key: str, client_authority: str | None = None) -> ssl.SSLContext:
    """TLS with this certificate. Who has no certificate of `client_authority`, if given, gets no connection."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=client_authority)
    context.load_cert_chain(certificate, key)
    if client_authority:
        context.verify_mode = ssl.CERT_REQUIRED
    return context


class Server(ThreadingTCPServer):
    """The server of one listener, its port open."""

    allow_reuse_address = True
    daemon_threads = True
    request_queue_size = 128

    def __init__(self, listener: Listener) -> None:
        self.listener = listener
        super().__init__((listener.address, listener.port), _Handler)

    def get_request(self) -> tuple[socket.socket, tuple[str, int]]:
        connection, address = super().get_request()
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        if self.listener.tls:
            # The handshake takes place at the first read, in the connection's own thread.
            connection = self.listener.tls.wrap_socket(connection, server_side=True, do_handshake_on_connect=False)
        return connection, address

    def handle_error(self, request: object, client_address: tuple[str, int]) -> None:
        log.warning("%s: a connection failed", client_address[0], exc_info=True)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server_version, sys_version = "meshgate-lab", ""
    timeout = IDLE
    disable_nagle_algorithm = True
    server: Server

    def handle(self) -> None:
        try:
            super().handle()
        except (ssl.SSLError, ConnectionError) as error:
            log.info("%s: %s", self.client_address[0], error)
            self._linger()

    def do_GET(self) -> None:
        parts = urlsplit(self.path)
        request = Request(
            path=parts.path,
            query=dict(parse_qsl(parts.query)),
            headers={name.lower(): value for name, value in self.headers.items()},
            client=self.client_address[0],
            secure=self.server.listener.tls is not None,
            certificate=_subject(self.connection),
        )
        try:
            answer = self.server.listener.answer(request)
        except Exception:
            log.exception("no answer to %s", self.path)
            answer = Answer(500, "internal error\n")
        body = answer.body.encode()
        self.send_response(answer.status)
        for name, value in {"Content-Type": answer.content_type, **answer.headers}.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)
        host = request.headers.get("host", "-")
        log.info("%s %s%s %d %s %s", self.command, host, self.path, answer.status, request.client, answer.caller or "-")

    do_HEAD = do_GET

    def _linger(self) -> None:
        # With something of the caller's unread, closing at once would reset the connection, and TLS's alert be lost.
        with suppress(OSError):
            self.connection.shutdown(socket.SHUT_WR)
            self.connection.settimeout(2)
            while self.connection.recv(4096):
                pass

    def log_request(self, code: object = "-", size: object = "-") -> None:
        """Done at the end of do_GET, when it is known who asked."""

    def log_message(self, format: str, *values: object) -> None:
        log.info("%s: " + format, self.client_address[0], *values)


def _subject(connection: socket.socket) -> dict[str, str] | None:
    certificate: Any = connection.getpeercert() if isinstance(connection, ssl.SSLSocket) else None
    return {name: value for part in certificate["subject"] for name, value in part} if certificate else None
