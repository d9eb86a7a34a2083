"""The probes of the scenario observability against a Prometheus and a Jaeger made of their promises, each breakable."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from lightkube.models.core_v1 import Container, PodCondition, PodSpec, PodStatus
from lightkube.models.meta_v1 import ObjectMeta
from lightkube.resources.core_v1 import Namespace, Pod

from settings import Settings, load
from tests.unit.test_verify_pods import Cluster
from tests.unit.verify_fakes import FakeShell, context, option, transfer
from verify import scenarios
from verify.kube import Subject
from verify.probe import Outcome, Probe
from verify.shell import Completed

WHERE = "observability.svc.cluster.local"
ADDRESSES = {
    "prometheus": f"http://prometheus.{WHERE}:9090",
    "jaeger": f"http://jaeger.{WHERE}:16686",
    "grafana": f"http://grafana.{WHERE}:3000",
    "kiali": f"http://kiali.{WHERE}:20001/kiali",
}
LONG_AGO = datetime.now(UTC) - timedelta(hours=1)


def config(**section: Any) -> dict[str, Any]:
    team = {"name": "team-x", "namespaces": ["team-x"], "hosts": [{"host": "httpbin.org", "mode": "http"}]}
    return {
        "name": "obs",
        "layers": ["egress", "teams", "bookinfo", "observability"],
        "upstream": {"cluster": "base", "gateway_pool": "base", "mesh": "base"},
        # As on the lab.
        "istio": {"values": {"telemetry": {"enabled": False}}},
        "egress": {"metricsFrom": ["observability"]},
        "teams": {"teams": [team]},
        "bookinfo": {"gateway": {"service": {"type": "NodePort", "nodePort": 30051, "addresses": ["10.0.0.11"]}}},
        "observability": {
            "prometheus": {"scrapeSeconds": 5},
            "jaeger": {},
            "grafana": {},
            "kiali": {},
            "tracing": {"namespaces": ["bookinfo", "bookinfo-ingress"]},
            **section,
        },
    }


def made(
    namespace: str, name: str, *containers: str, ready: datetime = LONG_AGO, labels: Mapping[str, str] = {}
) -> Pod:
    return Pod(
        metadata=ObjectMeta(
            namespace=namespace,
            name=name,
            labels={"app": name, **labels},
            annotations={"sidecar.istio.io/status": "{}"},
        ),
        spec=PodSpec(containers=[Container(name=container) for container in containers]),
        status=PodStatus(
            phase="Running", conditions=[PodCondition(type="Ready", status="True", lastTransitionTime=ready)]
        ),
    )


class Lab(Cluster):
    """A cluster with what the settings ask for. `broken` names what is not so."""

    def __init__(self, broken: str = "") -> None:
        super().__init__()
        self.broken = broken
        self.sent = 0
        self.traces: dict[str, dict[str, int]] = {}

    def everywhere(self, kind: type[Any], labels: Mapping[str, str]) -> list[Any]:
        if labels or self.broken == "no pods":
            return []
        return [
            made("bookinfo-ingress", "bookinfo-gateway", "istio-proxy"),
            made("istio-egress", "egressgateway", "istio-proxy"),
            made("bookinfo", "productpage", "productpage"),
            made("bookinfo", "ratings", "ratings", "istio-proxy"),
            # Nobody expects these to be asked: another's, just ready, shut by its team, the probes' own.
            made("elsewhere", "other", "other"),
            made("bookinfo", "young", "young", ready=datetime.now(UTC)),
            made("team-x", "shop", "shop"),
            made("bookinfo", "probe", "probe", labels={"app.kubernetes.io/managed-by": "meshgate-verify"}),
        ]

    def running(self, namespace: str, labels: Mapping[str, str]) -> list[Pod]:
        assert (namespace, labels) == ("istio-system", {"app": "istiod"})
        return [made("istio-system", "istiod-1", "discovery"), made("istio-system", "istiod-2", "discovery")]

    def may(self, subject: Subject, verb: str, resource: str, namespace: str) -> bool:
        assert subject.user == "system:serviceaccount:observability:prometheus"
        if self.broken == f"may {verb} {resource}":
            return True
        return (verb, resource) == ("list", "pods") and self.broken != "may nothing"

    def run(
        self, namespace: str, pod: str, container: str, command: Sequence[str], timeout: float, stdin: str = ""
    ) -> Completed:
        if command[0] == "pilot-agent":
            return Completed(0, self._proxy(command[-1]), "")
        url = urlsplit(command[-1])
        if url.netloc in {urlsplit(address).netloc for address in ADDRESSES.values()}:
            return self._program(namespace, command)
        assert url.hostname == f"target.{namespace}.svc.cluster.local"
        if self.broken == "target":
            return transfer(command, status=503)
        if pod == "counted":
            self.sent += 1
        if self.broken == "everybody traced" and option(command, "--header"):
            self._begin(command, ["caller.x"])
        return transfer(command)

    def _begin(self, command: Sequence[str], services: list[str]) -> None:
        header = option(command, "--header") or ""
        _, trace, _, sampled = header.removeprefix("traceparent: ").split("-")
        assert (len(trace), sampled) == (32, "01")
        self.traces[trace] = dict.fromkeys(services, 2)

    def page(self, command: Sequence[str]) -> Completed:
        """Bookinfo's gateway."""
        assert command[-1] == "http://10.0.0.11:30051/productpage"
        services = ["bookinfo-gateway.bookinfo-ingress"]
        services += [f"{app}.bookinfo" for app in ("productpage", "details", "reviews")]
        self._begin(command, [service for service in services if self.broken != f"no spans of {service}"])
        return transfer(command, status=503 if self.broken == "page" else 200)

    def _proxy(self, path: str) -> str:
        if path == "stats/prometheus":
            (own,) = (item.metadata.name for item in self.created if isinstance(item, Namespace) and item.metadata)
            cluster = f"outbound|80||target.{own}.svc.cluster.local;"
            return (
                f'envoy_cluster_upstream_rq_total{{cluster_name="{cluster}"}} {self.sent}\n'
                f'envoy_cluster_upstream_rq_total{{cluster_name="{cluster.replace("80", "8080")}"}} 99\n'
            )
        assert "resource=dynamic_listeners" in path
        tracer = {"name": "envoy.tracers.opentelemetry"} if self.broken == "tracer" else {}
        listener = {} if self.broken == "no listener" else {"name": "0.0.0.0_80", "tracing": tracer}
        return json.dumps({"configs": [{"active_state": {"listener": listener}}]})

    def _program(self, namespace: str, command: Sequence[str]) -> Completed:
        if namespace != "observability":
            if self.broken == "open to everybody":
                return transfer(command)
            return transfer(command, exit_code=28, error="timed out")
        if self.broken == "no Prometheus":
            return transfer(command, exit_code=7, error="refused")
        url = urlsplit(command[-1])
        query = {name: values[0] for name, values in parse_qs(url.query).items()}
        if url.path == "/api/v1/targets":
            assert query == {"state": "active"}
            return self._data(command, {"activeTargets": [*self._targets()]})
        if url.path == "/api/v1/query":
            return self._data(command, {"result": self._series(query["query"])})
        if url.path.startswith("/api/traces/"):
            found = self.traces.get(url.path.rpartition("/")[2])
            if not found:
                return transfer(command, status=404, body='{"errors": [{"code": 404}]}')
            processes = {service: {"serviceName": service} for service in found}
            spans = [{"processID": service} for service, count in found.items() for _ in range(count)]
            return transfer(command, body=json.dumps({"data": [{"spans": spans, "processes": processes}]}))
        open_door = self.broken == f"{url.hostname} is open".replace(f".{WHERE}", "")
        answers = {
            "/api/health": (200, '{"database": "ok"}'),
            "/api/search": (200 if open_door else 401, ""),
            "/kiali/healthz": (200, ""),
            "/kiali/api/namespaces": (200 if open_door else 401, ""),
        }
        status, body = answers[url.path]
        return transfer(command, status=status, body=body)

    def _data(self, command: Sequence[str], data: Any) -> Completed:
        return transfer(command, body=json.dumps({"status": "success", "data": data}))

    def _targets(self) -> list[dict[str, Any]]:
        path = "/metrics" if self.broken == "path" else "/stats/prometheus"
        targets = [
            ("istiod", "istio-system", "istiod-1", ":15014/metrics"),
            ("istiod", "istio-system", "istiod-2", ":15014/metrics"),
            ("istio-proxies", "bookinfo-ingress", "bookinfo-gateway", f":15020{path}"),
            ("istio-proxies", "istio-egress", "egressgateway", f":15020{path}"),
            ("istio-proxies", "bookinfo", "productpage", f":15020{path}"),
            ("istio-proxies", "bookinfo", "ratings", f":15020{path}"),
            ("istio-proxies", "team-x", self._application(), f":15020{path}"),
        ]
        return [
            {
                "labels": {"job": job, "namespace": namespace, "pod": pod},
                "scrapeUrl": f"http://10.1.1.9{url}",
                "health": "down" if self._down(namespace, pod) else "up",
                "lastError": "context deadline exceeded" if self._down(namespace, pod) else "",
            }
            for job, namespace, pod, url in targets
            if self.broken != f"not asked: {pod}" and not (self.broken == "team not asked" and namespace == "team-x")
        ]

    def _down(self, namespace: str, pod: str) -> bool:
        if namespace == "team-x":
            return self.broken != "team is open"
        return self.broken == f"down: {pod}"

    def _application(self) -> str:
        return next(
            str(item.metadata.name)
            for item in self.created
            if isinstance(item, Pod) and item.metadata and item.metadata.namespace == "team-x"
        )

    def _series(self, query: str) -> list[dict[str, Any]]:
        if "pilot_xds" in query:
            value = "0" if self.broken == "no proxies served" else "12"
            return [{"metric": {"pod": "istiod-1"}, "value": [0, value]}]
        assert query.startswith("envoy_cluster_upstream_rq_total{")
        assert 'pod="counted",app="counted"' in query
        assert 'cluster_name=~"outbound.80..target.' in query
        count = self.sent - 1 if self.broken == "a request is not counted" else self.sent
        return [] if self.broken == "no series" else [{"metric": {}, "value": [0, str(count)]}]


