"""The revisioned control plane: its Services, whom each revision injects, where the tags lead (H6; source: Anthos
Service Mesh on-premises with HSM and Vault)."""

from __future__ import annotations

import json
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from lightkube.models.core_v1 import ServicePort
from lightkube.resources.core_v1 import Pod

from components.mesh.istio import SERVICE_PORTS
from components.mesh.revision_tags import INJECT_LABEL, REVISION_LABEL, TAG_LABEL
from settings import Settings
from settings.mesh import IstiodMesh
from verify import curl
from verify.authority_workloads import ISTIOD
from verify.context import Context, user_agent
from verify.curl import Request
from verify.envoy import CONTAINER as PROXY
from verify.errors import VerifyError
from verify.exchange import differs, judged
from verify.mesh import OUTSIDER, SCENARIO
from verify.pods import ProbePod, containers
from verify.probe import Outcome, Probe
from verify.vault_client import put
from verify.workload import Workload

ROW = "H6"

UNVERSIONED = "istiod"
PLAIN, MONITORING = "grpc-xds", "http-monitoring"
"""Ports without TLS."""


def probes(settings: Settings) -> Iterator[Probe]:
    """The probes of istiod's revisions; a managed control plane has none."""
    mesh = settings.mesh
    if not isinstance(mesh, IstiodMesh):
        return
    ports = ", ".join(f"{port} to {target}" if port != target else f"{port}" for _, port, target in SERVICE_PORTS)
    services = [(f"istiod-{revision}", revision) for revision in mesh.revisions]
    for service, revision in [*services, (UNVERSIONED, mesh.revision)]:
        yield Probe(
            row=ROW,
            scenario=SCENARIO,
            expected=f"Service {service} leads to revision {revision}: ports {ports}; each answers, 15012 and 443 with "
            "a certificate of the mesh CA",
            attempt=partial(_service, service, revision),
            workloads=(OUTSIDER,),
        )
    for tag in mesh.revision_tags:
        yield Probe(
            row=ROW,
            scenario=SCENARIO,
            expected=f"tag {tag}: namespaces that follow it are injected by istiod-{mesh.revision}",
            attempt=partial(_tag, tag, mesh.revision),
        )
    yield from _injections(mesh)


def _injections(mesh: IstiodMesh) -> Iterator[Probe]:
    def injected(where: str, workload: Workload, revision: str) -> Probe:
        return Probe(
            row=ROW,
            scenario=SCENARIO,
            expected=f"a pod in {where}: a sidecar of revision {revision}, connected to its istiod",
            attempt=partial(_injected, workload, revision),
            workloads=(workload,),
        )

    following = injected(
        f"a namespace labelled {REVISION_LABEL}={mesh.revision_tags[0]}", _pod("injected", None), mesh.revision
    )
    yield following
    yield Probe(
        row=ROW,
        scenario=SCENARIO,
        expected="the same pod in a namespace without the label: no sidecar",
        attempt=partial(_not_injected, UNLABELLED),
        workloads=(UNLABELLED,),
        pair=following,
    )
    if mesh.canary:
        revision = mesh.canary.revision
        yield injected(
            f"a namespace labelled {REVISION_LABEL}={revision}, beside it", _pod("injected", revision), revision
        )
    for namespace, revision in mesh.moved.items():
        moved = Workload("moved", in_mesh=True, namespace=namespace, change=_unmarked)
        yield injected(f"{namespace}, which follows the canary", moved, revision)


def _pod(name: str, revision: str | None) -> Workload:
    return Workload(name, in_mesh=True, revision=revision, change=_unmarked)


def _unmarked(pod: Pod) -> None:
    """Its namespace alone decides."""
    assert pod.metadata is not None
    assert pod.metadata.labels is not None
    del pod.metadata.labels[INJECT_LABEL]


UNLABELLED = Workload("not-injected", in_mesh=False, revision="", change=_unmarked)
"""A pod that does not say whether it is to be injected, in a namespace that does not say so either."""


def _service(service: str, revision: str, context: Context) -> Outcome:
    namespace = context.contracts["mesh"]["namespace"]
    spec = context.kube.service(namespace, service)
    found = {(str(port.name), port.port, _target(port)) for port in spec.ports or []}
    faults = [
        *differs("its ports", sorted(found), sorted(SERVICE_PORTS)),
        *differs("its selector", spec.selector, {"app": "istiod", REVISION_LABEL: revision}),
    ]
    pod = context.pods.get(OUTSIDER)
    roots = put(pod, context.contracts["authority"]["root_certificate"])
    answers = []
    for name, port, _ in SERVICE_PORTS:
        answer, fault = _asked(pod, f"{service}.{namespace}.svc", name, port, roots)
        answers.append(f"{port} {answer}")
        faults += fault
    return judged("; ".join(answers), faults, f"curl in pod {pod.name}: {'; '.join(answers)}")


