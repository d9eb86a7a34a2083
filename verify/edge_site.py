"""A host at a gateway behind a network load balancer: whom its settings let in, how it is asked, what its log says."""

from __future__ import annotations

import json
import secrets
import socket
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from ipaddress import IPv4Address
from pathlib import Path
from typing import Literal

from cryptography import x509

from components.edge.routes import target_ports
from settings.edge import BalancerTls, EdgeHost, GatewayTls, NlbEdge, NlbGateway
from settings.ingress import IssuedCertificate
from verify import certificates, curl
from verify.context import Context, user_agent
from verify.curl import Request, Response
from verify.envoy import Proxies
from verify.errors import VerifyError
from verify.exchange import differs
from verify.logs import AccessLogLine
from verify.probe import Outcome
from verify.shell import Shell
from verify.site import output

SCENARIO = "edge"

Scheme = Literal["http", "https"]
PORTS: Mapping[Scheme, int] = {"https": 443, "http": 80}
REDIRECTS = {"gateway": 301, "route": 308}
"""Status of a redirect, by who answers with it."""

NOT_LOGGED = "the gateway's access log does not have the request"


@dataclass(frozen=True)
class Caller:
    """A client outside, and the address that the internet sees it with, if the settings have that."""

    shell: Shell
    address: IPv4Address | None

    def __str__(self) -> str:
        return f"{self.shell.name} ({self.address})" if self.address else self.shell.name


def callers(context: Context) -> list[Caller]:
    """The clients of the settings."""
    return [
        Caller(shell, client.address)
        for shell, client in zip(context.clients, context.settings.verify.clients, strict=True)
    ]


@dataclass(frozen=True)
class Asked:
    """A request, and the line that it left in the gateway's access log."""

    caller: Caller
    response: Response
    line: AccessLogLine | None


