"""The stack's settings and contracts, as Pulumi knows them."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Mapping
from typing import Any

from settings import Layer, Settings, load
from stacks import contracts
from verify.errors import VerifyError

CONTRACTS: Mapping[Layer, type[contracts.Contract]] = {
    "network": contracts.Network,
    "cluster": contracts.Cluster,
    "gateway_pool": contracts.GatewayPool,
    "authority": contracts.Authority,
    "mesh": contracts.Mesh,
    "egress": contracts.Egress,
    "teams": contracts.Teams,
    "workload_identity": contracts.WorkloadIdentity,
    "ingress": contracts.Ingress,
    "edge": contracts.Edge,
    "external": contracts.External,
    "standalone_envoy": contracts.StandaloneEnvoy,
    "sidecar": contracts.Sidecar,
    "bookinfo": contracts.Bookinfo,
    "rate_limit": contracts.RateLimit,
    "peer_authentication": contracts.PeerAuthentication,
    "observability": contracts.Observability,
}


def read_settings(stack: str) -> Settings:
    """The stack's configuration. Raises VerifyError, or SettingsError with everything that is wrong in it."""
    config: dict[str, dict[str, Any]] = _pulumi("config", "--json", "--show-secrets", "--stack", stack)
    return load(
        {key.removeprefix("meshgate:"): _value(entry) for key, entry in config.items() if key.startswith("meshgate:")}
    )


def read_contracts(stack: str, settings: Settings) -> dict[Layer, dict[str, Any]]:
    """The contracts of the stack's layers and of those that other stacks hold for it.

    Raises VerifyError when Pulumi fails or a mesh CA waits for its signed chain, ContractError when an output is
    missing or wrong.
    """
    holders: dict[Layer, str] = {**settings.upstream, **dict.fromkeys(settings.layers, stack)}
    outputs = {
        holder: _pulumi("stack", "output", "--json", "--show-secrets", "--stack", holder)
        for holder in sorted(set(holders.values()))
    }
    for holder, given in outputs.items():
        if withheld := set(given.get(contracts.WITHHELD, [])) & set(holders):
            raise VerifyError(
                f"the mesh CA of stack '{holder}' waits for its signed chain, and there is no layer "
                f"{', '.join(sorted(withheld))} yet: sign its request, put the chain into its configuration and run "
                "`pulumi up`"
            )
    return {layer: CONTRACTS[layer].values(outputs[holder], holder) for layer, holder in holders.items()}


def _value(entry: Mapping[str, Any]) -> Any:
    # Objects and lists come parsed beside their JSON text.
    return entry.get("objectValue", entry.get("value"))


def _pulumi(*arguments: str) -> dict[str, Any]:
    command = ["pulumi", *arguments, "--non-interactive"]
    try:
        done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True)
    except FileNotFoundError:
        raise VerifyError("there is no `pulumi` on the PATH; on the local lab, use `make verify`") from None
    if done.returncode:
        said = [line for line in done.stderr.splitlines() if line.strip()] or [f"exit code {done.returncode}"]
        raise VerifyError(f"`pulumi {' '.join(arguments)}` failed: {said[-1].removeprefix('error: ')}")
    found: dict[str, Any] = json.loads(done.stdout or "{}")
    return found
