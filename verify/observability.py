"""Scenario `observability`: who is asked for metrics, what comes of it, and who may see it (B10)."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial

from lightkube.resources.core_v1 import Pod

from components.observability.prometheus import ISTIOD_JOB, ISTIOD_PORT, NAME, PROXIES_JOB
from settings import Settings, made_namespaces
from verify import curl, observability_traces
from verify.context import Context, user_agent
from verify.curl import UNREACHED_SECONDS, Request
from verify.envoy import CONTAINER as PROXY
from verify.exchange import judged
from verify.kube import Subject
from verify.mesh import OUTSIDER, TARGET
from verify.observer import Observer, Target, observer
from verify.probe import Outcome, Probe
from verify.straight import policies_of, stopped_by_policy
from verify.tenants import Tenant, tenants
from verify.workload import LABELS, Workload, annotate

SCENARIO = "observability"
ROW = "B10"

PROXY_METRICS = ":15020/stats/prometheus"
INJECTED = "sidecar.istio.io/status"
"""Annotation of every pod that Istio's injector gave a proxy."""

SCRAPES = 3
"""How often a target is to have been asked before it must be up: the first time comes within one interval."""

REDIS = "redis"
"""The only pods of the scenario rate-limit with a NetworkPolicy."""

REQUESTS = 7
"""How many the counted pod sends; a number that nothing else makes."""


def _counting(pod: Pod) -> None:
    # Istio has Envoy keep no counters of its clusters otherwise.
    annotate(
        pod, {"proxy.istio.io/config": json.dumps({"proxyStatsMatcher": {"inclusionSuffixes": ["upstream_rq_total"]}})}
    )


COUNTED = Workload("counted", in_mesh=True, change=_counting)


def probes(settings: Settings) -> Iterator[Probe]:
    """The probes of the layer."""
    observability = settings.observability
    assert observability is not None
    here = (observer(settings),)
    istiod = _probe(
        f"Prometheus asks every istiod on {ISTIOD_PORT}: up, and it counts the proxies that it serves",
        _istiod,
        here,
    )
    yield istiod
    yield _probe(
        f"Prometheus asks every gateway of this stack on {PROXY_METRICS[1:]}: up{_but(settings, gateways=True)}",
        partial(_proxies, True),
        here,
    )
    sidecars = _probe(
        f"Prometheus asks every sidecar of this stack on {PROXY_METRICS[1:]}: up{_but(settings, gateways=False)}",
        partial(_proxies, False),
        here,
    )
    yield sidecars
    for tenant in _shut(settings)[:1]:
        yield _probe(
            f"a sidecar in {tenant.namespace}, whose team names no namespace under ingressFrom: asked, but down",
            partial(_shut_out, tenant),
            (*here, tenant.application),
            pair=sidecars,
        )
    yield _probe(
        f"{REQUESTS} requests from a pod to another: in Prometheus as the pod's sidecar counts them, by the pod's "
        f"namespace, name and app ({_series(settings)})",
        _counted,
        (*here, COUNTED, TARGET),
    )
    yield _probe(
        f"from another namespace to {_doors(settings)}: no connection",
        _elsewhere,
        (OUTSIDER,),
        pair=istiod,
    )
    yield _probe("Prometheus' account may list pods, and read no Secret and no node", _rights)
    if observability.grafana:
        yield _probe("Grafana: its database works, and nobody sees dashboards without a login", _grafana, here)
    if observability.kiali:
        yield _probe("Kiali: it answers, and nobody sees namespaces without a login", _kiali, here)
    yield from observability_traces.probes(settings)


def _probe(
    expected: str,
    attempt: Callable[[Context], Outcome],
    workloads: tuple[Workload, ...] = (),
    pair: Probe | None = None,
) -> Probe:
    return Probe(row=ROW, scenario=SCENARIO, expected=expected, attempt=attempt, workloads=workloads, pair=pair)


# Targets


def _istiod(context: Context) -> Outcome:
    ask = Observer(context)
    pods = context.kube.running(str(context.contracts["mesh"]["namespace"]), {"app": "istiod"})
    targets = ask.targets(ISTIOD_JOB)
    faults = _missing({_name(pod) for pod in pods}, targets)
    faults += [str(target) for target in targets if not target.up or f":{ISTIOD_PORT}/metrics" not in target.url]
    serving = ask.series(f'sum by (pod) (pilot_xds{{job="{ISTIOD_JOB}"}})')
    if not any(sample.value for sample in serving):
        faults.append("no istiod says that it serves proxies (pilot_xds)")
    said = ", ".join(f"{sample.labels.get('pod')} serves {sample.value:.0f} proxies" for sample in serving)
    return judged(f"{len(targets)} targets, {_up(targets)} up", faults, "; ".join([*map(str, targets), said]))


