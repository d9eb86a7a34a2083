"""Prometheus: the metrics of istiod, of every proxy, and of what else asks for it by annotations."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pulumi
import pulumi_kubernetes as kubernetes
import yaml

from components.egress.network_policy import EVERYWHERE, tcp
from components.observability.program import DIRECTORY, NEIGHBOURS, Program, policy, program
from settings.observability import ObservabilitySettings

NAME = "prometheus"
PORT = 9090
FILE = "prometheus.yaml"
DATA = "/prometheus"

ISTIOD_JOB, PROXIES_JOB, PODS_JOB = "istiod", "istio-proxies", "pods"
ISTIOD_PORT = 15014

TIMEOUT_SECONDS = 10
"""How long an answer may take, and never longer than the next question."""

_POD = "__meta_kubernetes_pod"
_ANNOTATION = f"{_POD}_annotation_prometheus_io"
_INJECTED = f"{_POD}_annotationpresent_sidecar_istio_io_status"
"""Whether Istio's injector has made the pod's proxy, a gateway's too; it writes the other annotations then."""


@dataclass(kw_only=True)
class PrometheusArgs:
    """Arguments of Prometheus."""

    observability: ObservabilitySettings
    namespace: pulumi.Input[str]
    mesh_namespace: pulumi.Input[str]
    """Where istiod is."""


