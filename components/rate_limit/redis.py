"""Redis, for the rate-limit service alone."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pulumi
import pulumi_kubernetes as kubernetes
import pulumi_tls as tls

from components.egress.custom_resource import custom_resource
from components.egress.network_policy import METRICS_PORT, namespace, tcp
from components.pod_security import restricted
from components.rate_limit.limits import REDIS, SERVICE
from settings.rate_limit import Redis as RedisSettings

PORT = 6379
USER = 999
"""redis, in the public image."""

DIRECTORY, FILE = "/etc/meshgate", "redis.conf"
CREDENTIAL = "auth"
"""Key of the Secret: <user>:<password>, as the rate-limit service takes it."""

COMMANDS = "+ping +incrby +expire +get"
"""All that the rate-limit service asks."""

MAX_MEMORY = "32mb"
MEMORY_LIMIT = "96Mi"
"""Of the container: Redis' own memory besides what it keeps."""


@dataclass(kw_only=True)
class RedisArgs:
    """Arguments of Redis."""

    redis: RedisSettings
    namespace: pulumi.Input[str]
    identity: pulumi.Input[str]
    """Principal of the rate-limit service, as AuthorizationPolicies name it."""

    metrics_from: Sequence[str]
    revision: pulumi.Input[str]
    """The control plane that injects the namespace's pods."""