def _proxies(gateways: bool, context: Context) -> Outcome:
    """Gateways' proxies, or sidecars, of the namespaces that this stack's layers make."""
    ours = {namespace for _, namespace in made_namespaces(dict(context.settings))}
    asked_since = SCRAPES * Observer(context).interval
    pods = {
        _name(pod)
        for pod in context.kube.everywhere(Pod, {})
        if _name(pod)[0] in ours
        and _injected(pod)
        and _gateway(pod) == gateways
        and _ready_for(pod) > asked_since
        and not any(closed.holds(_name(pod)[0], _labels(pod)) for closed in _closed(context.settings))
    }
    if not pods:
        what = "gateway" if gateways else "sidecar"
        return Outcome(ok=None, observed=f"this stack has no {what} that has been ready for {asked_since} s")
    targets = {target.pod: target for target in Observer(context).targets(PROXIES_JOB) if target.pod in pods}
    faults = _missing(pods, list(targets.values()))
    faults += [str(target) for target in targets.values() if not target.up or PROXY_METRICS not in target.url]
    counts: dict[str, int] = {}
    for namespace, _ in sorted(pods):
        counts[namespace] = counts.get(namespace, 0) + 1
    evidence = ", ".join(f"{count} in {namespace}" for namespace, count in counts.items())
    return judged(f"{len(pods)} pods, {_up(list(targets.values()))} up", faults, evidence)


def _shut_out(tenant: Tenant, context: Context) -> Outcome:
    """Prometheus' own word that it gets no answer."""
    ask = Observer(context)
    pod = context.pods.get(tenant.application)

    def find() -> Target | None:
        return next((one for one in ask.targets(PROXIES_JOB) if one.pod == (pod.namespace, pod.pod)), None)

    target = ask.awaited(find, lambda found: found is not None and bool(found.error), 2 * ask.interval + curl.TIMEOUT)
    if target is None:
        return Outcome(ok=False, observed=f"Prometheus does not know {pod.name}")
    if target.up or not re.search("deadline exceeded|timeout|refused|reset", target.error):
        return Outcome(ok=False, observed=str(target))
    return Outcome(ok=True, observed="down", evidence=str(target), proven=True)


def _shut(settings: Settings) -> list[Tenant]:
    """The teams whose NetworkPolicies do not let Prometheus in."""
    assert settings.observability is not None
    mine = settings.observability.namespace
    teams = tenants(settings.teams) if settings.teams else []
    return [tenant for tenant in teams if mine not in tenant.team.ingress_from]


@dataclass(frozen=True)
class Closed:
    """Pods whose NetworkPolicy does not let Prometheus in, as their settings say."""

    namespace: str
    app: str | None = None
    """Their label; all of the namespace when None."""

    gateways: bool = False

    def holds(self, namespace: str, labels: Mapping[str, str]) -> bool:
        """Whether a pod is one of them."""
        return namespace == self.namespace and self.app in (None, labels.get("app"))

    def __str__(self) -> str:
        return f"{self.app} in {self.namespace}" if self.app else self.namespace


def _closed(settings: Settings) -> list[Closed]:
    assert settings.observability is not None
    mine = settings.observability.namespace
    closed = [Closed(tenant.namespace) for tenant in _shut(settings)]
    if settings.egress and mine not in settings.egress.metrics_from:
        closed.append(Closed(settings.egress.namespace, gateways=True))
    if settings.rate_limit and mine not in settings.rate_limit.metrics_from:
        closed.append(Closed(settings.rate_limit.namespace, REDIS))
    return closed


def _but(settings: Settings, *, gateways: bool) -> str:
    closed = [str(one) for one in _closed(settings) if one.gateways == gateways]
    return f" (not {', '.join(closed)}, whose NetworkPolicies do not let it in)" if closed else ""


def _injected(pod: Pod) -> bool:
    assert pod.metadata is not None
    # Probe pods come and go.
    return INJECTED in (pod.metadata.annotations or {}) and not LABELS.items() <= _labels(pod).items()


def _gateway(pod: Pod) -> bool:
    """Whether the proxy is all that it is: no container is beside it. A sidecar may be among the containers for the
    pod's start."""
    assert pod.spec is not None
    return {container.name for container in pod.spec.containers} == {PROXY}


def _ready_for(pod: Pod) -> float:
    """Seconds since it is ready; less than none when it is not."""
    for condition in (pod.status and pod.status.conditions) or []:
        if condition.type == "Ready" and condition.status == "True" and condition.lastTransitionTime:
            return (datetime.now(UTC) - condition.lastTransitionTime).total_seconds()
    return -1


def _name(pod: Pod) -> tuple[str, str]:
    assert pod.metadata is not None
    return str(pod.metadata.namespace), str(pod.metadata.name)


def _labels(pod: Pod) -> dict[str, str]:
    return (pod.metadata and pod.metadata.labels) or {}


def _missing(pods: set[tuple[str, str]], targets: list[Target]) -> list[str]:
    if not pods:
        return ["no such pod runs"]
    return [f"{'/'.join(pod)} is not asked" for pod in sorted(pods - {target.pod for target in targets})]


def _up(targets: list[Target]) -> int:
    return sum(target.up for target in targets)


# Series


