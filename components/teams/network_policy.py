"""The NetworkPolicy of a team's namespace; plain data."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from components.egress.network_policy import TEAM_LABEL, blocks, infrastructure, namespace, tcp
from components.teams.istio import Gateway
from components.teams.rules import TeamRules


def team_policy(rules: TeamRules, gateway: Gateway, dns_addresses: Sequence[str]) -> Any:
    """The spec. Out: names, the control plane, the gateway, direct hosts, the team itself and those that it calls.

    In: the team itself, those that call it, and the namespaces that the settings name.
    """
    egress = {**namespace(gateway.namespace), "podSelector": {"matchLabels": gateway.selector}}
    return {
        "podSelector": {},
        "policyTypes": ["Ingress", "Egress"],
        "ingress": [
            {
                "from": [
                    _teams(rules.name, *rules.called_by),
                    *(namespace(name) for name in rules.ingress_from),
                ]
            }
        ],
        "egress": [
            *infrastructure(dns_addresses, gateway.mesh_namespace, gateway.control_plane_cidrs),
            {"to": [egress], "ports": tcp(gateway.http_port, gateway.tls_port)},
            {"to": [_teams(rules.name, *rules.calls)]},
            *(
                {"to": blocks(direct.addresses), "ports": tcp(*(port.number for port in direct.ports))}
                for direct in rules.direct
            ),
            *(
                {"to": blocks([address]), "ports": tcp(port)}
                for address, port in sorted({one for direct in rules.direct for one in direct.redirects})
            ),
        ],
    }


def _teams(*names: str) -> dict[str, Any]:
    return {"namespaceSelector": {"matchExpressions": [{"key": TEAM_LABEL, "operator": "In", "values": list(names)}]}}
