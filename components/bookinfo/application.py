"""Bookinfo's four applications: Services, Deployments and who they are."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pulumi
import pulumi_kubernetes as kubernetes

from components.bookinfo.stages import FAULTY, PORT, account
from components.ingress.application import USER, application_pod
from components.mesh.gateway_chart import pod_annotations
from settings.bookinfo import BookinfoSettings

USERS: Mapping[str, int] = {"reviews": 1001}
"""Users that the images are made for, where it is not the usual one: the server's files are its group's."""

WRITES: Mapping[str, tuple[str, ...]] = {"productpage": ("/tmp",), "reviews": ("/tmp", "/opt/ibm/wlp/output")}
"""Directories in which applications keep files."""

ENV: Mapping[str, Mapping[str, str]] = {"reviews": {"LOG_DIR": "/tmp/logs"}}


def service(name: str, app: str, namespace: pulumi.Input[str], opts: pulumi.ResourceOptions) -> None:
    """The Service of all versions of an application."""
    kubernetes.core.v1.Service(
        f"{name}-service-{app}",
        metadata=kubernetes.meta.v1.ObjectMetaArgs(name=app, namespace=namespace, labels={"app": app, "service": app}),
        spec=kubernetes.core.v1.ServiceSpecArgs(
            selector={"app": app},
            ports=[kubernetes.core.v1.ServicePortArgs(name="http", port=PORT, target_port="http")],
        ),
        opts=opts,
    )


def service_account(
    name: str, app: str, namespace: pulumi.Input[str], opts: pulumi.ResourceOptions
) -> pulumi.Output[str]:
    """The ServiceAccount of all versions of an application; its name."""
    return kubernetes.core.v1.ServiceAccount(
        f"{name}-serviceaccount-{app}",
        metadata=kubernetes.meta.v1.ObjectMetaArgs(name=account(app), namespace=namespace, labels={"account": app}),
        opts=opts,
    ).metadata.name


def deployment(
    name: str,
    app: str,
    version: str,
    *,
    bookinfo: BookinfoSettings,
    namespace: pulumi.Input[str],
    service_account: pulumi.Input[str],
    revision: pulumi.Input[str] | None,
    opts: pulumi.ResourceOptions,
) -> kubernetes.apps.v1.Deployment:
    """The Deployment <app>-<version>. With another `revision`, or none, its pods are made anew."""
    labels = {"app": app, "version": version}
    env = dict(ENV.get(app, {}))
    image = bookinfo.images.of(app, version)
    if version == FAULTY:
        # It has no image of its own: that of v1 behaves as it is told.
        image = bookinfo.images.of(app, "v1")
        env["SERVICE_VERSION"] = FAULTY
    return kubernetes.apps.v1.Deployment(
        f"{name}-deployment-{app}-{version}",
        metadata=kubernetes.meta.v1.ObjectMetaArgs(name=f"{app}-{version}", namespace=namespace, labels=labels),
        spec=kubernetes.apps.v1.DeploymentSpecArgs(
            selector=kubernetes.meta.v1.LabelSelectorArgs(match_labels=labels),
            template=kubernetes.core.v1.PodTemplateSpecArgs(
                metadata=kubernetes.meta.v1.ObjectMetaArgs(
                    labels=labels,
                    annotations=None
                    if revision is None
                    else pod_annotations(revision, proxy_config(bookinfo.namespace)),
                ),
                spec=application_pod(
                    app,
                    image,
                    account=service_account,
                    port=PORT,
                    env=env,
                    writes=WRITES.get(app, ()),
                    user=USERS.get(app, USER),
                    resources=bookinfo.resources,
                ),
            ),
        ),
        opts=opts,
    )


def proxy_config(namespace: str) -> dict[str, Any]:
    """What the applications' sidecars have besides the mesh's configuration."""
    service = rf"[a-z]+\.{namespace}\.svc\..*"
    counted = r"(upstream_rq_.*|upstream_cx_overflow|outlier_detection\..*|circuit_breakers\..*)"
    return {
        # A circuit breaker's limits are the proxy's, but each of its threads may have one connection more.
        "concurrency": 1,
        # Istio leaves them out, but they tell what a proxy has refused, tried again or taken out.
        "proxyStatsMatcher": {
            "inclusionRegexps": [
                rf"cluster\.outbound\|{PORT}\|[^|]*\|{service}\.{counted}",
                rf"cluster\.inbound\|{PORT}\|.*\.upstream_rq_.*",
                r"http\.inbound.*\.rbac\..*",
            ]
        },
    }
