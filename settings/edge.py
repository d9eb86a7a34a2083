"""Settings of the layer `edge`: gateways behind network load balancers of AWS (source: EKS, Istio ingress gateway)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Literal

from pydantic import Field

from settings.authority import CaLifetimes
from settings.ingress import Backend, Certificate, GatewayName, IssuedCertificate, covers, names, signing_problems
from settings.model import (
    CertificateName,
    Cidr,
    DnsLabel,
    HostName,
    Model,
    Namespace,
    Problem,
    Replicas,
    Resources,
    matching,
)

ANNOTATION_PREFIX = "service.beta.kubernetes.io/aws-load-balancer-"

TYPED_ANNOTATIONS: Mapping[str, str] = {
    f"{ANNOTATION_PREFIX}{name}": setting
    for name, setting in {
        "type": "nothing to set: it is always external",
        "nlb-target-type": "targetType",
        "scheme": "scheme",
        "internal": "scheme",
        "attributes": "attributes",
        "cross-zone-load-balancing-enabled": "crossZone",
        "ssl-cert": "tls of the gateway",
        "ssl-ports": "tls of the gateway",
        "ssl-negotiation-policy": "tls of the gateway",
        "backend-protocol": "tls of the gateway",
        "proxy-protocol": "clientAddress: proxy-protocol, which prepares the gateway for it too",
        "target-group-attributes": "targetGroupAttributes",
        "healthcheck-protocol": "healthCheck",
        "healthcheck-port": "healthCheck",
        "healthcheck-path": "healthCheck",
        "healthcheck-interval": "healthCheck",
        "healthcheck-healthy-threshold": "healthCheck",
        "healthcheck-unhealthy-threshold": "healthCheck",
    }.items()
} | {"service.beta.kubernetes.io/load-balancer-source-ranges": "sourceRanges"}
"""Annotations that follow from settings, with the setting that each follows from."""

CROSS_ZONE = "load_balancing.cross_zone.enabled"
PRESERVE_CLIENT_IP = "preserve_client_ip.enabled"
PROXY_PROTOCOL = "proxy_protocol_v2.enabled"

Pitfall = Literal["redirect-loop", "https-unserved", "client-address-lost", "forgeable-forwarded-for"]
"""A combination that does not do what it seems to, which only a gateway that shows it may have."""

ClientAddress = Literal["none", "preserve", "proxy-protocol"]

Threshold = Annotated[int, Field(ge=2, le=10)]
Ranges = Annotated[tuple[Cidr, ...], Field(min_length=1)]


class HealthCheck(Model):
    """How often the balancer asks its targets. What it asks follows from the targets: see components/edge."""

    interval_seconds: Annotated[int, Field(ge=5, le=300)] = 10
    healthy_threshold: Threshold = 2
    unhealthy_threshold: Threshold = 2


class Balancer(Model):
    """The network load balancer, which the AWS Load Balancer Controller makes from the Service's annotations."""

    target_type: Literal["ip", "instance"] = "ip"
    """Whether it sends to the pods, or to a port of every node."""

    scheme: Literal["internal", "internet-facing"] = "internal"
    cross_zone: bool = False
    """Whether each zone's address sends to targets of every zone."""

    source_ranges: tuple[Cidr, ...] = ()
    """Who may connect at all; everybody when empty."""

    client_address: ClientAddress = "preserve"
    """How the gateway learns the client's address: not at all, as the packets' source, or by PROXY protocol v2."""

    health_check: HealthCheck = HealthCheck()
    attributes: dict[str, str] = {}
    """Further attributes of the load balancer, for example deletion_protection.enabled."""

    target_group_attributes: dict[str, str] = {}
    """Further attributes of its target groups, for example deregistration_delay.timeout_seconds."""

    annotations: dict[str, str] = {}
    """Further annotations, for example aws-load-balancer-eip-allocations with its prefix."""

    def problems(self) -> Iterator[Problem]:
        for name in self.annotations:
            if name in TYPED_ANNOTATIONS:
                yield Problem(
                    key="annotations",
                    message=f"'{name}' follows from settings; take it out and use {TYPED_ANNOTATIONS[name]}",
                )
        if CROSS_ZONE in self.attributes:
            yield Problem(key="attributes", message=f"'{CROSS_ZONE}' follows from crossZone; take it out")
        for name in (PRESERVE_CLIENT_IP, PROXY_PROTOCOL):
            if name in self.target_group_attributes:
                yield Problem(key="targetGroupAttributes", message=f"'{name}' follows from clientAddress; take it out")


