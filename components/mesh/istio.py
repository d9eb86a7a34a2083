"""Istio's control plane and what is mesh-wide."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pulumi
import pulumi_kubernetes as kubernetes
from pulumi_kubernetes.helm.v3 import Release

from components.mesh.charts import release
from components.mesh.hsm_kms import kms_values
from components.mesh.revision_tags import revision_tag
from components.mesh.revisions import Revisions
from settings.authority import HsmKmsAuthority
from settings.mesh import IstiodMesh, IstioSettings

ACCESS_LOG_FORMAT = " ".join(
    (
        "[%START_TIME%]",
        '"%REQ(:METHOD)% %REQ(X-ENVOY-ORIGINAL-PATH?:PATH)% %PROTOCOL%" %RESPONSE_CODE% %RESPONSE_FLAGS%',
        '%RESPONSE_CODE_DETAILS% %CONNECTION_TERMINATION_DETAILS% "%UPSTREAM_TRANSPORT_FAILURE_REASON%"',
        '%BYTES_RECEIVED% %BYTES_SENT% %DURATION% %RESP(X-ENVOY-UPSTREAM-SERVICE-TIME)% "%REQ(X-FORWARDED-FOR)%"',
        '"%REQ(USER-AGENT)%" "%REQ(X-REQUEST-ID)%" "%REQ(:AUTHORITY)%" "%UPSTREAM_HOST%"',
        "%UPSTREAM_CLUSTER_RAW% %UPSTREAM_LOCAL_ADDRESS% %DOWNSTREAM_LOCAL_ADDRESS% %DOWNSTREAM_REMOTE_ADDRESS%",
        "%REQUESTED_SERVER_NAME% %ROUTE_NAME% %DOWNSTREAM_PEER_URI_SAN%\n",
    )
)
"""Istio's default format with the caller's identity (SPIFFE id of its certificate) as the last field."""


SERVICE_PORTS = (
    ("grpc-xds", 15010, 15010),
    ("https-dns", 15012, 15012),
    ("https-webhook", 443, 15017),
    ("http-monitoring", 15014, 15014),
)
"""Name, port and target port of istiod's Services: configuration in plain and with mutual TLS, webhooks, metrics."""


TRACING_PROVIDER = "jaeger"
"""What Telemetry resources call the collector of mesh.tracing, whatever program it is."""


@dataclass(kw_only=True)
class IstioArgs:
    """Arguments of Istio."""

    namespace: pulumi.Input[str]
    """The control plane's namespace, which exists and holds `cacerts`."""

    istio: IstioSettings
    mesh: IstiodMesh
    kms: HsmKmsAuthority | None = None
    """The CA whose key istiod itself keeps, encrypted by a key in an HSM."""


