"""NetworkPolicies on the lab, with real pods: the GKE document's for a team, and what the engine owes beyond them."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from lab import cluster, counters, network_policy, service
from lab import pulumi as runner
from lab.instance import Instance
from lab.topology import CONTROL_PLANE, SERVERS
from tests.deployment import kubectl

pytestmark = pytest.mark.lab

TEAM, OTHER, EGRESS = "np-team-x", "np-team-y", "np-egress"

PODS = """
{apiVersion: v1, kind: Namespace, metadata: {name: np-team-x}}
---
{apiVersion: v1, kind: Namespace, metadata: {name: np-team-y}}
---
{apiVersion: v1, kind: Namespace, metadata: {name: np-egress}}
"""
POD = """
---
apiVersion: v1
kind: Pod
metadata: {{name: {name}, namespace: {namespace}, labels: {{app: {name}}}}}
spec:
  nodeName: {node}
  terminationGracePeriodSeconds: 0
  restartPolicy: Never
  tolerations: [{{operator: Exists}}]
  containers:
"""
CLIENT = """  - {name: c, image: "docker.io/curlimages/curl:8.16.0", command: [sleep, infinity]}
"""
SERVER = """  - name: c
    image: docker.io/mccutchen/go-httpbin:2.26.0
    ports: [{name: http, containerPort: 8080}]
    readinessProbe: {httpGet: {path: /status/200, port: http}, periodSeconds: 1, failureThreshold: 1}
"""
SERVICE = """
---
apiVersion: v1
kind: Service
metadata: {{name: {name}, namespace: {namespace}}}
spec: {{selector: {{app: {name}}}, ports: [{{name: http, port: 80, targetPort: http}}]}}
"""
CLIENTS = [(TEAM, "client", "app-1"), (TEAM, "outward", "open"), (OTHER, "client", "app-1")]
WEBS = [
    (TEAM, "near", "app-1"),
    (TEAM, "far", "app-2"),
    (OTHER, "web", "app-2"),
    (EGRESS, "gateway", "app-2"),
    (EGRESS, "neighbour", "app-2"),
]

# The document's policies, with the test's namespaces, and a part of the lab's internet for Google's ranges.
POLICIES = """
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: allow-egress-to-control-plane, namespace: np-team-x}
spec:
  podSelector: {}
  policyTypes: [Egress]
  egress:
  - to:
    - namespaceSelector: {matchLabels: {kubernetes.io/metadata.name: np-egress}}
      podSelector: {matchLabels: {app: gateway}}
---
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: allow-egress-to-dns, namespace: np-team-x}
spec:
  podSelector: {}
  policyTypes: [Egress]
  egress:
  - to:
    - namespaceSelector: {matchLabels: {kubernetes.io/metadata.name: kube-system}}
    ports: [{port: 53, protocol: UDP}, {port: 53, protocol: TCP}]
---
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: allow-egress-to-google-apis, namespace: np-team-x}
spec:
  podSelector: {}
  policyTypes: [Egress]
  egress:
  - to:
    - ipBlock: {cidr: 198.51.100.0/24, except: [198.51.100.20/32]}
---
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: allow-egress-to-same-namespace, namespace: np-team-x}
spec:
  podSelector: {}
  ingress: [{from: [{podSelector: {}}]}]
  egress: [{to: [{podSelector: {}}]}]
"""
TO_TEAM_Y = """
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: allow-egress-to-team-y, namespace: np-team-x}
spec:
  podSelector: {}
  policyTypes: [Egress]
  egress:
  - to:
    - namespaceSelector: {matchLabels: {kubernetes.io/metadata.name: np-team-y}}
"""
NAMED_PORT = """
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: allow-ingress-to-http, namespace: np-team-y}
spec:
  podSelector: {matchLabels: {app: web}}
  ingress:
  - from:
    - namespaceSelector: {matchLabels: {kubernetes.io/metadata.name: np-team-x}}
    ports: [{port: NAME}]