class GatewayTls(Model):
    """TLS ends at the gateway; the balancer passes it on."""

    ends: Literal["gateway"]
    credential: DnsLabel
    """A name under `certificates`."""

    any_server_name: bool = False
    """Whether clients that name another server or none (SNI) are served too, as with the host `*`."""


class BalancerTls(Model):
    """TLS ends at the balancer, by a certificate of ACM."""

    ends: Literal["balancer"]
    certificate: DnsLabel
    """A name under `balancerCertificates`."""

    negotiation_policy: Annotated[
        str, matching(r"ELBSecurityPolicy-[-A-Za-z0-9]+", "a predefined policy, for example ELBSecurityPolicy-...")
    ] = "ELBSecurityPolicy-TLS13-1-2-2021-06"
    backend_protocol: Literal["tcp", "ssl"] = "tcp"
    """Whether what came to 443 goes on to the gateway in the clear or by TLS again."""

    credential: DnsLabel | None = None
    """With `ssl`: the gateway's certificate, a name under `certificates`."""

    target_ports: Literal["split", "shared"] = "split"
    """Whether the gateway can tell 443 from 80 by the port, or both come to one port of it."""

    https_server: bool = True
    """Whether the gateway listens where 443 goes to, when ports are split."""

    def problems(self) -> Iterator[Problem]:
        if self.backend_protocol == "ssl":
            if self.credential is None:
                yield Problem(
                    key="credential",
                    message="is missing; backendProtocol is ssl, so the gateway needs a certificate: a name under "
                    "certificates",
                )
            if self.target_ports == "shared":
                yield Problem(
                    key="targetPorts",
                    message="is shared, but backendProtocol is ssl: one port of the gateway cannot take both http and "
                    "TLS; use split",
                )
        elif self.credential is not None:
            yield Problem(
                key="credential",
                message="has no use: backendProtocol is tcp, so no TLS comes to the gateway; take it out, or use ssl",
            )
        if self.target_ports == "shared" and not self.https_server:
            yield Problem(
                key="httpsServer", message="is false, but with targetPorts shared there is none anyway; take it out"
            )


class EdgeHost(Model):
    """One host that a gateway answers for, on port 80 and 443."""

    host: HostName
    redirect: Literal["none", "gateway", "route"] = "gateway"
    """Who redirects http to https: nobody, the Gateway (301) or the VirtualService (308)."""

    backend: Backend
    path: Annotated[str, matching(r"/\S*", "a path, for example /api")] = "/"
    """A path that answers 200, asked for by the probes."""


