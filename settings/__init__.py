"""The configuration of a stack as typed plain values.

`load` turns the raw configuration (namespace `meshgate`) into `Settings`, or raises `SettingsError` with everything
that is wrong in it. WHICH resources exist follows from these values alone.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import suppress
from typing import Annotated, Any, Literal, get_args, get_type_hints

from pydantic import ConfigDict, Field, TypeAdapter, ValidationError

from settings.authority import AuthoritySettings, SelfSignedAuthority, VaultSettings
from settings.aws import AwsSettings
from settings.bookinfo import NO_MESH, BookinfoSettings
from settings.cluster import ClusterSettings
from settings.edge import EdgeSettings, hosted_zones
from settings.egress import EgressSettings
from settings.errors import SettingsError, from_validation
from settings.external import ExternalSettings
from settings.gateway_pool import GatewayPoolSettings
from settings.gcp import GcpSettings
from settings.ingress import IngressSettings
from settings.mesh import IstioSettings, ManagedMesh, MeshSettings
from settings.model import Model, Problem, matching
from settings.network import NetworkSettings
from settings.observability import ObservabilitySettings
from settings.peer_authentication import PeerAuthenticationSettings
from settings.platform import misfits
from settings.rate_limit import RateLimitSettings
from settings.sidecar import SidecarSettings
from settings.standalone_envoy import StandaloneEnvoySettings
from settings.teams import TeamsSettings
from settings.teams_file import FileError, from_file, is_file
from settings.verify import VerifySettings
from settings.workload_identity import WorkloadIdentitySettings

__all__ = ["Layer", "Problem", "Settings", "SettingsError", "load", "made_namespaces", "requires", "stack_config"]

Layer = Literal[
    "network",
    "cluster",
    "gateway_pool",
    "standalone_envoy",
    "authority",
    "mesh",
    "egress",
    "teams",
    "workload_identity",
    "ingress",
    "edge",
    "external",
    "sidecar",
    "bookinfo",
    "rate_limit",
    "peer_authentication",
    "observability",
]
"""The layers in the order in which they are built."""

_REQUIRES: Mapping[tuple[Layer, str], tuple[Layer, ...]] = {
    ("network", "gke"): (),
    ("network", "eks"): (),
    ("cluster", "onprem"): (),
    ("cluster", "gke"): ("network",),
    ("cluster", "eks"): ("network",),
    ("gateway_pool", "onprem"): ("cluster",),
    ("gateway_pool", "gke"): ("network", "cluster"),
    ("gateway_pool", "eks"): ("network", "cluster"),
    ("authority", "self-signed"): ("cluster",),
    ("authority", "hsm"): ("cluster",),
    ("authority", "hsm-kms"): ("cluster",),
    ("mesh", ""): ("cluster", "authority"),
    ("mesh", "istiod"): ("cluster", "authority"),
    ("mesh", "managed"): ("cluster",),
    ("egress", ""): ("cluster", "gateway_pool", "mesh"),
    ("teams", ""): ("cluster", "mesh", "egress"),
    ("workload_identity", "gke"): ("cluster", "teams"),
    ("workload_identity", "existing"): ("cluster", "teams"),
    ("ingress", ""): ("cluster", "mesh"),
    ("edge", "nlb"): ("cluster", "mesh"),
    ("external", ""): ("cluster", "mesh"),
    ("standalone_envoy", ""): ("cluster",),
    ("sidecar", ""): ("cluster", "mesh"),
    ("bookinfo", ""): ("cluster", "mesh"),
    ("rate_limit", ""): ("cluster", "mesh"),
    ("peer_authentication", ""): ("cluster", "mesh"),
    ("observability", ""): ("cluster", "mesh"),
}


def requires(layer: Layer, section: Any) -> tuple[Layer, ...] | None:
    """The layers whose contracts a layer reads, by its section as it was given; None where its kind is unknown."""
    needed = _REQUIRES.get((layer, _kind(section)))
    if needed is not None and layer == "edge" and hosted_zones(section):
        return ("network", *needed)
    if layer == "bookinfo" and isinstance(section, Mapping) and section.get("step") == NO_MESH:
        return ("cluster",)
    return needed


class Settings(Model):
    """Everything that one stack is configured with."""

    # A section's key is its layer's name, as it stands in `layers`.
    model_config = ConfigDict(alias_generator=None)

    name: Annotated[
        str,
        matching(r"[a-z]([-a-z0-9]{0,18}[a-z0-9])?", "lower-case letters, digits and '-', a letter first, at most 20"),
    ]
    """Prefix of the resources' names; stacks that make up one environment share it."""

    layers: Annotated[tuple[Layer, ...], Field(min_length=1)]
    """The layers that this stack holds."""

    upstream: dict[Layer, Annotated[str, Field(min_length=1)]] = {}
    """For each further layer that is needed: the stack that holds it, as StackReference takes it."""

    protect: bool = True
    """Whether what must not be lost is protected from deletion: the network and its zones, the cluster, buckets, and
    the CA's keys and certificates."""

    aws: AwsSettings | None = None
    gcp: GcpSettings | None = None
    istio: IstioSettings = IstioSettings()
    network: NetworkSettings | None = None
    cluster: ClusterSettings | None = None
    gateway_pool: GatewayPoolSettings | None = None
    authority: AuthoritySettings | None = None
    mesh: MeshSettings | None = None
    egress: EgressSettings | None = None
    teams: TeamsSettings | None = None
    workload_identity: WorkloadIdentitySettings | None = None
    ingress: IngressSettings | None = None
    edge: EdgeSettings | None = None
    external: ExternalSettings | None = None
    standalone_envoy: StandaloneEnvoySettings | None = None
    sidecar: SidecarSettings | None = None
    bookinfo: BookinfoSettings | None = None
    rate_limit: RateLimitSettings | None = None
    peer_authentication: PeerAuthenticationSettings | None = None
    observability: ObservabilitySettings | None = None
    verify: VerifySettings = VerifySettings()

    @property
    def vault(self) -> VaultSettings | None:
        """The authority's Vault, where it has one."""
        return None if isinstance(self.authority, SelfSignedAuthority | None) else self.authority.vault