def _istio_counts(settings: Settings) -> bool:
    """Whether proxies keep Istio's own metrics; upstream's Envoy cannot, and istiod is told so by this value then."""
    telemetry = settings.istio.values.get("telemetry")
    return not (isinstance(telemetry, dict) and telemetry.get("enabled") is False)


def _series(settings: Settings) -> str:
    return "istio_requests_total" if _istio_counts(settings) else "envoy_cluster_upstream_rq_total"


def _counted(context: Context) -> Outcome:
    ask = Observer(context)
    pod, target = context.pods.get(COUNTED), context.pods.get(TARGET)
    name = _series(context.settings)
    for _ in range(REQUESTS):
        response = curl.send(pod, Request(url=f"http://{target.host}/", user_agent=user_agent(ROW)))
        if response.exit_code or response.status != 200:
            return Outcome(ok=False, observed=f"{target.host} from {pod.name}: {response}")
    own = sum(
        float(value) for line in _exposed(context, pod.namespace, pod.pod) for value in _value(line, name, target.host)
    )
    labels = f'namespace="{pod.namespace}",pod="{pod.pod}",app="{pod.pod}"'
    to = f'cluster_name=~"outbound.80..{target.host};?"'
    if _istio_counts(context.settings):
        to = f'reporter="source",destination_service="{target.host}"'

    def found() -> float:
        return sum(sample.value for sample in ask.series(f"{name}{{{labels},{to}}}"))

    seen = ask.awaited(found, lambda value: value == own, SCRAPES * ask.interval)
    faults = [] if seen == own else [f"the sidecar itself counts {own:.0f}"]
    if own < REQUESTS:
        faults.append(f"{REQUESTS} were sent")
    return judged(f"Prometheus has {seen:.0f}", faults, f"{name}{{{labels},{to}}}; the sidecar counts {own:.0f}")


def _exposed(context: Context, namespace: str, pod: str) -> list[str]:
    """What the pod's proxy tells Prometheus."""
    done = context.kube.run(namespace, pod, PROXY, ["pilot-agent", "request", "GET", "stats/prometheus"], 15)
    return done.stdout.splitlines()


def _value(line: str, name: str, host: str) -> list[str]:
    """The value in a line of Prometheus' text format, if it counts what this pod sent to the host on port 80."""
    if not line.startswith(f"{name}{{") or host not in line or 'reporter="destination"' in line:
        return []
    if name.startswith("envoy") and "outbound|80|" not in line:
        return []
    return [line.rpartition(" ")[2]]


# Who may see it


def _doors(settings: Settings) -> str:
    assert settings.observability is not None
    return "Prometheus and Jaeger" if settings.observability.jaeger else "Prometheus"


def _elsewhere(context: Context) -> Outcome:
    addresses = context.contracts["observability"]["addresses"]
    pod = context.pods.get(OUTSIDER)
    urls = [f"{addresses['prometheus']}/-/ready"]
    if "jaeger" in addresses:
        urls.append(f"{addresses['jaeger']}/")
    requests = [Request(url=url, user_agent=user_agent(ROW), connect_seconds=UNREACHED_SECONDS) for url in urls]
    namespace = str(context.contracts["observability"]["namespace"])
    return stopped_by_policy(context, pod, policies_of(pod.namespace, namespace), *requests)


def _rights(context: Context) -> Outcome:
    namespace = str(context.contracts["observability"]["namespace"])
    account = Subject(
        f"system:serviceaccount:{namespace}:{NAME}",
        ("system:serviceaccounts", f"system:serviceaccounts:{namespace}", "system:authenticated"),
    )
    may = context.kube.may(account, "list", "pods", "")
    asked = [
        ("get", "secrets"),
        ("get", "nodes/proxy"),
        ("create", "pods"),
        ("create", "pods/exec"),
        ("get", "configmaps"),
    ]
    may_too = [f"{verb} {resource}" for verb, resource in asked if context.kube.may(account, verb, resource, "")]
    faults = [f"it may {what}" for what in may_too] + ([] if may else ["it may not list pods"])
    denied = ", ".join(f"{verb} {resource}" for verb, resource in asked)
    return judged(f"list pods: {'yes' if may else 'no'}", faults, f"RBAC of {account.user}; not: {denied}")


def _grafana(context: Context) -> Outcome:
    health = Observer(context).ask("grafana", "/api/health")
    search = Observer(context).ask("grafana", "/api/search")
    faults = [] if health.status == 200 and '"ok"' in health.body else [f"/api/health: {health}"]
    faults += [] if search.status == 401 else [f"/api/search without a login: {search}"]
    return judged(f"/api/health {health.status}, /api/search {search.status}", faults, health.body[:200])


def _kiali(context: Context) -> Outcome:
    health = Observer(context).ask("kiali", "/healthz")
    namespaces = Observer(context).ask("kiali", "/api/namespaces")
    faults = [] if health.status == 200 else [f"/healthz: {health}"]
    faults += [] if namespaces.status == 401 else [f"/api/namespaces without a login: {namespaces}"]
    return judged(f"/healthz {health.status}, /api/namespaces {namespaces.status}", faults, health.body[:200])
