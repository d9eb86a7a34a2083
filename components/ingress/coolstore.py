"""The source document's application: webapp, which asks catalog."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import pulumi
import pulumi_kubernetes as kubernetes

from settings.ingress import Coolstore as CoolstoreSettings

USER = 1000
"""Any user but root will do; the images name none."""


@dataclass(kw_only=True)
class CoolstoreArgs:
    """Arguments of Coolstore."""

    coolstore: CoolstoreSettings
    revision_tag: pulumi.Input[str]
    """Value of istio.io/rev for the namespace, so that its pods get sidecars."""


class Coolstore(pulumi.ComponentResource):
    """A namespace in the mesh with the Deployments and Services webapp (80 to 8080) and catalog (80 to 3000)."""

    namespace: pulumi.Output[str]

    def __init__(self, name: str, args: CoolstoreArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("meshgate:ingress:Coolstore", name, None, opts)
        namespace = kubernetes.core.v1.Namespace(
            f"{name}-namespace",
            metadata=kubernetes.meta.v1.ObjectMetaArgs(
                name=args.coolstore.namespace, labels={"istio.io/rev": args.revision_tag}
            ),
            opts=pulumi.ResourceOptions(parent=self),
        )
        self.namespace = namespace.metadata.name
        self._service(name, "catalog", args.coolstore.catalog_image, port=3000)
        self._service(
            name,
            "webapp",
            args.coolstore.webapp_image,
            port=8080,
            env={
                "CATALOG_SERVICE_HOST": pulumi.Output.concat("catalog.", self.namespace),
                "CATALOG_SERVICE_PORT": "80",
            },
        )
        self.register_outputs({"namespace": self.namespace})

    def _service(
        self, name: str, app: str, image: str, *, port: int, env: Mapping[str, pulumi.Input[str]] | None = None
    ) -> None:
        opts = pulumi.ResourceOptions(parent=self)
        metadata = kubernetes.meta.v1.ObjectMetaArgs(name=app, namespace=self.namespace, labels={"app": app})
        account = kubernetes.core.v1.ServiceAccount(f"{name}-{app}-account", metadata=metadata, opts=opts)
        container = kubernetes.core.v1.ContainerArgs(
            name=app,
            image=image,
            ports=[kubernetes.core.v1.ContainerPortArgs(name="http", container_port=port)],
            env=[
                kubernetes.core.v1.EnvVarArgs(
                    name="KUBERNETES_NAMESPACE",
                    value_from=kubernetes.core.v1.EnvVarSourceArgs(
                        # With its default said, so that a `pulumi up` after one that was killed finds it as it is.
                        field_ref=kubernetes.core.v1.ObjectFieldSelectorArgs(
                            api_version="v1", field_path="metadata.namespace"
                        )
                    ),
                ),
                *(kubernetes.core.v1.EnvVarArgs(name=key, value=value) for key, value in (env or {}).items()),
            ],
            readiness_probe=kubernetes.core.v1.ProbeArgs(
                tcp_socket=kubernetes.core.v1.TCPSocketActionArgs(port="http"), period_seconds=2
            ),
            resources=kubernetes.core.v1.ResourceRequirementsArgs(requests={"cpu": "10m", "memory": "32Mi"}),
            security_context=kubernetes.core.v1.SecurityContextArgs(
                run_as_non_root=True,
                run_as_user=USER,
                allow_privilege_escalation=False,
                capabilities=kubernetes.core.v1.CapabilitiesArgs(drop=["ALL"]),
                seccomp_profile=kubernetes.core.v1.SeccompProfileArgs(type="RuntimeDefault"),
            ),
        )
        kubernetes.apps.v1.Deployment(
            f"{name}-{app}",
            metadata=metadata,
            spec=kubernetes.apps.v1.DeploymentSpecArgs(
                selector=kubernetes.meta.v1.LabelSelectorArgs(match_labels={"app": app}),
                template=kubernetes.core.v1.PodTemplateSpecArgs(
                    metadata=kubernetes.meta.v1.ObjectMetaArgs(labels={"app": app}),
                    spec=kubernetes.core.v1.PodSpecArgs(
                        service_account_name=account.metadata.name, containers=[container]
                    ),
                ),
            ),
            opts=opts,
        )
        kubernetes.core.v1.Service(
            f"{name}-{app}-service",
            metadata=metadata,
            spec=kubernetes.core.v1.ServiceSpecArgs(
                selector={"app": app},
                ports=[kubernetes.core.v1.ServicePortArgs(name="http", port=80, target_port="http")],
            ),
            opts=opts,
        )
