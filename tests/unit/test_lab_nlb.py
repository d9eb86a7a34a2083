"""The lab's NLB: names and addresses, targets, and what HAProxy and nftables are told."""

from __future__ import annotations

import re
import shutil
import subprocess
from dataclasses import replace
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path

import pytest
from lightkube.models.core_v1 import NodeAddress, NodeCondition, NodeStatus, ObjectReference
from lightkube.models.discovery_v1 import Endpoint, EndpointConditions, EndpointPort
from lightkube.models.meta_v1 import ObjectMeta
from lightkube.resources.core_v1 import Node
from lightkube.resources.discovery_v1 import EndpointSlice

from lab import dns, topology
from lab.instance import Instance
from lab.nlb import addresses, certificates, haproxy, security_group, targets
from lab.nlb.addresses import Place, allocate, host_name
from lab.nlb.haproxy import Deployed
from lab.nlb.security_group import Group
from lab.nlb.spec import HealthCheck, Listener, LoadBalancer, Tls
from lab.nlb.targets import Target
from lab.topology import AVAILABILITY_ZONES

A, B = AVAILABILITY_ZONES
PLACE = Place("edge/gateway", "internet-facing", 7)
ARN = "arn:aws:acm:eu-central-1:123456789012:certificate/x"
BALANCER = LoadBalancer(
    namespace="edge",
    name="gateway",
    scheme="internet-facing",
    target_type="ip",
    listeners=(Listener(443, "https", 30443),),
    health=HealthCheck(),
    cross_zone=False,
    keeps_client_address=False,
    proxy_protocol=False,
    is_sticky=False,
    source_ranges=(IPv4Network("0.0.0.0/0"),),
    node_labels={},
)
ONE = Target("pod-1", IPv4Address("10.1.1.5"), 8443, A.name)
TWO = Target("pod-2", IPv4Address("10.1.2.5"), 8443, B.name)


def test_a_host_name_is_as_awss_and_the_same_each_time() -> None:
    name = host_name(("istio-ingress", "edge-gateway"), "internet-facing")
    assert re.fullmatch(r"k8s-istioing-edgegate-[0-9a-f]{10}-[0-9a-f]{16}\.elb\.eu-central-1\.amazonaws\.com", name)
    assert name == host_name(("istio-ingress", "edge-gateway"), "internet-facing")
    assert len({name, host_name(("istio", "ingress-edge-gateway"), "internet-facing")}) == 2
    assert name != host_name(("istio-ingress", "edge-gateway"), "internal")


def test_a_place_has_an_address_per_zone() -> None:
    assert [str(PLACE.address(zone)) for zone in (A, B)] == ["192.0.2.7", "192.0.2.135"]
    assert [str(PLACE.interface(zone)) for zone in (A, B)] == ["10.6.0.7", "10.6.1.7"]
    internal = replace(PLACE, scheme="internal")
    assert [internal.address(zone) for zone in (A, B)] == [internal.interface(zone) for zone in (A, B)]


def test_places_stay_and_differ() -> None:
    wanted = {host_name(("edge", f"g{n}"), "internal"): (("edge", f"g{n}"), "internal") for n in range(60)}
    first = allocate(wanted, {})  # type: ignore[arg-type]
    assert len({place.number for place in first.values()}) == 60
    assert all(addresses.FIRST <= place.number <= addresses.LAST for place in first.values())
    name = next(iter(wanted))
    # Alone it would get the same; with a place it keeps that, whoever comes or goes.
    moved = replace(first[name], number=addresses.LAST)
    assert allocate(wanted, {name: moved})[name] == moved  # type: ignore[arg-type]
    assert allocate({name: wanted[name]}, {}) == {name: first[name]}  # type: ignore[dict-item]
    with pytest.raises(OverflowError, match="all 123 NLBs"):
        allocate({f"n{n}": (("edge", "g"), "internal") for n in range(124)}, {})


def test_places_are_kept_in_a_file(tmp_path: Path) -> None:
    file = tmp_path / "nlb" / "load-balancers.json"
    assert addresses.load(file) == {}
    addresses.save(file, {"name": PLACE})
    assert addresses.load(file) == {"name": PLACE}


def test_names_leave_out_a_zone_without_healthy_targets() -> None:
    places = {"name": PLACE}
    assert addresses.render_hosts(places) == "192.0.2.7 name\n192.0.2.135 name\n"
    assert addresses.render_hosts(places, [("edge/gateway", A.name), ("edge/x", B.name)]) == "192.0.2.135 name\n"
    every = [("edge/gateway", zone.name) for zone in (A, B)]
    assert addresses.render_hosts(places, every) == addresses.render_hosts(places)


