"""The scenario `sidecar`'s web server: a request to it, and what everybody on its way says of it."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial

from lightkube.resources.core_v1 import Pod

from components.sidecar.sidecar import GATEWAY
from components.sidecar.web_server import DEPLOYMENT, SERVICE
from settings.sidecar import SidecarSettings
from verify import curl
from verify.context import Context, user_agent
from verify.curl import Request, Response
from verify.envoy import Proxies, awaited
from verify.errors import VerifyError
from verify.logs import AccessLogLine
from verify.pods import ProbePod

Received = Mapping[str, str]
"""A line of nginx's log (components.sidecar.web_server.LOG_FIELDS): what of a request got to it."""


@dataclass(frozen=True)
class WebServer:
    """The web server and its gateway, as the layer hands them on."""

    context: Context
    settings: SidecarSettings

    @property
    def namespace(self) -> str:
        """Where it is."""
        return str(self.context.contracts["sidecar"]["namespace"])

    @property
    def host(self) -> str:
        """Of its Service."""
        return f"{SERVICE}.{self.namespace}.svc.cluster.local"

    @property
    def proxies(self) -> Proxies:
        """Its sidecar."""
        return self.context.gateway(self.namespace, {"app": DEPLOYMENT})

    @property
    def gateway(self) -> Proxies:
        """The gateway's Envoys."""
        return self.context.gateway(self.settings.gateway_namespace, {"istio": GATEWAY})

    @property
    def gateway_identity(self) -> str:
        """SPIFFE id of the gateway."""
        domain = self.context.contracts["mesh"]["trust_domain"]
        return f"spiffe://{domain}/ns/{self.settings.gateway_namespace}/sa/{GATEWAY}"

    def pod(self) -> Pod:
        """One of its pods."""
        found = self.context.kube.running(self.namespace, {"app": DEPLOYMENT})
        if not found:
            raise VerifyError(f"no pod of {DEPLOYMENT} runs in {self.namespace}")
        return found[0]

    def request(self, host: str, agent: str, headers: Mapping[str, str] | None = None) -> Request:
        """A request to the gateway for a host."""
        address = self.context.contracts["sidecar"]["gateway"]
        port = int(address["port"])
        return Request(
            url=f"http://{host}:{port}/" if port != 80 else f"http://{host}/",
            user_agent=agent,
            connect_to={(host, port): (str(address["address"]), port)},
            headers=headers or {},
        )

    def received(self, match: Callable[[Received], bool], since: float) -> Received | None:
        """The first line of nginx after `since` (a `time.monotonic()`) that matches; waits until it must be there."""
        pods = partial(self.context.kube.pods, self.namespace, {"app": DEPLOYMENT})
        return awaited(lambda: received(self.context, self.namespace, pods(), since), match, self.context.stop)


def received(context: Context, namespace: str, pods: list[str], since: float) -> Iterator[Received]:
    """What nginx in these pods logged after `since` (a `time.monotonic()`)."""
    for pod in pods:
        for text in context.kube.log(namespace, pod, DEPLOYMENT, int(time.monotonic() - since) + 2):
            if text.startswith("{"):
                yield json.loads(text)


@dataclass(frozen=True, kw_only=True)
class Visit:
    """A request, and the lines that it left; None where there is none."""

    response: Response
    first: AccessLogLine | None
    """Of the proxy that it met first: the gateway, or the caller's own sidecar."""

    sidecar: AccessLogLine | None
    """Of the web server's sidecar."""

    received: Received | None
    """Of the web server itself."""

    @property
    def unlogged(self) -> list[str]:
        """Who has no line of it."""
        said = {
            "the first proxy": self.first,
            "the web server's sidecar": self.sidecar,
            "the web server": self.received,
        }
        return [f"{who} does not log it" for who, line in said.items() if line is None]

    @property
    def evidence(self) -> str:
        """All lines."""
        lines = {
            "first proxy": self.first,
            "web server's sidecar": self.sidecar,
            "web server": self.received and json.dumps(dict(self.received)),
        }
        return "; ".join(f"{who}: {line}" for who, line in lines.items() if line)


def from_outside(context: Context, settings: SidecarSettings, row: str, headers: Mapping[str, str]) -> Visit:
    """A client's request by the gateway."""
    server, agent, start = WebServer(context, settings), user_agent(row), time.monotonic()
    response = curl.send(context.clients[0], server.request(settings.host, agent, headers))
    return _visit(server, response, server.gateway, agent, start)


def from_inside(context: Context, settings: SidecarSettings, row: str, pod: ProbePod) -> Visit:
    """A request of a pod in the mesh, by its sidecar."""
    server, agent, start = WebServer(context, settings), user_agent(row), time.monotonic()
    response = curl.send(pod, Request(url=f"http://{server.host}/", user_agent=agent))
    return _visit(server, response, pod.proxies, agent, start)


def _visit(server: WebServer, response: Response, first: Proxies, agent: str, start: float) -> Visit:
    # A request that got no answer may have got nowhere: only the first proxy is waited for.
    arrived = response.status == 200
    return Visit(
        response=response,
        first=first.line(lambda line: line.user_agent == agent, start),
        sidecar=server.proxies.line(lambda line: line.user_agent == agent, start) if arrived else None,
        received=server.received(lambda line: line["user_agent"] == agent, start) if arrived else None,
    )
