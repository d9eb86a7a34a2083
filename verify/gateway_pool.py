"""The egress gateway's nodes: it runs on them alone (G4)."""

from __future__ import annotations

from dataclasses import dataclass

from lightkube.resources.core_v1 import Node, Pod

from settings import Settings
from verify.context import Context
from verify.exchange import EgressGateway
from verify.probe import Outcome, Probe
from verify.workload import Workload

SCENARIO = "egress"
UNTOLERATED = "untolerated taint"
"""The scheduler's words."""


def probes(settings: Settings) -> list[Probe]:
    """The probes of the layer `egress`."""
    runs = Probe(
        row="G4",
        scenario=SCENARIO,
        expected="the egress gateway's pods run only on nodes with the gateway pool's labels and taint",
        attempt=_runs_on_pool,
    )
    return [
        runs,
        Probe(
            row="G4",
            scenario=SCENARIO,
            expected="a pod that selects the gateway pool's nodes and does not tolerate their taint stays Pending",
            attempt=_stays_pending,
            pair=runs,
        ),
    ]


def _runs_on_pool(context: Context) -> Outcome:
    pool = context.contracts["gateway_pool"]
    nodes = {_name(node) for node in context.kube.nodes(pool["labels"]) if _tainted(node, pool)}
    placed = sorted((_name(pod), str(pod.spec.nodeName)) for pod in EgressGateway(context).pods() if pod.spec)
    elsewhere = [f"{pod} on {node}" for pod, node in placed if node not in nodes]
    observed = f"{len(placed)} pods on {', '.join(sorted({node for _, node in placed}))}"
    evidence = "API server: " + ", ".join(f"{pod} on {node}" for pod, node in placed)
    if elsewhere:
        return Outcome(ok=False, observed=f"not on the pool: {', '.join(elsewhere)}", evidence=evidence)
    return Outcome(ok=True, observed=observed, evidence=evidence, proven=True)


def _name(item: Node | Pod) -> str:
    return str(item.metadata and item.metadata.name)


def _tainted(node: Node, pool: dict[str, dict[str, str]]) -> bool:
    taints = (node.spec and node.spec.taints) or []
    return any({"key": it.key, "value": it.value, "effect": it.effect} == pool["taint"] for it in taints)


def _stays_pending(context: Context) -> Outcome:
    labels = context.contracts["gateway_pool"]["labels"]
    # The same in every try: it is the one pod.
    workload = Workload("on-gateway-pool", in_mesh=False, change=_Select(tuple(sorted(labels.items()))))
    context.pods.start([workload])
    condition = context.pods.scheduling(workload)
    said = f"{condition.reason}: {condition.message}" if condition.status != "True" else "it was scheduled"
    right = condition.reason == "Unschedulable" and UNTOLERATED in (condition.message or "")
    return Outcome(ok=right, observed="Pending" if right else said, evidence=f"scheduler: {said}", proven=True)


@dataclass(frozen=True)
class _Select:
    """Has a pod select nodes."""

    labels: tuple[tuple[str, str], ...]

    def __call__(self, pod: Pod) -> None:
        assert pod.spec is not None
        pod.spec.nodeSelector = dict(self.labels)
