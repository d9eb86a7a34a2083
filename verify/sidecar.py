"""Scenario `sidecar`: injection by the namespace's label, a web server at a gateway, the control plane, a debug copy
(B2; source: KANS 7, Istio). What its proxy does with traffic is in verify/interception.py (B11)."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from functools import partial

from components.sidecar.sidecar import GATEWAY
from components.sidecar.web_server import DEPLOYMENT
from settings import Settings
from settings.sidecar import SidecarSettings
from verify import control_plane, curl
from verify.context import Context, user_agent
from verify.debug_copy import CONTAINER as NETDEBUG
from verify.debug_copy import debug_copy, readiness
from verify.envoy import CONTAINER as PROXY
from verify.envoy import awaited
from verify.errors import VerifyError
from verify.exchange import differs, judged
from verify.logs import Cluster
from verify.pods import containers
from verify.probe import Outcome, Probe
from verify.revisions import UNLABELLED
from verify.web_server import WebServer, from_outside, received
from verify.workload import Workload

SCENARIO = "sidecar"
ROW = "B2"

ISTIOD_PORTS = {
    8080: "debugging and readiness",
    9876: "ControlZ",
    15010: "configuration, plaintext",
    15012: "configuration and certificates, TLS",
    15014: "metrics",
    15017: "webhooks",
}
"""As in the source document."""

NO_CONTROL_PLANE = "the control plane is not in the cluster: it cannot be asked"

LOOPBACK = "127.0.0.1"
NO_ROUTE = "route_not_found"
UNKNOWN_HOST = "unknown.example.com"

PROGRAMS = ("nginx", "pilot-agent", "envoy")
PROCESSES = "for one in /proc/[0-9]*; do tr '\\0' ' ' < $one/cmdline; echo; done"
"""Prints the command lines of a pod's processes; without a program that an image may lack."""


def probes(settings: Settings) -> Iterator[Probe]:
    """The probes of the row, injection first."""
    sidecar = settings.sidecar
    assert sidecar is not None
    injected = _probe(f"pod of {DEPLOYMENT}: 2/2 containers, {DEPLOYMENT} and {PROXY}", partial(_injected, sidecar))
    yield injected
    yield _probe(
        "a pod in a namespace without the label: 1/1, no sidecar", _not_injected, workload=UNLABELLED, pair=injected
    )
    reached = _probe(
        f"http to the gateway for {sidecar.host}: 200 of the web server, by its sidecar, with mutual TLS",
        partial(_reached, sidecar),
    )
    yield reached
    yield _probe(
        "http to the gateway for another host: 404 of the gateway", partial(_unknown_host, sidecar), pair=reached
    )
    yield _probe(
        "proxy status: every proxy acknowledges what istiod sends it (CDS, LDS, RDS, EDS)", partial(_synced, sidecar)
    )
    yield _probe(f"istiod listens on {', '.join(map(str, ISTIOD_PORTS))}", _ports)
    yield _probe(
        f"a debug copy of the pod: 3/3 containers; {NETDEBUG} sees the processes nginx, pilot-agent and envoy, and is "
        f"{LOOPBACK} to nginx when it asks past the proxy",
        partial(_debugged, sidecar),
    )


def _probe(
    expected: str,
    attempt: Callable[[Context], Outcome],
    workload: Workload | None = None,
    pair: Probe | None = None,
) -> Probe:
    return Probe(
        row=ROW,
        scenario=SCENARIO,
        expected=expected,
        attempt=attempt,
        workloads=(workload,) if workload else (),
        pair=pair,
    )


def _injected(settings: SidecarSettings, context: Context) -> Outcome:
    pod = WebServer(context, settings).pod()
    assert pod.spec is not None
    ready, wanted = readiness(pod)
    native = PROXY in {container.name for container in pod.spec.initContainers or []}
    kind = "a native sidecar" if native else "an ordinary container" if PROXY in containers(pod) else "not there"
    observed = f"{ready}/{wanted}: {', '.join(sorted(containers(pod)))}"
    return judged(
        observed,
        [
            *differs("ready containers", (ready, wanted), (2, 2)),
            *([] if PROXY in containers(pod) else [f"it has no container {PROXY}"]),
        ],
        f"pod {pod.metadata and pod.metadata.name}: {PROXY} is {kind}",
    )


def _not_injected(context: Context) -> Outcome:
    probe_pod = context.pods.get(UNLABELLED)
    pod = context.kube.pod(probe_pod.namespace, probe_pod.pod)
    ready, wanted = readiness(pod)
    observed = f"{ready}/{wanted}: {', '.join(sorted(containers(pod)))}"
    return judged(
        observed,
        [
            *differs("ready containers", (ready, wanted), (1, 1)),
            *(["it has a sidecar"] if PROXY in containers(pod) else []),
        ],
        f"pod {probe_pod.namespace}/{probe_pod.pod}: {observed}",
    )


