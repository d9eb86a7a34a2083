"""Interception: what the application sees, the proxy's two listeners, the redirect rules (B11; source: KANS 7, Istio).

docs/interception.md shows the same step by step.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

from lightkube.models.core_v1 import Capabilities, SeccompProfile, SecurityContext
from lightkube.resources.core_v1 import Pod

from settings import Settings
from settings.sidecar import SidecarSettings
from verify import curl
from verify.context import Context, user_agent
from verify.curl import Request
from verify.errors import VerifyError
from verify.exchange import differs, judged
from verify.kube import FORBIDDEN, Refused
from verify.mesh import CALLER, OUTSIDER
from verify.pods import ProbePod
from verify.probe import Outcome, Probe
from verify.sidecar import SCENARIO
from verify.sockets import COMMAND, listening
from verify.web_server import WebServer, from_inside, from_outside
from verify.workload import FILES, Workload

ROW = "B11"

OUTBOUND_PORT, INBOUND_PORT = 15001, 15006
PROXY_USER = 1337
PASSED_ON = "127.0.0.6"
"""Where the proxy's connections to its own application come from: the rules know them by it."""

FORGED = "192.0.2.1"
"""An address of documentation (RFC 5737) that a client claims to be."""

LISTENERS = {"virtualOutbound": OUTBOUND_PORT, "virtualInbound": INBOUND_PORT}
INBOUND_CLUSTER = "inbound|80||"

TO_OUTBOUND = f"-A ISTIO_REDIRECT -p tcp -j REDIRECT --to-ports {OUTBOUND_PORT}"
TO_INBOUND = f"-A ISTIO_IN_REDIRECT -p tcp -j REDIRECT --to-ports {INBOUND_PORT}"
RULES = (
    "-A PREROUTING -p tcp -j ISTIO_INBOUND",
    TO_INBOUND,
    f"-A ISTIO_OUTPUT -m owner --uid-owner {PROXY_USER} -j RETURN",
    f"-A ISTIO_OUTPUT -m owner --gid-owner {PROXY_USER} -j RETURN",
    f"-A ISTIO_OUTPUT -s {PASSED_ON}/32 -o lo -j RETURN",
    TO_OUTBOUND,
)
"""In the words of iptables-save."""

UNSERVED = 8080
"""A port on which no program of a probe pod listens."""

SAVE = "for save in iptables-save iptables-legacy-save iptables-nft-save; do $save -c -t nat; done"
"""Prints the rules with their counters, whichever of the kernel's two interfaces they were made by."""


def probes(settings: Settings) -> Iterator[Probe]:
    """The probes of the row."""
    sidecar = settings.sidecar
    assert sidecar is not None
    redirected = Workload(
        "redirected",
        in_mesh=True,
        namespace=sidecar.namespace,
        change=_Privileged(f"{settings.istio.hub}/proxyv2:{settings.istio.version}"),
    )
    yield _probe(
        f"a request by the gateway, as nginx logs it: from {PASSED_ON}, the client's address last in X-Forwarded-For, "
        "x-envoy-attempt-count 1",
        partial(_seen, sidecar),
    )
    yield _probe(
        "a request from a pod in the mesh: its sidecar took it in and sent it on from a port of its own, by which the "
        f"web server's sidecar knows it; nginx sees {PASSED_ON}",
        partial(_passed_on, sidecar),
        CALLER,
    )
    yield _probe(
        f"a proxy listens on {OUTBOUND_PORT} (outbound) and {INBOUND_PORT} (inbound) as uid {PROXY_USER}; the web "
        f"server's calls its application from {PASSED_ON}",
        partial(_listeners, sidecar),
        CALLER,
    )
    yield _probe(
        f"nat rules of a pod in the mesh: what comes to {INBOUND_PORT}, what goes to {OUTBOUND_PORT}, but of uid and "
        f"gid {PROXY_USER}; their counters rise with requests each way",
        partial(_rules, sidecar, redirected),
        redirected,
        OUTSIDER,
    )


def _probe(expected: str, attempt: Callable[[Context], Outcome], *workloads: Workload) -> Probe:
    return Probe(row=ROW, scenario=SCENARIO, expected=expected, attempt=attempt, workloads=workloads)


@dataclass(frozen=True)
class _Privileged:
    """Makes a probe pod one that may read netfilter's rules, which takes root with NET_ADMIN; `image` has iptables."""

    image: str

    def __call__(self, pod: Pod) -> None:
        assert pod.spec is not None
        (container,) = pod.spec.containers
        container.image = self.image
        container.securityContext = SecurityContext(
            runAsNonRoot=False,
            runAsUser=0,
            allowPrivilegeEscalation=False,
            readOnlyRootFilesystem=True,
            capabilities=Capabilities(drop=["ALL"], add=["NET_ADMIN", "NET_RAW"]),
            seccompProfile=SeccompProfile(type="RuntimeDefault"),
        )


def _seen(settings: SidecarSettings, context: Context) -> Outcome:
    """What the client claims is kept, but what the gateway saw comes after it."""
    visit = from_outside(context, settings, ROW, {"X-Forwarded-For": FORGED})
    faults = [*differs("status", visit.response.status, 200), *visit.unlogged]
    if visit.received and visit.first and visit.sidecar:
        client = _address(visit.first.downstream_remote_address)
        faults += [
            *differs("whom nginx sees", visit.received["remote_addr"], PASSED_ON),
            *differs("X-Forwarded-For", visit.received["x_forwarded_for"].replace(" ", ""), f"{FORGED},{client}"),
            *differs("x-envoy-attempt-count", visit.received["x_envoy_attempt_count"], "1"),
            *differs("the sidecar's way to it", visit.sidecar.upstream_cluster, INBOUND_CLUSTER),
            *differs("the sidecar's own address on it", _address(visit.sidecar.upstream_local_address), PASSED_ON),
        ]
    return judged(str(visit.response), faults, visit.evidence)


