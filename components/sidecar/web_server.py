"""The source document's web server: nginx, which logs what of a request gets to it."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import pulumi
import pulumi_kubernetes as kubernetes

from components.ingress.application import application_pod

ACCOUNT, DEPLOYMENT, SERVICE = "kans-nginx", "deploy-websrv", "svc-clusterip"
"""As the source document names them; the container has the Deployment's name."""

PORT = 80

LOG_FIELDS = {
    "remote_addr": "$remote_addr",
    "request": "$request",
    "status": "$status",
    "user_agent": "$http_user_agent",
    "x_forwarded_for": "$http_x_forwarded_for",
    "x_forwarded_proto": "$http_x_forwarded_proto",
    "x_request_id": "$http_x_request_id",
    "x_envoy_attempt_count": "$http_x_envoy_attempt_count",
    "x_envoy_external_address": "$http_x_envoy_external_address",
    "x_envoy_internal": "$http_x_envoy_internal",
    "x_forwarded_client_cert": "$http_x_forwarded_client_cert",
}
"""The access log: a JSON object a line; a header that the request has not is an empty string."""

LOG_NAME = "received"

SITE = f"""\
log_format {LOG_NAME} escape=json '{{{",".join(f'"{name}":"{value}"' for name, value in LOG_FIELDS.items())}}}';
server {{
    listen {PORT};
    access_log /dev/stdout {LOG_NAME};
    location / {{
        root /usr/share/nginx/html;
        index index.html;
    }}
}}
"""


@dataclass(kw_only=True)
class WebServerArgs:
    """Arguments of WebServer."""

    image: str
    namespace: pulumi.Input[str]
    revision: pulumi.Input[str]
    """The control plane that injects the namespace; its pods are made anew when another one does."""


class WebServer(pulumi.ComponentResource):
    """ServiceAccount, Deployment and Service of nginx.

    Source: KANS 7, Istio sidecar hands-on. Other than there its Service's port is named `http`: named svc-webport, the
    sidecars would have to guess what is spoken.
    """

    host: pulumi.Output[str]
    """Of the Service."""

    def __init__(self, name: str, args: WebServerArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("meshgate:sidecar:WebServer", name, None, opts)
        child = pulumi.ResourceOptions(parent=self)
        labels = {"app": DEPLOYMENT}

        def metadata(of: str) -> kubernetes.meta.v1.ObjectMetaArgs:
            return kubernetes.meta.v1.ObjectMetaArgs(name=of, namespace=args.namespace, labels=labels)

        account = kubernetes.core.v1.ServiceAccount(f"{name}-account", metadata=metadata(ACCOUNT), opts=child)
        site = kubernetes.core.v1.ConfigMap(
            f"{name}-site", metadata=metadata(DEPLOYMENT), data={"default.conf": SITE}, opts=child
        )
        deployment = kubernetes.apps.v1.Deployment(
            f"{name}-deployment",
            metadata=metadata(DEPLOYMENT),
            spec=kubernetes.apps.v1.DeploymentSpecArgs(
                replicas=1,
                selector=kubernetes.meta.v1.LabelSelectorArgs(match_labels=labels),
                template=kubernetes.core.v1.PodTemplateSpecArgs(
                    metadata=kubernetes.meta.v1.ObjectMetaArgs(
                        labels=labels,
                        annotations={
                            "meshgate.dev/revision": args.revision,
                            # nginx reads its files once.
                            "meshgate.dev/configuration": hashlib.sha256(SITE.encode()).hexdigest(),
                        },
                    ),
                    spec=application_pod(
                        DEPLOYMENT,
                        args.image,
                        account=account.metadata.name,
                        port=PORT,
                        writes=["/var/cache/nginx", "/run"],
                        files={"/etc/nginx/conf.d": site.metadata.name},
                    ),
                ),
            ),
            opts=child,
        )
        service = kubernetes.core.v1.Service(
            f"{name}-service",
            metadata=metadata(SERVICE),
            spec=kubernetes.core.v1.ServiceSpecArgs(
                type="ClusterIP",
                selector=labels,
                ports=[kubernetes.core.v1.ServicePortArgs(name="http", port=PORT, target_port="http")],
            ),
            opts=pulumi.ResourceOptions(parent=self, depends_on=[deployment]),
        )
        self.host = pulumi.Output.concat(service.metadata.name, ".", args.namespace, ".svc.cluster.local")
        self.register_outputs({"host": self.host})
