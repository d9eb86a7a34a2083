"""The lab itself: two instances side by side, traffic through their routers, and nothing left behind."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from lab import cgroups, cluster, counters, machine, network, service
from lab.errors import LabError
from lab.instance import Instance
from lab.topology import CONTROL, INTERNET, MACHINES, NODES, SERVERS

pytestmark = [pytest.mark.lab, pytest.mark.skipif(os.geteuid() != 0, reason="the lab needs root")]

FIRST, SECOND, BARE = Instance("t-one"), Instance("t-two"), Instance("t-bare")

WORKLOAD = """
apiVersion: apps/v1
kind: Deployment
metadata: {name: web}
spec:
  replicas: 1
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec:
      containers: [{name: web, image: "docker.io/mccutchen/go-httpbin:2.26.0", imagePullPolicy: Always}]
---
apiVersion: v1
kind: Service
metadata: {name: web}
spec:
  type: LoadBalancer
  externalTrafficPolicy: Local
  loadBalancerIP: 203.0.113.150
  selector: {app: web}
  ports: [{name: http, port: 80, targetPort: 8080, nodePort: 30080}]
---
apiVersion: v1
kind: Pod
metadata: {name: inside}
spec: {containers: [{name: c, image: "docker.io/curlimages/curl:8.16.0", command: [sleep, infinity]}]}
---
apiVersion: v1
kind: Pod
metadata: {name: outbound}
spec:
  nodeSelector: {meshgate.dev/pool: open}
  tolerations: [{key: dedicated, value: open, effect: NoSchedule}]
  containers: [{name: c, image: "docker.io/curlimages/curl:8.16.0", command: [sleep, infinity]}]
"""


def lab(instance: Instance, *arguments: str) -> "subprocess.CompletedProcess[str]":
    """`python -m lab` as a user runs it."""
    command = [sys.executable, "-m", "lab", "--instance", instance.name, *arguments]
    return subprocess.run(command, capture_output=True, text=True)


def kubectl(instance: Instance, *arguments: str) -> str:
    answer = cluster.kubectl(instance, arguments)
    assert answer.returncode == 0, answer.stderr
    return answer.stdout


def curl(instance: Instance, name: str, url: str, *options: str) -> str:
    command = [*machine.enter(instance, name), "curl", "--silent", "--max-time", "5", *options, url]
    return subprocess.run(command, capture_output=True, text=True).stdout


def pod_curl(instance: Instance, pod: str, url: str) -> tuple[int, str]:
    """curl's exit status and the HTTP status, from a pod."""
    options = ["--silent", "--max-time", "3", "--output", "/dev/null", "--write-out", "%{http_code}"]
    answer = cluster.kubectl(instance, ["exec", pod, "--", "curl", *options, url])
    return answer.returncode, answer.stdout


def leftovers(*instances: Instance) -> list[str]:
    """Processes, namespaces, mounts, cgroups and files of these instances."""
    found = []
    for instance in instances:
        marks = (f"mg-{instance.name}-", f"/{instance.name}/", str(instance.directory))
        found += [str(path) for path in network.namespaces(instance)]
        found += [line for line in Path("/proc/self/mountinfo").read_text().splitlines() if marks[0] in line]
        found += [str(path) for it in cgroups.hierarchies() if (path := it / instance.cgroup).exists()]
        found += [str(instance.directory)] if instance.directory.exists() else []
        for process in Path("/proc").glob("[0-9]*"):
            try:
                arguments = (process / "cmdline").read_text()
            except OSError:
                continue
            if any(mark in arguments for mark in (marks[0], marks[2])):
                found.append(arguments.replace("\0", " "))
    return found


@pytest.fixture(scope="module")
def labs() -> Iterator[tuple[Instance, Instance]]:
    """Two labs at the same time, with the same workload."""
    try:
        for instance in (FIRST, SECOND):
            answer = lab(instance, "up")
            assert answer.returncode == 0, answer.stderr
            cluster.apply(instance, WORKLOAD)
        for instance in (FIRST, SECOND):
            kubectl(instance, "wait", "--for=condition=Ready", "pod", "--all", "--timeout=90s")
            kubectl(
                instance, "wait", "--for=jsonpath={.status.loadBalancer.ingress[0].ip}", "service/web", "--timeout=20s"
            )
            until_routed(instance)
        yield FIRST, SECOND
    finally:
        for instance in (FIRST, SECOND):
            lab(instance, "down")
    assert leftovers(FIRST, SECOND) == []


def until_routed(instance: Instance) -> None:
    end = time.monotonic() + 20
    while not curl(instance, "client-a", "http://203.0.113.150/ip"):
        assert time.monotonic() < end, instance.log("router-load-balancer").read_text()
        time.sleep(0.5)


def test_second_up_changes_nothing_and_is_quick(labs: tuple[Instance, Instance]) -> None:
    before = {name: machine.pid(FIRST, name) for name in MACHINES}
    start = time.monotonic()
    assert lab(FIRST, "up").returncode == 0
    assert time.monotonic() - start < 10  # 1 to 2 seconds on a quiet machine
    assert {name: machine.pid(FIRST, name) for name in MACHINES} == before


def test_status_says_that_all_runs(labs: tuple[Instance, Instance]) -> None:
    answer = lab(FIRST, "status", "--json")
    assert answer.returncode == 0
    assert {row["state"] for row in json.loads(answer.stdout)} == {"running"}


