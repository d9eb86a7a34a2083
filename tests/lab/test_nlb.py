"""The lab's NLB does to connections what its Service says: real traffic, as clients and targets see it."""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from ipaddress import IPv4Address
from typing import Any

import pytest

from lab import cluster, counters, machine, pki
from lab.instance import Instance
from lab.nlb import haproxy
from lab.nlb.certificates import NAMES
from lab.nlb.spec import FINALIZER, PREFIX
from lab.topology import AVAILABILITY_ZONES, CLIENTS, NODES
from tests.deployment import kubectl

pytestmark = [pytest.mark.lab, pytest.mark.skipif(os.geteuid() != 0, reason="the lab needs root")]

NAMESPACE = "nlb"
CURL = "docker.io/curlimages/curl:8.16.0"
HTTPBIN = "docker.io/mccutchen/go-httpbin:2.26.0"
(CERTIFICATE,) = NAMES
CLIENT, OTHER = (str(CLIENTS[name]) for name in ("client-a", "client-b"))
SIGNATURE = "0d0a0d0a000d0a515549540a"
"""What a PROXY header of version 2 begins with."""

# Tells who called and what came, before it is asked anything that HTTP knows.
RAW = r"""
$| = 1;
$server = IO::Socket::INET->new(LocalPort => 9000, Listen => 64, ReuseAddr => 1) or die;
while (($client, $peer) = $server->accept) {
    $client->sysread($bytes, 4096);
    $line = inet_ntoa((sockaddr_in($peer))[1]) . " " . unpack("H*", $bytes) . "\n";
    print $line;
    print $client $line;
    close $client;
}
"""


def pod(name: str, node: str, container: Mapping[str, Any], **labels: str) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "namespace": NAMESPACE, "labels": labels},
        "spec": {
            "nodeSelector": {"kubernetes.io/hostname": node},
            "terminationGracePeriodSeconds": 0,
            "containers": [{"name": "main", **container}],
            "volumes": [{"name": "tls", "secret": {"secretName": "tls", "optional": True}}],
        },
    }


def web(*options: str) -> dict[str, Any]:
    return {
        "image": HTTPBIN,
        "command": ["/bin/go-httpbin", "-use-real-hostname", *options],
        "volumeMounts": [{"name": "tls", "mountPath": "/tls"}],
    }


def nlb(name: str, ports: Mapping[int, int], *, selects: str = "web", spec: Any = None, **annotations: str) -> Any:
    """A Service for an NLB of the internet. `annotations` are those of the NLB, with _ for -."""
    given = {"type": "external", "scheme": "internet-facing", **annotations}
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {
            "name": name,
            "namespace": NAMESPACE,
            "annotations": {f"{PREFIX}aws-load-balancer-{key.replace('_', '-')}": it for key, it in given.items()},
        },
        "spec": {
            "type": "LoadBalancer",
            "selector": {selects: "yes"},
            "ports": [{"name": f"p{port}", "port": port, "targetPort": target} for port, target in ports.items()],
            **(spec or {}),
        },
    }


CROSS_ZONE = "load_balancing.cross_zone.enabled=true"
SERVICES = [
    nlb(
        "kept",
        {80: 8080, 443: 8080},
        nlb_target_type="instance",
        attributes=CROSS_ZONE,
        ssl_cert=CERTIFICATE,
        ssl_ports="443",
        ssl_negotiation_policy="ELBSecurityPolicy-TLS13-1-2-2021-06",
        spec={"externalTrafficPolicy": "Local"},
    ),
    nlb("hidden", {80: 8080}, nlb_target_type="instance", attributes=CROSS_ZONE),
    nlb("zonal", {80: 8080}, nlb_target_type="ip", spec={"loadBalancerSourceRanges": [f"{CLIENT}/32"]}),
    nlb(
        "kept-ip",
        {80: 8080},
        nlb_target_type="ip",
        attributes=CROSS_ZONE,
        target_group_attributes="preserve_client_ip.enabled=true",
    ),
    nlb("proxy", {80: 9000}, selects="raw", nlb_target_type="ip", proxy_protocol="*"),
    nlb(
        "reencrypt",
        {443: 8443},
        selects="secure",
        nlb_target_type="ip",
        ssl_cert=CERTIFICATE,
        backend_protocol="ssl",
    ),
    nlb(
        "ill",
        {80: 8080},
        selects="mixed",
        nlb_target_type="ip",
        healthcheck_protocol="http",
        healthcheck_path="/status/200",
        healthcheck_interval="5",
    ),
]
BAD = nlb("bad", {443: 8080}, nlb_target_type="ip", ssl_cert=CERTIFICATE[:-1] + "9")


