"""What the API server keeps tenants from: pods off the gateway's nodes and the hosts' network, and rules of others (G4,
G11, G14)."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial

from lightkube.models.core_v1 import Toleration
from lightkube.resources.core_v1 import Pod

from settings import Settings
from verify.context import Context
from verify.exchange import EgressGateway
from verify.kube import Subject
from verify.probe import Outcome, Probe
from verify.tenants import Tenant, member, service_account, tenants
from verify.workload import Workload

SCENARIO = "egress"

DECIDED_BY = ("ValidatingAdmissionPolicy", "PodSecurity")
"""Whose words a refusal of a pod must be; any other is that of a mistake in the pod."""

WRITE = ("create", "update", "delete")
RULES = (
    *(f"{plural}.security.istio.io" for plural in ("authorizationpolicies", "peerauthentications")),
    *(
        f"{plural}.networking.istio.io"
        for plural in ("gateways", "virtualservices", "destinationrules", "serviceentries", "envoyfilters")
    ),
    *("secrets", "pods", "pods/exec", "services", "deployments.apps", "networkpolicies.networking.k8s.io"),
)
"""What decides in the gateway's namespace who may go out."""


def probes(settings: Settings) -> Iterator[Probe]:
    """The attempts, each in every team's namespace."""
    assert settings.teams is not None
    everyone = tenants(settings.teams)
    ordinary = Probe(
        row="G4",
        scenario=SCENARIO,
        expected=f"an ordinary pod in a namespace of {_names(everyone)}: admitted",
        attempt=partial(_admitted, everyone),
    )
    yield ordinary
    attempts: list[tuple[str, str, str, Change]] = [
        ("G11", "on the host's network", "hostNetwork", _on_host_network),
        ("G4", "that tolerates every taint", "toleration", _tolerating_everything),
        ("G4", "assigned to the gateway's node by name (nodeName)", "nodeName", _on_the_gateways_node),
    ]
    # Where another stack holds the pool and none here needs it, its taint is not known; the attempt above has it too.
    if "gateway_pool" in (*settings.layers, *settings.upstream):
        attempts.insert(2, ("G4", "that tolerates the gateway pool's taint", "toleration", _tolerating_the_taint))
    for row, what, reason, change in attempts:
        yield Probe(
            row=row,
            scenario=SCENARIO,
            expected=f"a pod {what} in a namespace of {_names(everyone)}: refused at admission (bypass attempt)",
            attempt=partial(_refused, everyone, reason, change),
            pair=ordinary,
        )
    members = any(tenant.team.members for tenant in everyone)
    yield Probe(
        row="G14",
        scenario=SCENARIO,
        expected=f"service accounts {'and members ' if members else ''}of {_names(everyone)} may not change what is in "
        f"the gateway's namespace{'; members may work in their own' if members else ''}",
        attempt=partial(_access, everyone, settings),
    )


Change = Callable[[Context], Callable[[Pod], None]]


def _names(everyone: list[Tenant]) -> str:
    return ", ".join(map(str, everyone))


def _on_host_network(context: Context) -> Callable[[Pod], None]:
    def change(pod: Pod) -> None:
        assert pod.spec is not None
        pod.spec.hostNetwork = True

    return change


def _tolerating_everything(context: Context) -> Callable[[Pod], None]:
    return partial(_tolerate, Toleration(operator="Exists"))


def _tolerating_the_taint(context: Context) -> Callable[[Pod], None]:
    taint = context.contracts["gateway_pool"]["taint"]
    return partial(_tolerate, Toleration(key=taint["key"], value=taint["value"], effect=taint["effect"]))


def _tolerate(toleration: Toleration, pod: Pod) -> None:
    assert pod.spec is not None
    pod.spec.tolerations = [toleration]


def _on_the_gateways_node(context: Context) -> Callable[[Pod], None]:
    spec = EgressGateway(context).pods()[0].spec
    name = spec.nodeName if spec else None

    def change(pod: Pod) -> None:
        assert pod.spec is not None
        pod.spec.nodeName = name

    return change


def _admitted(everyone: list[Tenant], context: Context) -> Outcome:
    for tenant in everyone:
        refusal = context.pods.refusal(Workload("ordinary", in_mesh=True, namespace=tenant.namespace))
        if refusal is not None:
            return Outcome(ok=False, observed=f"refused in {tenant.namespace}: {refusal}")
    return Outcome(ok=True, observed="admitted", evidence="API server, dry run: no objection", proven=True)


def _refused(everyone: list[Tenant], reason: str, change: Change, context: Context) -> Outcome:
    said = ""
    for tenant in everyone:
        workload = Workload("intruder", in_mesh=False, namespace=tenant.namespace, change=change(context))
        refusal = context.pods.refusal(workload)
        if refusal is None:
            return Outcome(ok=False, observed=f"admitted in {tenant.namespace}")
        if reason not in refusal or not any(who in refusal for who in DECIDED_BY):
            return Outcome(ok=False, observed=f"refused in {tenant.namespace}, but for another reason: {refusal}")
        said = refusal
    return Outcome(ok=True, observed="refused", evidence=f"API server, dry run: {said}", proven=True)


def _access(everyone: list[Tenant], settings: Settings, context: Context) -> Outcome:
    gateway = EgressGateway(context).namespace
    administrators = set(settings.egress.administrators) if settings.egress else set()
    members = sorted({(tenant.namespace, group) for tenant in everyone for group in tenant.team.members})
    subjects: list[Subject] = [
        *(service_account(tenant.namespace) for tenant in everyone),
        *(member(group) for group in sorted({group for _, group in members} - administrators)),
    ]
    faults = [
        f"{' '.join((subject.user, *subject.groups[:1]))} may {verb} {resource} in {gateway}"
        for subject in subjects
        for resource in RULES
        for verb in WRITE
        if context.kube.may(subject, verb, resource, gateway)
    ]
    faults += [
        f"{group} may not create deployments in {namespace}"
        for namespace, group in members
        if not context.kube.may(member(group), "create", "deployments.apps", namespace)
    ]
    asked = len(subjects) * len(RULES) * len(WRITE)
    observed = f"{asked} questions about {gateway}: no; {len(members)} about their own namespaces: yes"
    if faults:
        return Outcome(ok=False, observed="; ".join(faults[:5]))
    if not members:
        observed = f"{asked} questions about {gateway}: no"
    return Outcome(ok=True, observed=observed, evidence="API server: SubjectAccessReview of each", proven=True)