@dataclass(frozen=True, eq=False)
class Site:
    """One host at one gateway."""

    edge: NlbEdge
    name: str
    """Of the gateway."""

    host: EdgeHost

    @property
    def gateway(self) -> NlbGateway:
        """Its settings."""
        return self.edge.gateways[self.name]

    def url(self, scheme: Scheme) -> str:
        """The URL that answers, or redirects."""
        return f"{scheme}://{self.host.host}{self.host.path}"

    def at(self, scheme: Scheme) -> str:
        """The URL and its gateway, for people."""
        return f"{self.url(scheme)} at gateway {self.name}"

    # What the settings promise

    @property
    def balancer_ends_tls(self) -> bool:
        """Whether what comes to 443 is no TLS, or another's, by the time it is at the gateway."""
        return isinstance(self.gateway.tls, BalancerTls)

    @property
    def shares_port(self) -> bool:
        """Whether 80 and 443 come to one port of the gateway."""
        return isinstance(self.gateway.tls, BalancerTls) and self.gateway.tls.target_ports == "shared"

    def target_port(self, scheme: Scheme) -> int:
        """The gateway's port that gets what comes to the balancer."""
        return target_ports(self.gateway)[scheme == "https"]

    @property
    def https_served(self) -> bool:
        """Whether the gateway listens where 443 comes to."""
        return "https-unserved" not in self.gateway.pitfalls

    @property
    def served(self) -> Scheme:
        """The scheme that is answered, https if possible."""
        return "https" if self.https_served else "http"

    @property
    def any_server_name(self) -> bool:
        """Whether TLS clients may name any server, or none."""
        return isinstance(self.gateway.tls, GatewayTls) and self.gateway.tls.any_server_name

    @property
    def loops(self) -> bool:
        """Whether https is taken for http and so redirected, too."""
        return self.shares_port and self.host.redirect != "none"

    def status(self, scheme: Scheme) -> int:
        """Of the first answer to somebody who is let in."""
        redirected = scheme == "http" or self.loops
        return REDIRECTS.get(self.host.redirect, 200) if redirected else 200

    @property
    def sees_address(self) -> bool:
        """Whether the gateway gets to know the client's address."""
        return self.gateway.balancer.client_address != "none" and "client-address-lost" not in self.gateway.pitfalls

    @property
    def by_header(self) -> bool:
        """Whether the gateway takes the client's address from a PROXY header."""
        return self.gateway.balancer.client_address == "proxy-protocol"

    @property
    def has_rules(self) -> bool:
        """Whether clients are let in by their addresses at the gateway."""
        return bool(self.gateway.deny or self.gateway.allow)

    @property
    def has_ranges(self) -> bool:
        """Whether not everybody may connect."""
        ranges = self.gateway.balancer.source_ranges
        return bool(ranges) and not any(cidr.prefixlen == 0 for cidr in ranges)

    @property
    def is_echo(self) -> bool:
        """Whether the backend is the document's echo application, which takes only what is posted."""
        demo = self.edge.demo
        return demo is not None and self.host.backend.service == f"echo.{demo.namespace}.svc.cluster.local"

    def connects(self, address: IPv4Address) -> bool:
        """Whether that client is within the ranges."""
        return not self.has_ranges or any(address in cidr for cidr in self.gateway.balancer.source_ranges)

    def turns_away(self, address: IPv4Address) -> bool:
        """Whether the rules turn that client away."""
        allow = self.gateway.allow
        denied = any(address in cidr for cidr in self.gateway.deny)
        return denied or (allow is not None and not any(address in cidr for cidr in allow))

    # Whom to ask from

    def admitted(self, context: Context) -> Caller | None:
        """The first client that is let in; None when the settings' addresses tell of none."""
        everybody = not self.has_ranges and not (self.has_rules and self.sees_address)
        return self._first(context, lambda address: self.connects(address) and not self.turns_away(address), everybody)

    def denied(self, context: Context) -> Caller | None:
        """The first client that may connect, but that the rules name."""
        return self._first(context, lambda address: self.connects(address) and self.turns_away(address))

    def outside(self, context: Context) -> Caller | None:
        """The first client that may not even connect."""
        return self._first(context, lambda address: not self.connects(address))

    def _first(self, context: Context, wanted: Callable[[IPv4Address], bool], everybody: bool = False) -> Caller | None:
        found = (one for one in callers(context) if everybody or (one.address is not None and wanted(one.address)))
        return next(found, None)

    # Asking

    def address(self, context: Context, scheme: Scheme) -> tuple[str, int]:
        """The balancer's host name and port."""
        gateway = output(context, "edge", "gateways", self.name)
        return gateway["address"], gateway[f"{scheme}_port"]

    def ip_addresses(self, context: Context) -> list[str]:
        """The balancer's addresses: one in each zone where it has targets, or may reach those of other zones."""
        name, _ = self.address(context, "https")
        try:
            return sorted(socket.gethostbyname_ex(name)[2])
        except OSError as error:
            raise VerifyError(f"the balancer's name {name} cannot be resolved: {error.strerror}") from None

    def proxies(self, context: Context) -> Proxies:
        """The gateway's Envoys."""
        return context.gateway(self.edge.namespace, {"istio": self.name})

    def root(self, context: Context) -> str | None:
        """The root of the gateway's certificate where clients see that one, PEM; None for another's."""
        if self.balancer_ends_tls or self.gateway.tls.credential is None:
            return None
        certificate = self.edge.certificates[self.gateway.tls.credential]
        if not isinstance(certificate, IssuedCertificate):
            return None
        return str(output(context, "edge", "root_certificates", certificate.authority))

    def trust(self, context: Context) -> Path | None:
        """File with the CAs that clients trust; None leaves it to the client's own."""
        root = self.root(context)
        if root is not None:
            return context.file(root)
        trusted = context.settings.verify.trust
        return None if trusted is None else Path(trusted).expanduser()

    def request(self, context: Context, scheme: Scheme, row: str) -> Request:
        """A request that the backend answers with 200; what the echo application gets it gives back."""
        return Request(
            url=self.url(scheme),
            user_agent=user_agent(row),
            connect_to={(self.host.host, PORTS[one]): self.address(context, one) for one in PORTS},
            trust=self.trust(context),
            posted=json.dumps({"meshgate": secrets.token_hex(6)}) if self.is_echo else None,
        )

    def ask(self, context: Context, caller: Caller, request: Request) -> Asked:
        """Send a request whose user agent no other has, and find the line of the last answer."""
        start = time.monotonic()
        response = curl.send(caller.shell, request)
        line = None
        if response.status and self.gateway.access_log:
            line = self.proxies(context).line(
                lambda line: line.user_agent == request.user_agent and line.response_code == str(response.status), start
            )
        return Asked(caller, response, line)

    # Judging

    def said(self, line: AccessLogLine | None) -> str:
        """A line as evidence."""
        if line:
            return f"gateway {self.name}: {line}"
        return "" if self.gateway.access_log else f"the client; gateway {self.name} keeps no access log"

    def served_faults(
        self, context: Context, scheme: Scheme, request: Request, asked: Asked, server_name: str | None = None
    ) -> list[str]:
        """What is wrong with an answer that should be the backend's own."""
        response, line = asked.response, asked.line
        faults = differs("status", response.status, 200)
        if scheme == "https":
            root = self.root(context)
            faults += certificates.chain_faults(
                response.certificates, None if root is None else x509.load_pem_x509_certificate(root.encode())
            )
            # Which protocols a balancer that ends TLS offers is its own affair.
            faults += [] if self.balancer_ends_tls else differs("HTTP version", response.http_version, "2")
        if request.posted is not None and response.status == 200:
            faults += differs("what came back", _parsed(response.body), json.loads(request.posted))
        backend = self.host.backend
        if line is not None:
            faults += differs("logged backend", line.upstream_cluster, f"outbound|{backend.port}||{backend.service}")
        return [*faults, *self.line_faults(scheme, asked, server_name)]

    def line_faults(self, scheme: Scheme, asked: Asked, server_name: str | None = None) -> list[str]:
        """Whether the request came to the gateway's port that it should, from whom, and with which server name (the
        host's own when None)."""
        if not self.gateway.access_log:
            return []
        if asked.line is None:
            return [NOT_LOGGED]
        faults = []
        if not self.by_header:
            # A PROXY header puts the balancer's own port here.
            port = asked.line.downstream_local_address.rpartition(":")[2]
            faults += differs("port of the gateway", port, str(self.target_port(scheme)))
        if not self.balancer_ends_tls:
            right = (server_name or self.host.host) if scheme == "https" else "-"
            faults += differs("logged server name", asked.line.requested_server_name, right)
        if self.sees_address and asked.caller.address is not None:
            faults += differs("logged client", address_of(asked.line), str(asked.caller.address))
        return faults


def address_of(line: AccessLogLine) -> str:
    """The client's address, as the gateway logs it."""
    return line.downstream_remote_address.rpartition(":")[0]


Attempt = Callable[[Caller, Context], Outcome]


def by_admitted(site: Site, attempt: Attempt, context: Context) -> Outcome:
    """Attempt it from a client that is let in."""
    return _by(site.admitted(context), f"is let in at gateway {site.name}", attempt, context)


def by_denied(site: Site, attempt: Attempt, context: Context) -> Outcome:
    """Attempt it from a client that the rules turn away."""
    return _by(site.denied(context), f"the rules of gateway {site.name} turn away", attempt, context)


def by_outside(site: Site, attempt: Attempt, context: Context) -> Outcome:
    """Attempt it from a client outside the ranges."""
    return _by(site.outside(context), f"is outside the source ranges of gateway {site.name}", attempt, context)


def _by(caller: Caller | None, which: str, attempt: Attempt, context: Context) -> Outcome:
    if caller is None:
        return Outcome(
            ok=None, observed=f"nobody to ask: no client of meshgate:verify.clients has an `address` that {which}"
        )
    return attempt(caller, context)


def _parsed(text: str) -> object:
    try:
        return json.loads(text)
    except ValueError:
        return text[:80]
