"""The scenario `peer_authentication` as one component."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import pulumi
import pulumi_kubernetes as kubernetes

from components.egress.custom_resource import custom_resource
from components.ingress.application import http_application
from components.mesh.revisions import Revisions
from components.peer_authentication.modes import PORT, SERVER, SPECS
from components.pod_security import RESTRICTED
from settings.peer_authentication import PeerAuthenticationSettings, Place


@dataclass(kw_only=True)
class PeerAuthenticationArgs:
    """Arguments of PeerAuthentication."""

    peer_authentication: PeerAuthenticationSettings
    revisions: Revisions
    """The mesh, for the namespaces whose pods get sidecars."""


class PeerAuthentication(pulumi.ComponentResource):
    """A namespace for each place, with its PeerAuthentication and a server.

    What is weaker than the mesh's STRICT holds in these namespaces alone.
    Source: KANS 7, mutual TLS. References: Istio, "PeerAuthentication", "Mutual TLS Migration".
    """

    namespaces: dict[Place, pulumi.Output[str]]
    """By place."""

    def __init__(self, name: str, args: PeerAuthenticationArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("meshgate:peer_authentication:PeerAuthentication", name, None, opts)
        child = pulumi.ResourceOptions(parent=self)
        self.namespaces = {}
        for place, namespace in args.peer_authentication.namespaces.items():
            in_mesh = place in SPECS
            labels: Mapping[str, pulumi.Input[str]] = (
                {"istio.io/rev": args.revisions.label(namespace)} if in_mesh else RESTRICTED
            )
            made = kubernetes.core.v1.Namespace(
                f"{name}-{place}-namespace",
                metadata=kubernetes.meta.v1.ObjectMetaArgs(name=namespace, labels=labels),
                opts=child,
            ).metadata.name
            if in_mesh:
                custom_resource(
                    f"{name}-{place}-policy",
                    "security.istio.io/v1",
                    "PeerAuthentication",
                    "default",
                    made,
                    SPECS[place],
                    opts=child,
                )
            http_application(
                f"{name}-{place}",
                SERVER,
                args.peer_authentication.image,
                namespace=made,
                port=PORT,
                # Another control plane's sidecar comes with other pods.
                annotations={"meshgate.dev/revision": args.revisions.serving(namespace)} if in_mesh else None,
                opts=child,
            )
            self.namespaces[place] = made
        self.register_outputs({"namespaces": self.namespaces})
