"""Asking with curl, and reading what it says."""

from __future__ import annotations

import json
import re
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cryptography import x509

from verify.errors import VerifyError
from verify.shell import Completed, Shell

MINIMUM_VERSION = (7, 88)
"""The first curl that writes the server's certificates (`%{certs}`)."""

TIMEOUT = 10
"""Seconds that a request may take."""

UNREACHED_SECONDS = 2
"""Seconds after which a connection that nobody answers is taken for blocked; the packet is sent twice until then."""

MAX_REDIRECTS = 5
"""How many redirects are followed, where they are."""

NOT_RESOLVED = 6
REFUSED = 7
TIMED_OUT = 28
TLS_FAILED = 35
TOO_MANY_REDIRECTS = 47
EMPTY = 52
WRITE_FAILED = 55
READ_FAILED = 56
NOT_TRUSTED = 60
HTTP2_FAILED = 16

MEANINGS = {
    NOT_RESOLVED: "name not resolved",
    REFUSED: "no connection",
    HTTP2_FAILED: "HTTP/2 failed",
    TIMED_OUT: "timed out",
    TLS_FAILED: "TLS handshake failed",
    TOO_MANY_REDIRECTS: "too many redirects",
    EMPTY: "empty reply",
    WRITE_FAILED: "write failed",
    READ_FAILED: "read failed",
    58: "own certificate unusable",
    NOT_TRUSTED: "certificate not trusted",
}
"""Exit codes in words, for people who do not know them by heart."""


@dataclass(frozen=True)
class ClientCertificate:
    """Files with a client's certificate (and its chain) and key, PEM."""

    certificate: Path
    key: Path


@dataclass(frozen=True, kw_only=True)
class Request:
    """One request."""

    url: str
    user_agent: str
    method: str = "GET"
    connect_to: Mapping[tuple[str, int], tuple[str, int]] = field(default_factory=dict)
    """For the host and port of a URL, the address and port to connect to instead of a DNS lookup."""

    trust: Path | None = None
    """PEM file with the only CAs that are trusted; the system's when None."""

    trusting: bool = False
    """Whether any server's certificate will do: for what an attacker would do, never for a success."""

    headers: Mapping[str, str] = field(default_factory=dict)
    secret_headers: Mapping[str, str] = field(default_factory=dict)
    """They reach curl by its stdin, never by its command line."""

    certificate: ClientCertificate | None = None
    pinned: str | None = None
    """SHA-256 (base64) of the only public key that the server may have, whatever its certificate's names and CA: for an
    address, which no certificate names, once the key was seen in one that was checked by name."""

    posted: str | None = None
    """JSON that is posted. Redirects are followed with a POST only where they say so (307, 308)."""

    form: Mapping[str, str] = field(default_factory=dict)
    """Fields of a form that is posted; none: no form."""

    follow: bool = False
    """Whether redirects are followed."""

    proxy: str | None = None
    """<address>:<port> of an HTTP proxy that is asked for it: by CONNECT for https, with the whole URL for http."""

    connect_seconds: int = TIMEOUT
    """How long a connection may take to come about."""

    @property
    def stdin(self) -> str:
        """curl's configuration with what is secret."""
        return "".join(f'header = "{_quoted(f"{name}: {value}")}"\n' for name, value in self.secret_headers.items())

    def command(self, separator: str) -> list[str]:
        """curl's command line; the facts about the transfer come after `separator` on stdout."""
        command = [
            # --disable comes first: no ~/.curlrc; no proxy of the environment either.
            *("curl", "--disable"),
            *(("--noproxy", "*") if self.proxy is None else ("--noproxy", "", "--proxy", f"http://{self.proxy}")),
            *("--silent", "--show-error", "--verbose"),
            *("--max-time", str(TIMEOUT), "--connect-timeout", str(self.connect_seconds)),
            *("--user-agent", self.user_agent),
            *("--write-out", separator + '{"transfer": %{json}, "headers": %{header_json}}'),
        ]
        for (host, port), (address, real_port) in self.connect_to.items():
            command += ["--connect-to", f"{host}:{port}:{address}:{real_port}"]
        if self.trust is not None:
            # With --cacert alone curl still trusts the system's directory of CAs.
            command += ["--cacert", str(self.trust), "--capath", "/dev/null"]
        if self.trusting:
            command += ["--insecure"]
        if self.method != "GET":
            command += ["--head"] if self.method == "HEAD" else ["--request", self.method]
        if self.secret_headers:
            command += ["--config", "-"]
        for name, value in self.headers.items():
            command += ["--header", f"{name}: {value}"]
        if self.pinned is not None:
            # curl checks the pin in any case; what --insecure switches off is less than that.
            command += ["--insecure", "--pinnedpubkey", f"sha256//{self.pinned}"]
        if self.posted is not None:
            command += ["--json", self.posted]
        for name, value in self.form.items():
            command += ["--data-urlencode", f"{name}={value}"]
        if self.certificate is not None:
            command += ["--cert", str(self.certificate.certificate), "--key", str(self.certificate.key)]
        if self.follow:
            command += ["--location", "--max-redirs", str(MAX_REDIRECTS)]
        return [*command, self.url]


