"""What one layer hands the next: small, versioned, primitives and Outputs, never a private key.

Within a stack a contract is passed on as it is. Between stacks `export` writes each field as the stack output
`<layer>_<field>`, and `from_stack` reads them back; a missing or wrong-typed output is an error that names the stack,
the output and the layer that should have exported it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any, ClassVar, Self, get_args, get_type_hints

import pulumi
from pydantic import TypeAdapter, ValidationError
from typing_extensions import TypedDict  # pydantic reads typing.TypedDict only from Python 3.12 on

from components.mesh.revisions import Revisions

WITHHELD = "withheld"
"""Output of a stack whose mesh CA waits: its layers that are not made until the CA has a signed chain."""


class ContractError(pulumi.RunError):
    """Another stack does not hand on what a layer here needs."""


@dataclass(frozen=True, kw_only=True)
class Contract:
    """Base of the contracts: each field is an Output of a primitive, or of lists and mappings of them."""

    LAYER: ClassVar[str]
    VERSION: ClassVar[int]
    """Raised when a field is taken away or changes its meaning."""

    def export(self) -> None:
        """Write every field as an output of the running stack."""
        pulumi.export(f"{self.LAYER}_contract", self.VERSION)
        for field in fields(self):
            pulumi.export(f"{self.LAYER}_{field.name}", getattr(self, field.name))

    @classmethod
    def from_stack(cls, reference: pulumi.StackReference, stack: str) -> Self:
        """Read the contract out of another stack's outputs; `stack` is its name, for errors."""

        def value(name: str) -> pulumi.Output[Any]:
            # The outputs are taken one by one, so that a secret among them does not make all of them secret.
            output = reference.get_output(f"{cls.LAYER}_{name}")
            version = reference.get_output(f"{cls.LAYER}_contract")
            withheld = reference.get_output(WITHHELD)
            return pulumi.Output.all(version, output, withheld).apply(lambda all_: cls._given(stack, name, *all_))

        return cls(**{field.name: value(field.name) for field in fields(cls)})

    @classmethod
    def values(cls, outputs: Mapping[str, Any], stack: str) -> dict[str, Any]:
        """The contract's fields as plain values, out of what `pulumi stack output --json` gives."""
        version, withheld = outputs.get(f"{cls.LAYER}_contract"), outputs.get(WITHHELD)
        return {
            field.name: cls._given(stack, field.name, version, outputs.get(f"{cls.LAYER}_{field.name}"), withheld)
            for field in fields(cls)
        }

    @classmethod
    def _given(cls, stack: str, name: str, version: Any, value: Any, withheld: Any) -> Any:
        if cls.LAYER in (withheld or ()):
            raise ContractError(
                f"stack '{stack}' withholds the layer '{cls.LAYER}' until its mesh CA has a signed chain: "
                f"sign its request, put the chain into its configuration and run `pulumi up` on '{stack}'"
            )
        return cls._checked(stack, version, name, value)

    @classmethod
    def _checked(cls, stack: str, version: Any, name: str, value: Any) -> Any:
        output = f"{cls.LAYER}_{name}"
        if version is None or value is None:
            missing = output if version is not None else f"{cls.LAYER}_contract"
            raise ContractError(
                f"stack '{stack}' has no output '{missing}': its layers should include '{cls.LAYER}'; "
                "add it there and run `pulumi up` on it, or name another stack under meshgate:upstream"
            )
        if version != cls.VERSION:
            raise ContractError(
                f"stack '{stack}' exports version {version} of the contract of layer '{cls.LAYER}', this program reads "
                f"{cls.VERSION}: run `pulumi up` on '{stack}' with this program's version"
            )
        (plain,) = get_args(get_type_hints(cls)[name])
        try:
            return TypeAdapter(plain).validate_python(_whole(value), strict=True)
        except ValidationError as error:
            first = error.errors()[0]
            where = "".join(f"[{part!r}]" for part in first["loc"])
            raise ContractError(
                f"stack '{stack}', output '{output}'{where}: {first['msg'].lower()}; "
                f"layer '{cls.LAYER}' exports it, so run `pulumi up` on '{stack}' with this program's version"
            ) from None


def _whole(value: Any) -> Any:
    """The value with whole numbers where it has floats: another stack's outputs have no other numbers."""
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, list):
        return [_whole(item) for item in value]
    if isinstance(value, dict):
        return {key: _whole(item) for key, item in value.items()}
    return value


