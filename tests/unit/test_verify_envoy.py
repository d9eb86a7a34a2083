"""Access log lines and counters."""

from __future__ import annotations

import json
import threading
import time
from typing import Any, Literal, cast
from urllib.parse import unquote

import pytest

from tests.unit.verify_fakes import FakeKube, impatient, log_line
from verify import envoy, logs
from verify.envoy import Proxies
from verify.errors import VerifyError
from verify.kube import Kube
from verify.shell import Completed

REQUEST = (
    '[2026-11-21T06:35:38.798Z] "GET /api/catalog HTTP/2" 200 - via_upstream - "-" 0 50 8 7 "10.0.0.1" '
    '"meshgate-verify/T3-96b23733487d" "7245d46e-463b-42ca-b037-d6f3f6e769ce" "webapp.istioinaction.io" '
    '"127.0.0.1:24080" outbound|80||webapp.istioinaction.svc.cluster.local 127.0.0.1:54594 127.0.0.1:20443 '
    "127.0.0.1:49420 webapp.istioinaction.io - spiffe://cluster.local/ns/a/sa/b"
)
REFUSED = (
    '[2026-11-21T06:19:10.225Z] "- - -" 0 NR filter_chain_not_found - "-" 0 0 1 - "-" "-" "-" "-" "-" - - '
    "127.0.0.1:18443 127.0.0.1:35618 unknown.meshgate.invalid - -"
)


def _proxies(kube: FakeKube) -> Proxies:
    return Proxies(cast(Kube, kube), threading.Event(), "istio-ingress", {"app": "simple"})


def test_a_request_is_read() -> None:
    line = logs.parse(REQUEST + "\n")
    assert line is not None
    assert line.user_agent == "meshgate-verify/T3-96b23733487d"
    assert (line.response_code, line.response_flags, line.response_code_details) == ("200", "-", "via_upstream")
    assert line.upstream_cluster == "outbound|80||webapp.istioinaction.svc.cluster.local"
    assert line.downstream_remote_address == "127.0.0.1:49420"
    assert line.downstream_local_address == "127.0.0.1:20443"
    assert line.requested_server_name == "webapp.istioinaction.io"
    assert line.peer == "spiffe://cluster.local/ns/a/sa/b"
    assert str(line) == REQUEST


def test_a_refused_connection_is_read() -> None:
    line = logs.parse(REFUSED)
    assert line is not None
    assert (line.response_flags, line.response_code_details) == ("NR", "filter_chain_not_found")
    assert line.requested_server_name == "unknown.meshgate.invalid"
    assert line.downstream_remote_address == "127.0.0.1:35618"


@pytest.mark.parametrize("text", ["", "2026-11-21T06:19:08Z info Envoy proxy is ready", REQUEST + " more"])
def test_other_lines_are_passed_over(text: str) -> None:
    assert logs.parse(text) is None


def test_a_line_that_comes_late_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(envoy, "LOG_PAUSE", 0.01)
    kube = FakeKube(lines={"simple": ["noise", log_line(user_agent="other")]})
    threading.Timer(0.1, lambda: kube.lines["simple"].append(log_line(user_agent="mine"))).start()
    line = _proxies(kube).line(lambda line: line.user_agent == "mine", time.monotonic())
    assert line is not None


def test_a_line_that_never_comes_is_not_waited_for_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    impatient(monkeypatch)
    kube = FakeKube(lines={"simple": [log_line(user_agent="other")]})
    assert _proxies(kube).line(lambda line: line.user_agent == "mine", time.monotonic()) is None


def test_lines_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    impatient(monkeypatch)
    kube = FakeKube(lines={"simple": ["noise", log_line(user_agent="mine"), log_line(user_agent="other")]})
    assert _proxies(kube).count("mine") == (3, 1)