class Prometheus(pulumi.ComponentResource):
    """A Deployment that may read the cluster's pods and nothing else, with its configuration, Service and storage.

    Each pod says by its annotations prometheus.io/scrape, port, path and scheme whether and where it is asked; Istio's
    injector writes them. References: Istio, "Prometheus" (integrations); Prometheus, "Configuration".
    """

    url: pulumi.Output[str]
    """Inside the cluster, known when it is ready."""

    def __init__(self, name: str, args: PrometheusArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("meshgate:observability:Prometheus", name, None, opts)
        child = pulumi.ResourceOptions(parent=self)
        settings = args.observability.prometheus
        account = self._account(name, args, child)
        service = program(
            name,
            Program(
                name=NAME,
                image=settings.image,
                file=FILE,
                text=pulumi.Output.from_input(args.mesh_namespace).apply(
                    lambda mesh: configuration(settings.scrape_seconds, mesh)
                ),
                command=[NAME],
                args=[
                    f"--config.file={DIRECTORY}/{FILE}",
                    f"--storage.tsdb.path={DATA}",
                    f"--storage.tsdb.retention.time={settings.retention}",
                    f"--storage.tsdb.retention.size={settings.storage.kept}",
                ],
                ports={"http": PORT},
                ready=("/-/ready", PORT),
                metrics_port=PORT,
                resources=settings.resources,
                memory_limit=settings.memory_limit,
                volume=(DATA, self._volume(name, args, child)),
                account=account,
                network_policy=network_policy(args.observability.api_server_ports),
            ),
            namespace=args.namespace,
            opts=child,
            parent=self,
        )
        self.url = pulumi.Output.concat(
            "http://", service.metadata.name, ".", service.metadata.namespace, f".svc.cluster.local:{PORT}"
        )
        self.register_outputs({"url": self.url})

    def _account(self, name: str, args: PrometheusArgs, opts: pulumi.ResourceOptions) -> pulumi.Output[str]:
        """Its service account, which may see pods everywhere."""
        metadata = kubernetes.meta.v1.ObjectMetaArgs(name=NAME, namespace=args.namespace)
        account = kubernetes.core.v1.ServiceAccount(
            f"{name}-account", metadata=metadata, automount_service_account_token=False, opts=opts
        )
        # Of the whole cluster, so named after the namespace.
        everywhere = kubernetes.meta.v1.ObjectMetaArgs(name=f"{args.observability.namespace}-{NAME}")
        role = kubernetes.rbac.v1.ClusterRole(
            f"{name}-role",
            metadata=everywhere,
            rules=[
                kubernetes.rbac.v1.PolicyRuleArgs(api_groups=[""], resources=["pods"], verbs=["get", "list", "watch"])
            ],
            opts=opts,
        )
        kubernetes.rbac.v1.ClusterRoleBinding(
            f"{name}-binding",
            metadata=everywhere,
            role_ref=kubernetes.rbac.v1.RoleRefArgs(
                api_group="rbac.authorization.k8s.io", kind="ClusterRole", name=role.metadata.name
            ),
            subjects=[
                kubernetes.rbac.v1.SubjectArgs(
                    kind="ServiceAccount", name=account.metadata.name, namespace=args.namespace
                )
            ],
            opts=opts,
        )
        return account.metadata.name

    def _volume(self, name: str, args: PrometheusArgs, opts: pulumi.ResourceOptions) -> kubernetes.core.v1.VolumeArgs:
        storage = args.observability.prometheus.storage
        if not storage.persistent:
            return kubernetes.core.v1.VolumeArgs(
                name="data", empty_dir=kubernetes.core.v1.EmptyDirVolumeSourceArgs(size_limit=storage.size)
            )
        claim = kubernetes.core.v1.PersistentVolumeClaim(
            f"{name}-claim",
            metadata=kubernetes.meta.v1.ObjectMetaArgs(
                name=NAME,
                namespace=args.namespace,
                # Many storage classes bind it only when its pod comes.
                annotations={"pulumi.com/skipAwait": "true"},
            ),
            spec=kubernetes.core.v1.PersistentVolumeClaimSpecArgs(
                access_modes=["ReadWriteOnce"],
                storage_class_name=storage.storage_class,
                resources=kubernetes.core.v1.VolumeResourceRequirementsArgs(requests={"storage": storage.size}),
            ),
            opts=opts,
        )
        return kubernetes.core.v1.VolumeArgs(
            name="data",
            persistent_volume_claim=kubernetes.core.v1.PersistentVolumeClaimVolumeSourceArgs(
                claim_name=claim.metadata.name
            ),
        )


def configuration(scrape_seconds: int, mesh_namespace: str) -> str:
    """Prometheus' configuration file.

    Every series has the labels namespace, pod, app and version of its pod. A name that a target gives itself is kept
    as exported_<name>.
    """
    interval = f"{scrape_seconds}s"
    return yaml.safe_dump(
        {
            "global": {
                "scrape_interval": interval,
                "scrape_timeout": f"{min(TIMEOUT_SECONDS, scrape_seconds)}s",
                "evaluation_interval": interval,
            },
            "scrape_configs": [
                {
                    "job_name": ISTIOD_JOB,
                    "kubernetes_sd_configs": [
                        {
                            "role": "pod",
                            "namespaces": {"names": [mesh_namespace]},
                            "selectors": [{"role": "pod", "label": "app=istiod"}],
                        }
                    ],
                    "relabel_configs": [
                        # A pod is found once for each of its ports.
                        _only("keep", f"{_POD}_container_port_number", str(ISTIOD_PORT)),
                        *_live(),
                        *_names(),
                        _copied(f"{_POD}_label_istio_io_rev", "revision"),
                    ],
                },
                {
                    "job_name": PROXIES_JOB,
                    "kubernetes_sd_configs": [{"role": "pod"}],
                    "relabel_configs": [_only("keep", _INJECTED, "true"), *_annotated(), *_live(), *_names()],
                },
                {
                    "job_name": PODS_JOB,
                    "kubernetes_sd_configs": [{"role": "pod"}],
                    "relabel_configs": [
                        _only("drop", _INJECTED, "true"),
                        _only("drop", f"{_POD}_label_app", "istiod"),
                        *_annotated(),
                        *_live(),
                        *_names(),
                    ],
                },
            ],
        },
        sort_keys=False,
    )


def network_policy(api_server_ports: Sequence[int]) -> dict[str, Any]:
    """The spec. In: its neighbours. Out: any port of any pod, as annotations say, and the API server."""
    return policy(
        NAME,
        ingress=[{"from": [NEIGHBOURS], "ports": tcp(PORT)}],
        egress=[
            {"to": [{"namespaceSelector": {}}]},
            {"to": [{"ipBlock": {"cidr": EVERYWHERE}}], "ports": tcp(*api_server_ports)},
        ],
    )


def _only(action: str, label: str, value: str) -> dict[str, Any]:
    return {"action": action, "source_labels": [label], "regex": value}


def _copied(label: str, name: str) -> dict[str, Any]:
    """A label of the series, where the pod has one to copy."""
    return {"source_labels": [label], "regex": "(.+)", "target_label": name}


def _live() -> list[dict[str, Any]]:
    return [_only("drop", f"{_POD}_phase", "Pending|Succeeded|Failed")]


def _annotated() -> list[dict[str, Any]]:
    """Where a pod says that it is asked."""
    return [
        _only("keep", f"{_ANNOTATION}_scrape", "true"),
        {"source_labels": [f"{_ANNOTATION}_scheme"], "regex": "(https?)", "target_label": "__scheme__"},
        {"source_labels": [f"{_ANNOTATION}_path"], "regex": "(.+)", "target_label": "__metrics_path__"},
        # Whatever port it was found by: all finds of a pod become one target.
        {
            "source_labels": [f"{_POD}_ip", f"{_ANNOTATION}_port"],
            "regex": r"(.+);(\d+)",
            "replacement": "$1:$2",
            "target_label": "__address__",
        },
    ]


def _names() -> list[dict[str, Any]]:
    """Whose series they are."""
    return [
        _copied("__meta_kubernetes_namespace", "namespace"),
        _copied(f"{_POD}_name", "pod"),
        # The labels that Kubernetes recommends, and over them those that Istio's own programs have.
        _copied(f"{_POD}_label_app_kubernetes_io_name", "app"),
        _copied(f"{_POD}_label_app", "app"),
        _copied(f"{_POD}_label_app_kubernetes_io_version", "version"),
        _copied(f"{_POD}_label_version", "version"),
    ]
