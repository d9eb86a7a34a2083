"""Layer `teams`: the tenants, each with its own way out by the egress gateway."""

from __future__ import annotations

from typing import Any

import pulumi

from components.teams.credential import Credential, CredentialArgs, file_problems
from components.teams.istio import Gateway
from components.teams.rules import team_rules
from components.teams.team import Team, TeamArgs
from settings import Problem, Settings
from settings.teams import FilesCredential, TeamsSettings
from stacks.contracts import Teams
from stacks.upstream import Upstream


def check(settings: TeamsSettings) -> list[Problem]:
    """What is wrong with the credentials' files."""
    return [
        problem.below(f"credentials.{name}")
        for name, credential in settings.credentials.items()
        if isinstance(credential, FilesCredential)
        for problem in file_problems(credential)
    ]


def build(settings: Settings, upstream: Upstream) -> Teams:
    """Make the teams' namespaces and their rules at the gateway."""
    assert settings.teams is not None
    opts = pulumi.ResourceOptions(providers=[upstream.kubernetes])
    prefix = f"{settings.name}-teams"
    egress, mesh = upstream.egress, upstream.mesh
    gateway = pulumi.Output.all(
        namespace=egress.namespace,
        service=egress.service,
        gateway=egress.gateway,
        selector=egress.selector,
        identity=egress.identity,
        target_ports=egress.target_ports,
        originate_subset=egress.originate_subset,
        mesh_namespace=mesh.namespace,
        control_plane_cidrs=mesh.control_plane_cidrs,
    ).apply(_gateway)
    for name, credential in settings.teams.credentials.items():
        if isinstance(credential, FilesCredential):
            Credential(
                f"{prefix}-credential-{name}",
                CredentialArgs(secret_name=name, namespace=egress.namespace, credential=credential),
                opts=opts,
            )
    rules = team_rules(settings.teams)
    teams = {
        team.name: Team(
            f"{prefix}-{team.name}",
            TeamArgs(
                rules=rules[team.name],
                labels=team.labels,
                members=team.members,
                pod_security=settings.teams.pod_security,
                dns_addresses=[str(cidr) for cidr in settings.teams.dns_addresses],
                gateway=gateway,
                gateway_namespace=egress.namespace,
                revisions=mesh.revisions,
            ),
            opts=opts,
        )
        for team in settings.teams.teams
    }
    return Teams(namespaces=pulumi.Output.all(**{name: team.namespaces for name, team in teams.items()}).apply(dict))


def _gateway(values: dict[str, Any]) -> Gateway:
    ports = values.pop("target_ports")
    return Gateway(**values, http_port=int(ports["http"]), tls_port=int(ports["tls"]))
