"""The scenario `bookinfo` as one component."""

from __future__ import annotations

from dataclasses import dataclass

import pulumi
import pulumi_kubernetes as kubernetes

from components.bookinfo.application import deployment, service, service_account
from components.bookinfo.stages import APPS, GATEWAY, account, objects, versions
from components.egress.custom_resource import custom_resource
from components.mesh.http_gateway import HttpGateway, HttpGatewayArgs
from components.mesh.revisions import Revisions
from components.pod_security import RESTRICTED
from settings.bookinfo import BookinfoSettings
from settings.mesh import IstioSettings


@dataclass(kw_only=True)
class BookinfoMesh:
    """What Bookinfo has to know of the mesh."""

    revisions: Revisions
    trust_domain: pulumi.Input[str]


@dataclass(kw_only=True)
class BookinfoArgs:
    """Arguments of Bookinfo."""

    bookinfo: BookinfoSettings
    istio: IstioSettings
    mesh: BookinfoMesh | None
    """None at the step without one."""


class Bookinfo(pulumi.ComponentResource):
    """Istio's Bookinfo, a gateway in front of it, and the resources of its stage.

    Every resource keeps its name from stage to stage: a step makes, changes or takes away what differs and no more.
    Source: KANS 7, traffic management and security. Reference: Istio, "Bookinfo Application".
    """

    namespace: pulumi.Output[str]
    gateway: HttpGateway | None
    """None while it has no mesh."""

    def __init__(self, name: str, args: BookinfoArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("meshgate:bookinfo:Bookinfo", name, None, opts)
        child = pulumi.ResourceOptions(parent=self)
        bookinfo, mesh = args.bookinfo, args.mesh

        self.namespace = kubernetes.core.v1.Namespace(
            f"{name}-namespace",
            metadata=kubernetes.meta.v1.ObjectMetaArgs(
                name=bookinfo.namespace,
                labels={"istio.io/rev": mesh.revisions.label(bookinfo.namespace)} if mesh else RESTRICTED,
            ),
            opts=child,
        ).metadata.name
        deployments = []
        for app, made in versions(bookinfo.step).items():
            service(name, app, self.namespace, child)
            owner = service_account(name, app, self.namespace, child)
            deployments += [
                deployment(
                    name,
                    app,
                    version,
                    bookinfo=bookinfo,
                    namespace=self.namespace,
                    service_account=owner,
                    revision=mesh.revisions.serving(bookinfo.namespace) if mesh else None,
                    opts=child,
                )
                for version in made
            ]
        self.gateway = self._gateway(name, args, mesh) if mesh else None
        if mesh:
            self._stage(name, bookinfo, mesh, deployments)
        self.register_outputs({"namespace": self.namespace})

    def _gateway(self, name: str, args: BookinfoArgs, mesh: BookinfoMesh) -> HttpGateway:
        child = pulumi.ResourceOptions(parent=self)
        namespace = kubernetes.core.v1.Namespace(
            f"{name}-gateway-namespace",
            metadata=kubernetes.meta.v1.ObjectMetaArgs(
                name=args.bookinfo.gateway_namespace,
                labels={"istio.io/rev": mesh.revisions.label(args.bookinfo.gateway_namespace)},
            ),
            opts=child,
        )
        return HttpGateway(
            f"{name}-gateway",
            HttpGatewayArgs(
                gateway_name=GATEWAY,
                namespace=namespace.metadata.name,
                revision=mesh.revisions.serving(args.bookinfo.gateway_namespace),
                gateway=args.bookinfo.gateway,
                istio=args.istio,
            ),
            opts=child,
        )

    def _stage(
        self,
        name: str,
        bookinfo: BookinfoSettings,
        mesh: BookinfoMesh,
        deployments: list[kubernetes.apps.v1.Deployment],
    ) -> None:
        principals = {
            app: pulumi.Output.concat(mesh.trust_domain, "/ns/", bookinfo.namespace, "/sa/", account(app))
            for app in APPS
        }
        subsets: dict[str, pulumi.Resource] = {}
        for made in objects(bookinfo.step, gateway_namespace=bookinfo.gateway_namespace, principals=principals):
            # No request is sent to pods that are not ready yet, or to a subset that nobody knows.
            after: list[pulumi.Resource] = []
            if made.kind == "DestinationRule":
                after = [*deployments]
            elif made.kind == "VirtualService" and made.name in subsets:
                after = [subsets[made.name]]
            resource = custom_resource(
                f"{name}-{made.kind.lower()}-{made.name}",
                made.api_version,
                made.kind,
                made.name,
                self.namespace,
                made.spec,
                opts=pulumi.ResourceOptions(parent=self, depends_on=after),
            )
            if made.kind == "DestinationRule":
                subsets[made.name] = resource
