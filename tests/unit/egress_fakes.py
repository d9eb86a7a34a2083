"""A cluster whose egress does what dev's settings promise; each promise can be broken.

It stands in for curl in the probe pods, the sidecars and the egress gateway, the nodes' firewall, the API server's
admission and RBAC, and Google's metadata server and storage.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from lightkube.models.core_v1 import NodeSpec, PodCondition, PodSpec, PodStatus, Taint
from lightkube.models.meta_v1 import ObjectMeta
from lightkube.resources.core_v1 import Node, Pod

from components.teams.rules import outer_server_name
from settings import Settings
from settings.teams import DirectHost, OriginateHost, PassthroughHost, Team
from tests.unit.test_verify_pods import Cluster
from tests.unit.verify_fakes import log_line, option, transfer
from verify.counters import DENY, Firewall, egress, ingress
from verify.kube import Subject
from verify.shell import Completed
from verify.tenants import HttpEntry, TlsEntry

SERVICE = "istio-egressgateway.istio-egress.svc.cluster.local"
TAINT = {"key": "dedicated", "value": "gateway", "effect": "NoSchedule"}
POOL = {"cloud.google.com/gke-nodepool": "gateway"}
ACCOUNT = "sa-test-app-team-x@meshgate-lab.iam.gserviceaccount.com"
TOKEN = "not-a-real-token"

CONTRACTS: dict[str, dict[str, Any]] = {
    "mesh": {"trust_domain": "cluster.local"},
    "gateway_pool": {"labels": POOL, "taint": TAINT},
    "egress": {
        "namespace": "istio-egress",
        "service": SERVICE,
        "selector": {"istio": "egressgateway"},
        "target_ports": {"http": 8080, "tls": 8443},
        "originate_subset": "originate-tls",
    },
    "teams": {"namespaces": {"team-x": ["team-x"], "team-y": ["team-y"], "team-z": ["team-z"]}},
    "workload_identity": {"accounts": {"team-x/test": ACCOUNT}},
}

GATEWAY = "egressgateway"
DENIED = "rbac_access_denied_matched_policy[none]"


@dataclass(frozen=True)
class Ask:
    """A curl command in a pod."""

    namespace: str
    pod: str
    command: Sequence[str]
    stdin: str
    local: str

    @property
    def kind(self) -> str:
        return self.pod.split("-", 3)[-1] if self.pod.startswith("meshgate-verify-") else self.pod

    @property
    def agent(self) -> str:
        return option(self.command, "--user-agent") or ""

    @property
    def url(self) -> str:
        return self.command[-1]

    @property
    def host(self) -> str:
        return urlsplit(self.url).hostname or ""

    @property
    def path(self) -> str:
        return urlsplit(self.url).path

    @property
    def tls(self) -> bool:
        return self.url.startswith("https:")

    @property
    def port(self) -> int:
        return urlsplit(self.url).port or (443 if self.tls else 80)

    @property
    def target(self) -> tuple[str, int]:
        """Where the connection goes, by name or address."""
        told = option(self.command, "--connect-to")
        if told is None:
            return self.host, self.port
        *_, address, port = told.split(":")
        return address, int(port)

    @property
    def team_header(self) -> str | None:
        told = option(self.command, "--header")
        return told.partition(": ")[2] if told and told.startswith("x-meshgate-team") else None


class Egress(Cluster):
    """`broken` names the promise that is not kept; empty: all are."""

    def __init__(self, settings: Settings, broken: str = "") -> None:
        super().__init__()
        assert settings.teams
        self.settings = settings
        self.broken = broken
        self.teams: dict[str, Team] = {team.namespaces[0]: team for team in settings.teams.teams}
        self.packets: dict[str, int] = {
            DENY: 5,
            ingress("istio-egress"): 1,
            **{name: 3 for namespace in self.teams for name in (egress(namespace), ingress(namespace))},
        }
        self.sockets = 40000

    # --- the API server ---

    def nodes(self, labels: Mapping[str, str]) -> list[Node]:
        assert labels == POOL
        taints = (
            [] if self.broken == "no taint" else [Taint(key=TAINT["key"], value=TAINT["value"], effect=TAINT["effect"])]
        )
        return [Node(metadata=ObjectMeta(name="gateway-1"), spec=NodeSpec(taints=taints))]

    def running(self, namespace: str, labels: Mapping[str, str]) -> list[Pod]:
        assert namespace == "istio-egress"
        assert labels == CONTRACTS["egress"]["selector"]
        node = "app-1" if self.broken == "gateway elsewhere" else "gateway-1"
        return [
            Pod(
                metadata=ObjectMeta(name=f"istio-{GATEWAY}-1"),
                spec=PodSpec(containers=[], nodeName=node),
                status=PodStatus(podIP="10.1.4.2"),
            )
        ]

    def pods(self, namespace: str, labels: Mapping[str, str]) -> list[str]:
        return [labels.get("app", GATEWAY)]

    def pod(self, namespace: str, name: str) -> Pod:
        pod = super().pod(namespace, name)
        assert pod.spec
        assert pod.status
        if pod.spec.nodeSelector == POOL and not pod.spec.tolerations and self.broken != "pending pod runs":
            message = "0/4 nodes are available: 1 node(s) had untolerated taint {dedicated: gateway}"
            if self.broken == "no such nodes":
                message = "0/4 nodes are available: 4 node(s) didn't match Pod's node affinity/selector"
            waits = PodCondition(type="PodScheduled", status="False", reason="Unschedulable", message=message)
            pod.status.conditions = [waits]
        elif pod.spec.nodeSelector:
            pod.status.conditions = [PodCondition(type="PodScheduled", status="True")]
        return pod

    def refusal(self, pod: Pod) -> str | None:
        assert pod.spec
        wrong = {
            "hostNetwork": pod.spec.hostNetwork,
            "a toleration": any(
                it.operator == "Exists" or (it.key, it.value) == ("dedicated", "gateway")
                for it in pod.spec.tolerations or []
            ),
            "nodeName": pod.spec.nodeName is not None,
        }
        reasons = [reason for reason, given in wrong.items() if given]
        if self.broken == "anything admitted":
            return None
        if self.broken == "nothing admitted":
            return "pods is forbidden: exceeded quota"
        if self.broken == "a mistake in the pod" and reasons:
            return f"Pod is invalid: spec.{reasons[0]}: Invalid value"
        return f"ValidatingAdmissionPolicy 'team-pods' denied request: {reasons[0]}" if reasons else None

    def may(self, subject: Subject, verb: str, resource: str, namespace: str) -> bool:
        if namespace != "istio-egress":
            return self.broken != "members may nothing"
        return self.broken == "tenants may write" and resource.startswith("virtualservices")

    # --- what runs in pods ---

    def run(
        self, namespace: str, pod: str, container: str, command: Sequence[str], timeout: float, stdin: str = ""
    ) -> Completed:
        self.ran.append((pod, list(command)))
        if container == "istio-proxy":
            return Completed(0, self._administration(namespace, pod, command[-1]), "")
        self.sockets += 1
        return self._curl(Ask(namespace, pod, command, stdin, f"10.1.1.7:{self.sockets}"))

    def _administration(self, namespace: str, pod: str, path: str) -> str:
        if path == "certs":
            return (
                ""
                if self.broken == "no certificate"
                else json.dumps([f"spiffe://cluster.local/ns/{namespace}/sa/{pod}"])
            )
        assert path == "clusters"
        everything = ["webapp.istioinaction.svc.cluster.local", "istiod-1-31-1.istio-system.svc.cluster.local", SERVICE]
        if namespace not in self.teams or self.broken == "no Sidecar resource":
            known = everything
        else:
            known = [SERVICE, f"server.{namespace}.svc.cluster.local", *(it.host for it in self.teams[namespace].hosts)]
        if self.broken == "all are scoped" and namespace not in self.teams:
            known = [SERVICE]
        return "".join(f"outbound|80||{host}::default_priority::max_connections::1\n" for host in known)

    def _curl(self, ask: Ask) -> Completed:
        if ask.kind in ("application", "acting-1"):
            return self._by_sidecar(ask)
        if ask.kind == "caller":
            return self._before_routing(ask)
        return self._straight(ask)

    def _by_sidecar(self, ask: Ask) -> Completed:
        team = self.teams[ask.namespace]
        host, port = ask.target
        for entry in team.hosts:
            if entry.host == ask.host and ask.target == (ask.host, ask.port):
                if isinstance(entry, DirectHost):
                    return self._google(ask)
                if isinstance(entry, HttpEntry) and not ask.tls:
                    return self._to_gateway(ask, team, entry)
                if isinstance(entry, TlsEntry) and ask.tls:
                    return self._to_gateway_tls(ask, team, entry)
        if ask.host == SERVICE:
            return self._to_gateway(ask, team, None)
        if ".svc." in ask.host and host == ask.host and ask.host.split(".")[1] in (ask.namespace, *team.calls):
            return self._to_server(ask)
        if self.broken == "everything visible":
            self._log(ask.pod, ask, upstream_cluster=f"outbound|80||{SERVICE}")
            return self._answer(ask, status=403)
        if ask.tls or port not in (80, 443):
            self._log(ask.pod, ask, agent=False, upstream_cluster="BlackHoleCluster")
            return self._answer(ask, exit_code=35 if ask.tls else 56, error="reset")
        self._log(ask.pod, ask, route_name="block_all", response_code="502")
        return self._answer(ask, status=502)

    def _to_gateway(self, ask: Ask, team: Team, entry: HttpEntry | None) -> Completed:
        past = self.broken == "past the gateway" and entry is not None
        self._log(ask.pod, ask, upstream_cluster=f"outbound|80||{ask.host if past else SERVICE}")
        return self._at_gateway(ask, team, entry, team.name)

    def _at_gateway(self, ask: Ask, team: Team, entry: HttpEntry | None, header: str) -> Completed:
        who = f"spiffe://cluster.local/ns/{ask.namespace}/sa/{ask.pod}"
        peer = "-" if self.broken == "nobody is known" else who
        if not self._allows(ask, team, entry, header) and self.broken != "everything allowed":
            details = "direct_response" if self.broken == "refused by a route" else DENIED
            self._log(GATEWAY, ask, peer=peer, response_code_details=details)
            return self._answer(ask, status=403, body="RBAC: access denied")
        cluster = f"outbound|80||{ask.host}"
        if isinstance(entry, OriginateHost) and self.broken != "no TLS begun":
            cluster = f"outbound|443|tls-{team.name}|{ask.host}"
        if isinstance(entry, OriginateHost) and self.broken == "upstream not trusted":
            failure = "TLS_error:CERTIFICATE_VERIFY_FAILED"
            details = "upstream_reset_before_response_started{remote_connection_failure}"
            self._log(
                GATEWAY,
                ask,
                peer=peer,
                upstream_cluster=cluster,
                response_code_details=details,
                upstream_transport_failure_reason=failure,
            )
            return self._answer(ask, status=503)
        self._log(GATEWAY, ask, peer=peer, upstream_cluster=cluster, response_code_details="via_upstream")
        return self._answer(ask, status=418 if ask.path == "/status/418" else 200)

    def _allows(self, ask: Ask, team: Team, entry: HttpEntry | None, header: str) -> bool:
        if entry is None or header != team.name or entry.allow == "none":
            return False
        return entry.allow == "all" or any(not it.paths or ask.path in it.paths for it in entry.allow)

    def _to_gateway_tls(self, ask: Ask, team: Team, entry: TlsEntry) -> Completed:
        hardened = isinstance(entry, PassthroughHost)
        self._log(ask.pod, ask, agent=False, upstream_cluster=f"outbound|443|x|{SERVICE}")
        who = f"spiffe://cluster.local/ns/{ask.namespace}/sa/{ask.pod}"
        said = {
            "requested_server_name": outer_server_name(entry.host, team.name) if hardened else entry.host,
            "peer": who if hardened and self.broken != "nobody is known" else "-",
            "upstream_cluster": f"outbound|443||{entry.host}",
        }
        if isinstance(entry, PassthroughHost) and entry.allow == "none" and self.broken != "everything allowed":
            if self.broken != "refused by a route":
                said["connection_termination_details"] = DENIED
            self._log(GATEWAY, ask, agent=False, **said)
            return self._answer(ask, exit_code=35, error="reset")
        self._log(GATEWAY, ask, agent=False, **said)
        return self._answer(ask)

    def _to_server(self, ask: Ask) -> Completed:
        server = ask.host.split(".")[0]
        who = (
            "somebody"
            if self.broken == "nobody is known"
            else f"spiffe://cluster.local/ns/{ask.namespace}/sa/{ask.pod}"
        )
        self._log(server, ask, peer=who)
        return self._answer(ask)

    def _before_routing(self, ask: Ask) -> Completed:
        assert any(type(item).__name__ == "ServiceEntry" for item in self.created)
        if self.broken == "firewall open":
            self._log(ask.pod, ask, upstream_cluster=f"outbound|80||{ask.host}")
            return self._answer(ask)
        flags = "UC" if self.broken == "another failure" else "URX,UF"
        self._log(ask.pod, ask, upstream_cluster=f"outbound|80||{ask.host}", response_flags=flags)
        return self._answer(ask, status=503)

    def _straight(self, ask: Ask) -> Completed:
        host, port = ask.target
        if ask.namespace not in self.teams:
            return self._of_no_team(ask)
        if host == SERVICE:
            return self._straight_to_gateway(ask, port)
        if ".svc." in host:
            if host.split(".")[1] == ask.namespace:
                return self._plaintext(ask)
            return self._dropped(ask, egress(ask.namespace), "calls open")
        if host == "10.1.4.2":
            return self._dropped(ask, egress(ask.namespace), "ports open")
        if self.broken == "only the firewall stops it":
            return self._dropped(ask, DENY, "")
        return self._dropped(ask, egress(ask.namespace), "straight out")

    def _of_no_team(self, ask: Ask) -> Completed:
        if ask.host == SERVICE:
            return self._dropped(ask, ingress("istio-egress"), "gateway for everybody")
        return self._dropped(ask, DENY, "firewall open")

    def _straight_to_gateway(self, ask: Ask, port: int) -> Completed:
        if not ask.tls:
            if self.broken == "gateway not reached":
                return self._answer(ask, exit_code=28, error="timed out")
            return self._answer(ask, exit_code=52, error="Empty reply from server")
        if ask.kind == "impostor":
            return self._with_certificate(ask, port)
        if ask.host == "httpbin.org" and self.broken != "no open server":
            self._log(GATEWAY, ask, agent=False, requested_server_name=ask.host)
            return self._answer(ask)
        details = "-" if self.broken == "refused by a route" else "filter_chain_not_found"
        self._log(GATEWAY, ask, agent=False, requested_server_name=ask.host, response_code_details=details)
        return self._answer(ask, exit_code=35, error="reset")

    def _with_certificate(self, ask: Ask, port: int) -> Completed:
        assert option(ask.command, "--key") == "/probe/key.pem"
        team = self.teams[ask.namespace]
        if port == 80:
            entry = next((it for it in team.hosts if it.host == ask.host and isinstance(it, HttpEntry)), None)
            return self._at_gateway(ask, team, entry, ask.team_header or "")
        who = f"spiffe://cluster.local/ns/{ask.namespace}/sa/{ask.pod}"
        details = "-" if self.broken in ("everything allowed", "refused by a route") else DENIED
        peer = "-" if self.broken == "nobody is known" else who
        name = ask.host
        self._log(
            GATEWAY, ask, agent=False, requested_server_name=name, peer=peer, connection_termination_details=details
        )
        return self._answer(ask, exit_code=18, error="not closed cleanly")

    def _plaintext(self, ask: Ask) -> Completed:
        if self.broken == "plaintext accepted":
            return self._answer(ask)
        self._log(ask.host.split(".")[0], ask, agent=False, response_code_details="filter_chain_not_found")
        return self._answer(ask, exit_code=56, error="reset")

    def _google(self, ask: Ask) -> Completed:
        agent = not ask.tls
        past = self.broken == "Google by the gateway"
        self._log(
            ask.pod,
            ask,
            agent=agent,
            upstream_cluster=f"outbound|{ask.port}||{SERVICE if past else ask.host}",
            response_flags="UF" if self.broken == "Google not reached" else "-",
        )
        if ask.path.endswith("/email"):
            return self._answer(ask, body="another@example.com" if self.broken == "another account" else ACCOUNT)
        if ask.path.endswith("/token"):
            return self._answer(ask, body=json.dumps({"access_token": f"{TOKEN}-{ask.kind}"}))
        if "/o/hello" in ask.url:
            assert TOKEN not in " ".join(ask.command)
            if ask.stdin != f'header = "Authorization: Bearer {TOKEN}-acting-1"\n' and self.broken != "storage for all":
                return self._answer(ask, status=403)
            return self._answer(ask, body="Bye\n" if self.broken == "another text" else "Hello, World!\n")
        return self._answer(ask, status=404)

    def _dropped(self, ask: Ask, counter: str, unless: str) -> Completed:
        if self.broken == unless:
            return self._answer(ask)
        if self.broken != "no answer anyway":
            self.packets[counter] += 2
        return self._answer(ask, exit_code=28, error="timed out", tried=f"198.51.100.20:{ask.port}")

    def _answer(self, ask: Ask, **more: Any) -> Completed:
        if "tried" not in more:
            more["tried"] = f"198.51.100.20:{ask.port}"
        return transfer(ask.command, http_version="1.1", tls=None, local=ask.local, **more)

    def _log(self, pod: str, ask: Ask, *, agent: bool = True, **operators: str) -> None:
        if self.broken == "no log":
            return
        line = {"downstream_remote_address": ask.local, "response_flags": "-", **operators}
        if agent:
            line["user_agent"] = ask.agent
        self.lines.setdefault(pod, []).append(log_line(**line))


class FakeFirewall(Firewall):
    """The counters of a fake cluster; `shown` says which of them can be read."""

    def __init__(self, cluster: Egress, shown: Callable[[str], bool] = lambda rule: True) -> None:
        super().__init__(("firewall", "counters"))
        self.cluster, self.shown = cluster, shown

    def _printed(self) -> Mapping[str, int]:
        return {rule: packets for rule, packets in self.cluster.packets.items() if self.shown(rule)}
