"""What a Service asks of its NLB: its annotations, read as the AWS Load Balancer Controller reads them (v2 and v3).

Reference: docs/guide/service/annotations.md of kubernetes-sigs/aws-load-balancer-controller. What it or AWS would
refuse is refused here, with the reason of the event that the controller writes: `FailedBuildModel` when the annotation
cannot be read, `FailedDeployModel` when AWS says no.
"""

import re
from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass
from ipaddress import AddressValueError, IPv4Network, NetmaskValueError
from typing import Literal, cast

from lightkube.models.core_v1 import ServicePort, ServiceSpec
from lightkube.models.meta_v1 import ObjectMeta
from lightkube.resources.core_v1 import Service

from lab.nlb import tls

PREFIX = "service.beta.kubernetes.io/"
CLASS = "service.k8s.aws/nlb"
FINALIZER = "service.k8s.aws/resources"
TYPES = ("external", "nlb-ip")

LOAD_BALANCER_ATTRIBUTES = frozenset(
    {
        "access_logs.s3.bucket",
        "access_logs.s3.enabled",
        "access_logs.s3.prefix",
        "deletion_protection.enabled",
        "dns_record.client_routing_policy",
        "ipv6.deny_all_igw_traffic",
        "load_balancing.cross_zone.enabled",
        "zonal_shift.config.enabled",
    }
)
TARGET_GROUP_ATTRIBUTES = frozenset(
    {
        "deregistration_delay.connection_termination.enabled",
        "deregistration_delay.timeout_seconds",
        "load_balancing.cross_zone.enabled",
        "preserve_client_ip.enabled",
        "proxy_protocol_v2.enabled",
        "stickiness.enabled",
        "stickiness.type",
        "target_group_health.dns_failover.minimum_healthy_targets.count",
        "target_group_health.dns_failover.minimum_healthy_targets.percentage",
        "target_group_health.unhealthy_state_routing.minimum_healthy_targets.count",
        "target_group_health.unhealthy_state_routing.minimum_healthy_targets.percentage",
        "target_health_state.unhealthy.connection_termination.enabled",
        "target_health_state.unhealthy.draining_interval_seconds",
    }
)

Key = tuple[str, str]
"""A Service's namespace and name."""
Scheme = Literal["internet-facing", "internal"]
TargetType = Literal["instance", "ip"]
HealthProtocol = Literal["TCP", "HTTP", "HTTPS"]


class Refused(Exception):
    """A Service that gets no NLB; the message is what its event says."""

    reason = "FailedBuildModel"
    prefix = "Failed build model due to"

    def __init__(self, why: str) -> None:
        super().__init__(f"{self.prefix} {why}")


class RefusedByCloud(Refused):
    """The controller took it, AWS does not."""

    reason = "FailedDeployModel"
    prefix = "Failed deploy model due to"


@dataclass(frozen=True)
class Tls:
    """What a TLS listener shows its clients."""

    certificates: tuple[str, ...]
    """ARNs; the first is the default, the others are chosen by the name that a client asks for."""
    versions: tls.Versions
    alpn: tuple[str, ...] = ()


@dataclass(frozen=True)
class Listener:
    """A port of the NLB and its target group."""

    port: int
    name: str
    """The Service port's name, by which EndpointSlices know it."""
    node_port: int
    tls: Tls | None = None
    """None: TCP."""
    speaks_tls: bool = False
    """Whether it speaks TLS to its targets. It does not verify their certificates."""


@dataclass(frozen=True)
class HealthCheck:
    """How targets are asked whether they are well. Times in seconds."""

    protocol: HealthProtocol = "TCP"
    port: int | None = None
    """None: the port that traffic goes to."""
    path: str = "/"
    codes: str = "200-399"
    interval: int = 10
    timeout: int = 10
    healthy: int = 3
    unhealthy: int = 3


@dataclass(frozen=True)
class LoadBalancer:
    """An NLB as a Service orders it."""

    namespace: str
    name: str
    scheme: Scheme
    target_type: TargetType
    listeners: tuple[Listener, ...]
    health: HealthCheck
    cross_zone: bool
    keeps_client_address: bool
    proxy_protocol: bool
    is_sticky: bool
    source_ranges: tuple[IPv4Network, ...]
    node_labels: Mapping[str, str]
    """Nodes that are to be targets have these."""

    @property
    def key(self) -> Key:
        return self.namespace, self.name


def is_wanted(service: Service) -> bool:
    """Whether this is a Service for the controller, hence not for a cloud provider's plain load balancer."""
    spec = service.spec or ServiceSpec()
    if spec.type != "LoadBalancer":
        return False
    if spec.loadBalancerClass:
        return spec.loadBalancerClass == CLASS
    return _Annotations(service).text("type") in TYPES