@pytest.fixture(scope="module")
def names(lab: Instance) -> Iterator[dict[str, str]]:
    """Pods on app-1 and app-2, hence one per zone, and the NLBs' names by Service."""
    pair = pki.internet_authority(lab).issue("nlb-target", "nlb-target", dns=["target.test"])
    raw = {"image": CURL, "command": ["perl", "-MIO::Socket::INET", "-e"], "args": [RAW]}
    secure = web("-port", "8443", "-https-cert-file", "/tls/tls.crt", "-https-key-file", "/tls/tls.key")
    items = [
        {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}},
        {
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": {"name": "tls", "namespace": NAMESPACE},
            "stringData": {"tls.crt": pair.certificate.read_text(), "tls.key": pair.key.read_text()},
        },
        pod("web-a", "app-1", web(), web="yes", mixed="yes"),
        pod("web-b", "app-2", web(), web="yes"),
        pod("raw", "app-2", raw, raw="yes"),
        # Answers at the port, but not as an HTTP server does.
        pod("ill", "app-2", {**raw, "args": [RAW.replace("9000", "8080")]}, mixed="yes"),
        pod("secure", "app-1", secure, secure="yes"),
        *SERVICES,
        BAD,
    ]
    cluster.apply(lab, json.dumps({"apiVersion": "v1", "kind": "List", "items": items}))
    kubectl(lab, "--namespace", NAMESPACE, "wait", "--for=condition=Ready", "pods", "--all", "--timeout=60s")
    found = {name: host_name(lab, name) for service in SERVICES for name in [service["metadata"]["name"]]}
    until(lambda: {"web-a", "web-b"} <= {who(lab, found["kept"]) for _ in range(4)})
    yield found
    kubectl(lab, "delete", "namespace", NAMESPACE, "--wait=false")


def until(condition: Callable[[], Any], patience: float = 10) -> Any:
    end = time.monotonic() + patience
    while not (found := condition()):
        assert time.monotonic() < end, "it did not come true"
        time.sleep(0.1)
    return found


