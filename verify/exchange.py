"""A pod's request as its own sidecar and the egress gateway saw it."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

from lightkube.resources.core_v1 import Pod

from verify import curl
from verify.context import Context, user_agent
from verify.curl import Request, Response
from verify.envoy import Proxies
from verify.errors import VerifyError
from verify.logs import VIA_UPSTREAM, AccessLogLine
from verify.pods import ProbePod
from verify.probe import Outcome
from verify.tenants import HttpEntry, identity


@dataclass(frozen=True)
class EgressGateway:
    """The gateway, as the layer `egress` hands it on."""

    context: Context

    @property
    def namespace(self) -> str:
        """Where it is."""
        return str(self.context.contracts["egress"]["namespace"])

    @property
    def service(self) -> str:
        """Host name of its Service."""
        return str(self.context.contracts["egress"]["service"])

    @property
    def target_ports(self) -> Mapping[str, int]:
        """Ports of its pods: http and tls."""
        return dict(self.context.contracts["egress"]["target_ports"])

    @property
    def proxies(self) -> Proxies:
        """Its Envoys."""
        return self.context.gateway(self.namespace, self.context.contracts["egress"]["selector"])

    def pods(self) -> list[Pod]:
        """Its running pods; raises VerifyError when there is none."""
        found = self.context.kube.running(self.namespace, self.context.contracts["egress"]["selector"])
        if not found:
            raise VerifyError(f"no pod of the egress gateway runs in {self.namespace}")
        return found

    def address(self) -> str:
        """The address of one of its pods."""
        status = self.pods()[0].status
        if status is None or not status.podIP:
            raise VerifyError("the egress gateway's pod has no address")
        return status.podIP


def differs(what: str, found: object, right: object) -> list[str]:
    """The difference in words, if there is one."""
    return [] if found == right else [f"{what} is {found}, not {right}"]


def judged(observed: str, faults: list[str], evidence: str) -> Outcome:
    """As it should be, proven by the parties' own words, unless there are faults."""
    if faults:
        return Outcome(ok=False, observed=f"{observed}: {'; '.join(faults)}", evidence=evidence)
    return Outcome(ok=True, observed=observed, evidence=evidence, proven=True)


@dataclass(frozen=True)
class Exchange:
    """A request from a pod by its sidecar, and the lines that it left."""

    pod: ProbePod
    response: Response
    home: AccessLogLine | None
    """What the pod's sidecar says."""

    gateway: AccessLogLine | None

    @property
    def evidence(self) -> str:
        """Both lines."""
        said = ((f"sidecar of {self.pod.name}", self.home), ("egress gateway", self.gateway))
        return "; ".join(f"{who}: {line}" for who, line in said if line)


def by_http(context: Context, row: str, pod: ProbePod, request: Request) -> Exchange:
    """Ask by http; the lines are found by the user agent."""
    agent, start = user_agent(row), time.monotonic()
    response = curl.send(pod, replace(request, user_agent=agent))
    home = pod.proxies.line(lambda line: line.user_agent == agent, start)
    gateway = None
    # A sidecar that sent it nowhere has nothing to be found at the gateway.
    if home and home.upstream:
        gateway = EgressGateway(context).proxies.line(lambda line: line.user_agent == agent, start)
    return Exchange(pod, response, home, gateway)


def by_tls(context: Context, row: str, pod: ProbePod, request: Request, server_name: str) -> Exchange:
    """Ask by TLS that only the ends can read: the sidecar's line is found by the pod's address and port, the
    gateway's by the server name that it was asked for, and the pod's identity where it knows one."""
    start = time.monotonic()
    response = curl.send(pod, replace(request, user_agent=user_agent(row)))
    home = pod.proxies.line(lambda line: line.downstream_remote_address == response.local, start)
    gateway = None
    if home and home.upstream:
        who = identity(context, pod)
        gateway = EgressGateway(context).proxies.line(
            lambda line: line.requested_server_name == server_name and line.peer in (who, "-"), start
        )
    return Exchange(pod, response, home, gateway)


def to_gateway_faults(exchange: Exchange, gateway: EgressGateway, port: int) -> Iterator[str]:
    """What is wrong with the way from the pod to the gateway."""
    if exchange.home is None:
        yield "its sidecar does not log the request"
        return
    upstream = exchange.home.upstream
    if upstream is None or (upstream.host, upstream.port) != (gateway.service, port):
        yield f"its sidecar sent it to {exchange.home.upstream_cluster}, not to the egress gateway"
    elif exchange.gateway is None:
        yield "the egress gateway does not log the request"


def identity_faults(context: Context, exchange: Exchange) -> list[str]:
    """Whether the gateway knows whose request it was."""
    if exchange.gateway is None:
        return []
    return differs("the caller that the gateway logs", exchange.gateway.peer, identity(context, exchange.pod))


def answer_faults(exchange: Exchange, entry: HttpEntry, port: int, subset: str | None) -> Iterator[str]:
    """Whether the answer is the host's own, asked by the gateway on that port; any subset when None."""
    line = exchange.gateway
    if line is None:
        return
    upstream = line.upstream
    if upstream is None or (upstream.host, upstream.port) != (entry.host, port):
        yield f"the gateway sent it to {line.upstream_cluster}, not to port {port} of {entry.host}"
    elif subset is not None and upstream.subset != subset:
        yield f"the gateway's subset is '{upstream.subset}', not '{subset}'"
    if line.response_code_details != VIA_UPSTREAM:
        failure = line.upstream_transport_failure_reason
        why = f" ({failure})" if failure != "-" else ""
        yield f"the answer is not the host's own: {line.response_code_details}{why}"


def kept_at_home(context: Context, row: str, pod: ProbePod, request: Request) -> Outcome:
    """A request that the pod's own sidecar sends nowhere: it knows no such host."""
    agent, start = user_agent(row), time.monotonic()
    response = curl.send(pod, replace(request, user_agent=agent))
    if response.exit_code not in CLOSED and response.status != BAD_GATEWAY:
        return Outcome(ok=False, observed=str(response))
    line = pod.proxies.line(
        lambda line: line.kept and (line.user_agent == agent or line.downstream_remote_address == response.local), start
    )
    if line is None:
        return Outcome(ok=False, observed=f"{response}: the sidecar of {pod.name} does not log that it refused it")
    return Outcome(ok=True, observed=str(response), evidence=f"sidecar of {pod.name}: {line}", proven=True)


BAD_GATEWAY = 502
CLOSED = (curl.TLS_FAILED, curl.EMPTY, curl.READ_FAILED)
"""How a connection ends that is closed instead of answered."""
