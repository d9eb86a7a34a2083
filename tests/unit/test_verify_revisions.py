"""The probes of istiod's revisions against a control plane made of their promises, each of which can be broken."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from lightkube.models.admissionregistration_v1 import (
    MutatingWebhook,
    ServiceReference,
    WebhookClientConfig,
)
from lightkube.models.core_v1 import Container, ServicePort, ServiceSpec
from lightkube.models.meta_v1 import ObjectMeta
from lightkube.resources.admissionregistration_v1 import MutatingWebhookConfiguration
from lightkube.resources.core_v1 import Namespace, Pod

from components.mesh.istio import SERVICE_PORTS
from components.mesh.revision_tags import INJECT_LABEL
from settings import Settings, load
from tests.unit.test_verify_pods import Cluster
from tests.unit.verify_fakes import context, transfer
from verify import revisions
from verify.errors import VerifyError
from verify.probe import Outcome, Probe
from verify.shell import Completed

CONTRACTS = {
    "authority": {"root_certificate": "PEM"},
    "mesh": {"namespace": "istio-system", "revision_tag": "stable", "trust_domain": "cluster.local"},
}


class ControlPlane(Cluster):
    """One istiod for each revision. `broken` names what it does not do."""

    def __init__(self, broken: str = "") -> None:
        super().__init__()
        self.broken = broken

    def service(self, namespace: str, name: str) -> ServiceSpec:
        ports = [
            ServicePort(name=port, port=number, targetPort=target)
            for port, number, target in SERVICE_PORTS
            if self.broken != "no metrics port" or number != 15014
        ]
        revision = "1-31-1" if name == "istiod" else name.removeprefix("istiod-")
        if self.broken == "another selector":
            revision = "1-30-0"
        return ServiceSpec(ports=ports, selector={"app": "istiod", "istio.io/rev": revision})

    def webhooks(self, labels: dict[str, str]) -> list[MutatingWebhookConfiguration]:
        assert labels == {"istio.io/tag": "stable"}
        if self.broken == "no tag":
            return []
        called = "istiod-1-30-0" if self.broken == "tag leads elsewhere" else "istiod-1-31-1"
        service = ServiceReference(name=called, namespace="istio-system", path="/inject")
        webhook = MutatingWebhook(
            admissionReviewVersions=["v1"],
            clientConfig=WebhookClientConfig(service=service),
            name="rev.namespace.sidecar-injector.istio.io",
            sideEffects="None",
        )
        metadata = ObjectMeta(name="istio-revision-tag-stable", labels={"istio.io/rev": "1-31-1"})
        return [MutatingWebhookConfiguration(metadata=metadata, webhooks=[webhook])]

    def pod(self, namespace: str, name: str) -> Pod:
        pod = super().pod(namespace, name)
        assert pod.spec
        assert pod.metadata
        assert pod.metadata.labels is not None
        revision = self._follows(namespace)
        if self.broken == "everybody is injected":
            revision = revision or "1-31-1"
        if revision and self.broken != "nobody is injected" and pod.metadata.labels.get(INJECT_LABEL) != "false":
            pod.spec.initContainers = [Container(name="istio-proxy")]
            injector = "1-30-0" if self.broken == "another injector" else revision
            pod.metadata.annotations = {"istio.io/rev": injector}
        return pod

    def _follows(self, namespace: str) -> str | None:
        """The revision that a namespace's pods get; team-x was moved."""
        made: list[Any] = [item for item in self.created if isinstance(item, Namespace)]
        labels = {item.metadata.name: item.metadata.labels.get("istio.io/rev") for item in made} | {"team-x": "1-32-0"}
        return "1-31-1" if labels[namespace] == "stable" else labels[namespace]

    def pods(self, namespace: str, labels: dict[str, str]) -> list[str]:
        return [f"istiod-{labels['istio.io/rev']}-abc"] if labels.get("app") == "istiod" else [labels["app"]]

    def run(
        self, namespace: str, pod: str, container: str, command: Sequence[str], timeout: float, stdin: str = ""
    ) -> Completed:
        self.ran.append((pod, list(command)))
        if command[0] == "pilot-discovery":
            # The other istiod has pods of the same name in a namespace whose name only begins alike.
            made: list[Any] = [item for item in self.created if isinstance(item, Pod)]
            known = [
                f"{item.metadata.name}.{item.metadata.namespace}-7"
                for item in made
                if f"istiod-{self._follows(item.metadata.namespace)}-abc" == pod
            ]
            clients = [{"connectionId": one} for one in known if self.broken != "connected elsewhere"]
            return Completed(0, json.dumps({"totalClients": len(clients), "clients": clients}), "")
        if command[0] == "sh":
            return Completed(0, "", "")
        url = command[-1]
        if ":15010" in url:
            broken = self.broken == "no plain port"
            return transfer(command, exit_code=7 if broken else 1, remote="10.2.0.7", tls=None)
        if ":15014" in url:
            return transfer(command, http_version="1.1", tls=None, body="1.31.1")
        if self.broken == "certificate of another CA":
            return transfer(command, exit_code=60, error="unable to get local issuer certificate")
        return transfer(command, status=415)


