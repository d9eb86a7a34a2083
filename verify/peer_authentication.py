"""Scenario `peer_authentication`: who speaks how to whom (B8), from every place to every other."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator
from functools import partial
from typing import Literal

from components.peer_authentication.modes import PORT, SERVER, SPECS
from settings import Settings
from settings.peer_authentication import PLACES, PeerAuthenticationSettings, Place
from verify import curl
from verify.context import Context, user_agent
from verify.curl import Request, Response
from verify.envoy import Proxies
from verify.errors import VerifyError
from verify.exchange import differs, judged
from verify.logs import NO_FILTER_CHAIN, AccessLogLine
from verify.probe import Outcome, Probe
from verify.workload import Workload

ROW = "B8"
SCENARIO = "peer-authentication"

Way = Literal["mutual TLS", "plaintext", "refused"]

CALLERS: tuple[Place, ...] = ("permissive", "strict", "disable", "legacy")
"""Whose pods ask. From `port-level` it would be the same: what a place accepts says nothing of what it sends."""

OTHER_PORT = PORT + 1
"""Of the server's pods, at which nothing listens."""

CLAIMS = "x-forwarded-client-cert"
"""The header by which a sidecar tells its application who is calling."""

CLAIMED = "spiffe://cluster.local/ns/claimed/sa/claimed"
"""Whom every request claims to be from; nobody with a sidecar may believe it, or hand it on."""


def way(caller: Place, server: Place) -> Way:
    """How a request gets from a place to a server's Service, if it does.

    Auto mutual TLS: a sidecar speaks it to whoever has a sidecar that takes it.
    """
    if caller not in SPECS:
        return "refused" if server == "strict" else "plaintext"
    return "plaintext" if server in ("disable", "legacy") else "mutual TLS"


def probes(settings: Settings) -> Iterator[Probe]:
    """The probes of the layer: the matrix, and a port that the exception is not for."""
    assert settings.peer_authentication is not None
    section = settings.peer_authentication
    made: dict[tuple[Place, Place], Probe] = {}
    # Refusals come after what they are paired with.
    for caller, server in sorted(
        ((caller, server) for caller in CALLERS for server in PLACES), key=lambda pair: way(*pair) == "refused"
    ):
        made[caller, server] = _probe(section, caller, server, made)
    yield from made.values()
    yield Probe(
        row=ROW,
        scenario=SCENARIO,
        expected=f"legacy to port-level, but port {OTHER_PORT} of the pod: 000, exit 56; the server's sidecar has no "
        "filter chain for plaintext there",
        attempt=partial(_refused, section, "legacy", "port-level", OTHER_PORT),
        workloads=(asker(section, "legacy"),),
        pair=made["legacy", "port-level"],
    )


def asker(section: PeerAuthenticationSettings, place: Place) -> Workload:
    """A pod that asks from a place."""
    return Workload(place, in_mesh=place in SPECS, namespace=section.namespaces[place])


def _probe(
    section: PeerAuthenticationSettings, caller: Place, server: Place, made: dict[tuple[Place, Place], Probe]
) -> Probe:
    how = way(caller, server)
    if how == "refused":
        return Probe(
            row=ROW,
            scenario=SCENARIO,
            expected=f"{caller} to {server}: 000, exit 56; the server's sidecar has no filter chain for plaintext",
            attempt=partial(_refused, section, caller, server, None),
            workloads=(asker(section, caller),),
            # By mutual TLS the same server answers, so it is not merely gone.
            pair=made["permissive", server],
        )
    if how == "mutual TLS":
        told = "the server is told who calls"
    elif _between(caller, server):
        told = "the server is told of no caller"
    else:
        told = "the server is told whatever the caller claims"
    return Probe(
        row=ROW,
        scenario=SCENARIO,
        expected=f"{caller} to {server}: 200 by {how}; {told}",
        attempt=partial(_answered, section, caller, server),
        workloads=(asker(section, caller),),
    )


def _between(caller: Place, server: Place) -> bool:
    """Whether there is a sidecar that takes away what a caller claims."""
    return caller in SPECS or server in SPECS