class Redis(pulumi.ComponentResource):
    """A Deployment that keeps nothing on disk, a Service, and a user and password of its own in a Secret.

    Who gets to it is said three times: by NetworkPolicy (the service's pods), by AuthorizationPolicy (its identity),
    and by Redis itself (its password, for the commands that it needs). Reference: Redis, "ACL".
    """

    secret: pulumi.Output[str]
    """Name of the Secret."""

    password_version: pulumi.Output[str]
    """Another one when the password is another one."""

    deployment: kubernetes.apps.v1.Deployment
    service: kubernetes.core.v1.Service

    def __init__(self, name: str, args: RedisArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("meshgate:rate_limit:Redis", name, None, opts)
        child = pulumi.ResourceOptions(parent=self)
        metadata = kubernetes.meta.v1.ObjectMetaArgs(name=REDIS, namespace=args.namespace, labels={"app": REDIS})

        # What is random and stays is in the state, as a key that nobody uses for anything else.
        key = tls.PrivateKey(f"{name}-key", algorithm="ECDSA", ecdsa_curve="P256", opts=child)
        secret = kubernetes.core.v1.Secret(
            f"{name}-secret",
            metadata=metadata,
            data=key.private_key_pem.apply(lambda pem: _secret(password_of(pem))),
            opts=child,
        )
        self.secret = secret.metadata.name
        self.password_version = key.public_key_fingerprint_sha256
        closed = [
            kubernetes.networking.v1.NetworkPolicy(
                f"{name}-network", metadata=metadata, spec=network_policy(args.metrics_from), opts=child
            ),
            custom_resource(
                f"{name}-clients",
                "security.istio.io/v1",
                "AuthorizationPolicy",
                REDIS,
                args.namespace,
                {
                    "selector": {"matchLabels": {"app": REDIS}},
                    "rules": [
                        {
                            "from": [{"source": {"principals": [args.identity]}}],
                            "to": [{"operation": {"ports": [str(PORT)]}}],
                        }
                    ],
                },
                opts=child,
            ),
        ]
        account = kubernetes.core.v1.ServiceAccount(f"{name}-account", metadata=metadata, opts=child)
        self.deployment = kubernetes.apps.v1.Deployment(
            f"{name}-deployment",
            metadata=metadata,
            spec=kubernetes.apps.v1.DeploymentSpecArgs(
                replicas=1,
                selector=kubernetes.meta.v1.LabelSelectorArgs(match_labels={"app": REDIS}),
                template=kubernetes.core.v1.PodTemplateSpecArgs(
                    metadata=kubernetes.meta.v1.ObjectMetaArgs(
                        labels={"app": REDIS},
                        # Redis reads its configuration once.
                        annotations={
                            "meshgate.dev/revision": args.revision,
                            "meshgate.dev/password": self.password_version,
                        },
                    ),
                    spec=_pod(args.redis, account.metadata.name, self.secret),
                ),
            ),
            opts=pulumi.ResourceOptions(parent=self, depends_on=closed),
        )
        self.service = kubernetes.core.v1.Service(
            f"{name}-service",
            metadata=metadata,
            spec=kubernetes.core.v1.ServiceSpecArgs(
                selector={"app": REDIS},
                ports=[kubernetes.core.v1.ServicePortArgs(name="tcp-redis", port=PORT, target_port="tcp-redis")],
            ),
            opts=child,
        )
        self.register_outputs({})


def password_of(key: str) -> str:
    """A password of 43 characters that follows from a private key (PEM) and does not betray it."""
    return base64.urlsafe_b64encode(hashlib.sha256(key.encode()).digest()).decode().rstrip("=")


def configuration(password: str) -> str:
    """redis.conf: nothing on disk, and one user who may only count. It has the password's hash alone."""
    digest = hashlib.sha256(password.encode()).hexdigest()
    return f"""\
bind 0.0.0.0
port {PORT}
user default off
user {SERVICE} on #{digest} ~* resetchannels -@all {COMMANDS}
save ""
appendonly no
maxmemory {MAX_MEMORY}
# The counts that are over soonest go first.
maxmemory-policy volatile-ttl
"""


def network_policy(metrics_from: Sequence[str]) -> Any:
    """The spec: the rate-limit service's pods to Redis, and whoever reads metrics to its proxy."""
    ingress: list[Any] = [{"from": [{"podSelector": {"matchLabels": {"app": SERVICE}}}], "ports": tcp(PORT)}]
    if metrics_from:
        ingress.append({"from": [namespace(name) for name in metrics_from], "ports": tcp(METRICS_PORT)})
    return {"podSelector": {"matchLabels": {"app": REDIS}}, "policyTypes": ["Ingress"], "ingress": ingress}


def _secret(password: str) -> dict[str, str]:
    files = {FILE: configuration(password), CREDENTIAL: f"{SERVICE}:{password}"}
    return {key: base64.b64encode(text.encode()).decode() for key, text in files.items()}


def _pod(redis: RedisSettings, account: pulumi.Input[str], secret: pulumi.Input[str]) -> kubernetes.core.v1.PodSpecArgs:
    container = kubernetes.core.v1.ContainerArgs(
        name=REDIS,
        image=redis.image,
        command=["redis-server", f"{DIRECTORY}/{FILE}"],
        ports=[kubernetes.core.v1.ContainerPortArgs(name="tcp-redis", container_port=PORT)],
        readiness_probe=kubernetes.core.v1.ProbeArgs(
            tcp_socket=kubernetes.core.v1.TCPSocketActionArgs(port="tcp-redis"), period_seconds=2
        ),
        resources=kubernetes.core.v1.ResourceRequirementsArgs(
            requests={"cpu": redis.resources.cpu, "memory": redis.resources.memory}, limits={"memory": MEMORY_LIMIT}
        ),
        security_context=restricted(USER),
        volume_mounts=[kubernetes.core.v1.VolumeMountArgs(name="configuration", mount_path=DIRECTORY, read_only=True)],
    )
    return kubernetes.core.v1.PodSpecArgs(
        service_account_name=account,
        enable_service_links=False,
        termination_grace_period_seconds=5,
        security_context=kubernetes.core.v1.PodSecurityContextArgs(fs_group=USER),
        containers=[container],
        volumes=[
            kubernetes.core.v1.VolumeArgs(
                name="configuration",
                secret=kubernetes.core.v1.SecretVolumeSourceArgs(
                    secret_name=secret,
                    default_mode=0o440,
                    # The password itself is not for Redis.
                    items=[kubernetes.core.v1.KeyToPathArgs(key=FILE, path=FILE)],
                ),
            )
        ],
    )
