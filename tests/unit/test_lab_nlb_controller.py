"""The agent of the lab's NLB: what it does to the cluster and to the data path, and in which order."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, cast

import pytest
from lightkube.models.core_v1 import (
    LoadBalancerIngress,
    LoadBalancerStatus,
    ServicePort,
    ServiceSpec,
    ServiceStatus,
)
from lightkube.models.meta_v1 import ObjectMeta
from lightkube.resources.core_v1 import Service

from lab.instance import Instance
from lab.nlb import addresses, kube
from lab.nlb.addresses import Place, host_name
from lab.nlb.controller import Controller
from lab.nlb.data_path import DataPath
from lab.nlb.haproxy import Deployed
from lab.nlb.kube import Cluster
from lab.nlb.spec import FINALIZER, PREFIX

NAME = host_name(("edge", "gateway"), "internet-facing")
GIVEN = [("finalizer", True), ("deploy", ["edge/gateway"]), ("name", NAME)]
TAKEN = [("deploy", []), ("finalizer", False)]


class Log:
    """What happened, in its order."""

    def __init__(self) -> None:
        self.entries: list[tuple[str, Any]] = []

    def take(self) -> list[tuple[str, Any]]:
        entries, self.entries = self.entries, []
        return entries


class FakeCluster:
    """A cluster that is at once as it is told to be."""

    def __init__(self, log: Log) -> None:
        self.log = log
        self.services: dict[str, Service] = {}
        self.nodes: dict[str, Any] = {}
        self.slices: dict[str, Any] = {}
        self.has_controller = False

    async def set_finalizer(self, it: Service, *, has: bool) -> None:
        assert it.metadata
        if kube.has_finalizer(it) != has:
            it.metadata.finalizers = [FINALIZER] if has else []
            self.log.entries.append(("finalizer", has))

    async def set_host_name(self, it: Service, name: str | None) -> None:
        if kube.host_name(it) != name:
            ingress = [LoadBalancerIngress(hostname=name)] if name else None
            it.status = ServiceStatus(loadBalancer=LoadBalancerStatus(ingress=ingress))
            self.log.entries.append(("name", name))

    async def say(self, it: Service, kind: str, reason: str, message: str) -> None:
        self.log.entries.append((reason, message))


class FakeDataPath:
    """Writes down what it is told, unless it is broken."""

    def __init__(self, log: Log, file: Path) -> None:
        self.log, self.file = log, file
        self.is_broken = False

    async def set(self, deployed: Sequence[Deployed], places: Mapping[str, Place]) -> None:
        if self.is_broken:
            raise OSError("broken")
        # The simulated cloud sees no NLB that exists as gone.
        assert addresses.load(self.file).keys() >= places.keys()
        self.log.entries.append(("deploy", [it.place.service for it in deployed]))


class World:
    """An agent in its surroundings."""

    def __init__(self, *, status_only: bool) -> None:
        self.instance = Instance("unit")
        self.log = Log()
        self.cluster = FakeCluster(self.log)
        self.file = self.instance.directory / "nlb" / "load-balancers.json"
        self.data_path = FakeDataPath(self.log, self.file)
        path = None if status_only else cast(DataPath, self.data_path)
        self.controller = Controller(self.instance, cast(Cluster, self.cluster), path)

    def pass_(self) -> list[tuple[str, Any]]:
        """What one pass does."""
        asyncio.run(self.controller.reconcile())
        return self.log.take()


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    monkeypatch.setenv("MESHGATE_LAB_DIR", str(tmp_path))
    return World(status_only=False)


def service(**annotations: str) -> Service:
    given = {"type": "external", "scheme": "internet-facing", **annotations}
    return Service(
        metadata=ObjectMeta(
            name="gateway",
            namespace="edge",
            annotations={f"{PREFIX}aws-load-balancer-{key.replace('_', '-')}": text for key, text in given.items()},
        ),
        spec=ServiceSpec(type="LoadBalancer", ports=[ServicePort(80, name="http", nodePort=30080)]),
    )


def without_events(entries: Iterable[tuple[str, Any]]) -> list[tuple[str, Any]]:
    return [(what, value) for what, value in entries if what in ("finalizer", "deploy", "name")]


def test_a_service_gets_its_finalizer_then_listeners_then_its_name(world: World) -> None:
    world.cluster.services["1"] = service()
    assert world.pass_() == [*GIVEN, ("SuccessfullyReconciled", "Successfully reconciled")]
    assert addresses.load(world.file).keys() == {NAME}
    # A second pass finds nothing to do but to compare.
    assert world.pass_() == [("deploy", ["edge/gateway"])]


def test_a_finalizer_goes_when_the_listeners_are_gone(world: World) -> None:
    world.cluster.services["1"] = it = service()
    world.pass_()
    assert it.metadata
    it.metadata.deletionTimestamp = datetime.now(UTC)
    world.data_path.is_broken = True
    with pytest.raises(OSError, match="broken"):
        world.pass_()
    assert kube.has_finalizer(it)
    assert addresses.load(world.file).keys() == {NAME}
    world.data_path.is_broken = False
    assert world.pass_() == TAKEN
    assert addresses.load(world.file) == {}


def test_a_service_that_is_another_type_loses_its_name_too(world: World) -> None:
    world.cluster.services["1"] = it = service()
    world.pass_()
    assert it.spec
    it.spec.type = "ClusterIP"
    assert world.pass_() == [("deploy", []), ("name", None), ("finalizer", False)]


def test_a_plain_load_balancers_address_is_not_touched(world: World) -> None:
    world.cluster.services["1"] = it = service(type="nlb")
    it.status = ServiceStatus(loadBalancer=LoadBalancerStatus(ingress=[LoadBalancerIngress(ip="203.0.113.100")]))
    assert world.pass_() == [("deploy", [])]


def test_what_is_refused_gets_an_event_once_and_no_name(world: World) -> None:
    world.cluster.services["1"] = it = service(nlb_target_type="pod")
    refusal = ("FailedBuildModel", "Failed build model due to unsupported target type 'pod': it must be instance or ip")
    assert world.pass_() == [refusal, ("deploy", [])]
    assert world.pass_() == [("deploy", [])]
    world.cluster.services["1"] = service()
    assert without_events(world.pass_()) == GIVEN
    assert not kube.has_finalizer(it)


def test_a_wrong_change_leaves_what_is_there(world: World) -> None:
    world.cluster.services["1"] = it = service()
    world.pass_()
    assert it.metadata
    assert it.metadata.annotations
    it.metadata.annotations[f"{PREFIX}aws-load-balancer-ssl-cert"] = "arn:aws:acm:nowhere"
    message = "Failed deploy model due to CertificateNotFound: Certificate 'arn:aws:acm:nowhere' not found"
    assert world.pass_() == [("FailedDeployModel", message), ("deploy", ["edge/gateway"])]
    del it.metadata.annotations[f"{PREFIX}aws-load-balancer-ssl-cert"]
    assert world.pass_()[-1] == ("SuccessfullyReconciled", "Successfully reconciled")


def test_names_alone_ask_for_no_certificate(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MESHGATE_LAB_DIR", str(tmp_path))
    world = World(status_only=True)
    world.cluster.services["1"] = service(ssl_cert="arn:aws:acm:made-by-the-simulated-cloud")
    assert without_events(world.pass_()) == [("finalizer", True), ("name", NAME)]


def test_in_a_simulated_cloud_the_controller_must_be_deployed(world: World) -> None:
    cloud = world.instance.directory / "clouds" / "aws.json"
    cloud.parent.mkdir(parents=True)
    cloud.write_text("{}")
    world.cluster.services["1"] = it = service()
    assert world.pass_() == []
    world.cluster.has_controller = True
    assert without_events(world.pass_()) == GIVEN
    # Whoever takes the controller away first waits for the finalizer in vain, as in AWS.
    world.cluster.has_controller = False
    assert it.metadata
    it.metadata.deletionTimestamp = datetime.now(UTC)
    assert world.pass_() == []
    assert kube.has_finalizer(it)
