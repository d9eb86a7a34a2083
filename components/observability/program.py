"""A program with one configuration file and one pod, open to nobody but who has to come."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pulumi
import pulumi_kubernetes as kubernetes

from components.pod_security import restricted
from settings.model import Resources

DIRECTORY = "/etc/meshgate"
"""Where the configuration file is."""

USER = 65534
"""Nobody; the volume is its own."""

NAME_LABEL = "app.kubernetes.io/name"
"""On the pods of all programs, those of charts too."""

INJECT_LABEL = "sidecar.istio.io/inject"
"""These pods have no sidecar: what they measure must not depend on what they measure it with."""


@dataclass(frozen=True, kw_only=True)
class Program:
    """What differs from program to program."""

    name: str
    """Of its objects, and its pod's label."""

    image: str
    file: str
    """Name of its configuration file."""

    text: pulumi.Input[str]
    """The file; another one makes the pod anew, as programs read it once."""

    args: Sequence[str]
    command: Sequence[str] | None = None
    """The image's own when None."""

    ports: Mapping[str, int]
    """Of its container and its Service, by name."""

    ready: tuple[str, int]
    """Path and port that answer 200 when it works."""

    metrics_port: int
    resources: Resources
    memory_limit: str
    volume: tuple[str, kubernetes.core.v1.VolumeArgs] | None = None
    """Where it writes, and to what."""

    account: pulumi.Input[str] | None = None
    """A service account whose token it has; none when None."""

    network_policy: pulumi.Input[Any]
    """The spec, for its pods."""


def program(
    name: str, made: Program, *, namespace: pulumi.Input[str], opts: pulumi.ResourceOptions, parent: pulumi.Resource
) -> kubernetes.core.v1.Service:
    """Make the ConfigMap, NetworkPolicy, Deployment and Service; the Service comes when the program is ready.

    Resources are named <name>-configuration, -network, -deployment and -service.
    """
    labels = {NAME_LABEL: made.name}
    metadata = kubernetes.meta.v1.ObjectMetaArgs(name=made.name, namespace=namespace, labels=labels)
    file = kubernetes.core.v1.ConfigMap(
        f"{name}-configuration", metadata=metadata, data={made.file: made.text}, opts=opts
    )
    closed = kubernetes.networking.v1.NetworkPolicy(
        f"{name}-network", metadata=metadata, spec=made.network_policy, opts=opts
    )
    digest = pulumi.Output.from_input(made.text).apply(lambda text: hashlib.sha256(text.encode()).hexdigest())
    deployment = kubernetes.apps.v1.Deployment(
        f"{name}-deployment",
        metadata=metadata,
        spec=kubernetes.apps.v1.DeploymentSpecArgs(
            replicas=1,
            # Two at once would write to one volume.
            strategy=kubernetes.apps.v1.DeploymentStrategyArgs(type="Recreate"),
            selector=kubernetes.meta.v1.LabelSelectorArgs(match_labels=labels),
            template=kubernetes.core.v1.PodTemplateSpecArgs(
                metadata=kubernetes.meta.v1.ObjectMetaArgs(
                    labels={**labels, INJECT_LABEL: "false"},
                    annotations={
                        "meshgate.dev/configuration": digest,
                        "prometheus.io/scrape": "true",
                        "prometheus.io/port": str(made.metrics_port),
                    },
                ),
                spec=_pod(made, file.metadata.name),
            ),
        ),
        opts=pulumi.ResourceOptions(parent=parent, depends_on=[closed]),
    )
    return kubernetes.core.v1.Service(
        f"{name}-service",
        metadata=metadata,
        spec=kubernetes.core.v1.ServiceSpecArgs(
            selector=labels,
            ports=[
                kubernetes.core.v1.ServicePortArgs(name=port_name, port=port, target_port=port_name)
                for port_name, port in made.ports.items()
            ],
        ),
        opts=pulumi.ResourceOptions(parent=parent, depends_on=[deployment]),
    )


def policy(name: str, ingress: Sequence[Any], egress: Sequence[Any]) -> dict[str, Any]:
    """Spec of a NetworkPolicy around a program's pods. The kubelet's probes come from the node and pass."""
    return {
        "podSelector": {"matchLabels": {NAME_LABEL: name}},
        "policyTypes": ["Ingress", "Egress"],
        "ingress": list(ingress),
        "egress": list(egress),
    }


def pods(name: str) -> dict[str, Any]:
    """The pods of a program in the same namespace, in NetworkPolicies."""
    return {"podSelector": {"matchLabels": {NAME_LABEL: name}}}


NEIGHBOURS: Mapping[str, Any] = {"podSelector": {}}
"""All pods of the namespace: whoever may make pods there may look at what is there."""


def _pod(made: Program, file: pulumi.Input[str]) -> kubernetes.core.v1.PodSpecArgs:
    path, ready_port = made.ready
    where, volume = made.volume or (None, None)
    container = kubernetes.core.v1.ContainerArgs(
        name=made.name,
        image=made.image,
        command=list(made.command) if made.command else None,
        args=list(made.args),
        ports=[
            kubernetes.core.v1.ContainerPortArgs(name=port_name, container_port=port)
            for port_name, port in made.ports.items()
        ],
        readiness_probe=kubernetes.core.v1.ProbeArgs(
            http_get=kubernetes.core.v1.HTTPGetActionArgs(path=path, port=ready_port), period_seconds=2
        ),
        resources=kubernetes.core.v1.ResourceRequirementsArgs(
            requests={"cpu": made.resources.cpu, "memory": made.resources.memory},
            limits={"memory": made.memory_limit},
        ),
        security_context=restricted(USER),
        volume_mounts=[
            kubernetes.core.v1.VolumeMountArgs(name="configuration", mount_path=DIRECTORY, read_only=True),
            *([kubernetes.core.v1.VolumeMountArgs(name=volume.name, mount_path=where)] if volume and where else []),
        ],
    )
    return kubernetes.core.v1.PodSpecArgs(
        service_account_name=made.account,
        automount_service_account_token=made.account is not None,
        enable_service_links=False,
        termination_grace_period_seconds=30,
        security_context=kubernetes.core.v1.PodSecurityContextArgs(fs_group=USER),
        containers=[container],
        volumes=[
            kubernetes.core.v1.VolumeArgs(
                name="configuration", config_map=kubernetes.core.v1.ConfigMapVolumeSourceArgs(name=file)
            ),
            *([volume] if volume else []),
        ],
    )