@dataclass(frozen=True, kw_only=True)
class Network(Contract):
    """A cloud's network with a place for each kind of node; known when its firewall, NAT and names work."""

    LAYER = "network"
    VERSION = 1

    network: pulumi.Output[str]
    """Self link or id."""

    subnets: pulumi.Output[dict[str, str]]
    """In Google Cloud: self link or id of the subnet of the `nodes`, and of those of the `gateway` where it has one of
    its own. In AWS: ids of the subnets, `public/<zone>` and `private/<zone>`."""

    ranges: pulumi.Output[dict[str, str]]
    """In Google Cloud: names of the subnets' secondary ranges: `pods`, `services`, and `gateway_pods` with a subnet of
    its own."""

    cidrs: pulumi.Output[dict[str, str]]
    """In Google Cloud: `nodes`, `pods`, `services`, `control_plane`, and `gateway`, `gateway_pods` with a subnet of its
    own. In AWS: `vpc`, `public/<zone>` and `private/<zone>`."""

    node_accounts: pulumi.Output[dict[str, str]]
    """In Google Cloud: the account of `application` and of `gateway` nodes, by which the firewall knows them."""

    security_groups: pulumi.Output[dict[str, str]]
    """In AWS: ids of the groups of `application` nodes, of `gateway` nodes and of the `control_plane`."""

    dns_zones: pulumi.Output[dict[str, str]]
    """In AWS: ids of the public hosted zones by their domain."""

    image_prefixes: pulumi.Output[dict[str, str]]
    """By public registry: what stands in an image's name instead of the registry's host."""


@dataclass(frozen=True, kw_only=True)
class Cluster(Contract):
    """A Kubernetes cluster that can be reached."""

    LAYER = "cluster"
    VERSION = 1

    identifier: pulumi.Output[str]
    """Stays the same when the kubeconfig's credentials change; another value is another cluster."""

    kubeconfig: pulumi.Output[str]
    """A self-contained kubeconfig with one context, in YAML; secret."""

    pod_cidr: pulumi.Output[str]
    service_cidr: pulumi.Output[str]

    name: pulumi.Output[str]
    """As its platform knows it."""

    location: pulumi.Output[str]
    """The cloud's region or zone; empty on-prem."""


class Taint(TypedDict):
    """A taint of nodes."""

    key: str
    value: str
    effect: str


@dataclass(frozen=True, kw_only=True)
class GatewayPool(Contract):
    """Nodes for egress gateways only."""

    LAYER = "gateway_pool"
    VERSION = 1

    labels: pulumi.Output[dict[str, str]]
    """They select the pool's nodes."""

    taint: pulumi.Output[Taint]
    """Of each of its nodes."""


class Generation(TypedDict):
    """A generation of the mesh CA whose root is in an HSM."""

    status: str
    """waiting (for its chain), ready (trusted, does not sign yet), active, or retired (trusted, signs no more)."""

    request: str
    """What is to be signed: a PKCS#10 request, PEM."""


SIGNED, WAITING = "signed", "waiting for the signed chain"
"""What a mesh CA can be."""


@dataclass(frozen=True, kw_only=True)
class Authority(Contract):
    """The mesh CA. Its key is in the Secret `cacerts`, which the layer writes itself."""

    LAYER = "authority"
    VERSION = 2

    namespace: pulumi.Output[str]
    """The control plane's namespace, where `cacerts` is."""

    root_certificate: pulumi.Output[str]
    """PEM: what the mesh trusts, several while a root is being replaced; empty while the CA waits."""

    status: pulumi.Output[str]
    """`signed`, or `waiting for the signed chain`: then no mesh can be made."""

    generations: pulumi.Output[dict[str, Generation]]
    """By name; none where the program signs itself."""

    @classmethod
    def from_stack(cls, reference: pulumi.StackReference, stack: str) -> Self:
        contract = super().from_stack(reference, stack)
        both = pulumi.Output.all(contract.namespace, contract.status)
        return replace(contract, namespace=both.apply(lambda both: cls._signed(stack, *both)))

    @staticmethod
    def _signed(stack: str, namespace: str, status: str) -> str:
        """The namespace, for a mesh to be made there, when the CA is signed."""
        if status != SIGNED:
            raise ContractError(
                f"the mesh CA of stack '{stack}' is {status}: sign its request, put the chain into the configuration "
                f"of '{stack}' and run `pulumi up` on it first"
            )
        return namespace


@dataclass(frozen=True, kw_only=True)
class Mesh(Contract):
    """Istio, ready to inject and to configure gateways."""

    LAYER = "mesh"
    VERSION = 1

    namespace: pulumi.Output[str]
    """Istio's root namespace."""

    revision_tag: pulumi.Output[str]
    """Value of the label istio.io/rev for namespaces of this mesh that were not moved."""

    revision: pulumi.Output[str]
    """The control plane's revision that the tag names."""

    moved: pulumi.Output[dict[str, str]]
    """Namespaces that follow a canary: its revision, their value of istio.io/rev, by name."""

    trust_domain: pulumi.Output[str]

    control_plane_cidrs: pulumi.Output[list[str]]
    """Where sidecars reach the control plane and its CA besides the pods `app: istiod` of the namespace."""

    @property
    def revisions(self) -> Revisions:
        """Which control plane serves which namespace."""
        return Revisions(tag=self.revision_tag, revision=self.revision, moved=self.moved)