def _answered(section: PeerAuthenticationSettings, caller: Place, server: Place, context: Context) -> Outcome:
    pod, how = context.pods.get(asker(section, caller)), way(caller, server)
    host, agent, start = _host(section, server), user_agent(ROW), time.monotonic()
    response = curl.send(
        pod, Request(url=f"http://{host}/headers", user_agent=agent, headers={CLAIMS: f"URI={CLAIMED}"})
    )
    if response.exit_code or response.status != 200:
        return Outcome(ok=False, observed=str(response))

    peer = pod.spiffe_id(context.contracts["mesh"]["trust_domain"]) if how == "mutual TLS" else None
    right = [peer] if peer else [] if _between(caller, server) else [CLAIMED]
    told = _told(response)
    faults, said = differs("the caller that the server is told", told, right), [f"server: {CLAIMS} {told or 'none'}"]
    if server in SPECS:
        line = _sidecar(section, server, context).line(lambda line: line.user_agent == agent, start)
        faults += _inbound(line, peer)
        said.append(f"sidecar of {server}: {line}")
    elif caller in SPECS:
        line = pod.proxies.line(lambda line: line.user_agent == agent, start)
        faults += _outbound(line, host)
        said.append(f"sidecar of {pod.name}: {line}")
    return judged(str(response) if faults else f"{response} by {how}", faults, "; ".join(said))


def _inbound(line: AccessLogLine | None, peer: str | None) -> Iterator[str]:
    """What the server's sidecar says that is not so; without a peer the connection is to be no TLS at all."""
    if line is None:
        yield "the server's sidecar does not log it"
        return
    yield from differs("the caller that the server's sidecar logs", line.peer, peer or "-")
    # Only in TLS a server name is asked for.
    yield from differs("its connection", _kind(line.requested_server_name != "-"), _kind(peer is not None))


def _kind(tls: bool) -> str:
    return "TLS" if tls else "plaintext"


def _outbound(line: AccessLogLine | None, host: str) -> Iterator[str]:
    """What the caller's sidecar says that is not so."""
    if line is None:
        yield "the caller's sidecar does not log it"
    elif line.upstream is None or line.upstream.host != host:
        yield f"the caller's sidecar sent it to {line.upstream_cluster}, not to {host}"


def _refused(
    section: PeerAuthenticationSettings, caller: Place, server: Place, port: int | None, context: Context
) -> Outcome:
    """`port` is one of the server's pod's, instead of the Service's."""
    pod, start = context.pods.get(asker(section, caller)), time.monotonic()
    host = _host(section, server) if port is None else f"{_address(section, server, context)}:{port}"
    response = curl.send(pod, Request(url=f"http://{host}/headers", user_agent=user_agent(ROW)))
    if response.exit_code != curl.READ_FAILED:
        return Outcome(ok=False, observed=str(response))
    line = _sidecar(section, server, context).line(
        lambda line: line.downstream_remote_address == response.local and line.response_code_details == NO_FILTER_CHAIN,
        start,
    )
    if line is None:
        return Outcome(ok=False, observed=f"{response}: the server's sidecar does not log that it refused it")
    return Outcome(ok=True, observed=str(response), evidence=f"sidecar of {server}: {line}", proven=True)


def _told(response: Response) -> list[str]:
    """The identities that the server's application was told, out of its answer (go-httpbin's /headers)."""
    try:
        headers: dict[str, list[str]] = json.loads(response.body)["headers"]
    except (ValueError, KeyError, TypeError):
        raise VerifyError(f"the server did not answer as go-httpbin does at /headers: {response.body[:200]}") from None
    told = [value for name, values in headers.items() if name.lower() == CLAIMS for value in values]
    return [found for value in told for found in re.findall(r"URI=([^;,]*)", value)]


def _host(section: PeerAuthenticationSettings, server: Place) -> str:
    """Name of a server's Service."""
    return f"{SERVER}.{section.namespaces[server]}.svc.cluster.local"


def _sidecar(section: PeerAuthenticationSettings, server: Place, context: Context) -> Proxies:
    return context.gateway(section.namespaces[server], {"app": SERVER})


def _address(section: PeerAuthenticationSettings, server: Place, context: Context) -> str:
    """Of one of a server's pods."""
    pods = context.kube.running(section.namespaces[server], {"app": SERVER})
    addresses = [pod.status.podIP for pod in pods if pod.status and pod.status.podIP]
    if not addresses:
        raise VerifyError(f"no pod {SERVER} runs in {section.namespaces[server]}")
    return addresses[0]
