"""What the lab consists of: machines, node pools and addresses. Data only; every instance has the same.

The addresses exist inside the lab's network namespaces alone. The ranges are those of the GKE document (nodes, pods,
services, control plane, Google's APIs); the "internet" uses the documentation ranges of RFC 5737.
"""

from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv4Network

NODES_RANGE = IPv4Network("10.0.0.0/24")
PODS_RANGE = IPv4Network("10.1.0.0/16")
SERVICES_RANGE = IPv4Network("10.2.0.0/20")
CONTROL_PLANE_RANGE = IPv4Network("10.5.0.0/28")
SERVERS_RANGE = IPv4Network("198.51.100.0/24")
CLIENTS_RANGE = IPv4Network("203.0.113.0/24")
NLB_RANGE = IPv4Network("192.0.2.0/24")
"""Public addresses of NLBs."""
GOOGLE_RANGE = IPv4Network("199.36.153.0/24")
RESTRICTED_APIS = IPv4Network("199.36.153.4/30")
"""restricted.googleapis.com: Google's APIs, those alone that VPC Service Controls know."""
PRIVATE_APIS = IPv4Network("199.36.153.8/30")
"""private.googleapis.com: Google's APIs by Private Google Access."""

KUBERNETES_SERVICE = IPv4Address("10.2.0.1")
DNS_SERVICE = IPv4Address("10.2.0.10")
CONTROL_PLANE = IPv4Address("10.5.0.2")
RESOLVER = IPv4Address("10.5.0.3")
"""CoreDNS as the pods reach it: an address of its own, so that a NetworkPolicy may open it and not the API server."""
NAT = IPv4Address("203.0.113.2")
"""The address that the internet sees when the cluster calls it."""
LOAD_BALANCER_FIRST = IPv4Address("203.0.113.100")
LOAD_BALANCER_LAST = IPv4Address("203.0.113.199")
LOAD_BALANCER_RESERVED = IPv4Address("203.0.113.1")
"""The address that the on-premises document asks for (loadBalancerIP): for the Service that asks for it alone."""
BALANCER_ADDRESS = IPv4Address("203.0.113.3")
"""The virtual address of a balancer that is configured by hand, in front of NodePorts."""
VAULT_ADDRESS = IPv4Address("10.7.0.2")

CLUSTER_DOMAIN = "cluster.local"
API_PORT = 6443
REGISTRY_PORT = 5000
VAULT_PORT = 8200

SERVERS = {"httpbin.org": IPv4Address("198.51.100.10"), "example.com": IPv4Address("198.51.100.20")}
"""The web servers of the lab's internet that serve anybody."""
MUTUAL_SERVER, MUTUAL_ADDRESS = "mutual.example.com", IPv4Address("198.51.100.30")
"""The one that demands a client certificate."""
SITE_SERVER, SITE_ADDRESS = "www.envoyproxy.io", IPv4Address("198.51.100.40")
"""The one that answers for its own name alone."""
METADATA_SERVER, METADATA_ADDRESS = "metadata.google.internal", IPv4Address("169.254.169.254")
"""The GKE metadata server. On GKE each node answers for it, in the lab one machine does."""


@dataclass(frozen=True)
class Link:
    """A machine's point-to-point link to the router: every packet between two machines passes the router's rules."""

    machine: str
    gateway: IPv4Address
    """The router's end."""
    addresses: tuple[IPv4Address, ...]
    routed: tuple[IPv4Network, ...] = ()
    """What else the router reaches through this machine."""
    is_proxy: bool = False
    """It has the addresses of `routed` itself, and speaks to others in its clients' names: replies go back to it."""


@dataclass(frozen=True)
class Pool:
    """A node pool: its nodes get these labels and taints, and the router treats it as one zone."""

    name: str
    nodes: tuple[str, ...]
    taints: dict[str, str] = field(default_factory=dict)
    """key -> value; the effect is NoSchedule."""

    @property
    def labels(self) -> dict[str, str]:
        return {"cloud.google.com/gke-nodepool": self.name, "meshgate.dev/pool": self.name}