"""
API_SERVER = f"https://{CONTROL_PLANE}:6443/version"
OPENED, KEPT = (f"http://{SERVERS[name]}/status/204" for name in ("httpbin.org", "example.com"))
NO_ANSWER = "000"


def url(namespace: str, name: str, path: str = "status/204") -> str:
    return f"http://{name}.{namespace}.svc.cluster.local/{path}"


def ask(lab: Instance, namespace: str, pod: str, urls: Sequence[str]) -> dict[str, str]:
    """The statuses that a pod gets at these addresses, all asked at once."""
    curl = 'curl -sk --connect-timeout 1 --max-time 5 -o /dev/null -w "%{url} %{http_code}\\n"'
    script = f'for url; do {curl} "$url" & done; wait'
    command = ["exec", f"--namespace={namespace}", pod, "--", "sh", "-c", script, "sh", *urls]
    return dict(line.rsplit(" ", 1) for line in cluster.kubectl(lab, command).stdout.splitlines())


def expect(lab: Instance, namespace: str, pod: str, answers: dict[str, str]) -> None:
    """These statuses at these addresses; a policy, or a Service of new pods, may take a moment to be in force."""
    end = time.monotonic() + 10
    while (found := ask(lab, namespace, pod, list(answers))) != answers:
        assert time.monotonic() < end, found


def delete(lab: Instance, name: str, namespace: str) -> None:
    kubectl(lab, "delete", "networkpolicy", name, f"--namespace={namespace}")


def dropped(lab: Instance, counter: str) -> int:
    return counters.network_policies(lab).get(counter, 0)


@pytest.fixture(scope="module")
def team(lab: Instance) -> Iterator[Instance]:
    """Two clients of a team and servers near and far; the team has the document's policies."""
    manifest = PODS
    for namespace, name, node in CLIENTS:
        manifest += POD.format(namespace=namespace, name=name, node=node) + CLIENT
    for namespace, name, node in WEBS:
        manifest += POD.format(namespace=namespace, name=name, node=node) + SERVER
        manifest += SERVICE.format(namespace=namespace, name=name)
    try:
        cluster.apply(lab, manifest)
        for namespace in (TEAM, OTHER, EGRESS):
            kubectl(lab, "wait", "--for=condition=Ready", "pod", "--all", f"--namespace={namespace}", "--timeout=60s")
        everything = [url(namespace, name) for namespace, name, _ in WEBS]
        expect(lab, TEAM, "client", dict.fromkeys(everything, "204"))
        expect(lab, TEAM, "outward", {OPENED: "204", KEPT: "204"})
        cluster.apply(lab, POLICIES)
        expect(lab, TEAM, "client", {API_SERVER: NO_ANSWER})
        expect(lab, TEAM, "client", {url(TEAM, "near"): "204"})  # the last of them is in force too
        yield lab
    finally:
        kubectl(lab, "delete", "namespace", TEAM, OTHER, EGRESS, "--ignore-not-found", "--wait=false")


def test_egress(team: Instance) -> None:
    before = dropped(team, f"egress-{TEAM}")
    allowed = [url(EGRESS, "gateway"), url(TEAM, "near"), url(TEAM, "far")]
    expect(team, TEAM, "client", dict.fromkeys(allowed, "204"))
    assert dropped(team, f"egress-{TEAM}") == before
    denied = [url(EGRESS, "neighbour"), url(OTHER, "web"), API_SERVER]
    expect(team, TEAM, "client", dict.fromkeys(denied, NO_ANSWER))
    assert dropped(team, f"egress-{TEAM}") >= before + len(denied)


def test_address_block(team: Instance) -> None:
    expect(team, TEAM, "outward", {OPENED: "204", KEPT: NO_ANSWER})


def test_ingress(team: Instance) -> None:
    before = counters.network_policies(team)
    denied, open_to_all = [url(TEAM, "near"), url(TEAM, "far")], url(EGRESS, "gateway")
    answers = ask(team, OTHER, "client", [*denied, open_to_all])
    assert answers == {**dict.fromkeys(denied, NO_ANSWER), open_to_all: "204"}
    after = counters.network_policies(team)
    assert after[f"ingress-{TEAM}"] >= before[f"ingress-{TEAM}"] + len(denied)
    assert after[f"egress-{TEAM}"] == before[f"egress-{TEAM}"]


def test_a_node_may_always_probe_its_pods(team: Instance) -> None:
    time.sleep(1.5)  # longer than a probe's period
    pods = json.loads(kubectl(team, "get", "pods", f"--namespace={TEAM}", "--output=json"))["items"]
    assert {
        pod["metadata"]["name"]: condition["status"]
        for pod in pods
        for condition in pod["status"]["conditions"]
        if condition["type"] == "Ready"
    } == {"client": "True", "outward": "True", "near": "True", "far": "True"}


def test_a_policy_counts_as_long_as_it_is_there(team: Instance) -> None:
    target = url(OTHER, "web")
    cluster.apply(team, TO_TEAM_Y)
    expect(team, TEAM, "client", {target: "204"})
    cluster.apply(team, TO_TEAM_Y.replace("metadata.name: np-team-y", "metadata.name: np-egress"))
    both = [target, url(EGRESS, "neighbour")]
    expect(team, TEAM, "client", {both[0]: NO_ANSWER, both[1]: "204"})
    delete(team, "allow-egress-to-team-y", TEAM)
    expect(team, TEAM, "client", dict.fromkeys(both, NO_ANSWER))