def test_a_changed_part_is_started_anew(labs: tuple[Instance, Instance]) -> None:
    registry = next(it for it in cluster.full_plan(SECOND).all_services if it.name == "registry")
    pid_file = machine.run_directory(SECOND, CONTROL) / "registry"
    before = pid_file.read_text()
    service.start(SECOND, registry)
    assert pid_file.read_text() == before
    changed = replace(registry, environment={"REGISTRY_LOG_LEVEL": "info"})
    service.start(SECOND, changed)
    assert pid_file.read_text() != before
    service.wait(SECOND, [changed], 20)


@pytest.mark.parametrize(("client", "address"), [("client-a", "203.0.113.10"), ("client-b", "203.0.113.20")])
def test_load_balancer_keeps_the_clients_address(labs: tuple[Instance, Instance], client: str, address: str) -> None:
    for instance in labs:
        assert json.loads(curl(instance, client, "http://203.0.113.150/ip")) == {"origin": address}


def test_node_port(labs: tuple[Instance, Instance]) -> None:
    where = kubectl(FIRST, "get", "pod", "--selector=app=web", "--output=jsonpath={.items[0].spec.nodeName}")
    node = next(node for node in NODES if node.name == where)
    answer = curl(FIRST, "client-b", f"http://{node.address}:30080/ip")
    assert json.loads(answer) == {"origin": "203.0.113.20"}


def test_pools_and_the_internet(labs: tuple[Instance, Instance]) -> None:
    before = counters.firewall(FIRST)
    address = SERVERS["httpbin.org"]
    assert pod_curl(FIRST, "inside", f"http://{address}/status/200") == (28, "000")
    assert pod_curl(FIRST, "outbound", f"http://{address}/status/200") == (0, "200")
    after = counters.firewall(FIRST)
    assert after["application/global-deny-egress-all"] > before["application/global-deny-egress-all"]
    assert after["open/lab-open-allow-egress-all"] > before["open/lab-open-allow-egress-all"]


def test_names_in_pods(labs: tuple[Instance, Instance]) -> None:
    assert pod_curl(FIRST, "inside", "http://web.default.svc.cluster.local/status/204") == (0, "204")
    assert pod_curl(FIRST, "outbound", "https://httpbin.org/")[0] == 60  # found, but of an unknown authority
    start = time.monotonic()
    assert pod_curl(FIRST, "inside", "http://nowhere.test/")[0] == 6
    assert time.monotonic() - start < 2


def test_the_internet_has_certificates_of_its_own_authority(labs: tuple[Instance, Instance]) -> None:
    options = ["--cacert", str(FIRST.internet_ca), "--output", "/dev/null", "--write-out", "%{http_code}"]
    assert curl(FIRST, "client-a", "https://example.com/status/204", *options) == "204"


def test_logs_and_exec(labs: tuple[Instance, Instance]) -> None:
    assert "status=200" in kubectl(FIRST, "logs", "deployment/web")
    assert kubectl(FIRST, "exec", "inside", "--", "sh", "-c", "echo hello") == "hello\n"


def test_api_is_not_reached_from_the_internet(labs: tuple[Instance, Instance]) -> None:
    assert curl(FIRST, "client-a", "https://10.5.0.2:6443/version", "--insecure") == ""
    assert counters.firewall(FIRST)["default-deny"] > 0


def test_dead_parts_are_started_again(labs: tuple[Instance, Instance]) -> None:
    for name in (INTERNET, NODES[1].name):
        process = machine.pid(SECOND, name)
        assert process
        os.kill(process, signal.SIGKILL)
    time.sleep(1)
    assert lab(SECOND, "status").returncode == 1
    answer = lab(SECOND, "up")
    assert answer.returncode == 0, answer.stderr
    assert lab(SECOND, "status").returncode == 0
    assert pod_curl(SECOND, "outbound", "http://httpbin.org/status/200") == (0, "200")


def test_an_interrupted_up_is_finished_by_the_next() -> None:
    try:
        for seconds in (0.3, 0.9, 3.0):
            command = [sys.executable, "-m", "lab", "--instance", BARE.name, "up", "--bare"]
            process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
            time.sleep(seconds)
            process.kill()
            process.wait()
        answer = lab(BARE, "up", "--bare")
        assert answer.returncode == 0, answer.stderr
        tainted = "--output=jsonpath={range .items[?(@.spec.taints)]}{.metadata.name} {end}"
        assert kubectl(BARE, "get", "nodes", "--output=name").split() == sorted(f"node/{node.name}" for node in NODES)
        assert kubectl(BARE, "get", "nodes", tainted).split() == ["gateway", "open"]
    finally:
        assert lab(BARE, "down").returncode == 0
    assert leftovers(BARE) == []


def test_down_without_a_lab_is_no_error() -> None:
    assert lab(Instance("t-none"), "down").returncode == 0
    assert leftovers(Instance("t-none")) == []


def test_a_machine_that_cannot_start_says_why() -> None:
    instance = Instance("t-bad")
    try:
        network.create(instance, (CONTROL,))
        with pytest.raises(LabError, match=r"machine control did not start(.|\n)*no such directory"):
            machine.start(instance, CONTROL, ["echo no such directory >&2; exit 1"])
    finally:
        assert lab(instance, "down").returncode == 0