@pytest.fixture(scope="module")
def settings() -> Settings:
    return load(config())


def _probes(settings: Settings) -> dict[str, Probe]:
    return {name: probe for name, probe in scenarios.probes(settings).items() if probe.scenario == "observability"}


NAMES = (
    "istiod",
    "gateways",
    "sidecars",
    "shut-out",
    "series",
    "elsewhere",
    "rights",
    "grafana",
    "kiali",
    "page",
    "untraced",
)


def _outcomes(settings: Settings, directory: Path, lab: Lab) -> dict[str, Outcome]:
    contracts: dict[str, dict[str, Any]] = {
        "mesh": {"namespace": "istio-system", "trust_domain": "cluster.local"},
        "observability": {"namespace": "observability", "addresses": ADDRESSES},
        "bookinfo": {"gateways": {"bookinfo-gateway": {"address": "10.0.0.11", "port": 30051}}},
    }
    asked = context(directory, settings, kube=lab, client=FakeShell(lab.page), contracts=contracts)
    # Nobody waits for what will not come.
    asked.stop.set()
    probes = _probes(settings)
    for probe in probes.values():
        asked.pods.start(probe.workloads)
    assert len(probes) == len(NAMES)
    outcomes = {}
    for name, probe in zip(NAMES, probes.values(), strict=True):
        try:
            outcomes[name] = probe.attempt(asked)
        except Exception as error:
            outcomes[name] = Outcome(ok=False, observed=str(error))
    return outcomes