def _target(port: ServicePort) -> object:
    return port.targetPort or port.port


def _asked(pod: ProbePod, host: str, name: str, port: int, roots: str) -> tuple[str, list[str]]:
    """The answer in words, and what is wrong with it."""
    scheme = "http" if name in (PLAIN, MONITORING) else "https"
    path = "/version" if name == MONITORING else "/"
    request = Request(url=f"{scheme}://{host}:{port}{path}", user_agent=user_agent(ROW), trust=Path(roots))
    response = curl.send(pod, request)
    if name == PLAIN:
        # curl does not speak what is spoken there; that somebody takes the connection is enough.
        return (f"connected to {response.connected}", []) if response.connected else _failed(port, response)
    if response.exit_code:
        return _failed(port, response)
    if name == MONITORING:
        return f"{response.status}, version {response.body.strip()}", differs("status", response.status, 200)
    issuer = response.certificates[0].issuer.rfc4514_string() if response.certificates else "nobody"
    return f"{response.tls_version}, certificate issued by {issuer}", []


def _failed(port: int, response: curl.Response) -> tuple[str, list[str]]:
    return str(response), [f"port {port} does not answer"]


def _tag(tag: str, revision: str, context: Context) -> Outcome:
    found = context.kube.webhooks({TAG_LABEL: tag})
    called = sorted(
        {
            f"{service.namespace}/{service.name}" if service else "elsewhere"
            for configuration in found
            for webhook in configuration.webhooks or []
            for service in [webhook.clientConfig.service]
        }
    )
    right = [f"{context.contracts['mesh']['namespace']}/istiod-{revision}"]
    names = ", ".join(str(configuration.metadata and configuration.metadata.name) for configuration in found)
    return judged(
        ", ".join(called) or "no webhook",
        [
            *differs("what its webhooks call", called, right),
            *differs(
                "its revision",
                [((one.metadata and one.metadata.labels) or {}).get(REVISION_LABEL) for one in found],
                [revision],
            ),
        ],
        f"MutatingWebhookConfiguration {names}",
    )


def _injected(workload: Workload, revision: str, context: Context) -> Outcome:
    pod = context.pods.get(workload)
    metadata = context.kube.pod(pod.namespace, pod.pod).metadata
    by = ((metadata and metadata.annotations) or {}).get(REVISION_LABEL)
    namespace = context.contracts["mesh"]["namespace"]
    istiods = context.kube.pods(namespace, {"app": "istiod", REVISION_LABEL: revision})
    connected = [f"{istiod}: {connection}" for istiod in istiods for connection in _connections(context, istiod, pod)]
    observed = f"a sidecar of revision {by}, connected to {', '.join(connected) or 'another istiod'}"
    faults = differs("the revision that injected it", by, revision)
    if not connected:
        faults.append(f"no istiod of revision {revision} knows it ({', '.join(istiods) or 'there is none'})")
    return judged(observed, faults, f"istiod's connections: {', '.join(connected)}")


def _connections(context: Context, istiod: str, pod: ProbePod) -> list[str]:
    """The connections of a pod's sidecar that an istiod has, by its own account."""
    command = ["pilot-discovery", "request", "GET", "/debug/connections"]
    done = context.kube.run(context.contracts["mesh"]["namespace"], istiod, ISTIOD, command, timeout=15)
    if done.exit_code:
        raise VerifyError(f"cannot ask {istiod}: {done.stderr.strip()}")
    known = [str(client["connectionId"]) for client in json.loads(done.stdout).get("clients") or []]
    return [connection for connection in known if connection.rpartition("-")[0] == f"{pod.pod}.{pod.namespace}"]


def _not_injected(workload: Workload, context: Context) -> Outcome:
    pod = context.pods.get(workload)
    found = sorted(containers(context.kube.pod(pod.namespace, pod.pod)))
    observed = f"containers: {', '.join(found)}"
    return judged(
        observed, ["it has a sidecar"] if PROXY in found else [], f"pod {pod.namespace}/{pod.pod}: {observed}"
    )
