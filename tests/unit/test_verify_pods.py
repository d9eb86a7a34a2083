"""Probe pods: what they are, that they come up, and that they go away."""

from __future__ import annotations

import re
import threading
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, ClassVar, cast

import pytest
from lightkube.models.core_v1 import Container as ContainerModel
from lightkube.models.core_v1 import (
    ContainerState,
    ContainerStateWaiting,
    ContainerStatus,
    PodCondition,
    PodStatus,
)
from lightkube.models.meta_v1 import ObjectMeta
from lightkube.resources.core_v1 import Namespace, Pod, Service, ServiceAccount

from tests.unit.verify_fakes import FakeKube
from verify import pods
from verify.errors import VerifyError
from verify.kube import Kube
from verify.pods import Pods
from verify.shell import Completed
from verify.workload import LABELS, Images, Workload

CALLER = Workload("caller", in_mesh=True)
OUTSIDER = Workload("outsider", in_mesh=False)
TARGET = Workload("target", in_mesh=True, serves=True)


class Cluster(FakeKube):
    """Pods come up at once, with a sidecar where the label asks for one."""

    injects = True
    ready = True
    waiting: ContainerStateWaiting | None = None
    old: Sequence[Namespace] = ()

    def namespaces(self, labels: dict[str, str]) -> list[Any]:
        assert labels == LABELS
        return list(self.old)

    def pod(self, namespace: str, name: str) -> Pod:
        pod = next(
            item
            for item in self.created
            if isinstance(item, Pod)
            and item.metadata
            and (item.metadata.namespace, item.metadata.name) == (namespace, name)
        )
        assert pod.metadata
        assert pod.metadata.labels
        assert pod.spec
        asks = pod.metadata.labels.get("sidecar.istio.io/inject") == "true"
        if self.injects and asks and not pod.spec.initContainers:
            pod.spec.initContainers = [ContainerModel(name="istio-proxy")]
        status = ContainerStatus(name="probe", image="", imageID="", ready=False, restartCount=0)
        status.state = ContainerState(waiting=self.waiting)
        pod.status = PodStatus(
            phase="Pending",
            conditions=[PodCondition(type="Ready", status=str(self.ready))],
            containerStatuses=[status],
        )
        return pod

    def kinds(self) -> list[str]:
        return [f"{type(item).__name__} {item.metadata.name}" for item in self.created]


def _pods(cluster: Cluster) -> Pods:
    images = Images(asking="curl:1", serving="proxyv2:1")
    return Pods(cast(Kube, cluster), "stable", images, threading.Event(), lambda text: None)


def test_pods_live_in_a_labelled_namespace_that_goes_away() -> None:
    cluster = Cluster()
    with _pods(cluster) as made:
        made.start([CALLER, OUTSIDER, CALLER])
        assert made.namespace.startswith("meshgate-verify-")
        assert cluster.kinds() == [
            f"Namespace {made.namespace}",
            "ServiceAccount caller",
            "Pod caller",
            "ServiceAccount outsider",
            "Pod outsider",
        ]
        assert cluster.created[0].metadata.labels == {**LABELS, "istio.io/rev": "stable"}
        assert cluster.deleted == []
    assert cluster.deleted == [made.namespace]


def test_without_pods_there_is_no_namespace() -> None:
    cluster = Cluster()
    with _pods(cluster) as made:
        made.start([])
    assert (cluster.created, cluster.deleted) == ([], [])


def test_the_namespace_goes_away_after_an_interrupt() -> None:
    cluster = Cluster()

    def interrupted() -> None:
        with _pods(cluster) as made:
            made.start([CALLER])
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert cluster.deleted == [cluster.created[0].metadata.name]


def test_a_namespace_that_cannot_be_deleted_does_not_cost_the_results() -> None:
    class Stuck(Cluster):
        def delete_namespace(self, name: str) -> None:
            raise VerifyError("forbidden")

    with _pods(Stuck()) as made:
        made.start([CALLER])


