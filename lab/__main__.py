"""`python -m lab`: the local lab."""

import argparse
import json
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass

from rich.console import Console
from rich.table import Table

import tools
from lab import cluster, deploy, sim, walk
from lab import counters as decided
from lab import pulumi as runner
from lab.errors import LabError
from lab.instance import Instance, default_name


def say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def up(instance: Instance, arguments: argparse.Namespace) -> int:
    cluster.up(instance, arguments.bare, say)
    return 0


def down(instance: Instance, arguments: argparse.Namespace) -> int:
    cluster.down(instance, say)
    return 0


def status(instance: Instance, arguments: argparse.Namespace) -> int:
    rows = cluster.status(instance)
    if arguments.json:
        print(json.dumps([asdict(row) for row in rows], indent=2))
    elif not rows:
        say(f"there is no lab {instance.name}")
    else:
        table = Table("machine", "service", "state")
        for row in rows:
            colour = {"running": "green", "not ready": "yellow"}.get(row.state, "red")
            table.add_row(row.machine, row.service, f"[{colour}]{row.state}[/]")
        Console().print(table)
        print(f"logs: {instance.log('<machine>-<service>')}")
    return 0 if rows and all(row.state == "running" for row in rows) else 1


def counters(instance: Instance, arguments: argparse.Namespace) -> int:
    found = decided.counters(instance)
    if arguments.json:
        print(json.dumps(found, indent=2))
    else:
        table = Table("rule", "packets")
        for name, packets in sorted(found.items()):
            table.add_row(name, str(packets))
        Console().print(table)
    return 0


def up_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--bare", action="store_true", help="only a control plane, with simulated nodes")


def json_argument(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true")


@dataclass(frozen=True)
class Command:
    """A subcommand: what it does, its arguments, and what `--help` says of it."""

    run: Callable[[Instance, argparse.Namespace], int]
    help: str
    arguments: Callable[[argparse.ArgumentParser], None] = lambda parser: None


COMMANDS = {
    "up": Command(up, "start what does not run; nothing happens to what does", up_arguments),
    "status": Command(status, "what runs and what does not; exit status 1 unless all does", json_argument),
    "counters": Command(
        counters,
        "how many packets each rule of the router decided on, and NetworkPolicies and NLBs dropped",
        json_argument,
    ),
    "down": Command(down, "remove the lab and all that it left"),
    "pulumi": Command(runner.run_pulumi, "run pulumi on the lab", runner.pulumi_arguments),
    "deploy": Command(deploy.run, "pulumi up of a stack, also after one that was killed", deploy.arguments),
    "run": Command(runner.run_command, "a program with the lab's credentials in its network", runner.command_arguments),
    "shell": Command(runner.run_shell, "a shell with the lab's credentials in its network", runner.shell_arguments),
    "walk": Command(
        walk.run, "through the steps of Bookinfo: pulumi up, propagation and probes of each", walk.arguments
    ),
    "sim": Command(sim.run, "preview, up and destroy of a stack on a bare control plane", sim.arguments),
}


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m lab", description=__doc__)
    parser.add_argument("--instance", default=default_name(), help="the lab's name (default: $MESHGATE_LAB or dev)")
    subparsers = parser.add_subparsers(dest="command", required=True)
    for name, command in COMMANDS.items():
        command.arguments(subparsers.add_parser(name, help=command.help, description=command.help))
    arguments = parser.parse_args()
    try:
        return COMMANDS[arguments.command].run(Instance(arguments.instance), arguments)
    except (LabError, tools.ToolsError) as error:
        say(f"error: {error}")
        return 1
    except KeyboardInterrupt:
        say("interrupted: the same command goes on from here, `python -m lab down` removes everything")
        return 130


if __name__ == "__main__":
    sys.exit(main())