@dataclass(frozen=True)
class AvailabilityZone:
    """A zone of the region: an NLB has a network interface and an address of the internet in each."""

    name: str
    nodes: tuple[str, ...]
    subnet: IPv4Network
    """Its public subnet, where the NLBs' network interfaces are: what targets see of an NLB."""
    public: IPv4Network
    """The addresses of the internet that lead to them: the last bits are the same."""


REGION = "eu-central-1"
AVAILABILITY_ZONES = (
    AvailabilityZone("eu-central-1a", ("app-1", "open"), IPv4Network("10.6.0.0/24"), IPv4Network("192.0.2.0/25")),
    AvailabilityZone("eu-central-1b", ("app-2", "gateway"), IPv4Network("10.6.1.0/24"), IPv4Network("192.0.2.128/25")),
)


@dataclass(frozen=True)
class Node:
    """A Kubernetes node."""

    name: str
    pool: Pool
    address: IPv4Address
    pods: IPv4Network

    @property
    def zone(self) -> AvailabilityZone:
        (found,) = [zone for zone in AVAILABILITY_ZONES if self.name in zone.nodes]
        return found

    @property
    def labels(self) -> dict[str, str]:
        return {
            **self.pool.labels,
            "topology.kubernetes.io/region": REGION,
            "topology.kubernetes.io/zone": self.zone.name,
        }


POOLS = (
    Pool("application", ("app-1", "app-2")),
    Pool("open", ("open",), {"dedicated": "open"}),
    Pool("gateway", ("gateway",), {"dedicated": "gateway"}),
)


def _nodes() -> tuple[Node, ...]:
    pods = list(PODS_RANGE.subnets(new_prefix=24))
    pairs = [(name, pool) for pool in POOLS for name in pool.nodes]
    return tuple(Node(name, pool, NODES_RANGE[10 + n], pods[n]) for n, (name, pool) in enumerate(pairs, start=1))


NODES = _nodes()

ROUTER = "router"
CONTROL = "control"
INTERNET = "internet"
GOOGLE = "google"
NLB = "nlb"
NLB_LINK = IPv4Network("10.6.255.0/30")
VAULT = "vault"
VAULT_LINK = IPv4Network("10.7.0.0/30")
BALANCER = "balancer"
CLIENTS = {"client-a": IPv4Address("203.0.113.10"), "client-b": IPv4Address("203.0.113.20")}

LINKS = (
    # The kubelets' and kube-proxies' way to Services is their own rules. The control machine has none: its way
    # to a Service, for a person at a shell there, leads through the first node. (The API server does not need it.)
    Link(CONTROL, CONTROL_PLANE_RANGE[1], (CONTROL_PLANE, RESOLVER)),
    *(
        Link(node.name, NODES_RANGE[1], (node.address,), (node.pods, *((SERVICES_RANGE,) if node is NODES[0] else ())))
        for node in NODES
    ),
    Link(INTERNET, SERVERS_RANGE[1], (*SERVERS.values(), MUTUAL_ADDRESS, SITE_ADDRESS)),
    Link(GOOGLE, GOOGLE_RANGE[1], (*PRIVATE_APIS, *RESTRICTED_APIS, METADATA_ADDRESS)),
    Link(NLB, NLB_LINK[1], (NLB_LINK[2],), (NLB_RANGE, *(zone.subnet for zone in AVAILABILITY_ZONES)), is_proxy=True),
    Link(VAULT, VAULT_LINK[1], (VAULT_ADDRESS,)),
    Link(BALANCER, CLIENTS_RANGE[254], (BALANCER_ADDRESS,)),
    *(Link(name, CLIENTS_RANGE[254], (address,)) for name, address in CLIENTS.items()),
)

MACHINES = (ROUTER, *(link.machine for link in LINKS))

ZONES = {
    **{pool.name: pool.nodes for pool in POOLS},
    "nodes": tuple(node.name for node in NODES),
    "control": (CONTROL,),
    "internet": (INTERNET, *CLIENTS),
    "google": (GOOGLE,),
    "nlb": (NLB,),
    "vault": (VAULT,),
    "balancer": (BALANCER,),
}
"""Names for sets of machines, for the router's rules."""
