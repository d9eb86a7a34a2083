"""A host at an ingress gateway: what a client needs to ask it, and how it is asked."""

from __future__ import annotations

import socket
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cryptography import x509

from settings import Layer
from settings.ingress import Host, IngressSettings, IssuedCertificate, NodePortService
from verify import certificates, curl
from verify.context import Context
from verify.curl import ClientCertificate, Request, Response
from verify.envoy import Proxies
from verify.errors import VerifyError

HTTP, HTTPS = 80, 443


@dataclass(frozen=True, eq=False)
class Site:
    """One host at one gateway."""

    ingress: IngressSettings
    gateway: str
    host: Host

    def __str__(self) -> str:
        return f"{self.host.host} at gateway {self.gateway}"

    @property
    def https_url(self) -> str:
        """The URL that answers."""
        return f"https://{self.host.host}{self.host.path}"

    @property
    def http_url(self) -> str:
        """The same on port 80."""
        return f"http://{self.host.host}{self.host.path}"

    @property
    def authority(self) -> str | None:
        """Who issued its certificate; None when something else keeps it."""
        certificate = self.ingress.certificates[self.host.tls.credential]
        return certificate.authority if isinstance(certificate, IssuedCertificate) else None

    @property
    def is_balanced(self) -> bool:
        """Whether its clients meet a balancer of one's own."""
        service = self.ingress.gateways[self.gateway].service
        return isinstance(service, NodePortService) and service.balancer is not None

    @property
    def mutual(self) -> bool:
        """Whether clients need a certificate."""
        return self.host.tls.mode == "MUTUAL"

    @property
    def client(self) -> str | None:
        """Name of a client certificate that it accepts, if the settings have one."""
        certificate = self.ingress.certificates[self.host.tls.credential]
        if not isinstance(certificate, IssuedCertificate):
            return None
        accepted = (
            name for name, client in self.ingress.clients.items() if client.authority == certificate.client_authority
        )
        return next(accepted, None)

    def ask(
        self,
        context: Context,
        url: str,
        agent: str,
        *,
        trust: str | None = None,
        certificate: ClientCertificate | None = None,
        follow: bool = False,
        at: Mapping[int, tuple[str, int]] | None = None,
        connect_seconds: int = curl.TIMEOUT,
    ) -> Response:
        """Ask the gateway from the first client. `trust` is PEM; the client's own CAs when None.

        `at` says where ports are reached, if not where the stack's output says.
        """
        addresses = at or {port: self.address(context, port) for port in (HTTP, HTTPS)}
        return curl.send(
            context.clients[0],
            Request(
                url=url,
                user_agent=agent,
                connect_to={(self.host.host, port): address for port, address in addresses.items()},
                trust=trust_file(context, trust),
                certificate=certificate,
                follow=follow,
                connect_seconds=connect_seconds,
            ),
        )

    def address(self, context: Context, port: int) -> tuple[str, int]:
        """Where the gateway's port 80 or 443 is reached."""
        gateway = output(context, "ingress", "gateways", self.gateway)
        return gateway["address"], gateway["http_port" if port == HTTP else "https_port"]

    def ip_address(self, context: Context) -> str:
        """The gateway's address, resolved when the platform gives a host name."""
        address, _ = self.address(context, HTTPS)
        try:
            return socket.gethostbyname(address)
        except OSError as error:
            raise VerifyError(f"the gateway's address {address} cannot be resolved: {error.strerror}") from None

    def proxies(self, context: Context) -> Proxies:
        """The gateway's Envoys."""
        return context.gateway(self.ingress.namespace, {"app": self.gateway})

    def root(self, context: Context) -> str | None:
        """The root certificate that its clients trust, PEM; None leaves it to the client's own."""
        return None if self.authority is None else str(output(context, "ingress", "root_certificates", self.authority))

    def client_certificate(self, context: Context) -> ClientCertificate | None:
        """A certificate that it accepts; None when it asks for none or none is known."""
        if not self.mutual or self.client is None:
            return None
        chain, key = self._client_secret(context, self.client)
        return ClientCertificate(context.file(chain), context.file(key))

    def forged_certificate(self, context: Context) -> ClientCertificate:
        """A client certificate with the right names, signed by another CA."""
        subject = issuer = certificates.common_name("client")
        if self.client is not None:
            real = x509.load_pem_x509_certificate(self._client_secret(context, self.client)[0])
            subject, issuer = real.subject, real.issuer
        other = certificates.authority(issuer)
        forged = certificates.client(subject, other)
        chain = forged.certificate_pem + other.certificate_pem
        return ClientCertificate(context.file(chain), context.file(forged.key_pem))

    def _client_secret(self, context: Context, name: str) -> tuple[bytes, bytes]:
        data = context.kube.secret(self.ingress.namespace, name)
        if missing := {"tls.crt", "tls.key"} - data.keys():
            raise VerifyError(f"Secret {self.ingress.namespace}/{name} lacks {', '.join(sorted(missing))}")
        return data["tls.crt"], data["tls.key"]


def stranger() -> str:
    """A CA that has signed nothing, PEM."""
    return certificates.authority(certificates.common_name("meshgate verify: not your CA")).certificate_pem.decode()


def trust_file(context: Context, trust: str | None) -> Path | None:
    """The CAs as a file, for curl."""
    return None if trust is None else context.file(trust)


def output(context: Context, layer: Layer, name: str, key: str) -> Any:
    """A value of a layer's contract, by its key. Raises VerifyError when the settings know more than the stack."""
    values = context.contracts[layer][name]
    if key not in values:
        raise VerifyError(f"the stack's output {layer}_{name} has no '{key}': run `pulumi up`, its settings are newer")
    return values[key]
