"""Short-lived pods that ask, or are asked, with the identity that a probe needs."""

from __future__ import annotations

import secrets
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from types import TracebackType
from typing import Any

from lightkube.core.resource import NamespacedResource
from lightkube.models.core_v1 import PodCondition
from lightkube.models.meta_v1 import ObjectMeta
from lightkube.resources.core_v1 import Namespace, Pod, Service, ServiceAccount

from verify import workload as manifests
from verify.envoy import CONTAINER as PROXY
from verify.envoy import Proxies
from verify.errors import VerifyError
from verify.kube import Kube
from verify.shell import Completed
from verify.workload import CONTAINER, LABELS, LIFETIME, Images, Workload

NAME = "meshgate-verify"
"""What namespaces and, in namespaces of others, objects are called, with the run's random suffix."""

READY_TIMEOUT = 120
SCHEDULING_TIMEOUT = 15


@dataclass(frozen=True)
class ProbePod:
    """A workload's pod, ready. A Shell."""

    workload: Workload
    pod: str
    """Its name in the cluster."""

    namespace: str
    proxies: Proxies
    """Its sidecar."""

    @property
    def name(self) -> str:
        """What people call it."""
        return self.workload.name if self.workload.namespace is None else f"{self.namespace}/{self.workload.name}"

    @property
    def host(self) -> str:
        """Name of the Service of a workload that serves."""
        return f"{self.pod}.{self.namespace}.svc.cluster.local"

    def spiffe_id(self, trust_domain: str) -> str:
        """The identity that the mesh gives it."""
        return f"spiffe://{trust_domain}/ns/{self.namespace}/sa/{self.workload.service_account or self.pod}"

    def run(self, command: Sequence[str], timeout: float, stdin: str = "") -> Completed:
        """Run a command in it, as `Shell.run` says."""
        return self.proxies.kube.run(self.namespace, self.pod, CONTAINER, command, timeout, stdin)