def stack_config() -> dict[str, Any]:
    """The running stack's configuration in the namespace `meshgate`, objects and lists parsed."""
    # Only a running program needs it: the lab's agents read settings too, and are small.
    import pulumi.runtime.config

    # pulumi.Config reads key by key; to find keys that nobody knows, all of them are needed.
    values = {**pulumi.runtime.config.get_config_env(), **pulumi.runtime.config.CONFIG.get()}
    return {
        key.removeprefix("meshgate:"): _parsed(value) for key, value in values.items() if key.startswith("meshgate:")
    }


def _parsed(value: Any) -> Any:
    if isinstance(value, str) and value.startswith(("[", "{")):
        # Text that only begins like JSON stays text, for `load` to say what should be there.
        with suppress(json.JSONDecodeError):
            return json.loads(value)
    return value


def load(config: Mapping[str, Any]) -> Settings:
    """Check the configuration and give it types.

    `config` maps the keys below `meshgate:` to plain values. Raises SettingsError with all problems: each section is
    checked on its own, so that a mistake in one does not hide those of another.
    """
    # Pulumi.yaml gives an empty object to what is not there.
    config = {key: value for key, value in config.items() if value != {} or key not in Settings.model_fields}
    unread: list[Problem] = []
    if is_file(config.get("teams")):
        try:
            config["teams"] = from_file(config["teams"])
        except FileError as error:
            unread = [Problem(key="teams.file", message=str(error))]
    problems: list[Problem] = []
    try:
        settings = Settings.model_validate(config)
        good = dict(settings)
    except ValidationError as error:
        problems = from_validation(error, config)
        bad = {details["loc"][0] for details in error.errors()}
        types = get_type_hints(Settings, include_extras=True)
        good = {
            name: TypeAdapter[Any](types[name]).validate_python(config[name])
            for name in Settings.model_fields
            if name in config and name not in bad
        }
    for name, value in good.items():
        if isinstance(value, Model):
            problems.extend(problem.below(name) for problem in value.problems())
    if "layers" in good and ("upstream" in good or "upstream" not in config):
        problems.extend(_layering(good, config))
    problems.extend(misfits(good, config))
    problems.extend(_namespaces(good))
    if unread:
        # What would be in the file is not missing.
        problems = unread + [problem for problem in problems if not problem.key.startswith("teams.")]
    if problems:
        raise SettingsError(problems)
    return settings