@dataclass(frozen=True, kw_only=True)
class Response:
    """What came back, or how it failed."""

    exit_code: int
    error: str
    """curl's words when the exit code is not 0."""

    status: int
    """HTTP status code; 0 when there was no response."""

    http_version: str
    tls_version: str | None
    headers: Mapping[str, list[str]]
    """Of the last response, names in lower case."""

    body: str
    certificates: tuple[x509.Certificate, ...]
    """As the server presented them, leaf first."""

    local: str
    """The client's address and port, as Envoy writes them in its log."""

    connected: str | None
    """The address and port of the other end of the connection, if there was one."""

    tried: str | None
    """The address and port that was tried last, whether it answered or not."""

    redirects: int
    url: str
    """The last one that was asked."""

    def __str__(self) -> str:
        if self.exit_code:
            meaning = MEANINGS.get(self.exit_code, "failed")
            return f"exit {self.exit_code} ({meaning}{': ' + self.error if self.error else ''})"
        tls = f", {self.tls_version}" if self.tls_version else ""
        return f"{self.status}, HTTP/{self.http_version}{tls}"


def send(shell: Shell, request: Request) -> Response:
    """Send one request from `shell`. Raises VerifyError when curl itself cannot be run."""
    separator = f"\n{secrets.token_hex(16)}\n"
    return parse(shell.run(request.command(separator), TIMEOUT + 5, request.stdin), separator)


def parse(completed: Completed, separator: str) -> Response:
    """Read curl's output. Raises VerifyError when curl did not get as far as a transfer."""
    body, found, facts = completed.stdout.rpartition(separator)
    if not found:
        said = completed.stderr.strip().splitlines() or ["nothing on stderr"]
        raise VerifyError(f"curl made no transfer (exit {completed.exit_code}): {said[-1]}")
    both: dict[str, Any] = json.loads(facts)
    transfer = both["transfer"]
    tried = re.findall(r"^\*\s+Trying ([0-9.]+:\d+)", completed.stderr, re.MULTILINE)
    versions = re.findall(r"^\* SSL connection using (TLSv[0-9.]+)", completed.stderr, re.MULTILINE)
    return Response(
        exit_code=completed.exit_code,
        error=transfer["errormsg"] or "",
        status=transfer["response_code"],
        http_version=transfer["http_version"],
        tls_version=versions[-1] if versions else None,
        headers=both["headers"],
        body=body,
        certificates=_certificates(transfer.get("certs") or ""),
        local=f"{transfer['local_ip']}:{transfer['local_port']}",
        connected=f"{transfer['remote_ip']}:{transfer['remote_port']}" if transfer.get("remote_ip") else None,
        tried=tried[-1] if tried else None,
        redirects=transfer["num_redirects"],
        url=transfer["url_effective"],
    )


def _quoted(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"')


def _certificates(text: str) -> tuple[x509.Certificate, ...]:
    blocks = re.findall(r"-----BEGIN CERTIFICATE-----.*?-----END CERTIFICATE-----", text, re.DOTALL)
    return tuple(x509.load_pem_x509_certificate(block.encode()) for block in blocks)


def check_version(shell: Shell) -> None:
    """Raise VerifyError when curl is missing there or too old."""
    said = shell.run(["curl", "--disable", "--version"], TIMEOUT)
    found = re.match(r"curl (\d+)\.(\d+)\S*", said.stdout)
    if found is None:
        raise VerifyError(
            f"client '{shell.name}': `curl --version` failed (exit {said.exit_code}): "
            f"{said.stderr.strip() or 'nothing on stderr'}; see meshgate:verify.clients"
        )
    if (int(found[1]), int(found[2])) < MINIMUM_VERSION:
        needed = ".".join(map(str, MINIMUM_VERSION))
        raise VerifyError(f"client '{shell.name}': {found[0]} is too old, {needed} or later is needed")
