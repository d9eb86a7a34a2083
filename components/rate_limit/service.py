"""Envoy's rate-limit service."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import pulumi
import pulumi_kubernetes as kubernetes
import yaml

from components.egress.custom_resource import custom_resource
from components.ingress.application import DRAIN_SECONDS
from components.pod_security import restricted
from components.rate_limit import redis
from components.rate_limit.limits import GRPC_PORT, METHOD, REDIS, SERVICE, service_configuration
from settings.rate_limit import Limit, RateLimitService

HEALTH_PORT, METRICS_PORT = 8080, 9090
USER = 65532
"""nonroot, in the public image."""

ROOT, DIRECTORY, FILE = "/etc/meshgate", "limits", "limits.yaml"
"""The service reads every file of the directory below its root."""

MEMORY_LIMIT = "128Mi"


@dataclass(kw_only=True)
class ServiceArgs:
    """Arguments of Service."""

    service: RateLimitService
    limits: Sequence[Limit]
    namespace: pulumi.Input[str]
    domain: str
    """What the limited proxies call their limits."""

    client: pulumi.Input[str]
    """Principal of the proxies that may ask, as AuthorizationPolicies name it."""

    store: redis.Redis
    revision: pulumi.Input[str]
    """The control plane that injects the namespace's pods."""