@pytest.fixture
def settings(dev_config: dict[str, Any]) -> Settings:
    dev_config["authority"] = {"kind": "self-signed"}
    dev_config["mesh"]["canary"] = {"revision": "1-32-0", "namespaces": ["team-x"]}
    return load(dev_config)


def _outcomes(settings: Settings, directory: Path, plane: ControlPlane) -> list[tuple[Probe, Outcome]]:
    asked = context(directory, settings, kube=plane, contracts=CONTRACTS)
    outcomes = []
    for probe in revisions.probes(settings):
        asked.pods.start(probe.workloads)
        try:
            outcomes.append((probe, probe.attempt(asked)))
        except VerifyError as error:
            outcomes.append((probe, Outcome(ok=False, observed=str(error))))
    return outcomes


FIRST, CANARY, UNVERSIONED, TAG, FOLLOWING, UNLABELLED, BESIDE, MOVED = range(8)
SERVICES = {FIRST, CANARY, UNVERSIONED}


@pytest.mark.parametrize(
    ("broken", "short", "why"),
    [
        ("", set(), ""),
        ("no metrics port", SERVICES, "its ports is"),
        ("another selector", SERVICES, "its selector is"),
        ("no plain port", SERVICES, "port 15010 does not answer"),
        ("certificate of another CA", SERVICES, "port 15012 does not answer"),
        ("no tag", {TAG}, "what its webhooks call is []"),
        ("tag leads elsewhere", {TAG}, "istio-system/istiod-1-30-0"),
        ("nobody is injected", {FOLLOWING, BESIDE, MOVED}, "got no sidecar"),
        ("everybody is injected", {UNLABELLED}, "it has a sidecar"),
        ("another injector", {FOLLOWING, BESIDE, MOVED}, "the revision that injected it is 1-30-0"),
        ("connected elsewhere", {FOLLOWING, BESIDE, MOVED}, "knows it (istiod-1-3"),
    ],
)
def test_each_probe_fails_for_its_own_reason(
    settings: Settings, tmp_path: Path, broken: str, short: set[int], why: str
) -> None:
    outcomes = _outcomes(settings, tmp_path, ControlPlane(broken))
    assert {index for index, (_, outcome) in enumerate(outcomes) if not outcome.ok} == short
    for index in short:
        assert why in outcomes[index][1].observed
    assert all(outcome.evidence for _, outcome in outcomes if outcome.ok)


def test_namespaces_are_labelled_as_they_should_be(settings: Settings, tmp_path: Path) -> None:
    plane = ControlPlane()
    outcomes = _outcomes(settings, tmp_path, plane)
    namespaces: list[Any] = [item for item in plane.created if isinstance(item, Namespace)]
    assert [item.metadata.labels.get("istio.io/rev") for item in namespaces] == ["stable", None, "1-32-0"]
    assert outcomes[UNLABELLED][0].pair is outcomes[FOLLOWING][0]
    # The namespace's label alone decides.
    pods: list[Any] = [item for item in plane.created if isinstance(item, Pod)]
    assert {pod.metadata.name for pod in pods if INJECT_LABEL in pod.metadata.labels} == {"outsider"}
    assert len(pods) == 5


def test_one_revision_alone(dev_config: dict[str, Any]) -> None:
    assert [probe.expected.split(",")[0] for probe in revisions.probes(load(dev_config))] == [
        "Service istiod-1-31-1 leads to revision 1-31-1: ports 15010",
        "Service istiod leads to revision 1-31-1: ports 15010",
        "tag stable: namespaces that follow it are injected by istiod-1-31-1",
        "a pod in a namespace labelled istio.io/rev=stable: a sidecar of revision 1-31-1",
        "the same pod in a namespace without the label: no sidecar",
    ]