def service(lab: Instance, name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(kubectl(lab, "--namespace", NAMESPACE, "get", "service", name, "--output=json"))
    return found


def host_name(lab: Instance, name: str) -> str:
    def find() -> str:
        ingress = service(lab, name)["status"]["loadBalancer"].get("ingress") or [{}]
        return str(ingress[0].get("hostname", ""))

    return str(until(find))


def curl(lab: Instance, url: str, *options: str, client: str = "client-a") -> subprocess.CompletedProcess[str]:
    command = [*machine.enter(lab, client), "curl", "--silent", "--show-error", "--max-time", "5", *options, url]
    return subprocess.run(command, capture_output=True, text=True)


def ask(lab: Instance, url: str, *options: str, client: str = "client-a") -> dict[str, Any]:
    done = curl(lab, url, *options, client=client)
    assert done.returncode == 0, done.stderr
    answer: dict[str, Any] = json.loads(done.stdout)
    return answer


def who(lab: Instance, host: str) -> str:
    """The pod that answers."""
    return str(ask(lab, f"http://{host}/hostname")["hostname"])


def origin(lab: Instance, url: str, *options: str, client: str = "client-a") -> str:
    """Whom the pod takes for its client."""
    return str(ask(lab, url, *options, client=client)["origin"])


def resolve(lab: Instance, host: str) -> list[str]:
    command = [*machine.enter(lab, "client-b"), "getent", "ahostsv4", host]
    answer = subprocess.run(command, capture_output=True, text=True).stdout
    return [str(it) for it in sorted({IPv4Address(line.split()[0]) for line in answer.splitlines()})]


def connections(lab: Instance, name: str) -> list[dict[str, Any]]:
    """What the NLB's log says of a Service's connections."""
    lines = lab.log("nlb-haproxy").read_text().splitlines()
    found = [json.loads(line) for line in lines if line.startswith("{")]
    return [it for it in found if it["service"] == f"{NAMESPACE}/{name}"]


def test_each_zone_has_an_address_and_reaches_all_targets(lab: Instance, names: dict[str, str]) -> None:
    found = resolve(lab, names["kept"])
    assert len(found) == 2
    # A target that became healthy while HAProxy was loaded anew is ill again until it is checked.
    until(lambda: all({who(lab, it) for _ in range(4)} == {"web-a", "web-b"} for it in found))


def test_instances_see_the_client_of_both_listeners(lab: Instance, names: dict[str, str]) -> None:
    for client, address in (("client-a", CLIENT), ("client-b", OTHER)):
        assert origin(lab, f"http://{names['kept']}/ip", client=client) == address
    tls = ("--cacert", str(lab.internet_ca), "--connect-to", f"::{names['kept']}:")
    assert origin(lab, "https://nginx.example.com/ip", *tls) == CLIENT
    last = until(lambda: [it for it in connections(lab, "kept") if it["listener"] == 443])[-1]
    assert (last["tls"], last["client"], last["source"], last["end"]) == ("TLSv1.3", CLIENT, CLIENT, "--")
    assert last["target"] in ("app-1", "app-2")
    # It is another name's certificate, and an older version than the policy has.
    assert curl(lab, "https://example.org/ip", *tls).returncode == 60
    assert curl(lab, "https://nginx.example.com/ip", *tls, "--tls-max", "1.1").returncode == 35
    # TLS ends at the NLB: the port has no other way to be spoken to.
    assert curl(lab, f"http://{names['kept']}:443/ip").returncode == 52


def test_a_nodes_address_hides_the_client(lab: Instance, names: dict[str, str]) -> None:
    # A node calls its own pods from its end of their links.
    nodes = {str(address) for node in NODES for address in (node.address, node.pods[1])}
    seen = {origin(lab, f"http://{names['hidden']}/ip") for _ in range(8)}
    assert seen <= nodes
    assert connections(lab, "hidden")[-1]["source"] == CLIENT  # kube-proxy hides it, not the NLB


def test_pods_see_the_nlb_unless_told_otherwise(lab: Instance, names: dict[str, str]) -> None:
    seen = {origin(lab, f"http://{address}/ip") for address in resolve(lab, names["zonal"])}
    assert len(seen) == 2
    for zone, address in zip(AVAILABILITY_ZONES, sorted(seen), strict=True):
        assert address.startswith(str(zone.subnet.network_address).removesuffix("0"))
    assert origin(lab, f"http://{names['kept-ip']}/ip", client="client-b") == OTHER


def test_zones_are_apart_without_cross_zone(lab: Instance, names: dict[str, str]) -> None:
    found = resolve(lab, names["zonal"])
    assert [{who(lab, address) for _ in range(3)} for address in found] == [{"web-a"}, {"web-b"}]


def test_source_ranges(lab: Instance, names: dict[str, str]) -> None:
    counter = f"nlb-{NAMESPACE}/zonal"
    before = counters.security_groups(lab)[counter]
    assert origin(lab, f"http://{names['zonal']}/ip")
    assert counters.security_groups(lab)[counter] == before
    logged = len(connections(lab, "zonal"))
    done = curl(lab, f"http://{names['zonal']}/ip", "--max-time", "0.5", client="client-b")
    assert done.returncode == 28  # no answer
    assert counters.security_groups(lab)[counter] > before
    assert len(connections(lab, "zonal")) == logged
    # A port without a listener is closed in the same way.
    assert curl(lab, f"http://{names['zonal']}:81/ip", "--max-time", "0.5").returncode == 28


def test_proxy_protocol(lab: Instance, names: dict[str, str]) -> None:
    done = curl(lab, f"http://{names['proxy']}/", "--http0.9", client="client-b")
    source, received = done.stdout.split()
    assert source.startswith("10.6.1.")
    assert received.startswith(f"{SIGNATURE}2111000c{bytes(map(int, OTHER.split('.'))).hex()}")
    # A client's own header is nothing but data, after the NLB's.
    forged = curl(lab, f"http://{names['proxy']}/", "--http0.9", "--haproxy-protocol").stdout.split()[1]
    assert forged.startswith(f"{SIGNATURE}2111000c{bytes(map(int, CLIENT.split('.'))).hex()}")
    log = until(lambda: kubectl(lab, "--namespace", NAMESPACE, "logs", "raw"))
    checks = [line for line in log.splitlines() if line.endswith(f" {SIGNATURE}20000000")]
    assert {line.rpartition(".")[0] for line in checks} == {"10.6.1"}


def test_tls_to_targets(lab: Instance, names: dict[str, str]) -> None:
    tls = ("--cacert", str(lab.internet_ca), "--connect-to", f"::{names['reencrypt']}:")
    answer = ask(lab, "https://api.example.com/get", *tls)
    assert answer["url"].startswith("https://")
    assert answer["headers"]["Host"] == ["api.example.com"]
    # The default policy is older than TLS 1.3.
    assert until(lambda: connections(lab, "reencrypt"))[-1]["tls"] == "TLSv1.2"


def test_a_zone_whose_targets_are_ill_is_not_told(lab: Instance, names: dict[str, str]) -> None:
    healthy = until(lambda: len(found := resolve(lab, names["ill"])) == 1 and found)
    assert {who(lab, healthy[0]) for _ in range(4)} == {"web-a"}
    places = json.loads((lab.directory / "nlb" / "load-balancers.json").read_text())
    (other,) = {str(zone.public[places[names["ill"]]["number"]]) for zone in AVAILABILITY_ZONES} - set(healthy)
    # Whoever knows its address gets to the target that is ill, having no other.
    assert SIGNATURE not in curl(lab, f"http://{other}/", "--http0.9").stdout
    assert connections(lab, "ill")[-1]["target"] == "ill"


def test_a_new_target_is_used_at_once_and_nobody_is_disturbed(lab: Instance, names: dict[str, str]) -> None:
    """Each change of a target loads HAProxy anew."""
    address = resolve(lab, names["zonal"])[0]
    drip = f"http://{names['kept']}/drip?duration=3&numbytes=30"
    long = subprocess.Popen([*machine.enter(lab, "client-a"), "curl", "--silent", drip], stdout=subprocess.PIPE)
    begin = time.monotonic()
    cluster.apply(lab, json.dumps(pod("web-c", "app-1", web(), web="yes")))
    disturbed = []
    while who(lab, address) != "web-c":
        # Nodes without a pod of the Service stay ill, whatever is loaded anew.
        disturbed += [done.stderr for done in [curl(lab, f"http://{names['kept']}/")] if done.returncode]
        assert time.monotonic() - begin < 20
    kubectl(lab, "--namespace", NAMESPACE, "delete", "pod", "web-c")
    # It goes without a farewell: who meets it in its last moment waits in vain.
    until(lambda: all("web-a" in curl(lab, f"http://{address}/hostname", "--max-time", "1").stdout for _ in range(4)))
    assert disturbed == []
    assert long.communicate()[0] == b"*" * 30
    assert long.returncode == 0


def test_bad_annotations_are_told_by_an_event(lab: Instance, names: dict[str, str]) -> None:
    events = f"--field-selector=involvedObject.name={BAD['metadata']['name']}"

    def told() -> dict[tuple[str, str], str]:
        items = json.loads(kubectl(lab, "--namespace", NAMESPACE, "get", "events", events, "--output=json"))["items"]
        return {(it["type"], it["reason"]): it["message"] for it in items}

    message = until(lambda: told().get(("Warning", "FailedDeployModel")))
    assert message == f"Failed deploy model due to CertificateNotFound: Certificate '{CERTIFICATE[:-1]}9' not found"
    found = service(lab, "bad")
    assert found["status"] == {"loadBalancer": {}}
    assert FINALIZER not in found["metadata"].get("finalizers", [])


def test_a_load_balancer_goes_with_its_service(lab: Instance, names: dict[str, str]) -> None:
    cluster.apply(lab, json.dumps(nlb("passing", {80: 8080}, nlb_target_type="ip")))
    name = host_name(lab, "passing")
    assert FINALIZER in service(lab, "passing")["metadata"]["finalizers"]
    (address, *_) = resolve(lab, name)
    assert who(lab, address)
    kubectl(lab, "--namespace", NAMESPACE, "patch", "service", "passing", "--patch", '{"spec": {"type": "ClusterIP"}}')
    until(lambda: FINALIZER not in service(lab, "passing")["metadata"].get("finalizers", []))
    assert service(lab, "passing")["status"] == {"loadBalancer": {}}
    # What is told, is so: the listener is gone.
    assert curl(lab, f"http://{address}/", "--max-time", "0.5").returncode == 28
    assert address not in haproxy.config_file(lab.directory / "nlb").read_text()
    until(lambda: resolve(lab, name) == [])
    # Made anew, it is what it was.
    kubectl(
        lab, "--namespace", NAMESPACE, "patch", "service", "passing", "--patch", '{"spec": {"type": "LoadBalancer"}}'
    )
    assert host_name(lab, "passing") == name
    assert address in resolve(lab, name)
    kubectl(lab, "--namespace", NAMESPACE, "delete", "service", "passing", "--timeout=10s")


def test_a_plain_load_balancer_is_none_of_its_business(lab: Instance, names: dict[str, str]) -> None:
    plain = nlb("plain", {80: 8080}, type="nlb")  # the in-tree provider's value
    cluster.apply(lab, json.dumps(plain))
    found = until(lambda: service(lab, "plain")["status"]["loadBalancer"].get("ingress"))
    assert found[0]["ip"].startswith("203.0.113.")
    assert until(lambda: curl(lab, f"http://{found[0]['ip']}/ip", "--max-time", "1").returncode == 0)
    assert FINALIZER not in service(lab, "plain")["metadata"].get("finalizers", [])
