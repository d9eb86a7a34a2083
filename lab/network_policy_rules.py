"""NetworkPolicies (networking.k8s.io/v1) as the rules of one node: what they permit as data, then as nftables text.

A packet from pod to pod is judged twice, as any engine does it: as egress on the node of the pod that sends it, as
ingress on the node of the pod that gets it. So a node's rules have its own pods on one side, and whomever the policies
name on the other.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, collapse_addresses, ip_network

from lightkube.models.meta_v1 import LabelSelector, LabelSelectorRequirement
from lightkube.models.networking_v1 import IPBlock, NetworkPolicyPeer, NetworkPolicyPort, NetworkPolicySpec
from lightkube.resources.networking_v1 import NetworkPolicy

from lab.counters import NETWORK_POLICY as TABLE
from lab.topology import CONTROL, RESOLVER

Labels = Mapping[str, str]
Networks = tuple[IPv4Network, ...]


@dataclass(frozen=True)
class Pod:
    """A pod with a network of its own. (Pods with hostNetwork are no concern of a NetworkPolicy.)"""

    namespace: str
    labels: Labels
    node: str
    address: IPv4Address
    ports: Mapping[tuple[str, str], int]
    """Its containers' named ports: (name, protocol in small letters) -> number."""


DNS = Pod("kube-system", {"k8s-app": "kube-dns"}, CONTROL, RESOLVER, {("dns", "udp"): 53, ("dns-tcp", "tcp"): 53})
"""The lab's resolver runs in no pod, but a policy means it as the pod that it is in other clusters."""


@dataclass(frozen=True)
class Accept:
    """Connections that a policy permits."""

    policy: str
    """namespace/name"""
    sources: Networks | None
    """None: any."""
    targets: Networks | None
    protocol: str = ""
    """tcp, udp or sctp; empty: any, also one without ports."""
    ports: tuple[int, int] | None = None
    """First and last; None: all."""


@dataclass(frozen=True)
class Direction:
    """The rules of one direction."""

    accepts: tuple[Accept, ...]
    isolated: Mapping[str, tuple[IPv4Address, ...]]
    """Namespace -> its pods that policies of this direction select. What no policy permits them is dropped."""


@dataclass(frozen=True)
class Rules:
    """The rules of a node."""

    egress: Direction
    ingress: Direction

    @property
    def counters(self) -> list[str]:
        """The names of the counters of dropped packets."""
        return [*map(egress_counter, self.egress.isolated), *map(ingress_counter, self.ingress.isolated)]


def egress_counter(namespace: str) -> str:
    """The name of the counter of packets that pods of a namespace sent in vain."""
    return f"egress-{namespace}"


def ingress_counter(namespace: str) -> str:
    """The name of the counter of packets that were kept from pods of a namespace."""
    return f"ingress-{namespace}"


def compute(
    node: str, policies: Iterable[NetworkPolicy], pods: Sequence[Pod], namespaces: Mapping[str, Labels]
) -> Rules:
    """The rules of a node, from all pods of the cluster and the labels of its namespaces."""
    accepts: dict[str, list[Accept]] = {"Egress": [], "Ingress": []}
    isolated: dict[str, dict[str, set[IPv4Address]]] = {"Egress": {}, "Ingress": {}}
    everyone = [*pods, DNS]
    for (namespace, name), policy in sorted((_key(it), it) for it in policies):
        spec = policy.spec or NetworkPolicySpec()
        selected = [
            it for it in pods if it.node == node and it.namespace == namespace and _matches(spec.podSelector, it.labels)
        ]
        for direction in _types(spec):
            if selected:
                isolated[direction].setdefault(namespace, set()).update(it.address for it in selected)
                for peers, ports in _rules(spec, direction):
                    far = _Peers.find(peers, namespace, everyone, namespaces)
                    accepts[direction] += _permitted(f"{namespace}/{name}", direction, selected, far, ports)
    return Rules(
        *(
            Direction(tuple(accepts[it]), {key: tuple(sorted(found)) for key, found in sorted(isolated[it].items())})
            for it in ("Egress", "Ingress")
        )
    )


