"""Short-lived pods that ask, or are asked, with the identity that a probe needs."""

from __future__ import annotations

import json
import secrets
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from types import TracebackType

from lightkube.models.core_v1 import (
    Capabilities,
    Container,
    ContainerPort,
    PodSpec,
    ResourceRequirements,
    SeccompProfile,
    SecurityContext,
    ServicePort,
    ServiceSpec,
    TCPSocketAction,
)
from lightkube.models.core_v1 import Probe as KubernetesProbe
from lightkube.models.meta_v1 import ObjectMeta
from lightkube.resources.core_v1 import Namespace, Pod, Service, ServiceAccount

from verify.envoy import CONTAINER as PROXY
from verify.envoy import Proxies
from verify.errors import VerifyError
from verify.kube import Kube
from verify.shell import Completed

LABELS = {"app.kubernetes.io/managed-by": "meshgate-verify"}
LIFETIME = timedelta(hours=1)
"""After that a probe pod stops by itself, and a namespace found is a killed run's."""

READY_TIMEOUT = 120
USER = 1000
"""Any user but root and the proxy's 1337, whose traffic is not intercepted."""

SERVER_PORT = 8080


@dataclass(frozen=True)
class Workload:
    """A pod with a service account of its own, both of this name."""

    name: str
    in_mesh: bool
    """Whether it gets a sidecar."""

    serves: bool = False
    """Whether it answers http on port 80 of a Service of its name, instead of asking."""


@dataclass(frozen=True)
class ProbePod:
    """A workload's pod, ready. A Shell."""

    workload: Workload
    namespace: str
    proxies: Proxies
    """Its sidecar."""

    @property
    def name(self) -> str:
        """What people call it."""
        return self.workload.name

    @property
    def host(self) -> str:
        """Name of the Service of a workload that serves."""
        return f"{self.workload.name}.{self.namespace}.svc.cluster.local"

    def spiffe_id(self, trust_domain: str) -> str:
        """The identity that the mesh gives it."""
        return f"spiffe://{trust_domain}/ns/{self.namespace}/sa/{self.workload.name}"

    def run(self, command: Sequence[str], timeout: float) -> Completed:
        """Run a command in it, as `Shell.run` says."""
        return self.proxies.kube.run(self.namespace, self.workload.name, "probe", command, timeout)


@dataclass(frozen=True)
class Images:
    """What the pods run."""

    asking: str
    """With sh, sleep and curl."""

    serving: str
    """Istio's proxyv2: every node of a mesh can pull it, and Envoy answers by itself."""