def test_only_old_leftovers_are_taken_away() -> None:
    def namespace(name: str, age: timedelta, **more: Any) -> Namespace:
        return Namespace(metadata=ObjectMeta(name=name, creationTimestamp=datetime.now(UTC) - age, **more))

    cluster = Cluster()
    cluster.old = [
        namespace("old", timedelta(hours=2)),
        namespace("fresh", timedelta(minutes=10)),
        namespace("going", timedelta(hours=2), deletionTimestamp=datetime.now(UTC)),
    ]
    with _pods(cluster):
        assert cluster.deleted == ["old"]


@pytest.mark.parametrize("workload", [CALLER, TARGET])
def test_a_pod_has_only_what_it_needs(workload: Workload) -> None:
    cluster = Cluster()
    _pods(cluster).start([workload])
    account = next(item for item in cluster.created if isinstance(item, ServiceAccount))
    pod = next(item for item in cluster.created if isinstance(item, Pod))
    assert account.automountServiceAccountToken is False
    assert pod.spec
    assert pod.spec.automountServiceAccountToken is False
    assert pod.spec.serviceAccountName == workload.name
    assert pod.spec.activeDeadlineSeconds == 3600
    (container,) = pod.spec.containers
    assert container.image == ("proxyv2:1" if workload.serves else "curl:1")
    security = container.securityContext
    assert security
    assert security.runAsNonRoot is True
    assert security.allowPrivilegeEscalation is False
    assert security.readOnlyRootFilesystem is True
    assert security.capabilities
    assert security.capabilities.drop == ["ALL"]
    assert security.seccompProfile
    assert security.seccompProfile.type == "RuntimeDefault"


def test_a_workload_that_serves_has_a_service() -> None:
    cluster = Cluster()
    made = _pods(cluster)
    made.start([TARGET])
    service = next(item for item in cluster.created if isinstance(item, Service))
    assert service.spec
    assert service.spec.selector == {"app": "target"}
    assert [(port.name, port.port, port.targetPort) for port in service.spec.ports or []] == [("http", 80, 8080)]
    assert made.get(TARGET).host == f"target.{made.namespace}.svc.cluster.local"


def test_a_pod_is_a_place_to_run_commands_with_an_identity(monkeypatch: pytest.MonkeyPatch) -> None:
    cluster = Cluster()
    made = _pods(cluster)
    made.start([CALLER])
    pod = made.get(CALLER)
    assert pod.spiffe_id("cluster.local") == f"spiffe://cluster.local/ns/{made.namespace}/sa/caller"
    assert isinstance(pod.run(["curl"], timeout=5), Completed)
    assert cluster.ran == [("caller", ["curl"])]


def test_a_pod_without_its_sidecar_is_an_error() -> None:
    cluster = Cluster()
    cluster.injects = False
    made = _pods(cluster)
    made.start([CALLER, OUTSIDER])
    with pytest.raises(VerifyError, match=r"pod caller got no sidecar .* istio\.io/rev=stable"):
        made.get(CALLER)
    made.get(OUTSIDER)


def test_a_pod_that_does_not_come_up_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pods, "READY_TIMEOUT", 0)
    cluster = Cluster()
    cluster.ready = False
    cluster.waiting = ContainerStateWaiting(reason="ImagePullBackOff", message="no such image")
    made = _pods(cluster)
    made.start([OUTSIDER])
    with pytest.raises(VerifyError, match="container probe: ImagePullBackOff: no such image"):
        made.get(OUTSIDER)


def test_what_cannot_be_created_is_told_by_each_that_asks_for_it() -> None:
    class Forbidden(Cluster):
        def create(self, item: Any, *, exists_ok: bool = False) -> None:
            raise VerifyError("cannot create namespace: forbidden")

    made = _pods(Forbidden())
    made.start([CALLER, OUTSIDER])
    for workload in (CALLER, OUTSIDER):
        with pytest.raises(VerifyError, match="forbidden"):
            made.get(workload)


TENANT = Workload("application", in_mesh=True, namespace="team-x")
TENANT_SERVER = Workload("server", in_mesh=True, serves=True, namespace="team-x")
ACTING = Workload("acting", in_mesh=True, namespace="team-x", service_account="test")