def _passed_on(settings: SidecarSettings, context: Context) -> Outcome:
    pod = context.pods.get(CALLER)
    visit = from_inside(context, settings, ROW, pod)
    faults = [*differs("status", visit.response.status, 200), *visit.unlogged]
    if visit.received and visit.first and visit.sidecar:
        faults += [
            *differs("where its sidecar took it in", visit.first.downstream_remote_address, visit.response.local),
            *differs("where it was to go", visit.first.downstream_local_address, visit.response.connected),
            *differs(
                "whom the web server's sidecar sees",
                visit.sidecar.downstream_remote_address,
                visit.first.upstream_local_address,
            ),
            *(
                ["it was sent on from the port that it came from"]
                if visit.first.upstream_local_address == visit.response.local
                else []
            ),
            *differs("whom nginx sees", visit.received["remote_addr"], PASSED_ON),
        ]
    return judged(str(visit.response), faults, visit.evidence)


def _listeners(settings: SidecarSettings, context: Context) -> Outcome:
    pod = context.pods.get(CALLER)
    done = pod.run(COMMAND, timeout=15)
    if done.exit_code:
        raise VerifyError(f"cannot read the sockets of pod {pod.name}: {done.stderr.strip()}")
    sockets = listening(done.stdout)
    faults, said = [], []
    for name, port in LISTENERS.items():
        address = pod.proxies.config("listener", name).get("address", {}).get("socket_address", {})
        user = sockets[port].user if port in sockets else None
        said.append(f"{name} {address.get('address')}:{address.get('port_value')} of uid {user}")
        faults += differs(f"listener {name}", address.get("port_value"), port)
        faults += differs(f"who listens on {port}", user, PROXY_USER)
    cluster = WebServer(context, settings).proxies.config("cluster", INBOUND_CLUSTER)
    source = _source(cluster)
    said.append(f"cluster {INBOUND_CLUSTER} {cluster.get('type')} from {source}")
    faults += differs("from where it calls its application", source, PASSED_ON)
    own = ", ".join(str(port) for port, socket in sorted(sockets.items()) if socket.user == PROXY_USER)
    return judged(
        "; ".join(said), faults, f"proxy-config: {'; '.join(said)}; /proc/net/tcp: uid {PROXY_USER} has {own}"
    )


def _source(cluster: Mapping[str, Any]) -> str | None:
    """The address that a cluster's connections come from."""
    address: str | None = cluster.get("upstream_bind_config", {}).get("source_address", {}).get("address")
    return address


def _rules(settings: SidecarSettings, redirected: Workload, context: Context) -> Outcome:
    try:
        pod = context.pods.get(redirected)
    except Refused as error:
        if error.code != FORBIDDEN:
            raise
        return Outcome(ok=None, observed=f"no pod may have NET_ADMIN there, so the rules cannot be read: {error.said}")
    outsider = context.pods.get(OUTSIDER)
    before = rules(_saved(pod))
    going = curl.send(pod, Request(url=f"http://{WebServer(context, settings).host}/", user_agent=user_agent(ROW)))
    address = _address(going.local)
    # Nobody listens there but the proxy, and that only by the redirection; it takes no plaintext from outside the mesh.
    coming = curl.send(outsider, Request(url=f"http://{address}:{UNSERVED}/", user_agent=user_agent(ROW)))
    after = rules(_saved(pod))
    rises = {rule: after.get(rule, 0) - before.get(rule, 0) for rule in (TO_OUTBOUND, TO_INBOUND)}
    faults = [
        *differs("status of its own request", going.status, 200),
        *differs("how a plaintext request to it ends", coming.exit_code, curl.READ_FAILED),
        *(f"there is no rule {rule}" for rule in RULES if rule not in after),
        *(f"no packet met the rule {rule}" for rule, rise in rises.items() if rise < 1),
    ]
    return judged(
        ", ".join(f"{rule.rpartition(' ')[2]} rose by {rise}" for rule, rise in rises.items()),
        faults,
        f"iptables-save -t nat in pod {pod.name}: {'; '.join(f'[{after[rule]}] {rule}' for rule in after)}",
    )


def rules(text: str) -> Mapping[str, int]:
    """Istio's rules in what iptables-save wrote, in its order, with the packets that met each."""
    found = re.findall(r"^\[(\d+):\d+\] (-A .*?)\s*$", text, re.MULTILINE)
    return {rule: int(packets) for packets, rule in found if "ISTIO" in rule}


def _saved(pod: ProbePod) -> str:
    done = pod.run(["env", f"XTABLES_LOCKFILE={FILES}/xtables.lock", "sh", "-c", SAVE], timeout=15)
    if not rules(done.stdout):
        raise VerifyError(f"pod {pod.name} has no nat rules of Istio: {done.stderr.strip() or 'nothing on stderr'}")
    return done.stdout


def _address(address_and_port: str) -> str:
    return address_and_port.rpartition(":")[0]
