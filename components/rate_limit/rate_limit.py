"""The scenario `rate_limit` as one component."""

from __future__ import annotations

from dataclasses import dataclass

import pulumi
import pulumi_kubernetes as kubernetes

from components.egress.custom_resource import custom_resource
from components.ingress.application import http_application
from components.mesh.revisions import Revisions
from components.rate_limit.limits import (
    APPLICATION,
    REPLICAS,
    SERVICE,
    envoy_filter,
    global_filter,
    local_filter,
)
from components.rate_limit.redis import Redis, RedisArgs
from components.rate_limit.service import Service, ServiceArgs
from settings.rate_limit import RateLimitSettings

PORT = 8080
"""Where the application listens."""


@dataclass(kw_only=True)
class RateLimitArgs:
    """Arguments of RateLimit."""

    rate_limit: RateLimitSettings
    revisions: Revisions
    """The mesh whose sidecars its pods get."""

    trust_domain: pulumi.Input[str]


class RateLimit(pulumi.ComponentResource):
    """An application whose sidecars limit what comes in: by themselves, and as the rate-limit service says.

    Source: Istio, Traffic Management (Rate Limit). Reference: Istio, "Enabling Rate Limits using Envoy".
    """

    namespace: pulumi.Output[str]

    def __init__(self, name: str, args: RateLimitArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("meshgate:rate_limit:RateLimit", name, None, opts)
        child = pulumi.ResourceOptions(parent=self)
        settings = args.rate_limit
        revision = args.revisions.serving(settings.namespace)
        self.namespace = kubernetes.core.v1.Namespace(
            f"{name}-namespace",
            metadata=kubernetes.meta.v1.ObjectMetaArgs(
                name=settings.namespace, labels={"istio.io/rev": args.revisions.label(settings.namespace)}
            ),
            opts=child,
        ).metadata.name

        def principal(account: str) -> pulumi.Output[str]:
            return pulumi.Output.concat(args.trust_domain, "/ns/", self.namespace, "/sa/", account)

        redis = Redis(
            f"{name}-redis",
            RedisArgs(
                redis=settings.redis,
                namespace=self.namespace,
                identity=principal(SERVICE),
                metrics_from=settings.metrics_from,
                revision=revision,
            ),
            opts=child,
        )
        service = Service(
            f"{name}-service",
            ServiceArgs(
                service=settings.service,
                limits=settings.global_limits,
                namespace=self.namespace,
                domain=settings.namespace,
                client=principal(APPLICATION),
                store=redis,
                revision=revision,
            ),
            opts=child,
        )
        http_application(
            name,
            APPLICATION,
            settings.application_image,
            namespace=self.namespace,
            port=PORT,
            replicas=REPLICAS,
            annotations={"meshgate.dev/revision": revision},
            opts=child,
        )
        asking = global_filter(settings.global_limits, settings.namespace, settings.failure_mode)
        for filter_name, http_filter, after in (
            ("local-ratelimit", local_filter(settings.local_limits), []),
            # A sidecar refuses a filter that names a service which it does not know.
            ("ratelimit", asking, [service.ready]),
        ):
            custom_resource(
                f"{name}-{filter_name}",
                "networking.istio.io/v1alpha3",
                "EnvoyFilter",
                filter_name,
                self.namespace,
                envoy_filter(http_filter),
                opts=pulumi.ResourceOptions(parent=self, depends_on=after),
            )
        self.register_outputs({"namespace": self.namespace})