@dataclass(frozen=True, kw_only=True)
class Egress(Contract):
    """The egress gateway: how teams' traffic gets to it and who it is."""

    LAYER = "egress"
    VERSION = 1

    namespace: pulumi.Output[str]
    """Where the gateway runs and the teams' rules for it are."""

    service: pulumi.Output[str]
    """Host name of its Service, which has the ports 80 (HTTP inside mutual TLS) and 443 (TLS)."""

    gateway: pulumi.Output[str]
    """The Gateway of port 80, as <namespace>/<name>."""

    selector: pulumi.Output[dict[str, str]]
    """Labels of its pods."""

    identity: pulumi.Output[str]
    """SPIFFE id of its certificate."""

    target_ports: pulumi.Output[dict[str, int]]
    """Ports of its pods by the Service's ports' names, http and tls."""

    originate_subset: pulumi.Output[str]
    """Subset of every host without a credential of its own: TLS on port 443."""


@dataclass(frozen=True, kw_only=True)
class Teams(Contract):
    """The teams' namespaces, with their rules in place."""

    LAYER = "teams"
    VERSION = 1

    namespaces: pulumi.Output[dict[str, list[str]]]
    """By the team's name."""


@dataclass(frozen=True, kw_only=True)
class WorkloadIdentity(Contract):
    """Workloads that act as accounts of the cloud."""

    LAYER = "workload_identity"
    VERSION = 1

    accounts: pulumi.Output[dict[str, str]]
    """The account's e-mail address, or the principal where it is bound directly, by <namespace>/<service account>."""


class GatewayAddress(TypedDict):
    """Where clients reach a gateway."""

    address: str
    """An IP address, or a host name where the platform gives one."""

    http_port: int
    https_port: int


@dataclass(frozen=True, kw_only=True)
class Ingress(Contract):
    """The gateways and the certificates that their clients have to trust."""

    LAYER = "ingress"
    VERSION = 1

    gateways: pulumi.Output[dict[str, GatewayAddress]]
    """By the gateway's name in the settings."""

    root_certificates: pulumi.Output[dict[str, str]]
    """PEM, by the authority's name in the settings."""

    balancers: pulumi.Output[dict[str, str]]
    """HAProxy's configuration for the balancers that are configured by hand, by the gateway's name."""


@dataclass(frozen=True, kw_only=True)
class Edge(Contract):
    """The gateways behind network load balancers, and the certificates that their clients have to trust."""

    LAYER = "edge"
    VERSION = 1

    gateways: pulumi.Output[dict[str, GatewayAddress]]
    """By the gateway's name in the settings."""

    root_certificates: pulumi.Output[dict[str, str]]
    """PEM, by the authority's name in the settings."""


@dataclass(frozen=True, kw_only=True)
class External(Contract):
    """Where each step of the outbound experiments is, and the proxy that some of them use."""

    LAYER = "external"
    VERSION = 1

    namespaces: pulumi.Output[dict[str, str]]
    """By the step's name."""

    proxy: pulumi.Output[str]
    """Squid as its clients name it, <address>:<port>."""


class HttpAddress(TypedDict):
    """Where clients reach a gateway that speaks http alone."""

    address: str
    """An IP address, or a host name where the platform gives one."""

    port: int


@dataclass(frozen=True, kw_only=True)
class StandaloneEnvoy(Contract):
    """An Envoy on its own."""

    LAYER = "standalone_envoy"
    VERSION = 1

    namespace: pulumi.Output[str]
    service: pulumi.Output[str]
    """Host name of its Service."""


@dataclass(frozen=True, kw_only=True)
class Sidecar(Contract):
    """A web server with a sidecar, behind a gateway."""

    LAYER = "sidecar"
    VERSION = 1

    namespace: pulumi.Output[str]
    gateway: pulumi.Output[HttpAddress]


@dataclass(frozen=True, kw_only=True)
class Bookinfo(Contract):
    """Bookinfo at one of its stages."""

    LAYER = "bookinfo"
    VERSION = 1

    namespace: pulumi.Output[str]
    step: pulumi.Output[str]
    gateways: pulumi.Output[dict[str, HttpAddress]]
    """By name: the one in front of it, none while it has no mesh."""


@dataclass(frozen=True, kw_only=True)
class RateLimit(Contract):
    """Workloads whose requests are limited."""

    LAYER = "rate_limit"
    VERSION = 1

    namespace: pulumi.Output[str]


@dataclass(frozen=True, kw_only=True)
class PeerAuthentication(Contract):
    """Namespaces by what their workloads accept."""

    LAYER = "peer_authentication"
    VERSION = 1

    namespaces: pulumi.Output[dict[str, str]]
    """By place: permissive, strict, disable, port-level; and legacy, without sidecars."""


@dataclass(frozen=True, kw_only=True)
class Observability(Contract):
    """Where metrics and traces are."""

    LAYER = "observability"
    VERSION = 1

    namespace: pulumi.Output[str]
    addresses: pulumi.Output[dict[str, str]]
    """URLs inside the cluster by program: prometheus, jaeger, grafana, kiali; those that there are."""
