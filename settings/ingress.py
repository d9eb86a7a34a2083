"""Settings of the scenario `ingress`: TLS at the mesh's edge (source: Istio ingress gateway, part 2)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from ipaddress import IPv4Address
from typing import Annotated, Literal

from pydantic import Field

from settings.authority import CaLifetimes
from settings.model import (
    CertificateName,
    Cidr,
    DnsLabel,
    HostName,
    Hours,
    Model,
    Namespace,
    NodePort,
    Port,
    Problem,
    Replicas,
    Resources,
    matching,
)

PROXY_HEADERS = {
    "service.beta.kubernetes.io/aws-load-balancer-proxy-protocol": "",
    "service.beta.kubernetes.io/aws-load-balancer-target-group-attributes": "proxy_protocol_v2.enabled=true",
}
"""Annotations with which a balancer of AWS sends PROXY headers, when they have this in them."""


class LoadBalancerService(Model):
    """The gateway at an address that the platform's load balancer gives."""

    type: Literal["LoadBalancer"]
    load_balancer_ip: Annotated[IPv4Address | None, Field(alias="loadBalancerIP")] = None
    """An address asked for, where the platform supports it."""

    annotations: dict[str, str] = {}
    source_ranges: tuple[Cidr, ...] = ()
    """Who may connect at all; everybody when empty."""

    external_traffic_policy: Literal["Cluster", "Local"] = "Local"
    """Local keeps the client's address."""

    def problems(self) -> Iterator[Problem]:
        for name, sign in PROXY_HEADERS.items():
            if name in self.annotations and sign in self.annotations[name]:
                yield Problem(
                    key="annotations",
                    message=f"'{name}' has the balancer begin every connection with a PROXY header, which these "
                    "gateways do not expect: no request would get through; take it out, or use a gateway of the layer "
                    "edge with balancer.clientAddress proxy-protocol, which does",
                )


class NodePorts(Model):
    """Fixed ports on every node."""

    http: NodePort
    https: NodePort


class NodePortService(Model):
    """The gateway at fixed ports of the nodes, for a balancer of your own or none."""

    type: Literal["NodePort"]
    node_ports: NodePorts
    addresses: Annotated[tuple[IPv4Address, ...], Field(min_length=1)]
    """Where clients reach the nodes or the balancer before them."""

    external_traffic_policy: Literal["Cluster", "Local"] = "Cluster"


class IssuedCertificate(Model):
    """A server certificate signed by one of `authorities`, as a Secret in the gateways' namespace."""

    kind: Literal["issued"]
    authority: str
    hosts: Annotated[tuple[CertificateName, ...], Field(min_length=1)]
    validity_hours: Hours = 2160
    early_renewal_hours: Hours = 720
    """How long before its end it is made anew by the next `pulumi up`."""

    client_authority: str | None = None
    """The authority whose client certificates are accepted; needed for MUTUAL."""


class ExistingCertificate(Model):
    """A Secret that something else (cert-manager, an operator) keeps in the gateways' namespace."""

    kind: Literal["existing"]
    hosts: Annotated[tuple[CertificateName, ...], Field(min_length=1)]


Certificate = Annotated[IssuedCertificate | ExistingCertificate, Field(discriminator="kind")]


class ClientCertificate(Model):
    """A client's certificate as a Secret, for callers of MUTUAL gateways and for their probes."""

    authority: str
    common_name: Annotated[str, matching(r".{1,64}", "1 to 64 characters (RFC 5280)")]
    validity_hours: Hours = 2160
    early_renewal_hours: Hours = 720


class Backend(Model):
    """The Kubernetes Service that gets the requests."""

    service: HostName
    """Fully qualified: webapp.istioinaction.svc.cluster.local."""

    port: Port = 80


class Tls(Model):
    """How a host's TLS ends at the gateway."""

    mode: Literal["SIMPLE", "MUTUAL"]
    credential: DnsLabel
    """A name under `certificates`."""


class Host(Model):
    """One host that a gateway answers for."""

    host: HostName
    tls: Tls
    http: Literal["redirect", "serve", "none"] = "redirect"
    """Port 80: redirected to https, served, or closed."""

    backend: Backend
    path: Annotated[str, matching(r"/\S*", "a path, for example /api/catalog")] = "/"
    """A path that answers 200, asked for by the probes."""


GatewayName = Annotated[
    str,
    matching(r"[a-z]([-a-z0-9]{0,51}[a-z0-9])?", "lower-case letters, digits and '-', a letter first, at most 53"),
]
"""It names a Service, which starts with a letter, and a Helm release, which has at most 53 characters."""


class IngressGateway(Model):
    """A gateway of its own: Deployment, Service, and the hosts that it answers for."""

    service: Annotated[LoadBalancerService | NodePortService, Field(discriminator="type")]
    hosts: Annotated[tuple[Host, ...], Field(min_length=1)]
    replicas: Replicas = Replicas()
    resources: Resources = Resources()

    def problems(self) -> Iterator[Problem]:
        yield from (problem.below("service") for problem in self.service.problems())
        yield from (problem.below("replicas") for problem in self.replicas.problems())
        for name, times in Counter(host.host for host in self.hosts).items():
            if times > 1:
                yield Problem(key="hosts", message=f"'{name}' is there {times} times; each host needs one entry")