class Pods:
    """The probe pods of one run, in a namespace of their own.

    On leaving the `with` block the namespace is deleted, with everything in it.
    """

    def __init__(
        self, kube: Kube, revision_tag: str, images: Images, stop: threading.Event, tell: Callable[[str], None]
    ) -> None:
        self.namespace = f"meshgate-verify-{secrets.token_hex(4)}"
        self._kube = kube
        self._revision_tag = revision_tag
        self._images = images
        self._stop = stop
        self._tell = tell
        self._started: dict[Workload, float | VerifyError] = {}
        """When its pod was created, or why it could not be."""

    def __enter__(self) -> Pods:
        for namespace in self._kube.namespaces(LABELS):
            metadata = namespace.metadata
            if metadata is None or metadata.creationTimestamp is None or metadata.name is None:
                continue
            if metadata.deletionTimestamp is None and datetime.now(UTC) - metadata.creationTimestamp > LIFETIME:
                self._tell(f"deleting namespace {metadata.name}, left over from a killed run")
                self._kube.delete_namespace(metadata.name)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if not self._started:
            return
        self._tell(f"deleting namespace {self.namespace}")
        try:
            self._kube.delete_namespace(self.namespace)
        except VerifyError as problem:
            # What was seen is worth more than this; the next run takes the rest away.
            self._tell(str(problem))

    def start(self, workloads: Iterable[Workload]) -> None:
        """Create the namespace and the workloads' pods, without waiting for them; what goes wrong `get` tells."""
        for workload in sorted(set(workloads), key=lambda workload: workload.name):
            try:
                if not self._started:
                    self._tell(f"creating namespace {self.namespace} for probe pods")
                    self._create_namespace()
                self._create(workload)
                self._started[workload] = time.monotonic()
            except VerifyError as error:
                self._started[workload] = error

    def get(self, workload: Workload) -> ProbePod:
        """A started workload's pod, as soon as it is ready. Raises VerifyError when it does not come up."""
        started = self._started[workload]
        if isinstance(started, VerifyError):
            raise started
        self._await_ready(workload, started + READY_TIMEOUT)
        return ProbePod(
            workload, self.namespace, Proxies(self._kube, self._stop, self.namespace, {"app": workload.name})
        )

    def _create_namespace(self) -> None:
        self._kube.create(
            Namespace(metadata=ObjectMeta(name=self.namespace, labels={**LABELS, "istio.io/rev": self._revision_tag}))
        )

    def _create(self, workload: Workload) -> None:
        metadata = ObjectMeta(
            name=workload.name,
            namespace=self.namespace,
            labels={**LABELS, "app": workload.name, "sidecar.istio.io/inject": str(workload.in_mesh).lower()},
        )
        self._kube.create(ServiceAccount(metadata=metadata, automountServiceAccountToken=False))
        if workload.serves:
            port = ServicePort(name="http", port=80, targetPort=SERVER_PORT)
            self._kube.create(
                Service(metadata=metadata, spec=ServiceSpec(selector={"app": workload.name}, ports=[port]))
            )
        self._kube.create(Pod(metadata=metadata, spec=self._spec(workload)))

    def _spec(self, workload: Workload) -> PodSpec:
        lifetime = int(LIFETIME.total_seconds())
        container = Container(
            name="probe",
            image=self._images.serving if workload.serves else self._images.asking,
            command=_server() if workload.serves else ["sleep", str(lifetime)],
            resources=ResourceRequirements(requests={"cpu": "10m", "memory": "32Mi"}),
            securityContext=SecurityContext(
                runAsNonRoot=True,
                runAsUser=USER,
                allowPrivilegeEscalation=False,
                readOnlyRootFilesystem=True,
                capabilities=Capabilities(drop=["ALL"]),
                seccompProfile=SeccompProfile(type="RuntimeDefault"),
            ),
        )
        if workload.serves:
            container.ports = [ContainerPort(name="http", containerPort=SERVER_PORT)]
            container.readinessProbe = KubernetesProbe(tcpSocket=TCPSocketAction(port=SERVER_PORT), periodSeconds=1)
        return PodSpec(
            serviceAccountName=workload.name,
            automountServiceAccountToken=False,
            enableServiceLinks=False,
            restartPolicy="Never",
            terminationGracePeriodSeconds=0,
            activeDeadlineSeconds=lifetime,
            containers=[container],
        )

    def _await_ready(self, workload: Workload, end: float) -> None:
        while True:
            pod = self._kube.pod(self.namespace, workload.name)
            if workload.in_mesh and PROXY not in _containers(pod):
                raise VerifyError(
                    f"pod {workload.name} got no sidecar although its namespace has the label "
                    f"istio.io/rev={self._revision_tag}: does the mesh still have that revision tag?"
                )
            conditions = (pod.status and pod.status.conditions) or []
            if any(condition.type == "Ready" and condition.status == "True" for condition in conditions):
                return
            if time.monotonic() > end or self._stop.wait(0.5):
                raise VerifyError(
                    f"pod {self.namespace}/{workload.name} is not ready after {READY_TIMEOUT} seconds: {_reason(pod)}"
                )


def _server() -> list[str]:
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
    # Hot restart needs shared memory, of which the pod's other Envoy has the segment of the same name.
    return ["envoy", "--disable-hot-restart", "--concurrency", "1", "--config-yaml", config]


def _containers(pod: Pod) -> set[str]:
    assert pod.spec is not None
    return {container.name for container in [*pod.spec.containers, *(pod.spec.initContainers or [])]}


def _reason(pod: Pod) -> str:
    """Why a pod is not ready, in Kubernetes' words."""
    status = pod.status
    if status is None:
        return "it has no status"
    for container in [*(status.initContainerStatuses or []), *(status.containerStatuses or [])]:
        waiting = container.state and container.state.waiting
        if waiting and waiting.reason != "PodInitializing":
            return f"container {container.name}: {waiting.reason}{': ' + waiting.message if waiting.message else ''}"
    for condition in status.conditions or []:
        if condition.status != "True" and condition.message:
            return condition.message
    return f"phase {status.phase}"
