"""The scenario `external` as one component."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import pulumi
import pulumi_kubernetes as kubernetes

from components.egress.custom_resource import custom_resource
from components.external.istio import LISTENING, MODES, PROTOCOLS, host_entry, proxy_entry, sidecar
from components.external.squid import PORT, Squid, SquidArgs
from components.mesh.revisions import Revisions
from components.pod_security import RESTRICTED
from settings.external import ExternalSettings, Step

NETWORKING = "networking.istio.io/v1"


@dataclass(kw_only=True)
class ExternalArgs:
    """Arguments of External."""

    external: ExternalSettings
    revisions: Revisions
    """The mesh, for the namespaces whose pods get sidecars."""

    pod_cidr: pulumi.Input[str]
    service_cidr: pulumi.Input[str]


class External(pulumi.ComponentResource):
    """A namespace for each step, with what its sidecars let out, and Squid in one of them.

    Reference: Istio, "Accessing External Services", "Using an External HTTPS Proxy".
    """

    namespaces: dict[Step, pulumi.Output[str]]
    """By step."""

    proxy: pulumi.Output[str]
    """Squid's <address>:<port>."""

    def __init__(self, name: str, args: ExternalArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("meshgate:external:External", name, None, opts)
        self._name = name
        child = pulumi.ResourceOptions(parent=self)
        self.namespaces = {step: self._namespace(step, args) for step in args.external.namespaces}

        for step, mode in MODES.items():
            self._istio(step, "Sidecar", "default", sidecar(mode))
        for step in LISTENING:
            self._listener(step)
        self._istio("service-entry", "ServiceEntry", "registered", host_entry(args.external.registered))
        squid = Squid(
            f"{name}-squid",
            SquidArgs(
                external=args.external,
                namespace=self.namespaces["proxy"],
                pod_cidr=args.pod_cidr,
                service_cidr=args.service_cidr,
            ),
            opts=child,
        )
        for step, protocol in PROTOCOLS.items():
            spec = squid.address.apply(partial(proxy_entry, port=PORT, protocol=protocol))
            self._istio(step, "ServiceEntry", "proxy", spec)

        self.proxy = pulumi.Output.concat(squid.address, f":{PORT}")
        self.register_outputs({"proxy": self.proxy})

    def _namespace(self, step: Step, args: ExternalArgs) -> pulumi.Output[str]:
        labels: Mapping[str, pulumi.Input[str]] = (
            {"istio.io/rev": args.revisions.label(args.external.namespaces[step])} if step in MODES else RESTRICTED
        )
        return kubernetes.core.v1.Namespace(
            f"{self._name}-{step}-namespace",
            metadata=kubernetes.meta.v1.ObjectMetaArgs(name=args.external.namespaces[step], labels=labels),
            opts=pulumi.ResourceOptions(parent=self),
        ).metadata.name

    def _listener(self, step: Step) -> None:
        """A Service on port 80 without pods: by it the sidecars have an http listener there.

        Without one they take http for TCP, and REGISTRY_ONLY closes the connection instead of answering 502. In the
        source document's mesh the ingress gateway's Service had the same effect.
        """
        kubernetes.core.v1.Service(
            f"{self._name}-{step}-listener",
            metadata=kubernetes.meta.v1.ObjectMetaArgs(
                name="listener",
                namespace=self.namespaces[step],
                # Nothing to wait for: it has no pods.
                annotations={"pulumi.com/skipAwait": "true"},
            ),
            spec=kubernetes.core.v1.ServiceSpecArgs(
                ports=[kubernetes.core.v1.ServicePortArgs(name="http", port=80)],
            ),
            opts=pulumi.ResourceOptions(parent=self),
        )

    def _istio(self, step: Step, kind: str, name: str, spec: pulumi.Input[dict[str, Any]]) -> None:
        custom_resource(
            f"{self._name}-{step}-{kind.lower()}",
            NETWORKING,
            kind,
            name,
            self.namespaces[step],
            spec,
            opts=pulumi.ResourceOptions(parent=self),
        )
