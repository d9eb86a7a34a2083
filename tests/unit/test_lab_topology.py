"""The lab's address plan and names."""

from collections import Counter
from ipaddress import IPv4Network
from itertools import combinations
from pathlib import Path

import pytest

from lab import topology
from lab.errors import LabError
from lab.instance import Instance, base_directory
from lab.topology import LINKS, MACHINES, NODES, ZONES

RANGES = (
    topology.NODES_RANGE,
    topology.PODS_RANGE,
    topology.SERVICES_RANGE,
    topology.CONTROL_PLANE_RANGE,
    topology.SERVERS_RANGE,
    topology.CLIENTS_RANGE,
    topology.GOOGLE_RANGE,
    topology.NLB_RANGE,
    topology.NLB_LINK,
    topology.VAULT_LINK,
    *(zone.subnet for zone in topology.AVAILABILITY_ZONES),
)


@pytest.mark.parametrize(("one", "other"), list(combinations(RANGES, 2)), ids=str)
def test_ranges_do_not_overlap(one: IPv4Network, other: IPv4Network) -> None:
    assert not one.overlaps(other)


def test_no_address_is_given_twice() -> None:
    addresses = [
        *(address for link in LINKS for address in link.addresses),
        *{link.gateway for link in LINKS},  # one gateway address may serve several links
        topology.NAT,
        topology.LOAD_BALANCER_RESERVED,
        *(topology.LOAD_BALANCER_FIRST + n for n in range(100)),
    ]
    assert [address for address, count in Counter(addresses).items() if count > 1] == []
    assert topology.LOAD_BALANCER_FIRST + 99 == topology.LOAD_BALANCER_LAST


def test_addresses_of_the_on_premises_document() -> None:
    links = {link.machine: link for link in LINKS}
    assert str(topology.LOAD_BALANCER_RESERVED) == "203.0.113.1"
    assert [str(address) for address in links["balancer"].addresses] == ["203.0.113.3"]
    vault = links["vault"]
    assert (str(vault.gateway), [str(address) for address in vault.addresses]) == ("10.7.0.1", ["10.7.0.2"])


def test_nodes_have_the_documented_addresses() -> None:
    assert [(node.name, str(node.address), str(node.pods), node.pool.name) for node in NODES] == [
        ("app-1", "10.0.0.11", "10.1.1.0/24", "application"),
        ("app-2", "10.0.0.12", "10.1.2.0/24", "application"),
        ("open", "10.0.0.13", "10.1.3.0/24", "open"),
        ("gateway", "10.0.0.14", "10.1.4.0/24", "gateway"),
    ]
    assert {node.name: node.pool.taints for node in NODES if node.pool.taints} == {
        "open": {"dedicated": "open"},
        "gateway": {"dedicated": "gateway"},
    }
    assert NODES[0].pool.labels == {"cloud.google.com/gke-nodepool": "application", "meshgate.dev/pool": "application"}


def test_addresses_lie_in_their_ranges() -> None:
    assert all(node.address in topology.NODES_RANGE and node.pods.subnet_of(topology.PODS_RANGE) for node in NODES)
    assert topology.CONTROL_PLANE in topology.CONTROL_PLANE_RANGE
    assert {topology.DNS_SERVICE, topology.KUBERNETES_SERVICE} < set(topology.SERVICES_RANGE.hosts())
    internet = {*topology.SERVERS.values(), topology.MUTUAL_ADDRESS, topology.SITE_ADDRESS}
    assert internet < set(topology.SERVERS_RANGE.hosts())
    assert topology.PRIVATE_APIS.subnet_of(topology.GOOGLE_RANGE)
    assert topology.RESTRICTED_APIS.subnet_of(topology.GOOGLE_RANGE)


def test_google_has_the_documented_addresses() -> None:
    (link,) = [link for link in LINKS if link.machine == topology.GOOGLE]
    assert [str(address) for address in link.addresses] == [
        *(f"199.36.153.{n}" for n in (8, 9, 10, 11, 4, 5, 6, 7)),
        "169.254.169.254",
    ]


def test_each_machine_is_in_one_zone_besides_nodes() -> None:
    in_zones = Counter(machine for zone, machines in ZONES.items() if zone != "nodes" for machine in machines)
    assert set(in_zones) == set(MACHINES) - {topology.ROUTER}
    assert set(in_zones.values()) == {1}


def test_machine_names_fit_a_network_interface() -> None:
    assert all(len(machine) <= 15 for machine in MACHINES)


@pytest.mark.parametrize("name", ["dev", "a", "1", "a-b", "12345678"])
def test_instance_names(name: str) -> None:
    assert Instance(name).netns("app-1") == Path(f"/run/netns/mg-{name}-app-1")


@pytest.mark.parametrize("name", ["", "123456789", "Dev", "a_b", "-a", "a-", "../x", "a b", "dev\n"])
def test_bad_instance_names(name: str) -> None:
    with pytest.raises(LabError, match="1 to 8 characters"):
        Instance(name)


def test_directory_follows_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MESHGATE_LAB_DIR", raising=False)
    assert Instance("dev").directory == Path("/var/lib/meshgate/dev")
    monkeypatch.setenv("MESHGATE_LAB_DIR", "/srv/labs")
    assert Instance("dev").kubeconfig == Path("/srv/labs/dev/admin.kubeconfig")
    monkeypatch.setenv("MESHGATE_LAB_DIR", "/run/labs")
    with pytest.raises(LabError, match="MESHGATE_LAB_DIR is /run/labs"):
        base_directory()