class Istio(pulumi.ComponentResource):
    """CRDs, a revisioned istiod with its tags, STRICT mutual TLS and REGISTRY_ONLY for the whole mesh.

    A canary is a second istiod beside it. Resources are named by their revision, so giving `mesh.revision` to the
    canary, and making the old one the canary, replaces nothing: the tags move, and so does what is there once.
    While an istiod that keeps the CA's key itself has no chain, nothing waits for it, and there are no tags.
    References: Istio, "Install with Helm", "Canary Upgrades", "Mutual TLS Migration", "Accessing External Services".
    """

    namespace: pulumi.Output[str]
    revisions: Revisions
    """Known only when the control planes are ready: what is labelled with a revision comes after its webhooks."""

    trust_domain: pulumi.Output[str]

    def __init__(self, name: str, args: IstioArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("meshgate:mesh:Istio", name, None, opts)
        self._name = name
        child = pulumi.ResourceOptions(parent=self)
        mesh, istio = args.mesh, args.istio
        waiting = args.kms is not None and args.kms.waiting

        base = release(
            f"{name}-base",
            istio,
            "base",
            name="istio-base",
            namespace=args.namespace,
            # Which istiod admits Istio's resources, and leads where only one can.
            values={"defaultRevision": mesh.revision, "global": {"istioNamespace": args.namespace}},
            opts=child,
        )
        istiod = self._istiod(args, mesh.revision, istio, base, ready=not waiting)
        canary = mesh.canary and self._istiod(
            args, mesh.canary.revision, istio.at(mesh.canary.version), base, ready=not waiting
        )
        self._service(args.namespace, mesh.revision, istiod)

        ready: list[pulumi.Input[Any]] = [istiod.status]
        if not waiting:
            after_istiod = pulumi.ResourceOptions(parent=self, depends_on=[istiod])
            tags = [
                revision_tag(
                    f"{name}-tag-{tag}",
                    tag,
                    revision=mesh.revision,
                    namespace=args.namespace,
                    opts=after_istiod,
                )
                for tag in mesh.revision_tags
            ]
            strict = kubernetes.apiextensions.CustomResource(
                f"{name}-strict",
                api_version="security.istio.io/v1",
                kind="PeerAuthentication",
                metadata=kubernetes.meta.v1.ObjectMetaArgs(name="default", namespace=args.namespace),
                spec={"mtls": {"mode": "STRICT"}},
                opts=after_istiod,
            )
            ready += [strict.id, *(tag.id for tag in tags)]

        self.namespace = pulumi.Output.from_input(args.namespace)
        self.revisions = Revisions(
            tag=pulumi.Output.all(*ready).apply(lambda _: mesh.revision_tags[0]),
            revision=pulumi.Output.all(*ready).apply(lambda _: mesh.revision),
            moved=pulumi.Output.all(canary.status if canary else None).apply(lambda _: mesh.moved),
        )
        self.trust_domain = pulumi.Output.from_input(mesh.trust_domain)
        self.register_outputs(
            {"namespace": self.namespace, "revisionTag": self.revisions.tag, "trustDomain": self.trust_domain}
        )

    def _istiod(
        self, args: IstioArgs, revision: str, istio: IstioSettings, base: pulumi.Resource, *, ready: bool
    ) -> Release:
        return release(
            f"{self._name}-istiod-{revision}",
            istio,
            "istiod",
            name=f"istiod-{revision}",
            namespace=args.namespace,
            values=merged(_istiod_values(args, revision, istio), istio.values),
            opts=pulumi.ResourceOptions(parent=self, depends_on=[base]),
            ready=ready,
        )

    def _service(self, namespace: pulumi.Input[str], revision: str, istiod: pulumi.Resource) -> None:
        """Service `istiod` without a revision, for whoever must not know which one there is, such as Prometheus."""
        kubernetes.core.v1.Service(
            f"{self._name}-istiod",
            metadata=kubernetes.meta.v1.ObjectMetaArgs(
                name="istiod",
                namespace=namespace,
                # Not istio.io/rev: istioctl takes a second Service with it for a second control plane.
                labels={"app": "istiod", "istio": "pilot"},
                # istiod's release has waited, or must not.
                annotations={"pulumi.com/skipAwait": "true"},
            ),
            spec=kubernetes.core.v1.ServiceSpecArgs(
                selector={"app": "istiod", "istio.io/rev": revision},
                ports=[
                    kubernetes.core.v1.ServicePortArgs(name=name, port=port, target_port=target, protocol="TCP")
                    for name, port, target in SERVICE_PORTS
                ],
            ),
            opts=pulumi.ResourceOptions(parent=self, depends_on=[istiod]),
        )


def _istiod_values(args: IstioArgs, revision: str, istio: IstioSettings) -> dict[str, Any]:
    mesh = args.mesh
    values = {
        "revision": revision,
        "global": {
            "hub": istio.hub,
            "tag": istio.version,
            "istioNamespace": args.namespace,
            **({"platform": istio.platform} if istio.platform else {}),
        },
        "autoscaleMin": mesh.replicas.min,
        "autoscaleMax": mesh.replicas.max,
        "resources": {"requests": {"cpu": mesh.resources.cpu, "memory": mesh.resources.memory}},
        "meshConfig": {
            "trustDomain": mesh.trust_domain,
            "outboundTrafficPolicy": {"mode": "REGISTRY_ONLY"},
            "accessLogFile": "/dev/stdout",
            "accessLogFormat": ACCESS_LOG_FORMAT,
            **_tracing(mesh),
            "defaultConfig": {
                "proxyMetadata": {
                    # A proxy that may not reach the cloud's metadata server waits 20 seconds for it at its start, and
                    # only needs it to label telemetry with the cloud's names.
                    "CLOUD_PLATFORM": "none",
                    # Proxies learn at once which roots to trust, and renew their certificates when that changes. Only
                    # pods that were made with it do, so it is there before a root is ever replaced.
                    "PROXY_CONFIG_XDS_AGENT": "true",
                }
            },
        },
        # A bundle with a second root is taken; istiod would keep its old CA.
        "env": {"ISTIO_MULTIROOT_MESH": "true"},
    }
    return values if args.kms is None else merged(values, kms_values(args.kms))


def _tracing(mesh: IstiodMesh) -> dict[str, Any]:
    """Where spans go to; nobody sends any before a Telemetry resource names this provider."""
    if mesh.tracing is None:
        return {}
    collector = {
        "service": mesh.tracing.service,
        "port": mesh.tracing.port,
        "maxTagLength": mesh.tracing.max_tag_length,
    }
    return {"extensionProviders": [{"name": TRACING_PROVIDER, "opentelemetry": collector}]}


def merged(values: dict[str, Any], over: dict[str, Any]) -> dict[str, Any]:
    """Values of a chart with others laid over them, mapping by mapping."""
    both = {key: merged(values[key], over[key]) for key in values.keys() & over.keys() if _mappings(values, over, key)}
    return {**values, **over, **both}


def _mappings(values: dict[str, Any], over: dict[str, Any], key: str) -> bool:
    return isinstance(values[key], dict) and isinstance(over[key], dict)