class Service(pulumi.ComponentResource):
    """Deployment, Service (gRPC), the limits in a ConfigMap, and an AuthorizationPolicy.

    Only the limited application's identity may ask, and only for decisions. Health and the debugging interface answer
    inside the pod alone; metrics come out by the sidecar's own (Istio, "Metrics Merging").
    """

    ready: kubernetes.core.v1.Service
    """Proxies can be told of it once it is there."""

    def __init__(self, name: str, args: ServiceArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("meshgate:rate_limit:Service", name, None, opts)
        child = pulumi.ResourceOptions(parent=self)
        metadata = kubernetes.meta.v1.ObjectMetaArgs(name=SERVICE, namespace=args.namespace, labels={"app": SERVICE})
        text = yaml.safe_dump(service_configuration(args.limits, args.domain), sort_keys=False)

        limits = kubernetes.core.v1.ConfigMap(f"{name}-limits", metadata=metadata, data={FILE: text}, opts=child)
        closed = custom_resource(
            f"{name}-clients",
            "security.istio.io/v1",
            "AuthorizationPolicy",
            SERVICE,
            args.namespace,
            {
                "selector": {"matchLabels": {"app": SERVICE}},
                "rules": [
                    {
                        "from": [{"source": {"principals": [args.client]}}],
                        "to": [{"operation": {"ports": [str(GRPC_PORT)], "methods": ["POST"], "paths": [METHOD]}}],
                    }
                ],
            },
            opts=child,
        )
        account = kubernetes.core.v1.ServiceAccount(f"{name}-account", metadata=metadata, opts=child)
        deployment = kubernetes.apps.v1.Deployment(
            f"{name}-deployment",
            metadata=metadata,
            spec=kubernetes.apps.v1.DeploymentSpecArgs(
                replicas=args.service.replicas,
                selector=kubernetes.meta.v1.LabelSelectorArgs(match_labels={"app": SERVICE}),
                template=kubernetes.core.v1.PodTemplateSpecArgs(
                    metadata=kubernetes.meta.v1.ObjectMetaArgs(
                        labels={"app": SERVICE},
                        annotations={
                            "meshgate.dev/revision": args.revision,
                            # It reads both once.
                            "meshgate.dev/configuration": hashlib.sha256(text.encode()).hexdigest(),
                            "meshgate.dev/password": args.store.password_version,
                            "prometheus.io/scrape": "true",
                            "prometheus.io/port": str(METRICS_PORT),
                            "prometheus.io/path": "/metrics",
                        },
                    ),
                    spec=_pod(args, account.metadata.name, limits.metadata.name),
                ),
            ),
            # It gives up when there is no Redis at its start.
            opts=pulumi.ResourceOptions(parent=self, depends_on=[closed, args.store.deployment, args.store.service]),
        )
        self.ready = kubernetes.core.v1.Service(
            f"{name}-service",
            metadata=metadata,
            spec=kubernetes.core.v1.ServiceSpecArgs(
                selector={"app": SERVICE},
                ports=[kubernetes.core.v1.ServicePortArgs(name="grpc", port=GRPC_PORT, target_port="grpc")],
            ),
            opts=pulumi.ResourceOptions(parent=self, depends_on=[deployment]),
        )
        self.register_outputs({})


def _pod(args: ServiceArgs, account: pulumi.Input[str], limits: pulumi.Input[str]) -> kubernetes.core.v1.PodSpecArgs:
    plain: dict[str, pulumi.Input[str]] = {
        "LOG_LEVEL": "warn",
        "RUNTIME_ROOT": ROOT,
        "RUNTIME_APPDIRECTORY": DIRECTORY,
        "RUNTIME_WATCH_ROOT": "false",
        # Kubernetes keeps a ConfigMap's files in directories that begin with a dot.
        "RUNTIME_IGNOREDOTFILES": "true",
        "GRPC_PORT": str(GRPC_PORT),
        "PORT": str(HEALTH_PORT),
        "DEBUG_HOST": "127.0.0.1",
        "REDIS_SOCKET_TYPE": "tcp",
        "REDIS_URL": pulumi.Output.concat(REDIS, ".", args.namespace, f".svc.cluster.local:{redis.PORT}"),
        # Not ready while Redis is gone.
        "REDIS_HEALTH_CHECK_ACTIVE_CONNECTION": "true",
        "USE_STATSD": "false",
        "USE_PROMETHEUS": "true",
        "PROMETHEUS_ADDR": f":{METRICS_PORT}",
    }
    container = kubernetes.core.v1.ContainerArgs(
        name=SERVICE,
        image=args.service.image,
        command=["/bin/ratelimit"],
        ports=[
            kubernetes.core.v1.ContainerPortArgs(name="grpc", container_port=GRPC_PORT),
            kubernetes.core.v1.ContainerPortArgs(name="http-health", container_port=HEALTH_PORT),
            kubernetes.core.v1.ContainerPortArgs(name="http-metrics", container_port=METRICS_PORT),
        ],
        env=[
            *(kubernetes.core.v1.EnvVarArgs(name=key, value=value) for key, value in plain.items()),
            kubernetes.core.v1.EnvVarArgs(
                name="REDIS_AUTH",
                value_from=kubernetes.core.v1.EnvVarSourceArgs(
                    secret_key_ref=kubernetes.core.v1.SecretKeySelectorArgs(
                        name=args.store.secret, key=redis.CREDENTIAL
                    )
                ),
            ),
        ],
        readiness_probe=kubernetes.core.v1.ProbeArgs(
            http_get=kubernetes.core.v1.HTTPGetActionArgs(path="/healthcheck", port="http-health", scheme="HTTP"),
            period_seconds=2,
        ),
        resources=kubernetes.core.v1.ResourceRequirementsArgs(
            requests={"cpu": args.service.resources.cpu, "memory": args.service.resources.memory},
            limits={"memory": MEMORY_LIMIT},
        ),
        lifecycle=kubernetes.core.v1.LifecycleArgs(
            pre_stop=kubernetes.core.v1.LifecycleHandlerArgs(
                sleep=kubernetes.core.v1.SleepActionArgs(seconds=DRAIN_SECONDS)
            )
        ),
        security_context=restricted(USER),
        volume_mounts=[
            kubernetes.core.v1.VolumeMountArgs(name="limits", mount_path=f"{ROOT}/{DIRECTORY}", read_only=True)
        ],
    )
    return kubernetes.core.v1.PodSpecArgs(
        service_account_name=account,
        # The variables of a Service named like a setting of the program would be taken for it.
        enable_service_links=False,
        containers=[container],
        volumes=[
            kubernetes.core.v1.VolumeArgs(
                name="limits", config_map=kubernetes.core.v1.ConfigMapVolumeSourceArgs(name=limits)
            )
        ],
    )