def test_the_ports_are_those_of_the_listeners(monkeypatch: pytest.MonkeyPatch) -> None:
    kube = FakeKube()
    text = "0.0.0.0_8080::0.0.0.0:8080\n69b0f8fc-d88f::0.0.0.0:15090\n"
    monkeypatch.setattr(kube, "run", lambda *arguments, **options: Completed(0, text, ""))
    assert _proxies(kube).ports() == {8080, 15090}


def test_nobody_waits_once_the_run_is_given_up() -> None:
    proxies = _proxies(FakeKube())
    proxies.stop.set()
    start = time.monotonic()
    assert proxies.line(lambda line: True, start) is None
    assert time.monotonic() - start < 5


def test_a_counters_rise_is_that_of_the_block() -> None:
    kube = FakeKube(counters={"ssl.fail_verify_error": 7})
    with _proxies(kube).counting("ssl.fail_verify_error") as watch:
        kube.counters["ssl.fail_verify_error"] = 9
    assert watch.rise == 2
    pod, command = kube.ran[0]
    assert pod == "simple"
    assert command[:3] == ["pilot-agent", "request", "GET"]
    assert unquote(command[3]) == r"stats?filter=^listener\..*\.ssl\.fail_verify_error$"


def test_counters_of_something_else_than_listeners(monkeypatch: pytest.MonkeyPatch) -> None:
    kube = FakeKube()
    asked: list[str] = []

    def run(namespace: str, pod: str, container: str, command: list[str], timeout: float) -> Completed:
        asked.append(unquote(command[3]))
        return Completed(0, f"tcp.BlackHoleCluster.downstream_cx_total: {len(asked)}\n", "")

    monkeypatch.setattr(kube, "run", run)
    with _proxies(kube).counting("downstream_cx_total", r"tcp\.BlackHoleCluster") as watch:
        pass
    assert watch.rise == 1
    assert asked[0] == r"stats?filter=^tcp\.BlackHoleCluster\.downstream_cx_total$"


@pytest.mark.parametrize(
    ("kind", "resource", "entry"),
    [
        ("listener", "dynamic_listeners", {"active_state": {"listener": {"name": "a|b"}}}),
        ("route", "dynamic_route_configs", {"route_config": {"name": "a|b"}}),
        ("cluster", "dynamic_active_clusters", {"cluster": {"name": "a|b"}}),
    ],
)
def test_configuration_is_that_of_the_name(
    kind: Literal["listener", "route", "cluster"],
    resource: str,
    entry: dict[str, Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    kube = FakeKube()
    asked: list[str] = []

    def run(namespace: str, pod: str, container: str, command: list[str], timeout: float) -> Completed:
        asked.append(unquote(command[3]))
        return Completed(0, json.dumps({"configs": [entry]}), "")

    monkeypatch.setattr(kube, "run", run)
    assert _proxies(kube).config(kind, "a|b") == {"name": "a|b"}
    # Envoy takes the name for a regular expression.
    assert asked == [rf"config_dump?resource={resource}&name_regex=a\|b"]


def test_there_may_be_no_such_configuration(monkeypatch: pytest.MonkeyPatch) -> None:
    kube = FakeKube()
    monkeypatch.setattr(kube, "run", lambda *arguments, **options: Completed(0, "{}\n", ""))
    assert _proxies(kube).config("route", "80") == {}


def test_a_counter_that_is_not_kept_is_an_error() -> None:
    with (
        pytest.raises(VerifyError, match=r"istio-ingress/app=simple keep no counter .*proxyStatsMatcher"),
        _proxies(FakeKube()).counting("ssl.fail_verify_error"),
    ):
        pass


def test_a_proxy_that_does_not_answer_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    kube = FakeKube()

    def fails(*arguments: Any, **options: Any) -> Completed:
        return Completed(1, "", "connection refused")

    monkeypatch.setattr(kube, "run", fails)
    with (
        pytest.raises(VerifyError, match="cannot ask the proxy of pod istio-ingress/simple: connection refused"),
        _proxies(kube).counting("ssl.fail_verify_error"),
    ):
        pass