def test_labels_count_as_they_are_now(team: Instance) -> None:
    relabel = ["label", "pod", "gateway", f"--namespace={EGRESS}", "--overwrite"]
    address = kubectl(team, "get", "pod", "gateway", f"--namespace={EGRESS}", "--output=jsonpath={.status.podIP}")
    target = f"http://{address}:8080/status/204"
    for label, status in (("app=other", NO_ANSWER), ("app=gateway", "204")):
        kubectl(team, *relabel, label)
        expect(team, TEAM, "client", {target: status})


def test_named_port_and_the_pods_own_address(team: Instance) -> None:
    """The target pod's node sees who calls, also through a Service: nothing translates the source."""
    target = url(OTHER, "web", "ip")
    cluster.apply(team, TO_TEAM_Y)
    cluster.apply(team, NAMED_PORT.replace("NAME", "http"))
    own = kubectl(team, "get", "pod", "client", f"--namespace={TEAM}", "--output=jsonpath={.status.podIP}")
    origin = kubectl(team, "exec", f"--namespace={TEAM}", "client", "--", "curl", "-s", target)
    assert json.loads(origin) == {"origin": own}
    expect(team, OTHER, "client", {target: NO_ANSWER})
    before = dropped(team, f"ingress-{OTHER}")
    cluster.apply(team, NAMED_PORT.replace("NAME", "metrics"))
    expect(team, TEAM, "client", {target: NO_ANSWER})
    assert dropped(team, f"ingress-{OTHER}") > before
    delete(team, "allow-ingress-to-http", OTHER)
    delete(team, "allow-egress-to-team-y", TEAM)


def test_a_pod_is_isolated_from_its_first_packet(team: Instance) -> None:
    script = f"curl -sk --connect-timeout 1.5 -w ' %{{http_code}} ' {API_SERVER} {url(TEAM, 'near')}"
    command = f'  - {{name: c, image: "docker.io/curlimages/curl:8.16.0", command: [sh, -c, "{script}; true"]}}\n'
    cluster.apply(team, POD.format(namespace=TEAM, name="hasty", node="app-1") + command)
    done = ["wait", "--for=jsonpath={.status.phase}=Succeeded", "pod/hasty", f"--namespace={TEAM}", "--timeout=20s"]
    kubectl(team, *done)
    assert kubectl(team, "logs", "hasty", f"--namespace={TEAM}").split() == [NO_ANSWER, "204"]


def test_a_connection_that_exists_is_not_cut(team: Instance) -> None:
    fresh = url(OTHER, "web")
    cluster.apply(team, TO_TEAM_Y)
    expect(team, TEAM, "client", {fresh: "204"})
    slow = ["-s", "-o/dev/null", "-w%{http_code} %{size_download}", url(OTHER, "web", "drip?duration=3&numbytes=4")]
    exec_curl = ["kubectl", "exec", f"--namespace={TEAM}", "client", "--", "curl", *slow]
    process = subprocess.Popen(
        runner.command(team, exec_curl, Path("/")), env=runner.environment(team), stdout=subprocess.PIPE, text=True
    )
    time.sleep(0.7)
    delete(team, "allow-egress-to-team-y", TEAM)
    expect(team, TEAM, "client", {fresh: NO_ANSWER})
    assert process.communicate(timeout=10)[0] == "200 4"


def test_the_rules_stay_while_the_engine_is_away(team: Instance) -> None:
    engine = network_policy.agent(team)
    service.stop(team, engine)
    denied = [url(EGRESS, "neighbour"), url(EGRESS, "gateway")]
    try:
        before = dropped(team, f"egress-{TEAM}")
        expect(team, TEAM, "client", {denied[0]: NO_ANSWER, denied[1]: "204"})
        after = dropped(team, f"egress-{TEAM}")
        assert after > before
    finally:
        service.start(team, engine)
        service.wait(team, [engine], 20)
    assert dropped(team, f"egress-{TEAM}") == after
    expect(team, TEAM, "client", {denied[0]: NO_ANSWER, denied[1]: "204"})


def test_without_policies_all_passes(team: Instance) -> None:
    kubectl(team, "delete", "networkpolicy", "--all", f"--namespace={TEAM}")
    everything = [*(url(namespace, name) for namespace, name, _ in WEBS)]
    expect(team, TEAM, "client", dict.fromkeys(everything, "204"))
    end = time.monotonic() + 5
    while names := [name for name in counters.network_policies(team) if TEAM in name]:
        assert time.monotonic() < end, names
