"""The source document's two applications."""

from __future__ import annotations

from dataclasses import dataclass

import pulumi
import pulumi_kubernetes as kubernetes

from components.ingress.application import http_application
from components.mesh.revisions import Revisions
from settings.edge import EdgeDemo as EdgeDemoSettings

PORT = 80
"""Where both images listen."""


@dataclass(kw_only=True)
class EdgeDemoArgs:
    """Arguments of EdgeDemo."""

    demo: EdgeDemoSettings
    revisions: Revisions
    """The mesh whose sidecars its pods get."""


class EdgeDemo(pulumi.ComponentResource):
    """A namespace in the mesh with the Deployments and Services nginx and echo."""

    def __init__(self, name: str, args: EdgeDemoArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("meshgate:edge:EdgeDemo", name, None, opts)
        child = pulumi.ResourceOptions(parent=self)
        namespace = kubernetes.core.v1.Namespace(
            f"{name}-namespace",
            metadata=kubernetes.meta.v1.ObjectMetaArgs(
                name=args.demo.namespace, labels={"istio.io/rev": args.revisions.label(args.demo.namespace)}
            ),
            opts=child,
        ).metadata.name
        http_application(
            name,
            "nginx",
            args.demo.nginx_image,
            namespace=namespace,
            port=PORT,
            writes=["/var/cache/nginx", "/run"],
            opts=child,
        )
        http_application(name, "echo", args.demo.echo_image, namespace=namespace, port=PORT, opts=child)
        self.register_outputs({})
