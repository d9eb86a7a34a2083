"""Envoy on its own: what it runs in, and who reaches it."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pulumi
import pulumi_kubernetes as kubernetes
import yaml

from components.egress.network_policy import DNS_PORT, EVERYWHERE, LINK_LOCAL, blocks, namespace, tcp
from components.pod_security import RESTRICTED, restricted
from components.standalone_envoy.configuration import SYSTEM_CAS, demo, override
from settings.standalone_envoy import LISTENER_PORT, StandaloneEnvoySettings

NAME = "envoy"
USER = 101
"""envoy, in its image."""

DRAIN_SECONDS = 5
MEMORY_LIMIT = "256Mi"
DIRECTORY = "/etc/meshgate"
DEMO, OVERRIDE, CA = "envoy-demo.yaml", "envoy-override.yaml", "ca.pem"
"""Files in the ConfigMap."""

OVERRIDE_VARIABLE = "ENVOY_OVERRIDE"
"""The override's text, for the command line."""


@dataclass(kw_only=True)
class StandaloneEnvoyArgs:
    """Arguments of StandaloneEnvoy."""

    envoy: StandaloneEnvoySettings
    pod_cidr: pulumi.Input[str]
    service_cidr: pulumi.Input[str]
    """With the pods' the ranges that it sends nothing to."""