def test_resolver_reads_the_names() -> None:
    corefile = dns.render_corefile("/k", "/z", "/h")
    assert 'hosts "/h" elb.eu-central-1.amazonaws.com {' in corefile
    assert "reload 200ms" in corefile


def node(name: str, address: str, zone: str, *, ready: str = "True", **labels: str) -> Node:
    return Node(
        metadata=ObjectMeta(name=name, labels={targets.ZONE: zone, **labels}),
        status=NodeStatus(
            addresses=[NodeAddress(name, "Hostname"), NodeAddress(address, "InternalIP")],
            conditions=[NodeCondition(ready, "Ready")],
        ),
    )


def test_instance_targets_are_the_ready_nodes() -> None:
    nodes = [
        node("n2", "10.0.0.12", B.name, pool="edge"),
        node("n1", "10.0.0.11", A.name),
        node("n3", "10.0.0.13", A.name, ready="Unknown", pool="edge"),
        node("n4", "10.0.0.14", A.name, **{targets.EXCLUDED: "", "pool": "edge"}),
    ]
    balancer = replace(BALANCER, target_type="instance")
    assert targets.groups(balancer, nodes, []) == {
        443: (
            Target("n1", IPv4Address("10.0.0.11"), 30443, A.name),
            Target("n2", IPv4Address("10.0.0.12"), 30443, B.name),
        )
    }
    chosen = targets.groups(replace(balancer, node_labels={"pool": "edge"}), nodes, [])
    assert [it.name for it in chosen[443]] == ["n2"]


def test_ip_targets_are_the_ready_pods_at_the_ports_target() -> None:
    def part(name: str, service: str = "gateway", port: str = "https") -> EndpointSlice:
        return EndpointSlice(
            addressType="IPv4",
            metadata=ObjectMeta(name=name, namespace="edge", labels={"kubernetes.io/service-name": service}),
            ports=[EndpointPort(name=port, port=8443)],
            endpoints=[
                Endpoint(
                    addresses=[address],
                    zone=zone,
                    conditions=EndpointConditions(ready=ready),
                    targetRef=ObjectReference(name=pod),
                )
                for pod, address, zone, ready in (
                    ("pod-2", "10.1.2.5", B.name, None),
                    ("pod-1", "10.1.1.5", A.name, True),
                    ("pod-3", "10.1.1.6", A.name, False),
                )
            ],
        )

    slices = [part("a"), part("again"), part("b", service="other"), part("c", port="http")]
    assert targets.groups(BALANCER, [], slices) == {443: (ONE, TWO)}


def config(balancer: LoadBalancer, *found: Target) -> str:
    deployed = Deployed(balancer, PLACE, {443: found})
    return haproxy.render([deployed], Path("/nlb"), lambda arn: Path("/certificates") / arn[-1])


def section(text: str, head: str) -> list[str]:
    (found,) = [part for part in text.split("\n\n") if part.strip().startswith(f"{head}\n")]
    return [line.strip() for line in found.strip().splitlines()[1:]]


def test_zones_are_apart_without_cross_zone() -> None:
    text = config(BALANCER, ONE, TWO)
    check = "check inter 2000ms fastinter 300ms rise 3 fall 3"
    assert section(text, "backend edge.gateway:443:eu-central-1a") == [
        "source 10.6.0.7",
        "balance roundrobin",
        "timeout check 2000ms",
        f"server pod-1 10.1.1.5:8443 {check}",
    ]
    assert section(text, "backend edge.gateway:443:eu-central-1b")[-1] == f"server pod-2 10.1.2.5:8443 {check}"
    assert section(text, "backend edge.gateway:443:eu-central-1b:all")[-1] == "server pod-2 10.1.2.5:8443"


def test_cross_zone_has_all_targets_in_each_and_asks_once() -> None:
    text = config(replace(BALANCER, cross_zone=True), ONE, TWO)
    assert (
        len([line for line in section(text, "backend edge.gateway:443:eu-central-1a") if "inter 2000ms" in line]) == 2
    )
    assert section(text, "backend edge.gateway:443:eu-central-1b")[2:] == [
        "server pod-1 10.1.1.5:8443 track edge.gateway:443:eu-central-1a/pod-1",
        "server pod-2 10.1.2.5:8443 track edge.gateway:443:eu-central-1a/pod-2",
    ]


