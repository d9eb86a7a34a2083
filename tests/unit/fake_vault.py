"""A Vault that knows its state and its tokens: as much as the preflight asks for, over TLS."""

from __future__ import annotations

import json
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from ipaddress import ip_address
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.x509.oid import NameOID

TOKEN = "hvs.not-a-real-token"
EVERYTHING = ["create", "delete", "list", "read", "sudo", "update"]


class FakeVault:
    """A server at 127.0.0.1; its certificate is its own CA's, in `directory`."""

    def __init__(self, directory: Path) -> None:
        self.health: object = {"initialized": True, "sealed": False, "standby": False}
        self.health_status = 200
        self.capabilities: dict[str, list[str]] = {}
        """What the token may do, where that is not everything."""

        self.asked: list[str] = []
        vault = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self._answer(vault.health_status if self.path.startswith("/v1/sys/health?") else 404, vault.health)

            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["content-length"])))
                if self.path != "/v1/sys/capabilities-self" or self.headers.get("x-vault-token") != TOKEN:
                    self._answer(403, {"errors": ["permission denied"]})
                    return
                vault.asked = body["paths"]
                self._answer(200, {"data": {path: vault.capabilities.get(path, EVERYTHING) for path in vault.asked}})

            def _answer(self, status: int, body: object) -> None:
                data = json.dumps(body).encode()
                self.send_response(status)
                self.send_header("content-type", "application/json")
                self.send_header("content-length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            def log_message(self, format: str, *args: Any) -> None:
                pass

        self.ca = directory / "vault-ca.pem"
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.socket = _tls(self.ca).wrap_socket(self.server.socket, server_side=True)
        threading.Thread(target=self.server.serve_forever, args=(0.01,), daemon=True).start()

    @property
    def settings(self) -> dict[str, str]:
        """Where it is, as authority.vault has it."""
        return {"address": f"https://127.0.0.1:{self.server.server_port}", "ca": str(self.ca)}


@contextmanager
def fake_vault(directory: Path) -> Iterator[FakeVault]:
    """A Vault that is initialized and unsealed, as long as it is used."""
    vault = FakeVault(directory)
    try:
        yield vault
    finally:
        vault.server.shutdown()
        vault.server.server_close()


def _tls(ca: Path) -> ssl.SSLContext:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "vault")])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder(name, name, key.public_key(), 1, now - timedelta(days=1), now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))]), critical=False)
        .sign(key, SHA256())
    )
    pem = certificate.public_bytes(serialization.Encoding.PEM)
    both = ca.with_name("vault-server.pem")
    both.write_bytes(
        pem
        + key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    ca.write_bytes(pem)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(both)
    return context
