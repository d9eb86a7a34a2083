"""The source document's application: webapp, which asks catalog."""

from __future__ import annotations

from dataclasses import dataclass

import pulumi
import pulumi_kubernetes as kubernetes

from components.ingress.application import http_application
from components.mesh.revisions import Revisions
from settings.ingress import Coolstore as CoolstoreSettings


@dataclass(kw_only=True)
class CoolstoreArgs:
    """Arguments of Coolstore."""

    coolstore: CoolstoreSettings
    revisions: Revisions
    """The mesh whose sidecars its pods get."""


class Coolstore(pulumi.ComponentResource):
    """A namespace in the mesh with the Deployments and Services webapp (80 to 8080) and catalog (80 to 3000)."""

    namespace: pulumi.Output[str]

    def __init__(self, name: str, args: CoolstoreArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("meshgate:ingress:Coolstore", name, None, opts)
        child = pulumi.ResourceOptions(parent=self)
        namespace = kubernetes.core.v1.Namespace(
            f"{name}-namespace",
            metadata=kubernetes.meta.v1.ObjectMetaArgs(
                name=args.coolstore.namespace, labels={"istio.io/rev": args.revisions.label(args.coolstore.namespace)}
            ),
            opts=child,
        )
        self.namespace = namespace.metadata.name
        http_application(name, "catalog", args.coolstore.catalog_image, namespace=self.namespace, port=3000, opts=child)
        http_application(
            name,
            "webapp",
            args.coolstore.webapp_image,
            namespace=self.namespace,
            port=8080,
            env={
                "CATALOG_SERVICE_HOST": pulumi.Output.concat("catalog.", self.namespace),
                "CATALOG_SERVICE_PORT": "80",
            },
            opts=child,
        )
        self.register_outputs({"namespace": self.namespace})
