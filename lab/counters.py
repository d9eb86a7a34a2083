"""How many packets the lab's rules decided on: the router's, those of NetworkPolicies, those of the NLBs.

    python -m lab.counters [--instance NAME]

prints them as a JSON object. The probes ask that before and after each connection that nobody answers, so this module
imports little.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections import Counter
from pathlib import Path

from lab.errors import LabError
from lab.instance import Instance, default_name
from lab.programs import system
from lab.topology import NLB, NODES, ROUTER

FIREWALL = "meshgate"
NETWORK_POLICY = "network-policy"
SECURITY_GROUPS = "nlb"
"""The nftables tables, each in machines of its own."""


def counters(instance: Instance) -> dict[str, int]:
    """All of them. Raises LabError when there is no lab, or only a bare one."""
    return {**firewall(instance), **network_policies(instance), **security_groups(instance)}


def firewall(instance: Instance) -> dict[str, int]:
    """How many packets that begin a connection each of the router's rules decided on, by the rule's name.

    A rule of the nodes' firewall is there for each pool (`application/global-deny-egress-all`) and for all pools
    together (`global-deny-egress-all`). Raises LabError.
    """
    found: Counter[str] = Counter()
    for name, packets in listed(_machine(instance, ROUTER), FIREWALL).items():
        found[name] += packets
        _, pool, rule = name.rpartition("/")
        if pool:
            found[rule] += packets
    return dict(found)


def network_policies(instance: Instance) -> dict[str, int]:
    """How many packets were dropped, by direction and namespace of the pod that a policy isolates.

    `egress-team-x`: sent by pods of team-x; `ingress-team-x`: meant for them. Raises LabError.
    """
    found: Counter[str] = Counter()
    for node in NODES:
        found.update(listed(_machine(instance, node.name), NETWORK_POLICY))
    return dict(found)


def security_groups(instance: Instance) -> dict[str, int]:
    """How many packets each NLB's security group dropped: `nlb-<namespace>/<service>`. Raises LabError."""
    return listed(_machine(instance, NLB), SECURITY_GROUPS)


def listed(namespace: Path, table: str) -> dict[str, int]:
    """Packets by counter of a table in a network namespace; none while there is no such table. Raises LabError."""
    items = json.loads(nft(namespace, "--json", "list", "counters"))["nftables"]
    found = [item["counter"] for item in items if "counter" in item]
    return {item["name"]: item["packets"] for item in found if item["table"] == table}


def nft(namespace: Path, *arguments: str, text: str = "") -> str:
    """Run nft in a network namespace, with `text` as its input. Raises LabError."""
    command = [system("nsenter"), f"--net={namespace}", system("nft"), *arguments]
    answer = subprocess.run(command, input=text, capture_output=True, text=True)
    if answer.returncode:
        raise LabError(f"nft in {namespace.name} failed: {answer.stderr.strip()}")
    return answer.stdout


def _machine(instance: Instance, name: str) -> Path:
    namespace = instance.netns(name)
    if not namespace.exists():
        raise LabError(f"lab {instance.name} has no machine {name}: run `python -m lab --instance {instance.name} up`")
    return namespace


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m lab.counters", description=__doc__.splitlines()[0])
    parser.add_argument("--instance", default=default_name())
    try:
        print(json.dumps(counters(Instance(parser.parse_args().instance))))
    except LabError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
