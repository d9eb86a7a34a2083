"""Requests with a trace, and what of them Jaeger has (B10)."""

from __future__ import annotations

import json
import secrets
from collections.abc import Callable, Iterator, Mapping
from functools import partial

from components.bookinfo.stages import GATEWAY
from settings import Settings
from settings.bookinfo import NO_MESH, BookinfoSettings
from verify import curl
from verify.context import Context, user_agent
from verify.curl import Request
from verify.exchange import judged
from verify.mesh import CALLER, TARGET
from verify.observer import Observer, observer
from verify.probe import Outcome, Probe
from verify.workload import Workload

SCENARIO = "observability"
ROW = "B10"

FLUSH_SECONDS = 15
"""Until a span is surely in Jaeger: Envoy sends what it has every five seconds, Jaeger stores it in batches."""

NOTHING = "allow-nothing"
"""The stage where productpage itself is refused, so that it asks nobody."""

TRACER = "envoy.tracers.opentelemetry"


def probes(settings: Settings) -> Iterator[Probe]:
    """The probes where spans are sent to this Jaeger."""
    observability = settings.observability
    assert observability is not None
    if observability.jaeger is None or observability.tracing is None:
        return
    traced: list[Probe] = []
    bookinfo = settings.bookinfo
    if bookinfo and _services(bookinfo, observability.traced):
        services = ", ".join(_services(bookinfo, observability.traced))
        traced.append(
            _probe(f"a traced request to Bookinfo: one trace in Jaeger, with spans of {services}", _page, settings)
        )
    shown = {bookinfo.namespace, bookinfo.gateway_namespace} if bookinfo else set()
    traced += [
        _probe(
            f"a traced request of a pod in {namespace}: its sidecar's span is in Jaeger",
            partial(_sidecar, _asker(namespace)),
            settings,
            _asker(namespace),
            TARGET,
        )
        for namespace in observability.traced
        if namespace not in shown
    ]
    yield from traced
    yield _probe(
        "a traced request in a namespace that is not traced: 200, no span in Jaeger, no tracer in the sidecar",
        _untraced,
        settings,
        CALLER,
        TARGET,
        pair=traced[0] if traced else None,
    )


def _probe(
    expected: str,
    attempt: Callable[[Context], Outcome],
    settings: Settings,
    *workloads: Workload,
    pair: Probe | None = None,
) -> Probe:
    return Probe(
        row=ROW,
        scenario=SCENARIO,
        expected=expected,
        attempt=attempt,
        workloads=(observer(settings), *workloads),
        pair=pair,
    )


def _asker(namespace: str) -> Workload:
    return Workload("traced", in_mesh=True, namespace=namespace)


def _services(bookinfo: BookinfoSettings, traced: tuple[str, ...]) -> list[str]:
    """Who has a part in answering the page, as proxies call themselves; ratings only where its stage has stars."""
    apps = ["productpage"] if bookinfo.step == NOTHING else ["productpage", "details", "reviews"]
    everyone = [(GATEWAY, bookinfo.gateway_namespace), *((app, bookinfo.namespace) for app in apps)]
    return [f"{app}.{namespace}" for app, namespace in everyone if namespace in traced]


def _page(context: Context) -> Outcome:
    bookinfo, observability = context.settings.bookinfo, context.settings.observability
    assert bookinfo is not None
    assert observability is not None
    if bookinfo.step == NO_MESH:
        return Outcome(ok=None, observed=f"Bookinfo has no proxies at its stage {NO_MESH}")
    where = context.contracts["bookinfo"]["gateways"][GATEWAY]
    trace, headers = _begun()
    response = curl.send(
        context.clients[0],
        Request(
            url=f"http://{where['address']}:{where['port']}/productpage", user_agent=user_agent(ROW), headers=headers
        ),
    )
    right = 403 if bookinfo.step == NOTHING else 200
    faults = [] if response.status == right else [f"the page: {response}"]
    return _found(context, trace, _services(bookinfo, observability.traced), str(response), faults)


def _sidecar(workload: Workload, context: Context) -> Outcome:
    pod, target = context.pods.get(workload), context.pods.get(TARGET)
    trace, headers = _begun()
    response = curl.send(pod, Request(url=f"http://{target.host}/", user_agent=user_agent(ROW), headers=headers))
    faults = [] if response.status == 200 else [f"{target.host}: {response}"]
    return _found(context, trace, [f"{pod.pod}.{pod.namespace}"], str(response), faults)


def _untraced(context: Context) -> Outcome:
    pod, target = context.pods.get(CALLER), context.pods.get(TARGET)
    trace, headers = _begun()
    response = curl.send(pod, Request(url=f"http://{target.host}/", user_agent=user_agent(ROW), headers=headers))
    if response.exit_code or response.status != 200:
        return Outcome(ok=False, observed=f"{target.host}: {response}")
    ask = Observer(context)
    spans = ask.awaited(lambda: ask.trace(trace), bool, FLUSH_SECONDS)
    listener = pod.proxies.config("listener", "0.0.0.0_80")
    faults = [f"Jaeger has {_said(spans)}"] if spans else []
    if not listener:
        faults.append("the sidecar has no listener for port 80")
    if TRACER in json.dumps(listener):
        faults.append(f"its sidecar has {TRACER}")
    return judged(str(response), faults, f"trace {trace} is not in Jaeger; the sidecar's listener has no {TRACER}")


def _begun() -> tuple[str, Mapping[str, str]]:
    """The id of a new trace, and the headers by which a request belongs to it; it is to be sampled."""
    trace = secrets.token_hex(16)
    return trace, {"traceparent": f"00-{trace}-{secrets.token_hex(8)}-01"}


def _found(context: Context, trace: str, services: list[str], answer: str, faults: list[str]) -> Outcome:
    """Whether all of these services have sent spans of the trace."""
    ask = Observer(context)
    spans = ask.awaited(lambda: ask.trace(trace), lambda found: set(services) <= found.keys(), FLUSH_SECONDS)
    missing = [service for service in services if service not in spans]
    return judged(
        f"{answer}; {sum(spans.values())} spans",
        faults + ([f"none of {', '.join(missing)}"] if missing else []),
        f"trace {trace}: {_said(spans)}",
    )


def _said(spans: Mapping[str, int]) -> str:
    return ", ".join(f"{count} of {service}" for service, count in sorted(spans.items())) or "nothing"