class Pods:
    """The probe pods of one run, in namespaces of its own, one for each revision, and in those where others' pods are.

    On leaving the `with` block its namespaces are deleted, with everything in them, and each object elsewhere.
    """

    def __init__(
        self,
        kube: Kube,
        revision_tag: str | None,
        images: Images,
        stop: threading.Event,
        tell: Callable[[str], None],
        trust: str | None = None,
    ) -> None:
        self._suffix = secrets.token_hex(4)
        self.namespace = f"{NAME}-{self._suffix}"
        self._kube = kube
        self._revision_tag = revision_tag
        self._images = images
        self._stop = stop
        self._tell = tell
        self._trust = trust
        self._starting = threading.Lock()
        self._namespaces: list[str] = []
        self._elsewhere: list[NamespacedResource] = []
        self._started: dict[Workload, float | VerifyError] = {}
        """When its pod was created, or why it could not be."""

    def __enter__(self) -> Pods:
        now = datetime.now(UTC)
        for namespace in self._kube.namespaces(LABELS):
            metadata = namespace.metadata
            if metadata and metadata.deletionTimestamp is None and _old(metadata, now):
                self._tell(f"deleting namespace {metadata.name}, left over from a killed run")
                self._kube.delete_namespace(str(metadata.name))
        for kind in (Pod, Service, ServiceAccount):
            for item in self._kube.everywhere(kind, LABELS):
                metadata = _metadata(item)
                # What is in a run's own namespace goes away with that.
                if not str(metadata.namespace).startswith(f"{NAME}-") and _old(metadata, now):
                    self._tell(
                        f"deleting {kind.__name__} {metadata.namespace}/{metadata.name}, left over from a killed run"
                    )
                    self._kube.delete(kind, str(metadata.namespace), str(metadata.name))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for namespace in self._namespaces:
            self._tell(f"deleting namespace {namespace}")
            self._without_fail(partial(self._kube.delete_namespace, namespace))
        if self._elsewhere:
            self._tell("deleting probe pods in other namespaces")
        for item in reversed(self._elsewhere):
            self._without_fail(partial(self._delete, item))

    def start(self, workloads: Iterable[Workload]) -> None:
        """Create the workloads' pods, without waiting for them; what goes wrong `get` tells.

        Those that are there already stay. One that could not be created is tried once more after the others: so many
        at a time can be too much for the injector, whom the API server does not wait for long.
        """
        wanted = set(workloads)
        with self._starting:
            for _ in range(2):
                there = {workload for workload, began in self._started.items() if not isinstance(began, VerifyError)}
                for workload in sorted(wanted - there, key=lambda one: (one.namespace or "", one.name)):
                    try:
                        self._create(workload)
                        self._started[workload] = time.monotonic()
                    except VerifyError as error:
                        self._started[workload] = error

    def settle(self) -> None:
        """Wait for the started pods; one that does not come up `get` tells.

        What is asked while nodes are busy with starting them looks broken when it is slow.
        """
        began = sum(not isinstance(one, VerifyError) for one in self._started.values())
        if began:
            self._tell(f"waiting for {began} probe pods")
        for workload in self._started:
            with suppress(VerifyError):
                self.get(workload)

    def get(self, workload: Workload) -> ProbePod:
        """A started workload's pod, as soon as it is ready. Raises VerifyError when it does not come up."""
        started = self._began(workload)
        self._await_ready(workload, started + READY_TIMEOUT)
        name, namespace = self._place(workload)
        return ProbePod(workload, name, namespace, Proxies(self._kube, self._stop, namespace, {"app": name}))

    def scheduling(self, workload: Workload) -> PodCondition:
        """What the scheduler says of a started workload's pod, once it has said anything."""
        end = self._began(workload) + SCHEDULING_TIMEOUT
        name, namespace = self._place(workload)
        while True:
            for condition in _conditions(self._kube.pod(namespace, name)):
                if condition.type == "PodScheduled":
                    return condition
            if time.monotonic() > end or self._stop.wait(0.2):
                raise VerifyError(f"the scheduler said nothing of pod {namespace}/{name}")

    def refusal(self, workload: Workload) -> str | None:
        """Why the API server would not admit a workload's pod, in its own words; None when it would.

        Nothing is made: it goes through all of admission as a dry run.
        """
        name, namespace = self._place(workload)
        # Any service account will do, if it exists: admission looks for it.
        pod = manifests.pod(workload, name, namespace, self._images, None)
        assert pod.spec is not None
        pod.spec.serviceAccountName = "default"
        return self._kube.refusal(pod)

    def _began(self, workload: Workload) -> float:
        started = self._started[workload]
        if isinstance(started, VerifyError):
            raise started
        return started

    def _place(self, workload: Workload) -> tuple[str, str]:
        """Its objects' name and namespace."""
        if workload.namespace is None:
            return workload.name, self._own_namespace(workload.revision)
        return f"{NAME}-{self._suffix}-{workload.name}", workload.namespace

    def _own_namespace(self, revision: str | None) -> str:
        return self.namespace if revision is None else f"{self.namespace}-{revision or 'unlabelled'}"

    def _create(self, workload: Workload) -> None:
        namespace = self._own_namespace(workload.revision)
        if workload.namespace is None and namespace not in self._namespaces:
            self._tell(f"creating namespace {namespace} for probe pods")
            revision = self._revision(workload)
            labels = {**LABELS, "istio.io/rev": revision} if revision else LABELS
            self._kube.create(Namespace(metadata=ObjectMeta(name=namespace, labels=labels)))
            self._namespaces.append(namespace)
        for item in manifests.manifests(workload, *self._place(workload), self._images, self._trust):
            if workload.namespace is not None and item not in self._elsewhere:
                # Noted first: a kill may come between.
                self._elsewhere.append(item)
            # An earlier try may have come as far as this.
            self._kube.create(item, exists_ok=True)

    def _revision(self, workload: Workload) -> str | None:
        """What its namespace follows."""
        return self._revision_tag if workload.revision is None else workload.revision

    def _delete(self, item: NamespacedResource) -> None:
        metadata = _metadata(item)
        self._kube.delete(type(item), str(metadata.namespace), str(metadata.name))

    def _without_fail(self, action: Callable[[], None]) -> None:
        try:
            action()
        except VerifyError as problem:
            # What was seen is worth more than this; the next run takes the rest away.
            self._tell(str(problem))

    def _await_ready(self, workload: Workload, end: float) -> None:
        name, namespace = self._place(workload)
        while True:
            pod = self._kube.pod(namespace, name)
            if workload.in_mesh and PROXY not in containers(pod):
                raise VerifyError(
                    f"pod {workload.name} got no sidecar although its namespace has the label "
                    f"istio.io/rev={self._revision(workload)}: does the mesh still have that revision tag?"
                )
            if any(condition.type == "Ready" and condition.status == "True" for condition in _conditions(pod)):
                return
            if time.monotonic() > end or self._stop.wait(0.5):
                raise VerifyError(f"pod {namespace}/{name} is not ready after {READY_TIMEOUT} seconds: {_reason(pod)}")


def _metadata(item: Any) -> ObjectMeta:
    metadata: ObjectMeta = item.metadata
    return metadata


def _old(metadata: ObjectMeta, now: datetime) -> bool:
    return metadata.creationTimestamp is not None and now - metadata.creationTimestamp > LIFETIME


def _conditions(pod: Pod) -> list[PodCondition]:
    return (pod.status and pod.status.conditions) or []


def containers(pod: Pod) -> set[str]:
    """Names of a pod's containers, those for its start included."""
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