@pytest.mark.parametrize(
    ("broken", "short"),
    [
        ("", set()),
        (
            "no Prometheus",
            {"istiod", "gateways", "sidecars", "shut-out", "series", "grafana", "kiali", "page", "untraced"},
        ),
        ("not asked: istiod-2", {"istiod"}),
        ("down: istiod-1", {"istiod"}),
        ("no proxies served", {"istiod"}),
        ("not asked: egressgateway", {"gateways"}),
        ("down: bookinfo-gateway", {"gateways"}),
        ("down: ratings", {"sidecars"}),
        ("not asked: productpage", {"sidecars"}),
        ("path", {"gateways", "sidecars"}),
        ("team is open", {"shut-out"}),
        ("team not asked", {"shut-out"}),
        ("target", {"series", "untraced"}),
        ("no series", {"series"}),
        ("a request is not counted", {"series"}),
        ("open to everybody", {"elsewhere"}),
        ("may nothing", {"rights"}),
        ("may get secrets", {"rights"}),
        ("may get nodes/proxy", {"rights"}),
        ("grafana is open", {"grafana"}),
        ("kiali is open", {"kiali"}),
        ("page", {"page"}),
        ("no spans of details.bookinfo", {"page"}),
        ("no spans of bookinfo-gateway.bookinfo-ingress", {"page"}),
        ("everybody traced", {"untraced"}),
        ("tracer", {"untraced"}),
        ("no listener", {"untraced"}),
    ],
)
def test_what_is_broken_falls_short_and_nothing_else(
    broken: str, short: set[str], settings: Settings, tmp_path: Path
) -> None:
    outcomes = _outcomes(settings, tmp_path, Lab(broken))
    assert {name: one.observed for name, one in outcomes.items() if one.ok is False}.keys() == short
    assert all(one.ok is not None for one in outcomes.values())


