"""Istio's control plane and what is mesh-wide."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pulumi
import pulumi_kubernetes as kubernetes

from components.mesh.charts import release
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


@dataclass(kw_only=True)
class IstioArgs:
    """Arguments of Istio."""

    namespace: pulumi.Input[str]
    """The control plane's namespace, which exists and holds `cacerts`."""

    istio: IstioSettings
    mesh: IstiodMesh


class Istio(pulumi.ComponentResource):
    """CRDs, a revisioned istiod with its tags, STRICT mutual TLS and REGISTRY_ONLY for the whole mesh.

    References: Istio, "Install with Helm", "Canary upgrades", "Mutual TLS Migration", "Accessing External Services".
    """

    namespace: pulumi.Output[str]
    revision_tag: pulumi.Output[str]
    """Known only when istiod is ready: what is labelled with it comes after its webhooks."""

    trust_domain: pulumi.Output[str]

    def __init__(self, name: str, args: IstioArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("meshgate:mesh:Istio", name, None, opts)
        mesh = args.mesh

        base = release(
            f"{name}-base",
            args.istio,
            "base",
            name="istio-base",
            namespace=args.namespace,
            values={"defaultRevision": mesh.revision, "global": {"istioNamespace": args.namespace}},
            opts=pulumi.ResourceOptions(parent=self),
        )
        istiod = release(
            f"{name}-istiod",
            args.istio,
            "istiod",
            name=f"istiod-{mesh.revision}",
            namespace=args.namespace,
            values=_merged(_istiod_values(args), args.istio.values),
            opts=pulumi.ResourceOptions(parent=self, depends_on=[base]),
        )
        strict = kubernetes.apiextensions.CustomResource(
            f"{name}-strict",
            api_version="security.istio.io/v1",
            kind="PeerAuthentication",
            metadata=kubernetes.meta.v1.ObjectMetaArgs(name="default", namespace=args.namespace),
            spec={"mtls": {"mode": "STRICT"}},
            opts=pulumi.ResourceOptions(parent=self, depends_on=[istiod]),
        )

        self.namespace = pulumi.Output.from_input(args.namespace)
        tag = mesh.revision_tags[0]
        self.revision_tag = pulumi.Output.all(istiod.status, strict.id).apply(lambda _: tag)
        self.trust_domain = pulumi.Output.from_input(mesh.trust_domain)
        self.register_outputs(
            {"namespace": self.namespace, "revisionTag": self.revision_tag, "trustDomain": self.trust_domain}
        )


def _istiod_values(args: IstioArgs) -> dict[str, Any]:
    mesh, istio = args.mesh, args.istio
    return {
        "revision": mesh.revision,
        "revisionTags": list(mesh.revision_tags),
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
            # A proxy that may not reach the cloud's metadata server waits 20 seconds for it at its start, and only
            # needs it to label telemetry with the cloud's names.
            "defaultConfig": {"proxyMetadata": {"CLOUD_PLATFORM": "none"}},
        },
    }


def _merged(values: dict[str, Any], over: dict[str, Any]) -> dict[str, Any]:
    both = {key: _merged(values[key], over[key]) for key in values.keys() & over.keys() if _mappings(values, over, key)}
    return {**values, **over, **both}


def _mappings(values: dict[str, Any], over: dict[str, Any], key: str) -> bool:
    return isinstance(values[key], dict) and isinstance(over[key], dict)
