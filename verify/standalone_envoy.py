"""Scenario `standalone-envoy`: Envoy without a mesh (B1; source: KANS 7, Envoy)."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial

from components.standalone_envoy.configuration import CLUSTER
from components.standalone_envoy.envoy import NAME
from settings import Settings
from settings.standalone_envoy import DEMO_ADMIN_PORT, LISTENER_PORT, StandaloneEnvoySettings
from verify import curl
from verify.context import Context, user_agent
from verify.curl import UNREACHED_SECONDS, Request, Response
from verify.envoy import EVER, awaited
from verify.errors import VerifyError
from verify.exchange import differs, judged
from verify.logs import VIA_UPSTREAM
from verify.mesh import OUTSIDER
from verify.probe import Outcome, Probe
from verify.straight import policies_of, stopped_by_policy
from verify.workload import Workload

SCENARIO = "standalone-envoy"
ROW = "B1"

ADMIN_LINE = "admin address: "
"""What Envoy writes when it starts, before the address."""


def probes(settings: Settings) -> Iterator[Probe]:
    """What the listener does, and where the administration interface is and is not."""
    envoy = settings.standalone_envoy
    assert envoy is not None
    beside = Workload("beside", in_mesh=False, namespace=envoy.namespace)
    admin = f"{envoy.admin.address}:{envoy.admin.port}"
    if not envoy.admin.exposed:
        proxied = _proxied(envoy, beside)
        yield proxied
        yield _probe(
            f"administration interface at {admin} (override): refused (7) at the pod's address, and Envoy says so",
            partial(_refused, envoy, beside, envoy.admin.port),
            beside,
            proxied,
        )
        return
    proxied = _proxied(envoy, OUTSIDER)
    yield proxied
    moved = _probe(
        f"administration interface at {admin} (override), from its own namespace: /clusters has {CLUSTER} with "
        f"addresses at port {envoy.upstream.port}; the server name that it sends is {envoy.upstream.host}",
        partial(_administration, envoy, beside),
        beside,
    )
    yield moved
    yield _probe(
        f"administration interface at {DEMO_ADMIN_PORT}, from where the override moved it: refused (7)",
        partial(_refused, envoy, beside, DEMO_ADMIN_PORT),
        beside,
        moved,
    )
    yield _probe(
        f"administration interface at {admin} from another namespace: no connection, stopped by the NetworkPolicy",
        partial(_closed, envoy, OUTSIDER),
        OUTSIDER,
        proxied,
    )


def _probe(expected: str, attempt: partial[Outcome], workload: Workload, pair: Probe | None = None) -> Probe:
    return Probe(row=ROW, scenario=SCENARIO, expected=expected, attempt=attempt, workloads=(workload,), pair=pair)


def _proxied(envoy: StandaloneEnvoySettings, workload: Workload) -> Probe:
    return _probe(
        f"http to Envoy's port {LISTENER_PORT}: 200 of {envoy.upstream.host}:{envoy.upstream.port} by TLS, its "
        "certificate checked by name",
        partial(_answered, envoy, workload),
        workload,
    )


@dataclass(frozen=True)
class _Envoy:
    """It, as the layer hands it on."""

    context: Context

    @property
    def namespace(self) -> str:
        return str(self.context.contracts["standalone_envoy"]["namespace"])

    def url(self, port: int, path: str = "/") -> str:
        """By its Service."""
        return f"http://{self.context.contracts['standalone_envoy']['service']}:{port}{path}"

    def address(self) -> str:
        """The address of one of its pods."""
        for pod in self.context.kube.running(self.namespace, {"app": NAME}):
            if pod.status and pod.status.podIP:
                return pod.status.podIP
        raise VerifyError(f"no pod of Envoy runs in {self.namespace}")

    def requests(self, since: float) -> Iterator[Mapping[str, str]]:
        """What its access log has after `since` (a `time.monotonic()`)."""
        for text in self.log(int(time.monotonic() - since) + 2):
            if text.startswith("{"):
                # What Envoy has nothing to say of is null.
                yield {name: "-" if value is None else str(value) for name, value in json.loads(text).items()}

    def log(self, seconds: int) -> Iterator[str]:
        """The last lines of its pods."""
        for pod in self.context.kube.pods(self.namespace, {"app": NAME}):
            yield from self.context.kube.log(self.namespace, pod, NAME, seconds)

    def administration(self) -> set[str]:
        """Where its administration interface is, as it said when it started."""
        return {line.partition(ADMIN_LINE)[2].strip() for line in self.log(EVER) if ADMIN_LINE in line}


def _answered(settings: StandaloneEnvoySettings, workload: Workload, context: Context) -> Outcome:
    envoy, agent, start = _Envoy(context), user_agent(ROW), time.monotonic()
    response = curl.send(context.pods.get(workload), Request(url=envoy.url(LISTENER_PORT), user_agent=agent))
    line = awaited(lambda: envoy.requests(start), lambda line: line["user_agent"] == agent, context.stop)
    faults = differs("status", response.status, 200)
    if line is None:
        return judged(str(response), [*faults, "Envoy does not log it"], "")
    names = line["upstream_peer_dns_san"].split(",")
    faults += [
        *differs("Envoy's cluster", line["upstream_cluster"], CLUSTER),
        *differs("who answered", line["response_code_details"], VIA_UPSTREAM),
        *differs("the upstream's port", line["upstream_host"].rpartition(":")[2], str(settings.upstream.port)),
        *([] if line["upstream_tls_version"].startswith("TLSv1.") else ["Envoy did not use TLS"]),
        *([] if covers(names, settings.upstream.host) else [f"the certificate is for {', '.join(names)}"]),
    ]
    return judged(str(response), faults, f"Envoy: {json.dumps(line)}")


def covers(names: list[str], host: str) -> bool:
    """Whether a certificate with these names is one for the host."""
    return host in names or f"*.{host.partition('.')[2]}" in names


def _administration(settings: StandaloneEnvoySettings, workload: Workload, context: Context) -> Outcome:
    envoy, pod = _Envoy(context), context.pods.get(workload)

    def ask(path: str) -> Response:
        return curl.send(pod, Request(url=envoy.url(settings.admin.port, path), user_agent=user_agent(ROW)))

    response = ask("/clusters")
    found = {
        parts[1] for line in response.body.splitlines() if (parts := line.split("::"))[0] == CLUSTER and len(parts) == 4
    }
    addresses = sorted(address for address in found if address.endswith(f":{settings.upstream.port}"))
    faults = differs("status", response.status, 200)
    faults += [] if addresses else [f"its clusters have no address of {CLUSTER}"]
    server_name = _server_name(ask(f"/config_dump?resource=static_clusters&name_regex={CLUSTER}").body)
    faults += differs("the server name that it sends", server_name, settings.upstream.host)
    said = ", ".join(sorted(envoy.administration()))
    return judged(
        f"{response}, {CLUSTER}: {', '.join(addresses) or 'no address'}",
        faults,
        f"Envoy: {ADMIN_LINE}{said}; /config_dump: {CLUSTER} with SNI {server_name}",
    )


def _server_name(dump: str) -> str | None:
    """The SNI of the one cluster in what /config_dump says."""
    for found in (json.loads(dump) if dump.startswith("{") else {}).get("configs", []):
        name: str | None = found["cluster"].get("transport_socket", {}).get("typed_config", {}).get("sni")
        return name
    return None


def _refused(settings: StandaloneEnvoySettings, workload: Workload, port: int, context: Context) -> Outcome:
    """Nobody listens there: the kernel of Envoy's pod says so, as no NetworkPolicy is in between."""
    envoy = _Envoy(context)
    request = Request(
        url=f"http://{envoy.address()}:{port}/clusters", user_agent=user_agent(ROW), connect_seconds=UNREACHED_SECONDS
    )
    response = curl.send(context.pods.get(workload), request)
    said = envoy.administration()
    faults = [
        *differs("exit code", response.exit_code, curl.REFUSED),
        *differs("where Envoy says that it is", sorted(said), [f"{settings.admin.address}:{settings.admin.port}"]),
    ]
    return judged(str(response), faults, f"Envoy: {ADMIN_LINE}{', '.join(sorted(said))}")


def _closed(settings: StandaloneEnvoySettings, workload: Workload, context: Context) -> Outcome:
    envoy, pod = _Envoy(context), context.pods.get(workload)
    request = Request(
        url=envoy.url(settings.admin.port, "/clusters"),
        user_agent=user_agent(ROW),
        connect_seconds=UNREACHED_SECONDS,
    )
    return stopped_by_policy(context, pod, policies_of(pod.namespace, envoy.namespace), request)