def _named(cluster: Cluster) -> list[str]:
    """What was made, with the run's suffix as `*`."""
    return [
        f"{type(item).__name__} {item.metadata.namespace}/{re.sub('[0-9a-f]{8}', '*', item.metadata.name)}"
        for item in cluster.created
    ]


def test_tenants_pods_go_away_one_by_one() -> None:
    cluster = Cluster()
    with _pods(cluster) as made:
        made.start([TENANT, TENANT_SERVER, ACTING])
        assert _named(cluster) == [
            "Pod team-x/meshgate-verify-*-acting",
            "ServiceAccount team-x/meshgate-verify-*-application",
            "Pod team-x/meshgate-verify-*-application",
            "ServiceAccount team-x/meshgate-verify-*-server",
            "Service team-x/meshgate-verify-*-server",
            "Pod team-x/meshgate-verify-*-server",
        ]
        assert all(item.metadata.labels.items() >= LABELS.items() for item in cluster.created)
        assert cluster.deleted == []
    assert cluster.deleted == [
        f"{type(item).__name__} team-x/{item.metadata.name}" for item in reversed(cluster.created)
    ]


def test_two_runs_do_not_meet_in_a_tenants_namespace() -> None:
    cluster = Cluster()
    for _ in range(2):
        _pods(cluster).start([TENANT])
    names = [item.metadata.name for item in cluster.created if isinstance(item, Pod) and item.metadata]
    assert len(set(names)) == 2


def test_a_pod_that_could_not_be_made_costs_the_others_nothing() -> None:
    class Quota(Cluster):
        def create(self, item: Any, *, exists_ok: bool = False) -> None:
            super().create(item)
            if isinstance(item, Pod) and item.metadata and str(item.metadata.name).endswith("application"):
                raise VerifyError("cannot create Pod: exceeded quota")

    cluster = Quota()
    with _pods(cluster) as made:
        made.start([TENANT, ACTING])
        with pytest.raises(VerifyError, match="exceeded quota"):
            made.get(TENANT)
        assert made.get(ACTING).spiffe_id("cluster.local") == "spiffe://cluster.local/ns/team-x/sa/test"
    # What may have been made goes away, too.
    assert len(cluster.deleted) == 3


def test_a_pod_that_could_not_be_made_is_tried_again_at_the_next_start() -> None:
    """A walk has one session for all of its steps: a webhook that was late once must not cost the rest of them."""

    class Overloaded(Cluster):
        late = True

        def create(self, item: Any, *, exists_ok: bool = False) -> None:
            if any(type(one) is type(item) and one.metadata == item.metadata for one in self.created):
                assert exists_ok
                return
            if isinstance(item, Pod) and self.late:
                raise VerifyError("cannot create Pod: webhook timed out")
            super().create(item)

    cluster = Overloaded()
    with _pods(cluster) as made:
        made.start([OUTSIDER])
        with pytest.raises(VerifyError, match="webhook timed out"):
            made.get(OUTSIDER)
        cluster.late = False
        made.start([OUTSIDER])
        assert made.get(OUTSIDER).name == "outsider"
        made.start([OUTSIDER])
    assert cluster.kinds() == [f"Namespace {made.namespace}", "ServiceAccount outsider", "Pod outsider"]


def test_a_pod_that_the_injector_was_late_for_is_tried_again_after_the_others() -> None:
    class Busy(Cluster):
        late = True

        def create(self, item: Any, *, exists_ok: bool = False) -> None:
            if isinstance(item, Pod) and self.late:
                self.late = False
                raise VerifyError("cannot create Pod: webhook timed out")
            if not any(type(one) is type(item) and one.metadata == item.metadata for one in self.created):
                super().create(item, exists_ok=exists_ok)

    cluster = Busy()
    with _pods(cluster) as made:
        made.start([CALLER, OUTSIDER])
        assert made.get(CALLER).name == "caller"
    assert [kind for kind in cluster.kinds() if kind.startswith("Pod")] == ["Pod outsider", "Pod caller"]