def test_a_frontend_listens_at_its_zones_address() -> None:
    lines = section(config(BALANCER, ONE), "frontend edge.gateway:443:eu-central-1b")
    assert lines[0] == "bind 192.0.2.135:443"
    assert '"service": "edge/gateway", "listener": 443, "zone": "eu-central-1b", "tls": "-"' in lines[1]
    assert lines[2:] == [
        "use_backend edge.gateway:443:eu-central-1b:all if { nbsrv(edge.gateway:443:eu-central-1b) eq 0 }",
        "default_backend edge.gateway:443:eu-central-1b",
    ]


def test_the_source_is_kept_and_told_as_ordered() -> None:
    text = config(replace(BALANCER, keeps_client_address=True, proxy_protocol=True), ONE)
    lines = section(text, "backend edge.gateway:443:eu-central-1a")
    assert lines[0] == "source 10.6.0.7 usesrc clientip"
    assert lines[-1].startswith("server pod-1 10.1.1.5:8443 send-proxy-v2 check ")
    assert lines[-1].endswith(" check-send-proxy")


def test_tls_on_both_sides() -> None:
    listener = Listener(443, "https", 30443, Tls((ARN, f"{ARN[:-1]}y"), ("TLSv1.2", "TLSv1.3"), ("h2",)), True)
    text = config(replace(BALANCER, listeners=(listener,)), ONE)
    frontend = section(text, "frontend edge.gateway:443:eu-central-1a")
    assert frontend[0] == (
        "bind 192.0.2.7:443 ssl crt /certificates/x crt /certificates/y ssl-min-ver TLSv1.2 ssl-max-ver TLSv1.3 alpn h2"
    )
    assert '"tls": "%sslv"' in frontend[1]
    server = section(text, "backend edge.gateway:443:eu-central-1a")[-1]
    assert "8443 ssl verify none alpn h2 check " in server
    assert server.endswith(" no-check-ssl")
    old = replace(listener, tls=Tls((ARN,), ("TLSv1.0", "TLSv1.2")))
    (bind, *_) = section(config(replace(BALANCER, listeners=(old,)), ONE), "frontend edge.gateway:443:eu-central-1a")
    assert bind.endswith("ssl-min-ver TLSv1.0 ssl-max-ver TLSv1.2 ciphers DEFAULT:@SECLEVEL=0")


@pytest.mark.parametrize(
    ("protocol", "ending"), [("HTTP", "port 32000"), ("HTTPS", "port 32000 check-ssl verify none")]
)
def test_health_by_http(protocol: str, ending: str) -> None:
    health = HealthCheck(protocol, 32000, "/healthz", "200-299", 5, 6, 2, 4)  # type: ignore[arg-type]
    lines = section(config(replace(BALANCER, health=health), ONE), "backend edge.gateway:443:eu-central-1a")
    assert lines[2:5] == [
        "timeout check 1200ms",
        "option httpchk GET /healthz",
        "http-check expect status 200-299",
    ]
    assert lines[5].endswith(f"check inter 1000ms fastinter 300ms rise 2 fall 4 {ending}")


def test_a_revision_tells_configurations_apart() -> None:
    one, other = config(BALANCER, ONE), config(BALANCER, TWO)
    (first,), (second,) = (re.findall("^    description ([0-9a-f]{16})$", text, re.MULTILINE) for text in (one, other))
    assert first != second
    assert config(BALANCER, ONE) == one


def test_health_outlives_a_reload_where_the_server_is_the_same() -> None:
    header = (
        "# be_id be_name srv_id srv_name srv_addr srv_op_state srv_admin_state srv_uweight srv_iweight "
        "srv_time_since_last_change srv_check_status srv_check_result srv_check_health srv_check_state "
        "srv_agent_state bk_f_forced_id srv_f_forced_id srv_fqdn srv_port srvrecord srv_use_ssl srv_check_port "
        "srv_check_addr srv_agent_addr srv_agent_port"
    )

    def row(name: str, address: str, port: int, check: int = 0) -> str:
        return (
            f"3 edge.gateway:443:eu-central-1a 1 {name} {address} 0 0 1 1 2 17 2 0 6 0 0 0 - {port} - 0 {check} - - 0"
        )

    text = config(BALANCER, ONE)
    same = row("pod-1", "10.1.1.5", 8443)
    known = ["1", header, same, row("pod-9", "10.1.1.9", 8443)]
    assert haproxy.state("\n".join(known), text) == f"1\n{header}\n{same}\n"
    for changed in (
        row("pod-1", "10.1.1.6", 8443),
        row("pod-1", "10.1.1.5", 8080),
        row("pod-1", "10.1.1.5", 8443, 15021),
    ):
        assert haproxy.state("\n".join(["1", header, changed]), text) == f"1\n{header}\n"
    assert haproxy.state("", text) == "1\n#\n"


