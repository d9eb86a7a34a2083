"""Settings of the scenario `ingress`: TLS at the mesh's edge (source: Istio ingress gateway, part 2)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from ipaddress import IPv4Address
from typing import Annotated, Literal

from pydantic import Field

from settings.authority import CaLifetimes
from settings.gateway_service import LoadBalancerService
from settings.model import (
    CertificateName,
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

HTTP, HTTPS, STATUS = "http2", "https", "status-port"
"""Names of the ports that every gateway's Service has."""

STANDARD_PORTS = {STATUS: 15021, HTTP: 80, HTTPS: 443}


class NodePorts(Model):
    """Fixed ports on every node, for the ports that every gateway's Service has.

    From 30086 on the API server gives ports to Services that ask for none in particular, so one of there may be taken.
    """

    http: NodePort
    https: NodePort
    status: NodePort | None = None
    """Of the port 15021, which says whether the gateway is ready. A balancer asks there; else any port will do."""


class ServicePort(Model):
    """One more port of the Service, at a fixed port of the nodes: for servers of Gateway resources of your own."""

    port: Port
    """Of the Service and of the gateway's pods."""

    node_port: NodePort


ServicePortName = Annotated[
    DnsLabel, matching(rf"(?!({HTTP}|{HTTPS}|{STATUS})$).*", "another name: every gateway's Service has a port of this")
]


class Balancer(Model):
    """A load balancer of your own before the nodes, configured by hand: its HAProxy configuration is an output."""

    address: IPv4Address
    """Where clients reach it, and with it the gateway (VIP)."""

    nodes: Annotated[tuple[IPv4Address, ...], Field(min_length=1)]
    """Where it reaches the nodes."""

    ports: Annotated[tuple[DnsLabel, ...], Field(min_length=1)] | None = None
    """Names of the Service's ports that clients reach; all when not given."""