def test_pods_are_waited_for_before_anything_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    class Slow(Cluster):
        """Ready at the third look; the pod `outsider` never."""

        looks = 0

        def pod(self, namespace: str, name: str) -> Pod:
            self.looks += name == "caller"
            self.ready = self.looks > 2 and name == "caller"
            return super().pod(namespace, name)

    monkeypatch.setattr(pods, "READY_TIMEOUT", 1.5)
    cluster = Slow()
    with _pods(cluster) as made:
        made.start([CALLER, OUTSIDER])
        made.settle()
        assert cluster.looks == 3
        with pytest.raises(VerifyError, match="outsider is not ready"):
            made.get(OUTSIDER)


def test_one_that_cannot_be_deleted_does_not_keep_the_rest() -> None:
    class Stuck(Cluster):
        def delete(self, kind: type[Any], namespace: str, name: str) -> None:
            super().delete(kind, namespace, name)
            raise VerifyError("forbidden")

    cluster = Stuck()
    with _pods(cluster) as made:
        made.start([TENANT])
    assert len(cluster.deleted) == 2


def test_what_killed_runs_left_in_tenants_namespaces_is_taken_away() -> None:
    def account(name: str, namespace: str, age: timedelta) -> ServiceAccount:
        created = datetime.now(UTC) - age
        return ServiceAccount(metadata=ObjectMeta(name=name, namespace=namespace, creationTimestamp=created))

    class Left(Cluster):
        def everywhere(self, kind: type[Any], labels: Mapping[str, str]) -> list[Any]:
            assert labels == LABELS
            old, fresh = timedelta(hours=2), timedelta(minutes=10)
            left = [account("a", "team-x", old), account("b", "team-x", fresh), account("c", "meshgate-verify-1", old)]
            return left if kind is ServiceAccount else []

    cluster = Left()
    with _pods(cluster):
        assert cluster.deleted == ["ServiceAccount team-x/a"]


def test_a_pod_may_be_unusual() -> None:
    def unusual(pod: Pod) -> None:
        assert pod.spec
        pod.spec.hostNetwork = True

    cluster = Cluster()
    _pods(cluster).start([Workload("odd", in_mesh=False, change=unusual)])
    pod = next(item for item in cluster.created if isinstance(item, Pod))
    assert pod.spec
    assert pod.spec.hostNetwork is True


def test_asking_pods_trust_what_the_settings_name() -> None:
    cluster = Cluster()
    made = Pods(cast(Kube, cluster), "stable", Images("curl:1", "proxy:1"), threading.Event(), lambda text: None, "PEM")
    made.start([CALLER, TARGET])
    asking, serving = (item.spec for item in cluster.created if isinstance(item, Pod))
    assert asking
    assert serving
    assert [(it.name, it.value) for it in asking.containers[0].env or []] == [("TRUST", "PEM")]
    assert asking.containers[0].command == [
        "sh",
        "-c",
        'printf %s "$TRUST" > /probe/trust.pem && exec sleep 3600',
    ]
    assert not serving.containers[0].env


def test_admission_is_asked_without_making_anything() -> None:
    class Strict(Cluster):
        asked: ClassVar[list[Pod]] = []

        def refusal(self, item: Pod) -> str | None:
            self.asked.append(item)
            return "no"

    cluster = Strict()
    made = _pods(cluster)
    assert made.refusal(TENANT) == "no"
    (pod,) = cluster.asked
    assert pod.metadata
    assert pod.metadata.namespace == "team-x"
    assert pod.spec
    # One that exists in every namespace: the pod's own would be made first.
    assert pod.spec.serviceAccountName == "default"
    assert cluster.created == []


def test_what_the_scheduler_does_not_say_is_not_waited_for_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pods, "SCHEDULING_TIMEOUT", 0)
    made = _pods(Cluster())
    made.start([OUTSIDER])
    with pytest.raises(VerifyError, match="the scheduler said nothing of pod"):
        made.scheduling(OUTSIDER)
