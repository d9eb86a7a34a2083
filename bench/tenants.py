"""Many teams, and a stack that holds nothing else: its cluster, mesh and egress gateway are dev's."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import yaml

from bench.stacks import Stack
from lab.instance import Instance
from lab.topology import RESOLVER

COUNTS = (10, 100, 500)
FILE = "teams.json"
"""Beside the stack's own file: Pulumi itself cannot hand on so many. JSON is YAML too."""

HOSTS = 20
PROJECT, STACK, UPSTREAM = "meshgate", "bench-teams", "dev"
CHECKOUT = Path(__file__).parents[1]
CONFIG = {
    "meshgate:name": "bench",
    "meshgate:layers": ["teams"],
    "meshgate:upstream": dict.fromkeys(("cluster", "mesh", "egress"), UPSTREAM),
}

# What a team is taken to need: mostly APIs, some of which all teams use, and a few servers that it speaks TLS with.
OWN_API = {"mode": "originate", "allow": [{"methods": ["GET", "POST"], "paths": ["/v1/*"]}]}
COMMON_API = {"mode": "originate", "allow": "all"}
PLAIN = {"mode": "http", "allow": "all"}
TLS = {"mode": "passthrough", "allow": "all"}


def name(number: int) -> str:
    """A team's name, and that of its one namespace."""
    return f"bench-{number:03}"


def team(number: int) -> dict[str, Any]:
    """A team's settings, the same however many others there are."""
    own = f"{name(number)}.example.com"
    hosts = [
        *({"host": f"api-{index}.{own}", **OWN_API} for index in range(10)),
        *({"host": f"common-{index}.example.com", **COMMON_API} for index in range(4)),
        *({"host": f"plain-{index}.{own}", **PLAIN} for index in range(4)),
        *({"host": f"tls-{index}.{own}", **TLS} for index in range(2)),
    ]
    return {"name": name(number), "namespaces": [name(number)], "members": [f"{name(number)}-members"], "hosts": hosts}


def section(count: int) -> dict[str, Any]:
    """The section `teams` with so many of them."""
    # The lab's resolver is no pod.
    return {"dnsAddresses": [f"{RESOLVER}/32"], "teams": [team(number) for number in range(count)]}


@contextmanager
def stack(instance: Instance) -> Iterator[Stack]:
    """The stack, empty; forgotten afterwards. `configure` says how many teams it is to have."""
    with TemporaryDirectory(dir=instance.directory) as made:
        directory = Path(made)
        program = {"name": PROJECT, "runtime": "python", "main": str(CHECKOUT)}
        (directory / "Pulumi.yaml").write_text(yaml.safe_dump(program))
        config = {**CONFIG, "meshgate:teams": {"file": str(directory / FILE)}}
        (directory / f"Pulumi.{STACK}.yaml").write_text(yaml.safe_dump({"config": config}))
        empty = Stack(instance, directory, STACK)
        empty.make()
        yield empty
        empty.pulumi("stack", "rm", "--yes", "--preserve-config")


def configure(empty: Stack, count: int) -> None:
    """Have so many teams in the stack's configuration from now on."""
    (empty.directory / FILE).write_text(json.dumps(section(count)))