class NodePortService(Model):
    """The gateway at fixed ports of the nodes, for a balancer of your own or none."""

    type: Literal["NodePort"]
    node_ports: NodePorts
    ports: dict[ServicePortName, ServicePort] = {}
    """More ports, by name."""

    addresses: Annotated[tuple[IPv4Address, ...], Field(min_length=1)] | None = None
    """Where clients reach the nodes; instead of a balancer."""

    balancer: Balancer | None = None
    external_traffic_policy: Literal["Cluster", "Local"] = "Cluster"

    @property
    def all_ports(self) -> dict[str, tuple[int, int | None]]:
        """Every port of the Service and its node port, by name; None is any that is free."""
        fixed = {STATUS: self.node_ports.status, HTTP: self.node_ports.http, HTTPS: self.node_ports.https}
        return {
            **{name: (STANDARD_PORTS[name], node_port) for name, node_port in fixed.items()},
            **{name: (more.port, more.node_port) for name, more in sorted(self.ports.items())},
        }

    @property
    def address(self) -> IPv4Address:
        """Where clients reach the gateway."""
        if self.balancer is not None:
            return self.balancer.address
        assert self.addresses is not None
        return self.addresses[0]

    @property
    def balanced_ports(self) -> dict[str, tuple[int, int]]:
        """The ports that clients reach at the balancer, and the nodes' ports behind them, by name."""
        if self.balancer is None:
            return {}
        wanted = self.all_ports if self.balancer.ports is None else self.balancer.ports
        return {
            name: (port, node_port)
            for name, (port, node_port) in self.all_ports.items()
            if name in wanted and node_port is not None
        }

    def problems(self) -> Iterator[Problem]:
        if (self.addresses is None) == (self.balancer is None):
            yield Problem(
                key="addresses",
                message="name either addresses (clients reach the nodes themselves) or balancer (address and nodes), "
                + ("not both" if self.balancer else "so that it is known where clients reach the gateway"),
            )
        yield from self._port_problems()
        if self.balancer is not None:
            yield from self._balancer_problems(self.balancer)

    def _port_problems(self) -> Iterator[Problem]:
        taken = {port: f"the port {name}, which every gateway has" for name, port in STANDARD_PORTS.items()}
        for name, more in sorted(self.ports.items()):
            if more.port in taken:
                yield Problem(
                    key=f"ports.{name}.port",
                    message=f"{more.port} is taken by {taken[more.port]}; the Service has each port once",
                )
            taken.setdefault(more.port, f"ports.{name}.port")

    def _balancer_problems(self, balancer: Balancer) -> Iterator[Problem]:
        if self.node_ports.status is None:
            yield Problem(
                key="nodePorts.status",
                message="is missing: the balancer asks there which nodes lead to a gateway that is ready",
            )
        for index, node in enumerate(balancer.nodes):
            if node in balancer.nodes[:index]:
                yield Problem(key=f"balancer.nodes[{index}]", message=f"{node} is there already; name each node once")
            if node == balancer.address:
                yield Problem(
                    key=f"balancer.nodes[{index}]",
                    message=f"{node} is the balancer's own address; name the nodes, to which it forwards",
                )
        for index, name in enumerate(balancer.ports or ()):
            if name not in self.all_ports:
                yield Problem(
                    key=f"balancer.ports[{index}]",
                    message=f"'{name}' is no port of the Service, which has {', '.join(self.all_ports)}",
                )


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
        if isinstance(self.service, NodePortService) and self.service.balancer and self.service.balancer.ports:
            served = {HTTPS: self.hosts, HTTP: [host for host in self.hosts if host.http != "none"]}
            missing = [port for port, hosts in served.items() if hosts and port not in self.service.balancer.ports]
            if missing:
                yield Problem(
                    key="service.balancer.ports",
                    message=f"lacks {' and '.join(missing)}, at which hosts of the gateway are to be reached",
                )


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
            for key, port in _fixed(gateway.service).items():
                where = f"gateways.{name}.service.{key}"
                if port in taken:
                    yield Problem(
                        key=where,
                        message=f"{port} is taken by {taken[port]}; ports are the nodes', so each must differ",
                    )
                taken.setdefault(port, where)

    def _addresses(self) -> Iterator[Problem]:
        asked: dict[IPv4Address, str] = {}
        for name, gateway in self.gateways.items():
            if not isinstance(gateway.service, LoadBalancerService) or gateway.service.load_balancer_ip is None:
                continue
            address, where = gateway.service.load_balancer_ip, f"gateways.{name}.service.loadBalancerIP"
            if address in asked:
                yield Problem(key=where, message=f"{address} is taken by {asked[address]}; each gateway needs its own")
            asked.setdefault(address, where)
        # Gateways behind a balancer may share its address, at ports of their own.
        balanced: dict[tuple[IPv4Address, int], str] = {}
        for name, gateway in self.gateways.items():
            if not isinstance(gateway.service, NodePortService) or gateway.service.balancer is None:
                continue
            address, where = gateway.service.balancer.address, f"gateways.{name}.service.balancer"
            if address in asked:
                yield Problem(
                    key=f"{where}.address",
                    message=f"{address} is taken by {asked[address]}: the platform's balancer answers there",
                )
            ports = [port for port, _ in gateway.service.balanced_ports.values()]
            clashes = [port for port in ports if (address, port) in balanced]
            if clashes:
                yield Problem(
                    key=f"{where}.ports",
                    message=f"{', '.join(map(str, clashes))} of {address} taken by {balanced[address, clashes[0]]}; "
                    "give the gateway another address, or name here the ports that it needs",
                )
            for port in ports:
                balanced.setdefault((address, port), where)


def _fixed(service: NodePortService) -> dict[str, int]:
    """The nodes' ports that a Service asks for, by their keys."""
    ports = {"nodePorts.http": service.node_ports.http, "nodePorts.https": service.node_ports.https}
    if service.node_ports.status is not None:
        ports["nodePorts.status"] = service.node_ports.status
    return {**ports, **{f"ports.{name}.nodePort": more.node_port for name, more in sorted(service.ports.items())}}


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