def _reached(settings: SidecarSettings, context: Context) -> Outcome:
    server = WebServer(context, settings)
    visit = from_outside(context, settings, ROW, {})
    faults = [*differs("status", visit.response.status, 200), *visit.unlogged]
    if visit.first:
        faults += differs("where the gateway sent it", visit.first.upstream, Cluster(80, "", server.host))
    if visit.sidecar:
        faults += differs("the caller that the web server's sidecar logs", visit.sidecar.peer, server.gateway_identity)
    return judged(str(visit.response), faults, visit.evidence)


def _unknown_host(settings: SidecarSettings, context: Context) -> Outcome:
    server, agent, start = WebServer(context, settings), user_agent(ROW), time.monotonic()
    response = curl.send(context.clients[0], server.request(UNKNOWN_HOST, agent))
    line = server.gateway.line(lambda line: line.user_agent == agent, start)
    faults = differs("status", response.status, 404)
    faults += ["the gateway does not log it"] if line is None else differs("why", line.response_code_details, NO_ROUTE)
    return judged(str(response), faults, f"gateway {GATEWAY}: {line}" if line else "")


def _synced(settings: SidecarSettings, context: Context) -> Outcome:
    istiods = control_plane.istiods(context)
    if not istiods:
        return Outcome(ok=None, observed=NO_CONTROL_PLANE)
    proxies, behind = control_plane.lasting(context, istiods)
    server = WebServer(context, settings)
    own = [
        *(f"{pod}.{server.namespace}" for pod in context.kube.pods(server.namespace, {"app": DEPLOYMENT})),
        *(
            f"{pod}.{settings.gateway_namespace}"
            for pod in context.kube.pods(settings.gateway_namespace, {"istio": GATEWAY})
        ),
    ]
    never = {proxy.proxy: proxy.never for proxy in proxies}
    faults = [f"{proxy} does not acknowledge {name}" for proxy, name in sorted(behind)]
    faults += [f"istiod does not know {name}" for name in own if name not in never]
    said = "; ".join(
        f"{name}: {'without ' + ', '.join(never[name]) if never[name] else 'all four'}" for name in own if name in never
    )
    return judged(f"{len(proxies)} proxies", faults, f"istiod's /debug/syncz: {len(proxies)} proxies; {said}")


def _ports(context: Context) -> Outcome:
    istiods = control_plane.istiods(context)
    if not istiods:
        return Outcome(ok=None, observed=NO_CONTROL_PLANE)
    said, faults = [], []
    for istiod in istiods:
        found = control_plane.ports(context, istiod)
        if found is None:
            return Outcome(ok=None, observed="istiod's image has no `cat`: its sockets cannot be read")
        said.append(f"{istiod}: {', '.join(f'{socket.address}:{port}' for port, socket in sorted(found.items()))}")
        faults += [
            f"{istiod} does not listen on {port} ({use})" for port, use in ISTIOD_PORTS.items() if port not in found
        ]
    return judged("; ".join(said), faults, f"/proc/net/tcp of {'; '.join(said)}")


def _debugged(settings: SidecarSettings, context: Context) -> Outcome:
    with debug_copy(context, WebServer(context, settings).pod()) as pod:
        assert pod.metadata is not None
        namespace, name = str(pod.metadata.namespace), str(pod.metadata.name)
        ready, wanted = readiness(pod)

        def run(*command: str) -> str:
            done = context.kube.run(namespace, name, NETDEBUG, command, timeout=15)
            if done.exit_code:
                raise VerifyError(f"{command[0]} in {NETDEBUG} of pod {name}: exit {done.exit_code}: {done.stderr}")
            return done.stdout

        running = run("sh", "-c", PROCESSES).splitlines()
        agent, start = user_agent(ROW), time.monotonic()
        run("curl", "--disable", "--silent", "--fail", "--user-agent", agent, f"http://{LOOPBACK}/")
        line = awaited(
            lambda: received(context, namespace, [name], start), lambda line: line["user_agent"] == agent, context.stop
        )
    # nginx calls itself `nginx: master process ...`.
    programs = {words[0].rpartition("/")[2].rstrip(":") for words in map(str.split, running) if words}
    return judged(
        f"{ready}/{wanted}: {', '.join(sorted(containers(pod)))}",
        [
            *differs("ready containers", (ready, wanted), (3, 3)),
            *(f"{NETDEBUG} sees no process {program}" for program in PROGRAMS if program not in programs),
            *differs("whom nginx takes it for", line and line["remote_addr"], LOOPBACK),
        ],
        f"processes: {'; '.join(process.strip()[:60] for process in running if process.strip())}",
    )