def render(rules: Rules, stale_counters: Iterable[str] = ()) -> str:
    """An nftables script that puts these rules in the place of a node's earlier ones in one step.

    Counters go on counting; `stale_counters` are those that the node has and no rule uses any more. Connections that
    exist are not cut when a policy comes: it decides on new ones, as with the engines of real clusters.
    """
    counters = "".join(f"    counter {name} {{ }}\n" for name in rules.counters)
    deletions = "".join(f"delete counter ip {TABLE} {name}\n" for name in stale_counters)
    egress = "".join(f"        {line}\n" for line in _lines(rules.egress, "ip saddr", egress_counter))
    ingress = "".join(f"        {line}\n" for line in _lines(rules.ingress, "ip daddr", ingress_counter))
    # `accept` ends a base chain only: what egress accepts, ingress still judges.
    return f"""table ip {TABLE} {{
{counters}    chain egress {{ type filter hook forward priority filter; policy accept; }}
    chain ingress {{ type filter hook forward priority filter + 1; policy accept; }}
}}
flush table ip {TABLE}
{deletions}table ip {TABLE} {{
    chain egress {{
{egress}    }}
    chain ingress {{
{ingress}    }}
}}
"""


def _lines(direction: Direction, own: str, counter: Callable[[str], str]) -> Iterator[str]:
    """A direction's nftables rules; `own` matches the address of the node's own pod."""
    pods = sorted({address for addresses in direction.isolated.values() for address in addresses})
    if not pods:
        return
    yield "ct state established,related accept"
    yield f'ip saddr . ip daddr {_set(f"{it} . {it}" for it in pods)} accept comment "a pod to itself"'
    for accept in direction.accepts:
        match = []
        if accept.sources is not None:
            match.append(f"ip saddr {_set(accept.sources)}")
        if accept.targets is not None:
            match.append(f"ip daddr {_set(accept.targets)}")
        if accept.ports:
            match.append(f"{accept.protocol} dport {'-'.join(map(str, dict.fromkeys(accept.ports)))}")
        elif accept.protocol:
            match.append(f"meta l4proto {accept.protocol}")
        # 128 characters are nftables' limit.
        yield f'{" ".join(match)} accept comment "{accept.policy[:127]}"'
    for namespace, addresses in direction.isolated.items():
        yield f'{own} {_set(addresses)} counter name "{counter(namespace)}" drop'


def _set(elements: Iterable[object]) -> str:
    return "{ " + ", ".join(map(str, elements)) + " }"


@dataclass(frozen=True)
class _Peers:
    """The other side of a rule."""

    pods: Sequence[Pod]
    """Those whose named ports count."""
    networks: Networks | None
    """None: anyone."""

    @classmethod
    def find(
        cls,
        peers: Sequence[NetworkPolicyPeer] | None,
        namespace: str,
        everyone: Sequence[Pod],
        namespaces: Mapping[str, Labels],
    ) -> "_Peers":
        """Whom a rule of a policy in this namespace means."""
        if not peers:
            return cls(everyone, None)
        blocks = [network for peer in peers if peer.ipBlock for network in _block(peer.ipBlock)]
        selecting = [peer for peer in peers if not peer.ipBlock]
        pods = [it for it in everyone if any(_means(peer, it, namespace, namespaces) for peer in selecting)]
        return cls(pods, _networks([*blocks, *(it.address for it in pods)]))