def parse(service: Service, certificates: Container[str] | None = None) -> LoadBalancer:
    """The NLB that a Service orders. Raises Refused.

    `certificates` are the ARNs that there are; None leaves that question to others.
    """
    given, spec = _Annotations(service), service.spec or ServiceSpec()
    metadata = service.metadata or ObjectMeta()
    target_type = _target_type(given)
    attributes = given.mapping("attributes")
    group = given.mapping("target-group-attributes")
    _known("load balancer", attributes, LOAD_BALANCER_ATTRIBUTES)
    _known("target group", group, TARGET_GROUP_ATTRIBUTES)
    cross_zone = given.boolean("cross-zone-load-balancing-enabled", False)
    cross_zone = _attribute(attributes, "load_balancing.cross_zone.enabled", cross_zone)
    if group.get("load_balancing.cross_zone.enabled", "use_load_balancer_configuration") != (
        "use_load_balancer_configuration"
    ):
        cross_zone = _attribute(group, "load_balancing.cross_zone.enabled", cross_zone)
    return LoadBalancer(
        namespace=metadata.namespace or "",
        name=metadata.name or "",
        scheme=_scheme(given),
        target_type=target_type,
        listeners=_listeners(given, spec, target_type, certificates),
        health=_health(given, spec, target_type),
        cross_zone=cross_zone,
        keeps_client_address=_attribute(group, "preserve_client_ip.enabled", target_type == "instance"),
        proxy_protocol=_proxy_protocol(given, group),
        is_sticky=_attribute(group, "stickiness.enabled", False),
        source_ranges=_source_ranges(given, spec),
        node_labels=given.mapping("target-node-labels"),
    )


class _Annotations:
    """A Service's annotations, with the controller's notion of their types."""

    def __init__(self, service: Service) -> None:
        self.values: Mapping[str, str] = (service.metadata.annotations if service.metadata else None) or {}

    def text(self, name: str) -> str:
        return self.values.get(f"{PREFIX}aws-load-balancer-{name}", "")

    def items(self, name: str) -> list[str]:
        return [item for part in self.text(name).split(",") if (item := part.strip())]

    def mapping(self, name: str) -> dict[str, str]:
        result = {}
        for item in self.items(name):
            key, equals, value = (part.strip() for part in item.partition("="))
            if not key or not equals:
                raise Refused(f"failed to parse stringMap annotation, {PREFIX}aws-load-balancer-{name}: {item}")
            result[key] = value
        return result

    def boolean(self, name: str, default: bool) -> bool:
        text = self.text(name)
        return _boolean(text, f"annotation {PREFIX}aws-load-balancer-{name}") if text else default

    def integer(self, name: str, default: int, lowest: int, highest: int) -> int:
        text = self.text(name)
        try:
            number = int(text) if text else default
        except ValueError:
            raise Refused(f"failed to parse int32 annotation, {PREFIX}aws-load-balancer-{name}: {text}") from None
        if not lowest <= number <= highest:
            raise RefusedByCloud(f"ValidationError: {name} '{number}' must be between {lowest} and {highest}")
        return number


def _boolean(text: str, where: str) -> bool:
    """What Go's strconv.ParseBool takes."""
    if text in ("1", "t", "T", "true", "TRUE", "True"):
        return True
    if text in ("0", "f", "F", "false", "FALSE", "False"):
        return False
    raise Refused(f"failed to parse {where}: {text!r} is neither true nor false")


def _attribute(attributes: Mapping[str, str], name: str, default: bool) -> bool:
    return _boolean(attributes[name], f"attribute {name}") if name in attributes else default


def _known(kind: str, attributes: Mapping[str, str], known: Container[str]) -> None:
    for name in attributes:
        if name not in known:
            raise RefusedByCloud(f"InvalidConfigurationRequest: {kind} attribute key '{name}' is not recognized")


def _target_type(given: _Annotations) -> TargetType:
    found = "ip" if given.text("type") == "nlb-ip" else given.text("nlb-target-type") or "instance"
    if found not in ("instance", "ip"):
        raise Refused(f"unsupported target type {found!r}: it must be instance or ip")
    return cast(TargetType, found)


def _scheme(given: _Annotations) -> Scheme:
    default = "internal" if given.boolean("internal", True) else "internet-facing"
    found = given.text("scheme") or default
    if found not in ("internet-facing", "internal"):
        raise Refused(f"unknown scheme: {found}")
    return cast(Scheme, found)


def _proxy_protocol(given: _Annotations, group: Mapping[str, str]) -> bool:
    text = given.text("proxy-protocol")
    if text and text != "*":
        raise Refused(
            f"invalid value {text} for Load Balancer proxy protocol v2 annotation, only value currently supported is *"
        )
    return bool(text) or _attribute(group, "proxy_protocol_v2.enabled", False)