class NlbGateway(Model):
    """A gateway of its own behind a balancer of its own."""

    balancer: Balancer = Balancer()
    external_traffic_policy: Literal["Cluster", "Local"] = "Local"
    """For `instance`: whether a node sends on to pods of other nodes, with its own address as the source."""

    tls: Annotated[GatewayTls | BalancerTls, Field(discriminator="ends")]
    hosts: Annotated[tuple[EdgeHost, ...], Field(min_length=1)]
    deny: tuple[Cidr, ...] = ()
    """Clients that are turned away with 403."""

    allow: Ranges | None = None
    """When given, all other clients are turned away with 403."""

    num_trusted_proxies: Annotated[int, Field(ge=0)] = 0
    """How many entries at the end of X-Forwarded-For are believed."""

    access_log: bool = True
    zone: HostName | None = None
    """A public zone of layer network, which gets an alias record for each of the hosts."""

    replicas: Replicas = Replicas()
    resources: Resources = Resources()
    pitfalls: tuple[Pitfall, ...] = ()
    """What is wrong with this gateway on purpose."""

    def problems(self) -> Iterator[Problem]:
        yield from (problem.below("balancer") for problem in self.balancer.problems())
        yield from (problem.below("replicas") for problem in self.replicas.problems())
        for name, times in Counter(host.host for host in self.hosts).items():
            if times > 1:
                yield Problem(key="hosts", message=f"'{name}' is there {times} times; each host needs one entry")
        yield from (problem.below("tls") for problem in self.tls.problems())
        if self.zone is not None:
            for index, host in enumerate(self.hosts):
                if not _within(host.host, self.zone):
                    yield Problem(key=f"hosts[{index}].host", message=f"'{host.host}' is not in the zone {self.zone}")
        if self.balancer.client_address == "proxy-protocol" and self._node_is_source:
            yield Problem(
                key="externalTrafficPolicy",
                message="is Cluster: every connection would come from a node, so the gateway could not tell PROXY "
                "headers of the balancer from anybody's; use Local, or balancer.targetType ip",
            )
        occurring = dict(self._occurring())
        for pitfall, problem in occurring.items():
            if pitfall not in self.pitfalls:
                yield Problem(
                    key=problem.key, message=f"{problem.message} (to show just that, put '{pitfall}' under pitfalls)"
                )
        for pitfall in self.pitfalls:
            if pitfall not in occurring:
                yield Problem(key="pitfalls", message=f"'{pitfall}' does not occur here; take it out")

    @property
    def _node_is_source(self) -> bool:
        return self.balancer.target_type == "instance" and self.external_traffic_policy == "Cluster"

    def _occurring(self) -> Iterator[tuple[Pitfall, Problem]]:
        if isinstance(self.tls, BalancerTls):
            redirected = [index for index, host in enumerate(self.hosts) if host.redirect != "none"]
            if self.tls.target_ports == "shared" and redirected:
                yield (
                    "redirect-loop",
                    Problem(
                        key=f"hosts[{redirected[0]}].redirect",
                        message=f"is '{self.hosts[redirected[0]].redirect}', but with tls.targetPorts shared https "
                        "comes to the gateway as http on the same port: it would be redirected for ever; use split",
                    ),
                )
            if self.tls.target_ports == "split" and not self.tls.https_server:
                yield (
                    "https-unserved",
                    Problem(
                        key="tls.httpsServer",
                        message="is false: the gateway would not listen where the balancer sends what came to 443",
                    ),
                )
        if self.balancer.client_address == "preserve" and self._node_is_source:
            yield (
                "client-address-lost",
                Problem(
                    key="externalTrafficPolicy",
                    message="is Cluster: the node would put its own address in place of the client's, which "
                    "balancer.clientAddress is to preserve; use Local, or balancer.targetType ip",
                ),
            )
        elif self.balancer.client_address == "none" and (self.deny or self.allow):
            yield (
                "client-address-lost",
                Problem(
                    key="deny" if self.deny else "allow",
                    message="has clients' addresses, but balancer.clientAddress is none: the gateway sees the "
                    "balancer's; use preserve or proxy-protocol",
                ),
            )
        if self.num_trusted_proxies:
            yield (
                "forgeable-forwarded-for",
                Problem(
                    key="numTrustedProxies",
                    message=f"is {self.num_trusted_proxies}, but a network load balancer adds nothing to "
                    "X-Forwarded-For: a client could write any address there; leave it 0",
                ),
            )


class AcmCertificate(Model):
    """A certificate that AWS issues when it finds the records that prove whose domain it is."""

    kind: Literal["acm"]
    zone: HostName
    """A public zone of layer network, where those records go."""

    hosts: Annotated[tuple[CertificateName, ...], Field(min_length=1)]

    def problems(self) -> Iterator[Problem]:
        for index, host in enumerate(self.hosts):
            if not _within(host.removeprefix("*."), self.zone):
                yield Problem(key=f"hosts[{index}]", message=f"'{host}' is not in the zone {self.zone}")
        for name, times in Counter(self.hosts).items():
            if times > 1:
                yield Problem(key="hosts", message=f"'{name}' is there {times} times; name it once")


class ExistingAcmCertificate(Model):
    """A certificate that is in ACM already."""

    kind: Literal["existing"]
    arn: Annotated[
        str,
        matching(
            r"arn:aws[-a-z]*:acm:[-a-z0-9]+:[0-9]{12}:certificate/[-0-9a-f]{36}",
            "the ARN of a certificate, arn:aws:acm:<region>:<account>:certificate/<id>",
        ),
    ]
    hosts: Annotated[tuple[CertificateName, ...], Field(min_length=1)]


BalancerCertificate = Annotated[AcmCertificate | ExistingAcmCertificate, Field(discriminator="kind")]


class EdgeDemo(Model):
    """The source document's two applications, to have something behind the gateways."""

    namespace: Namespace = "edge-demo"
    nginx_image: str = "docker.io/library/nginx:1.29"
    echo_image: str = "docker.io/youngwjung/flask-echo:latest"