def test_the_evidence_is_of_whoever_decided(settings: Settings, tmp_path: Path) -> None:
    outcomes = _outcomes(settings, tmp_path, Lab())
    for name, words in {
        "istiod": ("http://10.1.1.9:15014/metrics of istio-system/istiod-1 up", "istiod-1 serves 12 proxies"),
        "gateways": ("1 in bookinfo-ingress", "1 in istio-egress"),
        "sidecars": ("2 in bookinfo",),
        "shut-out": ("context deadline exceeded",),
        "series": ("the sidecar counts 7", "envoy_cluster_upstream_rq_total"),
        "rights": ("get secrets", "get nodes/proxy"),
        "page": ("2 of details.bookinfo", "2 of productpage.bookinfo", "2 of reviews.bookinfo"),
        "untraced": ("is not in Jaeger",),
    }.items():
        for word in words:
            assert word in outcomes[name].evidence, name


def test_every_denial_has_its_success(settings: Settings) -> None:
    probes = dict(zip(NAMES, _probes(settings).values(), strict=True))
    names = {probe: name for name, probe in probes.items()}
    assert {name: names[probe.pair] for name, probe in probes.items() if probe.pair} == {
        "shut-out": "sidecars",
        "elsewhere": "istiod",
        "untraced": "page",
    }


def test_without_pods_there_is_nothing_to_say(settings: Settings, tmp_path: Path) -> None:
    outcomes = _outcomes(settings, tmp_path, Lab("no pods"))
    assert (outcomes["gateways"].ok, outcomes["sidecars"].ok) == (None, None)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({}, "asks every gateway of this stack on 15020/stats/prometheus: up"),
        ({"egress": {}}, "up (not istio-egress, whose NetworkPolicies do not let it in)"),
    ],
)
def test_the_egress_gateway_where_it_is_not_let_in(changes: dict[str, Any], words: str) -> None:
    found = load(
        {**config(), **changes}
        if changes.get("egress") is None
        else {**config(), "egress": {"namespace": "istio-egress"}}
    )
    (gateways,) = (probe.expected for probe in _probes(found).values() if "every gateway" in probe.expected)
    assert gateways.endswith(words)


def test_istios_own_series_where_its_proxies_keep_them(settings: Settings) -> None:
    whole = {key: value for key, value in config().items() if key != "istio"}
    expected = [probe.expected for probe in _probes(load(whole)).values()]
    assert any("(istio_requests_total)" in one for one in expected)
    assert any("(envoy_cluster_upstream_rq_total)" in probe.expected for probe in _probes(settings).values())


@pytest.mark.parametrize(
    ("step", "services"),
    [
        ("no-rules", "bookinfo-gateway.bookinfo-ingress, productpage.bookinfo, details.bookinfo, reviews.bookinfo"),
        (
            "ratings-viewer",
            "bookinfo-gateway.bookinfo-ingress, productpage.bookinfo, details.bookinfo, reviews.bookinfo",
        ),
        ("allow-nothing", "bookinfo-gateway.bookinfo-ingress, productpage.bookinfo"),
    ],
)
def test_who_has_a_part_in_the_page_at_a_stage(step: str, services: str) -> None:
    at = config()
    at["bookinfo"]["step"] = step
    expected = [probe.expected for probe in _probes(load(at)).values()]
    assert f"a traced request to Bookinfo: one trace in Jaeger, with spans of {services}" in expected


def test_traced_namespaces_of_others_have_a_pod_that_asks() -> None:
    found = load(config(tracing={"namespaces": ["shop", "bookinfo"]}))
    (probe,) = (probe for probe in _probes(found).values() if "a pod in shop" in probe.expected)
    assert [(one.name, one.namespace, one.in_mesh) for one in probe.workloads] == [
        ("observer", "observability", False),
        ("traced", "shop", True),
        ("target", None, True),
    ]


def test_without_jaeger_no_traces_are_looked_for() -> None:
    found = load(config(jaeger=None))
    assert not [probe.expected for probe in _probes(found).values() if "traced" in probe.expected]