class StandaloneEnvoy(pulumi.ComponentResource):
    """A namespace with Envoy as a Deployment and a Service: port 10000 to a host outside by TLS.

    Source: KANS 7, Envoy. Reference: Envoy, "Quick start".
    """

    namespace: pulumi.Output[str]
    service: pulumi.Output[str]
    """Host name of the Service."""

    def __init__(self, name: str, args: StandaloneEnvoyArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("meshgate:standalone_envoy:StandaloneEnvoy", name, None, opts)
        child = pulumi.ResourceOptions(parent=self)
        envoy = args.envoy
        self.namespace = kubernetes.core.v1.Namespace(
            f"{name}-namespace",
            metadata=kubernetes.meta.v1.ObjectMetaArgs(
                name=envoy.namespace,
                labels=RESTRICTED,
            ),
            opts=child,
        ).metadata.name
        metadata = kubernetes.meta.v1.ObjectMetaArgs(name=NAME, namespace=self.namespace, labels={"app": NAME})

        text = files(envoy)
        configuration = kubernetes.core.v1.ConfigMap(f"{name}-configuration", metadata=metadata, data=text, opts=child)
        closed = kubernetes.networking.v1.NetworkPolicy(
            f"{name}-network",
            metadata=metadata,
            spec=pulumi.Output.all(args.pod_cidr, args.service_cidr).apply(lambda both: network_policy(envoy, *both)),
            opts=child,
        )
        deployment = kubernetes.apps.v1.Deployment(
            f"{name}-deployment",
            metadata=metadata,
            spec=kubernetes.apps.v1.DeploymentSpecArgs(
                replicas=1,
                selector=kubernetes.meta.v1.LabelSelectorArgs(match_labels={"app": NAME}),
                template=kubernetes.core.v1.PodTemplateSpecArgs(
                    metadata=kubernetes.meta.v1.ObjectMetaArgs(
                        labels={"app": NAME},
                        # Envoy reads its files once.
                        annotations={"meshgate.dev/configuration": _digest(text)},
                    ),
                    spec=_pod(envoy, configuration.metadata.name),
                ),
            ),
            # Who may connect is settled before there is anybody to connect to.
            opts=pulumi.ResourceOptions(parent=self, depends_on=[closed]),
        )
        ports = [kubernetes.core.v1.ServicePortArgs(name="http", port=LISTENER_PORT, target_port="http")]
        if envoy.admin.exposed:
            ports.append(
                kubernetes.core.v1.ServicePortArgs(name="http-admin", port=envoy.admin.port, target_port="admin")
            )
        service = kubernetes.core.v1.Service(
            f"{name}-service",
            metadata=metadata,
            spec=kubernetes.core.v1.ServiceSpecArgs(selector={"app": NAME}, ports=ports),
            opts=pulumi.ResourceOptions(parent=self, depends_on=[deployment]),
        )
        self.service = pulumi.Output.concat(
            service.metadata.name, ".", service.metadata.namespace, ".svc.cluster.local"
        )
        self.register_outputs({"namespace": self.namespace, "service": self.service})


def files(envoy: StandaloneEnvoySettings) -> dict[str, str]:
    """The ConfigMap's, by name; the upstream's CAs are among them where the settings name any."""
    cas = SYSTEM_CAS if envoy.upstream.ca is None else f"{DIRECTORY}/{CA}"
    return {
        DEMO: yaml.safe_dump(demo(envoy.upstream, cas), sort_keys=False),
        OVERRIDE: yaml.safe_dump(override(envoy.admin), sort_keys=False),
        **({CA: Path(envoy.upstream.ca).expanduser().read_text()} if envoy.upstream.ca is not None else {}),
    }


def network_policy(envoy: StandaloneEnvoySettings, pods: str, services: str) -> Any:
    """The spec. In: everybody in the cluster to the listener, its own namespace to any port, which may be the
    administration interface. Out: names, and the upstream's port outside the cluster."""
    dns = [namespace("kube-system"), *blocks([str(cidr) for cidr in envoy.dns_addresses])]
    return {
        "podSelector": {},
        "policyTypes": ["Ingress", "Egress"],
        "ingress": [
            {"from": [{"namespaceSelector": {}}], "ports": tcp(LISTENER_PORT)},
            {"from": [{"podSelector": {}}]},
        ],
        "egress": [
            {"to": dns, "ports": [{"port": DNS_PORT, "protocol": protocol} for protocol in ("UDP", "TCP")]},
            # To one another, for whoever asks from beside it.
            {"to": [{"podSelector": {}}]},
            {
                "to": [{"ipBlock": {"cidr": EVERYWHERE, "except": [pods, services, LINK_LOCAL]}}],
                "ports": tcp(envoy.upstream.port),
            },
        ],
    }


def _digest(text: dict[str, str]) -> str:
    return hashlib.sha256("".join(text.values()).encode()).hexdigest()


def _pod(envoy: StandaloneEnvoySettings, configuration: pulumi.Input[str]) -> kubernetes.core.v1.PodSpecArgs:
    ports = [kubernetes.core.v1.ContainerPortArgs(name="http", container_port=LISTENER_PORT)]
    if envoy.admin.exposed:
        ports.append(kubernetes.core.v1.ContainerPortArgs(name="admin", container_port=envoy.admin.port))
    container = kubernetes.core.v1.ContainerArgs(
        name=NAME,
        image=envoy.image,
        # As in the source document: --config-yaml takes the override's text, here without a shell.
        command=[
            *(NAME, "--config-path", f"{DIRECTORY}/{DEMO}", "--config-yaml", f"$({OVERRIDE_VARIABLE})"),
            # Not a thread for each of the node's CPUs, and no shared memory for a successor that never comes.
            *("--concurrency", "2", "--disable-hot-restart"),
            # Its log is written within a second, as by Istio's proxies, not within ten.
            *("--file-flush-interval-msec", "1000"),
        ],
        env=[
            kubernetes.core.v1.EnvVarArgs(
                name=OVERRIDE_VARIABLE,
                value_from=kubernetes.core.v1.EnvVarSourceArgs(
                    config_map_key_ref=kubernetes.core.v1.ConfigMapKeySelectorArgs(name=configuration, key=OVERRIDE)
                ),
            )
        ],
        ports=ports,
        readiness_probe=kubernetes.core.v1.ProbeArgs(
            tcp_socket=kubernetes.core.v1.TCPSocketActionArgs(port="http"), period_seconds=2
        ),
        # It ends when nobody sends it requests any more: the nodes learn of that a moment after it is to end.
        lifecycle=kubernetes.core.v1.LifecycleArgs(
            pre_stop=kubernetes.core.v1.LifecycleHandlerArgs(
                sleep=kubernetes.core.v1.SleepActionArgs(seconds=DRAIN_SECONDS)
            )
        ),
        resources=kubernetes.core.v1.ResourceRequirementsArgs(
            requests={"cpu": envoy.resources.cpu, "memory": envoy.resources.memory},
            limits={"memory": MEMORY_LIMIT},
        ),
        security_context=restricted(USER),
        volume_mounts=[
            kubernetes.core.v1.VolumeMountArgs(name="configuration", mount_path=DIRECTORY, read_only=True),
        ],
    )
    return kubernetes.core.v1.PodSpecArgs(
        automount_service_account_token=False,
        enable_service_links=False,
        node_selector=envoy.nodes.labels,
        tolerations=[
            kubernetes.core.v1.TolerationArgs(key=taint.key, operator="Equal", value=taint.value, effect=taint.effect)
            for taint in envoy.nodes.taints
        ],
        containers=[container],
        volumes=[
            kubernetes.core.v1.VolumeArgs(
                name="configuration", config_map=kubernetes.core.v1.ConfigMapVolumeSourceArgs(name=configuration)
            )
        ],
    )