class NlbEdge(Model):
    """Gateways behind network load balancers, for nginx, echo or services of your own."""

    kind: Literal["nlb"]
    namespace: Namespace = "istio-edge"
    """Where the gateways and their Secrets are."""

    demo: EdgeDemo | None = None
    balancer_cidrs: tuple[Cidr, ...] = ()
    """The balancers' own addresses, which are those of their subnets: only from there a PROXY header is believed."""

    metrics_from: tuple[DnsLabel, ...] = ()
    """Namespaces whose pods may read the metrics (port 15020) of gateways with PROXY protocol."""

    authorities: dict[DnsLabel, CaLifetimes] = {}
    certificates: dict[DnsLabel, Certificate] = {}
    """The gateways' own."""

    balancer_certificates: dict[DnsLabel, BalancerCertificate] = {}
    """The balancers'."""

    gateways: Annotated[dict[GatewayName, NlbGateway], Field(min_length=1)]

    def problems(self) -> Iterator[Problem]:
        for name, authority in self.authorities.items():
            yield from (problem.below(f"authorities.{name}") for problem in authority.problems())
        for name, certificate in self.certificates.items():
            if isinstance(certificate, IssuedCertificate):
                yield from signing_problems(f"certificates.{name}", certificate, self.authorities)
                if certificate.client_authority is not None:
                    yield Problem(
                        key=f"certificates.{name}.clientAuthority",
                        message="has no use: gateways of the edge ask clients for no certificate; take it out",
                    )
        for name, wanted in self.balancer_certificates.items():
            yield from (problem.below(f"balancerCertificates.{name}") for problem in wanted.problems())
        for name, gateway in self.gateways.items():
            yield from (problem.below(f"gateways.{name}") for problem in gateway.problems())
            yield from (problem.below(f"gateways.{name}.tls") for problem in self._certified(gateway))
        yield from self._balancers()
        yield from self._records()

    @property
    def needs_hosted_zones(self) -> bool:
        """Whether something goes into a hosted zone."""
        return any(isinstance(certificate, AcmCertificate) for certificate in self.balancer_certificates.values()) or (
            any(gateway.zone is not None for gateway in self.gateways.values())
        )

    def _certified(self, gateway: NlbGateway) -> Iterator[Problem]:
        tls = gateway.tls
        if isinstance(tls, BalancerTls):
            yield from _certificate(
                "certificate", tls.certificate, "balancerCertificates", self.balancer_certificates, gateway
            )
        if tls.credential is not None:
            yield from _certificate("credential", tls.credential, "certificates", self.certificates, gateway)

    def _balancers(self) -> Iterator[Problem]:
        reading = [
            name for name, gateway in self.gateways.items() if gateway.balancer.client_address == "proxy-protocol"
        ]
        if reading and not self.balancer_cidrs:
            yield Problem(
                key="balancerCidrs",
                message=f"is missing; gateways.{reading[0]} believes PROXY headers: name the subnets of the balancers, "
                "so that it believes nobody else's",
            )
        if self.balancer_cidrs and not reading:
            yield Problem(
                key="balancerCidrs", message="has no use: no gateway has clientAddress proxy-protocol; take it out"
            )
        for index, cidr in enumerate(self.balancer_cidrs):
            if cidr.prefixlen == 0:
                yield Problem(
                    key=f"balancerCidrs[{index}]", message="is everybody; name the subnets of the balancers alone"
                )

    def _records(self) -> Iterator[Problem]:
        taken: dict[str, str] = {}
        for name, gateway in self.gateways.items():
            for index, host in enumerate(gateway.hosts if gateway.zone else ()):
                where = f"gateways.{name}.hosts[{index}].host"
                if host.host in taken:
                    yield Problem(
                        key=where,
                        message=f"'{host.host}' is {taken[host.host]} too; a name has one record: leave out the zone "
                        "of one of them, or use another name",
                    )
                taken.setdefault(host.host, where)


EdgeSettings = NlbEdge


def hosted_zones(section: Any) -> bool:
    """Whether a section, as it was given and be it right or wrong, puts something into a hosted zone."""
    certificates = _entries(section, "balancerCertificates")
    return any(entry.get("kind") == "acm" for entry in certificates) or any(
        entry.get("zone") is not None for entry in _entries(section, "gateways")
    )


def _entries(section: Any, key: str) -> list[Mapping[str, Any]]:
    entries = section.get(key) if isinstance(section, Mapping) else None
    return [entry for entry in entries.values() if isinstance(entry, Mapping)] if isinstance(entries, Mapping) else []


def _certificate(
    key: str,
    name: str,
    section: str,
    certificates: Mapping[str, Certificate] | Mapping[str, BalancerCertificate],
    gateway: NlbGateway,
) -> Iterator[Problem]:
    certificate = certificates.get(name)
    if certificate is None:
        yield Problem(key=key, message=f"'{name}' is not under {section} ({names(certificates)})")
        return
    for host in gateway.hosts:
        if not any(covers(covered, host.host) for covered in certificate.hosts):
            yield Problem(key=key, message=f"'{name}' is not for {host.host} but for {', '.join(certificate.hosts)}")


def _within(name: str, zone: str) -> bool:
    return name == zone or name.endswith(f".{zone}")