def _source_ranges(given: _Annotations, spec: ServiceSpec) -> tuple[IPv4Network, ...]:
    annotated = given.values.get(f"{PREFIX}load-balancer-source-ranges", "")
    texts = spec.loadBalancerSourceRanges or [part.strip() for part in annotated.split(",") if part.strip()]
    try:
        return tuple(IPv4Network(text.strip(), strict=False) for text in texts or ["0.0.0.0/0"])
    except (AddressValueError, NetmaskValueError, ValueError) as error:
        raise RefusedByCloud(f"InvalidParameterValue: loadBalancerSourceRanges: {error}") from None


def _listeners(
    given: _Annotations, spec: ServiceSpec, target_type: TargetType, certificates: Container[str] | None
) -> tuple[Listener, ...]:
    arns, tls_ports = tuple(given.items("ssl-cert")), given.items("ssl-ports")
    policy = given.text("ssl-negotiation-policy") or tls.DEFAULT_POLICY
    alpn = given.text("alpn-policy") or "None"
    if alpn not in tls.ALPN:
        raise Refused(f"invalid ALPN policy {alpn}, policy must be one of [{', '.join(tls.ALPN)}]")
    result = []
    for port in spec.ports or []:
        if (port.protocol or "TCP") != "TCP":
            raise Refused(f"port {port.port} is {port.protocol}: the lab's NLB knows TCP and TLS alone")
        if target_type == "instance" and not port.nodePort:
            raise Refused("unable to support instance target type with an unallocated NodePort")
        is_tls = bool(arns) and (not tls_ports or port.name in tls_ports or str(port.port) in tls_ports)
        listener_tls = None
        speaks_tls = is_tls and given.text("backend-protocol") == "ssl"
        if is_tls:
            if policy not in tls.POLICIES:
                raise RefusedByCloud(f"SSLPolicyNotFound: SSL policy '{policy}' not found")
            for arn in arns:
                if certificates is not None and arn not in certificates:
                    raise RefusedByCloud(f"CertificateNotFound: Certificate '{arn}' not found")
            # The controller sets an ALPN policy only where both sides speak TLS.
            listener_tls = Tls(arns, tls.POLICIES[policy], tls.ALPN[alpn] if speaks_tls else ())
        result.append(Listener(port.port, port.name or "", port.nodePort or 0, listener_tls, speaks_tls))
    return tuple(result)


def _health(given: _Annotations, spec: ServiceSpec, target_type: TargetType) -> HealthCheck:
    default = HealthCheck()
    if target_type == "instance" and spec.externalTrafficPolicy == "Local":
        # kube-proxy tells there whether its node has a pod of the Service.
        default = HealthCheck("HTTP", spec.healthCheckNodePort, "/healthz", timeout=6, healthy=2, unhealthy=2)
    protocol = (given.text("healthcheck-protocol") or default.protocol).upper()
    if protocol not in ("TCP", "HTTP", "HTTPS"):
        raise Refused(f"unsupported health check protocol {protocol}")
    path = given.text("healthcheck-path") or default.path
    codes = given.text("healthcheck-success-codes").replace(" ", "") or default.codes
    if not re.fullmatch(r"/[\w./~@:+&?=-]*", path, re.ASCII):
        raise RefusedByCloud(f"ValidationError: Health check path '{path}' must begin with / and be a path of a URL")
    if not re.fullmatch(r"\d{3}(-\d{3})?(,\d{3}(-\d{3})?)*", codes, re.ASCII):
        raise RefusedByCloud(f"InvalidParameterValue: Health check matcher HTTP code '{codes}': e.g. 200-299,301")
    return HealthCheck(
        protocol=cast(HealthProtocol, protocol),
        port=_health_port(given, spec.ports or [], target_type, default.port),
        path=path,
        codes=codes,
        interval=given.integer("healthcheck-interval", default.interval, 5, 300),
        timeout=given.integer("healthcheck-timeout", default.timeout, 2, 120),
        healthy=given.integer("healthcheck-healthy-threshold", default.healthy, 2, 10),
        unhealthy=given.integer("healthcheck-unhealthy-threshold", default.unhealthy, 2, 10),
    )


def _health_port(
    given: _Annotations, ports: Sequence[ServicePort], target_type: TargetType, default: int | None
) -> int | None:
    text = given.text("healthcheck-port")
    if not text:
        return default
    if text == "traffic-port":
        return None
    if text.isdecimal():
        return int(text)
    for port in ports:
        if port.name == text:
            if target_type == "instance":
                return port.nodePort
            if isinstance(port.targetPort, int):
                return port.targetPort
            raise Refused(
                "cannot use named healthCheckPort for IP TargetType when service's targetPort is a named port"
            )
    raise Refused(f"failed to resolve healthCheckPort: unable to find port {text} on service")
