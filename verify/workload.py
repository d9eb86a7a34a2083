"""What probe pods are made of."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import timedelta

from lightkube.core.resource import NamespacedResource
from lightkube.models.core_v1 import (
    Capabilities,
    Container,
    ContainerPort,
    EmptyDirVolumeSource,
    EnvVar,
    PodSpec,
    ResourceRequirements,
    SeccompProfile,
    SecurityContext,
    ServicePort,
    ServiceSpec,
    TCPSocketAction,
    Volume,
    VolumeMount,
)
from lightkube.models.core_v1 import Probe as KubernetesProbe
from lightkube.models.meta_v1 import ObjectMeta
from lightkube.resources.core_v1 import Pod, Service, ServiceAccount

LABELS = {"app.kubernetes.io/managed-by": "meshgate-verify"}
LIFETIME = timedelta(hours=1)
"""After that a probe pod stops by itself, and what is found of it is a killed run's."""

CONTAINER = "probe"
USER = 1000
"""Any user but root and the proxy's 1337, whose traffic is not intercepted."""

SERVER_PORT = 8080
FILES = "/probe"
"""Where an asking pod may keep files."""

TRUST = f"{FILES}/trust.pem"
"""The CAs that an asking pod trusts for hosts outside, where the settings name any."""


@dataclass(frozen=True)
class Workload:
    """A pod, with a service account of its own unless it is told another."""

    name: str
    in_mesh: bool
    """Whether it gets a sidecar."""

    serves: bool = False
    """Whether it answers http on port 80 of a Service of its name, instead of asking."""

    namespace: str | None = None
    """A namespace that exists; None: the run's own, which goes away with everything in it."""

    service_account: str | None = None
    """One that exists in that namespace."""

    revision: str | None = None
    """Without a namespace: what the label istio.io/rev of its own is, empty for none; the mesh's tag when None."""

    change: Callable[[Pod], None] | None = None
    """Makes of an ordinary pod the one that the probe needs."""


@dataclass(frozen=True)
class Images:
    """What the pods run."""

    asking: str
    """With sh, sleep and curl."""

    serving: str
    """Istio's proxyv2: every node of a mesh can pull it, and Envoy answers by itself."""


def manifests(
    workload: Workload, name: str, namespace: str, images: Images, trust: str | None
) -> Iterator[NamespacedResource]:
    """The objects of a workload, in the order in which they are made, the pod last; `trust` is PEM."""
    if workload.service_account is None:
        yield ServiceAccount(metadata=_metadata(name, namespace), automountServiceAccountToken=False)
    if workload.serves:
        port = ServicePort(name="http", port=80, targetPort=SERVER_PORT)
        yield Service(metadata=_metadata(name, namespace), spec=ServiceSpec(selector={"app": name}, ports=[port]))
    yield pod(workload, name, namespace, images, trust)


def pod(workload: Workload, name: str, namespace: str, images: Images, trust: str | None) -> Pod:
    """A workload's pod."""
    container = _server(images) if workload.serves else _asker(images, trust)
    container.resources = ResourceRequirements(requests={"cpu": "10m", "memory": "32Mi"})
    container.securityContext = SecurityContext(
        runAsNonRoot=True,
        runAsUser=USER,
        allowPrivilegeEscalation=False,
        readOnlyRootFilesystem=True,
        capabilities=Capabilities(drop=["ALL"]),
        seccompProfile=SeccompProfile(type="RuntimeDefault"),
    )
    made = Pod(
        metadata=_metadata(name, namespace, {"sidecar.istio.io/inject": str(workload.in_mesh).lower()}),
        spec=PodSpec(
            serviceAccountName=workload.service_account or name,
            automountServiceAccountToken=False,
            enableServiceLinks=False,
            restartPolicy="Never",
            terminationGracePeriodSeconds=0,
            activeDeadlineSeconds=int(LIFETIME.total_seconds()),
            containers=[container],
            volumes=[] if workload.serves else [Volume(name="files", emptyDir=EmptyDirVolumeSource(medium="Memory"))],
        ),
    )
    if workload.change is not None:
        workload.change(made)
    return made


def annotate(made: Pod, annotations: Mapping[str, str]) -> None:
    """Give a pod further annotations; for a workload's `change`."""
    assert made.metadata is not None
    made.metadata.annotations = {**(made.metadata.annotations or {}), **annotations}


def _metadata(name: str, namespace: str, labels: Mapping[str, str] | None = None) -> ObjectMeta:
    return ObjectMeta(name=name, namespace=namespace, labels={**LABELS, "app": name, **(labels or {})})


def _asker(images: Images, trust: str | None) -> Container:
    keep = f'printf %s "$TRUST" > {TRUST} && ' if trust else ""
    return Container(
        name=CONTAINER,
        image=images.asking,
        command=["sh", "-c", f"{keep}exec sleep {int(LIFETIME.total_seconds())}"],
        env=[EnvVar(name="TRUST", value=trust)] if trust else [],
        volumeMounts=[VolumeMount(name="files", mountPath=FILES)],
    )


def _server(images: Images) -> Container:
    """Envoy with one answer to everything."""
    manager = "envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager"
    router = "envoy.extensions.filters.http.router.v3.Router"
    answer = {"match": {"prefix": "/"}, "direct_response": {"status": 200, "body": {"inline_string": "meshgate\n"}}}
    connection_manager = {
        "@type": f"type.googleapis.com/{manager}",
        "stat_prefix": "http",
        "route_config": {"virtual_hosts": [{"name": "all", "domains": ["*"], "routes": [answer]}]},
        "http_filters": [
            {"name": "envoy.filters.http.router", "typed_config": {"@type": f"type.googleapis.com/{router}"}}
        ],
    }
    listener = {
        "address": {"socket_address": {"address": "0.0.0.0", "port_value": SERVER_PORT}},
        "filter_chains": [
            {"filters": [{"name": "envoy.filters.network.http_connection_manager", "typed_config": connection_manager}]}
        ],
    }
    config = json.dumps({"static_resources": {"listeners": [listener]}})
    return Container(
        name=CONTAINER,
        image=images.serving,
        # Hot restart needs shared memory, of which the pod's other Envoy has the segment of the same name.
        command=["envoy", "--disable-hot-restart", "--concurrency", "1", "--config-yaml", config],
        ports=[ContainerPort(name="http", containerPort=SERVER_PORT)],
        readinessProbe=KubernetesProbe(tcpSocket=TCPSocketAction(port=SERVER_PORT), periodSeconds=1),
    )