def test_unhealthy_zones() -> None:
    deployed = [Deployed(BALANCER, PLACE, {443: (ONE, TWO)})]
    assert haproxy.unhealthy_zones(deployed, set()) == set()
    assert haproxy.unhealthy_zones(deployed, {"edge.gateway:443:eu-central-1b"}) == {("edge/gateway", B.name)}
    assert haproxy.unhealthy_zones(deployed, {"edge.gateway:443:eu-central-1b:all"}) == set()


@pytest.mark.skipif(not shutil.which("haproxy", path="/usr/sbin:/usr/bin"), reason="needs HAProxy")
def test_haproxy_takes_the_configuration(tmp_path: Path) -> None:
    everything = replace(
        BALANCER,
        listeners=(Listener(443, "https", 30443, None, True), Listener(80, "http", 30080)),
        health=HealthCheck("HTTPS", 15021),
        cross_zone=True,
        keeps_client_address=True,
        proxy_protocol=True,
        is_sticky=True,
    )
    deployed = Deployed(everything, PLACE, {443: (ONE, TWO)})
    (tmp_path / "server-state").write_text("1\n#\n")
    file = tmp_path / "haproxy.cfg"
    file.write_text(haproxy.render([deployed], tmp_path, Path))
    command = ["/usr/sbin/haproxy", "-c", "-f", str(file)]
    answer = subprocess.run(command, capture_output=True, text=True)
    assert answer.returncode == 0, answer.stderr
    assert "WARNING" not in answer.stderr


def test_a_security_group_drops_silently_and_counts() -> None:
    ranges = (IPv4Network("203.0.113.0/24"), IPv4Network("203.0.113.10/32"))
    group = Group("edge/gateway", (IPv4Address("192.0.2.7"), IPv4Address("192.0.2.135")), (80, 443), ranges)
    everyone = replace(group, service="edge/open", sources=(IPv4Network("0.0.0.0/0"),))
    text = security_group.render([everyone, group], ["nlb-edge/gateway", "nlb-edge/gone"])
    lines = [line.strip() for line in text.splitlines()]
    accepted = lines.index(
        "ip daddr { 192.0.2.7, 192.0.2.135 } tcp dport { 80, 443 } ip saddr { 203.0.113.0/24 } accept"
    )
    assert lines[accepted + 1] == 'ip daddr { 192.0.2.7, 192.0.2.135 } counter name "nlb-edge/gateway" drop'
    assert lines[accepted + 2] == "ip daddr { 192.0.2.7, 192.0.2.135 } tcp dport { 80, 443 } accept"
    assert lines.count("counter nlb-edge/gateway { }") == 1
    assert [line for line in lines if line.startswith("delete")] == ["delete counter ip nlb nlb-edge/gone"]
    assert "type filter hook prerouting priority filter; policy drop;" in lines
    # HAProxy would spin on such an answer.
    unreachable = lines.index("icmp type destination-unreachable icmp code != frag-needed drop")
    assert unreachable < lines.index("ct state established,related accept") < accepted


def test_certificates_are_named_by_their_id() -> None:
    (arn, names) = next(iter(certificates.NAMES.items()))
    assert arn == "arn:aws:acm:eu-central-1:123456789012:certificate/00000000-0000-4000-8000-000000000001"
    assert names == ("example.com", "*.example.com")
    assert certificates.file(Instance("dev"), arn).name == "00000000-0000-4000-8000-000000000001.pem"


def test_each_node_is_in_one_zone() -> None:
    assert {it.name: it.zone.name for it in topology.NODES} == {
        "app-1": "eu-central-1a",
        "open": "eu-central-1a",
        "app-2": "eu-central-1b",
        "gateway": "eu-central-1b",
    }
    assert topology.NODES[0].labels == {
        "cloud.google.com/gke-nodepool": "application",
        "meshgate.dev/pool": "application",
        "topology.kubernetes.io/region": "eu-central-1",
        "topology.kubernetes.io/zone": "eu-central-1a",
    }