class Coolstore(Model):
    """The source document's two services, webapp and catalog, to have something behind the gateways."""

    namespace: Namespace = "istioinaction"
    webapp_image: str = "docker.io/istioinaction/webapp:latest"
    catalog_image: str = "docker.io/istioinaction/catalog:latest"


class IngressSettings(Model):
    """Gateways for webapp, catalog or services of your own."""

    namespace: Namespace = "istio-ingress"
    """Where the gateways and their Secrets are."""

    coolstore: Coolstore | None = None
    authorities: dict[DnsLabel, CaLifetimes] = {}
    certificates: dict[DnsLabel, Certificate] = {}
    clients: dict[DnsLabel, ClientCertificate] = {}
    gateways: Annotated[dict[GatewayName, IngressGateway], Field(min_length=1)]

    def problems(self) -> Iterator[Problem]:
        for name, authority in self.authorities.items():
            yield from (problem.below(f"authorities.{name}") for problem in authority.problems())
        for name, certificate in self.certificates.items():
            if isinstance(certificate, IssuedCertificate):
                where = f"certificates.{name}"
                yield from signing_problems(where, certificate, self.authorities)
                if certificate.client_authority is not None:
                    yield from _known(f"{where}.clientAuthority", certificate.client_authority, self.authorities)
        for name, client in self.clients.items():
            yield from signing_problems(f"clients.{name}", client, self.authorities)
            if name in self.certificates:
                yield Problem(
                    key=f"clients.{name}", message="is also a name under certificates; both would be the same Secret"
                )
        for name, gateway in self.gateways.items():
            yield from (problem.below(f"gateways.{name}") for problem in gateway.problems())
            for index, host in enumerate(gateway.hosts):
                yield from self._credential(f"gateways.{name}.hosts[{index}].tls", host)
        yield from self._node_ports()
        yield from self._addresses()

    def _credential(self, where: str, host: Host) -> Iterator[Problem]:
        certificate = self.certificates.get(host.tls.credential)
        if certificate is None:
            yield Problem(
                key=f"{where}.credential",
                message=f"'{host.tls.credential}' is not under certificates ({names(self.certificates)})",
            )
            return
        if not any(covers(name, host.host) for name in certificate.hosts):
            yield Problem(
                key=f"{where}.credential",
                message=f"'{host.tls.credential}' is not for {host.host} but for {', '.join(certificate.hosts)}",
            )
        mutual = host.tls.mode == "MUTUAL"
        if mutual and isinstance(certificate, IssuedCertificate) and certificate.client_authority is None:
            yield Problem(
                key=f"{where}.mode",
                message=f"MUTUAL needs certificates.{host.tls.credential}.clientAuthority: "
                "who signs the clients' certificates",
            )

    def _node_ports(self) -> Iterator[Problem]:
        taken: dict[int, str] = {}
        for name, gateway in self.gateways.items():
            if not isinstance(gateway.service, NodePortService):
                continue
            ports = gateway.service.node_ports
            for protocol, port in (("http", ports.http), ("https", ports.https)):
                where = f"gateways.{name}.service.nodePorts.{protocol}"
                if port in taken:
                    yield Problem(
                        key=where,
                        message=f"{port} is taken by {taken[port]}; ports are the nodes', so each must differ",
                    )
                taken.setdefault(port, where)

    def _addresses(self) -> Iterator[Problem]:
        taken: dict[IPv4Address, str] = {}
        for name, gateway in self.gateways.items():
            if not isinstance(gateway.service, LoadBalancerService) or gateway.service.load_balancer_ip is None:
                continue
            address, where = gateway.service.load_balancer_ip, f"gateways.{name}.service.loadBalancerIP"
            if address in taken:
                yield Problem(key=where, message=f"{address} is taken by {taken[address]}; each gateway needs its own")
            taken.setdefault(address, where)


def signing_problems(
    where: str, leaf: IssuedCertificate | ClientCertificate, authorities: Mapping[str, CaLifetimes]
) -> Iterator[Problem]:
    """What is wrong with a certificate's signer and lifetime; `where` is the certificate's key."""
    yield from _known(f"{where}.authority", leaf.authority, authorities)
    if leaf.early_renewal_hours >= leaf.validity_hours:
        yield Problem(
            key=f"{where}.earlyRenewalHours",
            message=f"is {leaf.early_renewal_hours}, not less than validityHours ({leaf.validity_hours}): "
            "the certificate would be renewed at every `pulumi up`",
        )
    signer = authorities.get(leaf.authority)
    if signer is not None and leaf.validity_hours > signer.intermediate_validity_hours:
        yield Problem(
            key=f"{where}.validityHours",
            message=f"is {leaf.validity_hours}; its signer lives only {signer.intermediate_validity_hours} hours",
        )


def _known(key: str, authority: str, authorities: Mapping[str, CaLifetimes]) -> Iterator[Problem]:
    if authority not in authorities:
        yield Problem(key=key, message=f"'{authority}' is not under authorities ({names(authorities)})")


def covers(name: str, host: str) -> bool:
    """Whether a certificate's name, which may be a wildcard, is one for `host`."""
    return name == host or (name.startswith("*.") and name[2:] == host.partition(".")[2])


def names(entries: Mapping[str, object]) -> str:
    """The keys of a section, for a message about one that is not there."""
    return ", ".join(sorted(entries)) or "none there"