def _permitted(
    policy: str,
    direction: str,
    selected: Sequence[Pod],
    peers: _Peers,
    ports: Sequence[NetworkPolicyPort] | None,
) -> Iterator[Accept]:
    """What one rule of a policy permits the pods that it selects."""
    if peers.networks == ():
        return
    own = _networks(it.address for it in selected)
    is_egress = direction == "Egress"
    sources, targets = (own, peers.networks) if is_egress else (peers.networks, own)
    if not ports:
        yield Accept(policy, sources, targets)
    for port in ports or []:
        protocol = (port.protocol or "TCP").lower()
        if port.port is None:
            yield Accept(policy, sources, targets, protocol)
        elif isinstance(port.port, int):
            yield Accept(policy, sources, targets, protocol, (port.port, port.endPort or port.port))
        else:  # a name, which each target pod may give to another number
            numbers: dict[int, list[IPv4Address]] = {}
            for pod in peers.pods if is_egress else selected:
                if number := pod.ports.get((port.port, protocol)):
                    numbers.setdefault(number, []).append(pod.address)
            for number, addresses in sorted(numbers.items()):
                yield Accept(policy, sources, _networks(addresses), protocol, (number, number))


def _types(spec: NetworkPolicySpec) -> list[str]:
    """The directions that a policy isolates. The API server fills them in by the same rule."""
    return list(spec.policyTypes or (["Ingress", "Egress"] if spec.egress else ["Ingress"]))


def _rules(
    spec: NetworkPolicySpec, direction: str
) -> Iterator[tuple[Sequence[NetworkPolicyPeer] | None, Sequence[NetworkPolicyPort] | None]]:
    if direction == "Egress":
        yield from ((rule.to, rule.ports) for rule in spec.egress or [])
    else:
        yield from ((rule.from_, rule.ports) for rule in spec.ingress or [])


def _means(peer: NetworkPolicyPeer, pod: Pod, namespace: str, namespaces: Mapping[str, Labels]) -> bool:
    """Whether a peer of a policy in `namespace` is this pod."""
    if peer.namespaceSelector is None:
        return pod.namespace == namespace and _matches(peer.podSelector, pod.labels)
    return _matches(peer.namespaceSelector, namespaces.get(pod.namespace, {})) and _matches(
        peer.podSelector, pod.labels
    )


def _matches(selector: LabelSelector | None, labels: Labels) -> bool:
    """Whether labels fit a selector. An empty one fits all; so does none, which leaves the choice to its neighbours."""
    if selector is None:
        return True
    return all(labels.get(key) == value for key, value in (selector.matchLabels or {}).items()) and all(
        _fulfils(it, labels) for it in selector.matchExpressions or []
    )


def _fulfils(requirement: LabelSelectorRequirement, labels: Labels) -> bool:
    value, values = labels.get(requirement.key), requirement.values or []
    match requirement.operator:
        case "In":
            return value in values
        case "NotIn":  # also without the label
            return value not in values
        case "Exists":
            return value is not None
        case "DoesNotExist":
            return value is None
    raise ValueError(f"a label selector has the operator {requirement.operator}, which Kubernetes does not know")


def _block(block: IPBlock) -> list[IPv4Network]:
    """A block without its exceptions. Nothing in the lab has an IPv6 address."""
    cidr = ip_network(block.cidr, strict=False)
    if not isinstance(cidr, IPv4Network):
        return []
    remaining = [cidr]
    for text in block.except_ or []:
        hole = IPv4Network(text, strict=False)
        remaining = [part for network in remaining for part in _without(network, hole)]
    return remaining


def _without(network: IPv4Network, hole: IPv4Network) -> Iterable[IPv4Network]:
    if network.subnet_of(hole):
        return []
    return network.address_exclude(hole) if hole.subnet_of(network) else [network]


def _networks(parts: Iterable[IPv4Network | IPv4Address]) -> Networks:
    """Addresses and networks as few networks that do not overlap."""
    return tuple(collapse_addresses(map(IPv4Network, parts)))


def _key(policy: NetworkPolicy) -> tuple[str, str]:
    assert policy.metadata
    assert policy.metadata.namespace
    assert policy.metadata.name
    return policy.metadata.namespace, policy.metadata.name