_LABS: tuple[Layer, ...] = (
    "standalone_envoy",
    "sidecar",
    "bookinfo",
    "rate_limit",
    "peer_authentication",
    "observability",
)
"""The scenarios whose settings say themselves which namespaces they make."""


def made_namespaces(sections: Mapping[str, Any]) -> list[tuple[str, str]]:
    """The namespaces that the layers make, twice if two do: the key that names it, and the name.

    `sections` are those that are right, by their keys; a key begins with its layer's.
    """
    made: list[tuple[str, str]] = []
    mesh, egress, teams, ingress, edge, external = (
        sections.get(layer) for layer in ("mesh", "egress", "teams", "ingress", "edge", "external")
    )
    if authority := sections.get("authority"):
        made.append(("authority.namespace", authority.namespace))
        if vault := getattr(authority, "vault", None):
            made.append(("authority.vault.reviewerNamespace", vault.reviewer_namespace))
    if isinstance(mesh, ManagedMesh):
        made.append(("mesh.namespace", mesh.namespace))
    if egress:
        made.append(("egress.namespace", egress.namespace))
    for index, team in enumerate(teams.teams if teams else ()):
        made.extend((f"teams.teams[{index}].namespaces", namespace) for namespace in team.namespaces)
    if ingress:
        made.append(("ingress.namespace", ingress.namespace))
    if ingress and ingress.coolstore:
        made.append(("ingress.coolstore.namespace", ingress.coolstore.namespace))
    if edge:
        made.append(("edge.namespace", edge.namespace))
    if edge and edge.demo:
        made.append(("edge.demo.namespace", edge.demo.namespace))
    if external:
        made.extend(("external.prefix", namespace) for namespace in external.namespaces.values())
    for layer in _LABS:
        if lab := sections.get(layer):
            made.extend((f"{layer}.{key}", namespace) for key, namespace in lab.made_namespaces)
    return made


def _namespaces(good: Mapping[str, Any]) -> Iterator[Problem]:
    teams = good.get("teams")
    taken: dict[str, str] = {}
    for key, namespace in made_namespaces(good):
        # Two namespaces of one key are the teams' own matter: they say it themselves.
        if (other := taken.setdefault(namespace, key)) != key and not (
            other.startswith("teams.") and key.startswith("teams.")
        ):
            yield Problem(key=key, message=f"'{namespace}' is {other} too; each needs a namespace of its own")
    identity = good.get("workload_identity")
    if teams and identity:
        owned = {namespace for team in teams.teams for namespace in team.namespaces}
        for index, workload in enumerate(identity.workloads):
            if workload.namespace not in owned:
                yield Problem(
                    key=f"workload_identity.workloads[{index}].namespace",
                    message=f"'{workload.namespace}' is no team's namespace (there are: {', '.join(sorted(owned))})",
                )


def _layering(good: Mapping[str, Any], config: Mapping[str, Any]) -> Iterator[Problem]:
    layers: tuple[Layer, ...] = good["layers"]
    upstream: Mapping[Layer, str] = good.get("upstream", {})
    for index, layer in enumerate(layers):
        if layer in layers[:index]:
            yield Problem(key="layers", message=f"'{layer}' is there twice")
        if layer not in config:
            yield Problem(key=layer, message=f"is missing; layers has '{layer}', which is configured here")
    below = {layer: requires(layer, config.get(layer)) for layer in layers}
    needed = {upper: layer for layer, uppers in below.items() for upper in uppers or () if upper not in layers}
    for upper, layer in needed.items():
        if upper not in upstream:
            yield Problem(
                key=f"upstream.{upper}",
                message=f"is missing; '{layer}' needs the layer '{upper}': add it to layers, "
                "or name the stack that holds it",
            )
    for upper in upstream:
        if upper in layers:
            yield Problem(key=f"upstream.{upper}", message="names a stack, but layers has it too; take it out")
        elif upper not in needed and None not in below.values():
            yield Problem(key=f"upstream.{upper}", message="names a stack, but no layer here needs it; take it out")
    for layer in get_args(Layer):
        if layer in config and layer not in layers:
            yield Problem(key=layer, message=f"is configured, but layers has no '{layer}'")


def _kind(section: Any) -> Any:
    """The kind that a section says it is, be it right or wrong; empty when it says none."""
    return section.get("kind", "") if isinstance(section, Mapping) else ""
