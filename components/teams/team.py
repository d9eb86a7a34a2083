"""A team: its namespaces, and its rules at the egress gateway."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import pulumi
import pulumi_kubernetes as kubernetes

from components.egress.administrators import groups
from components.egress.custom_resource import custom_resource
from components.egress.network_policy import TEAM_LABEL
from components.mesh.revisions import Revisions
from components.teams import istio
from components.teams.istio import Gateway
from components.teams.network_policy import team_policy
from components.teams.rules import TeamRules, short
from settings.teams import OriginateHost

STRICTER = {"privileged": "baseline", "baseline": "restricted", "restricted": "restricted"}


@dataclass(kw_only=True)
class TeamArgs:
    """Arguments of Team."""

    rules: TeamRules
    labels: Mapping[str, str]
    """Further labels of the namespaces."""

    members: Sequence[str]
    """RBAC groups that may work in the namespaces."""

    pod_security: str
    dns_addresses: Sequence[str]
    gateway: pulumi.Input[Gateway]
    gateway_namespace: pulumi.Input[str]
    revisions: Revisions


class Team(pulumi.ComponentResource):
    """Namespaces that let traffic out by the egress gateway only, and what the gateway lets through for the team.

    How many resources there are does not depend on the number of hosts, but for passthrough (one VirtualService each)
    and hosts with a credential of their own (one DestinationRule each).
    Source: Anthos Service Mesh egress gateways on GKE.
    """

    namespaces: pulumi.Output[list[str]]

    def __init__(self, name: str, args: TeamArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("meshgate:teams:Team", name, None, opts)
        self._name = name
        self._gateway = pulumi.Output.from_input(args.gateway)
        made = [self._namespace(namespace, args) for namespace in args.rules.namespaces]
        self._at_the_gateway(args.rules, args.gateway_namespace)
        self.namespaces = pulumi.Output.all(*made).apply(list)
        self.register_outputs({"namespaces": self.namespaces})

    def _namespace(self, name: str, args: TeamArgs) -> pulumi.Output[str]:
        child = pulumi.ResourceOptions(parent=self)
        rules, prefix = args.rules, f"namespace.{name}"
        pod_security = {"enforce": args.pod_security}
        pod_security |= dict.fromkeys(("warn", "audit"), STRICTER[args.pod_security])
        namespace = kubernetes.core.v1.Namespace(
            f"{self._name}.{prefix}",
            metadata=kubernetes.meta.v1.ObjectMetaArgs(
                name=name,
                labels={
                    **args.labels,
                    TEAM_LABEL: rules.name,
                    "istio.io/rev": args.revisions.label(name),
                    **{f"pod-security.kubernetes.io/{mode}": level for mode, level in pod_security.items()},
                },
            ),
            opts=child,
        ).metadata.name
        policy: pulumi.Output[Any] = self._gateway.apply(partial(team_policy, rules, dns_addresses=args.dns_addresses))
        kubernetes.networking.v1.NetworkPolicy(
            f"{self._name}.{prefix}.network",
            metadata=kubernetes.meta.v1.ObjectMetaArgs(name="team", namespace=namespace),
            spec=policy,
            opts=child,
        )
        sidecar = self._gateway.apply(partial(istio.sidecar, rules, namespace=name))
        self._istio(f"{prefix}.sidecar", "Sidecar", "default", namespace, sidecar)
        to_gateway = self._gateway.apply(partial(istio.to_gateway, rules))
        self._istio(f"{prefix}.egress-gateway", "DestinationRule", "egress-gateway", namespace, to_gateway)
        for group in rules.visible:
            entry_name = f"egress.{group.name}"
            self._istio(f"{prefix}.{entry_name}", "ServiceEntry", entry_name, namespace, istio.visible_entry(group))
        for direct in rules.direct:
            entry_name = short(f"direct.{direct.name}")
            self._istio(f"{prefix}.{entry_name}", "ServiceEntry", entry_name, namespace, istio.direct_entry(direct))
        if args.members:
            kubernetes.rbac.v1.RoleBinding(
                f"{self._name}.{prefix}.members",
                metadata=kubernetes.meta.v1.ObjectMetaArgs(name="team-members", namespace=namespace),
                # It has no rights on Istio's resources, with which a team could take itself out of its rules.
                role_ref=kubernetes.rbac.v1.RoleRefArgs(
                    api_group="rbac.authorization.k8s.io", kind="ClusterRole", name="edit"
                ),
                subjects=groups(args.members),
                opts=child,
            )
        return namespace

    def _at_the_gateway(self, rules: TeamRules, namespace: pulumi.Input[str]) -> None:
        for group in rules.upstream:
            self._istio(
                f"gateway.{group.name}",
                "ServiceEntry",
                f"{rules.name}.{group.name}",
                namespace,
                istio.upstream_entry(group),
            )
        for group in rules.visible:
            routes = self._gateway.apply(partial(istio.to_gateway_routes, rules, group=group))
            self._istio(f"gateway.{group.name}", "VirtualService", f"{rules.name}.{group.name}", namespace, routes)
        if rules.requests or rules.open_servers:
            routes = self._gateway.apply(partial(istio.from_gateway_routes, rules))
            self._istio("gateway.egress", "VirtualService", f"{rules.name}.egress", namespace, routes)
        for host in rules.requests:
            if isinstance(host, OriginateHost) and host.tls is not None:
                self._istio(
                    f"gateway.{host.host}",
                    "DestinationRule",
                    short(f"{rules.name}.{host.host}"),
                    namespace,
                    istio.credential_rule(rules, host),
                )
        if istio.allows_anything(rules):
            policy = self._gateway.apply(partial(istio.authorization, rules))
            self._istio("gateway.policy", "AuthorizationPolicy", f"{rules.name}-egress", namespace, policy)
        if rules.passthrough or rules.open_servers:
            servers = self._gateway.apply(partial(istio.passthrough_gateway, rules))
            name = istio.passthrough_gateway_name(rules)
            self._istio("gateway.passthrough", "Gateway", name, namespace, servers)
        for tls in rules.passthrough:
            route = self._gateway.apply(partial(istio.passthrough_route, rules, host=tls))
            self._istio(f"gateway.{tls.host}", "VirtualService", short(f"{rules.name}.{tls.host}"), namespace, route)

    def _istio(
        self,
        resource_name: str,
        kind: str,
        name: str,
        namespace: pulumi.Input[str],
        spec: pulumi.Input[dict[str, Any]],
    ) -> None:
        custom_resource(
            f"{self._name}.{resource_name}",
            "security.istio.io/v1" if kind == "AuthorizationPolicy" else "networking.istio.io/v1",
            kind,
            name,
            namespace,
            spec,
            opts=pulumi.ResourceOptions(parent=self),
        )
