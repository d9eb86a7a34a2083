"""`python -m lab deploy STACK`: `pulumi up` that also goes on after one that was killed, and has the mesh CA signed.

When the mesh CA waits for its signed chain, the HSM signs it (lab/authority.py), and a second `pulumi up` makes what
needs it. A balancer that is configured by hand gets what the stack hands out for it (lab/balancer.py).

A killed Pulumi leaves its lock, and the operations that it had begun. Of Helm's releases among them Pulumi does not
know whether they are there, and Helm refuses to install over one that is. What was being made in Vault is taken over.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lab import authority, balancer, files
from lab import pulumi as runner
from lab.errors import LabError
from lab.instance import Instance

RELEASE = "kubernetes:helm.sh/v3:Release"
UP = ("up", "--yes", "--skip-preview")


def arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of `python -m lab deploy`."""
    parser.add_argument("stack", metavar="STACK", help="deploys Pulumi.STACK.yaml")


def run(instance: Instance, given: argparse.Namespace) -> int:
    """`python -m lab deploy`: pulumi's exit code."""
    recover(instance, given.stack)
    code = runner.pulumi(instance, given.stack, UP)
    if code == 0 and authority.sign(instance, given.stack):
        code = runner.pulumi(instance, given.stack, UP)
    if code == 0:
        balancer.apply(instance, given.stack)
    return code


def recover(instance: Instance, stack: str) -> None:
    """Take away what a killed run left. Nothing happens after a run that ended by itself, however it ended.

    Raises LabError when Helm cannot.
    """
    file = runner.state_file(instance, stack)
    if not file.exists():
        return
    directory = runner.project(instance)
    locks = list((file.parents[2] / "locks").glob(f"**/{stack}/*.json"))
    if any(_alive(instance, lock) for lock in locks):
        return  # the next pulumi says who holds the lock
    if locks:
        print(f"an earlier pulumi was killed: unlocking stack {stack}", file=sys.stderr)
        runner.execute(instance, ["pulumi", "cancel", "--yes", "--stack", stack], directory)
    begun = _begun(file)
    if begun:
        names = ", ".join(operation["resource"]["urn"].rsplit("::", 1)[-1] for operation in begun)
        print(f"an earlier pulumi was killed at {names}: cleaning up", file=sys.stderr)
        for operation in begun:
            if operation["resource"]["type"] == RELEASE:
                _undo(instance, operation["type"], operation["resource"]["inputs"])
        _adopt(instance, stack, file, directory)
        refresh = ["pulumi", "refresh", "--yes", "--skip-preview", "--clear-pending-creates", "--stack", stack]
        runner.execute(instance, refresh, directory)


def _adopt(instance: Instance, stack: str, state: Path, directory: Path) -> None:
    """Note down what may have been done, for the refresh to find out.

    What was being made in Vault: a mount may hold an operator's secret already, and is made only once. And what objects
    were being changed to: of what is there, the Kubernetes provider looks only at the fields that are noted, so that
    one that was being added would stay unseen, and stay.
    """
    from lab.plugins.vault import adopt  # takes half a second to import

    content = json.loads(state.read_text())
    deployment = content["checkpoint"]["latest"]
    changes = _changes(deployment)
    for resource in deployment.get("resources", []):
        # One that waits for its deletion has its successor's URN.
        if resource["urn"] in changes and not resource.get("delete"):
            resource["inputs"] = changes[resource["urn"]]
    if adopt(deployment) or changes:
        adopted = {"version": content["version"], "deployment": deployment}
        file = files.write(directory / "adopted.json", json.dumps(adopted))
        runner.execute(instance, ["pulumi", "stack", "import", "--file", str(file), "--stack", stack], directory)
        file.unlink()


def _undo(instance: Instance, begun: str, release: Mapping[str, str]) -> None:
    """Take a release that was being made away, whatever became of it; take back a change that Helm had begun."""
    where = ("--namespace", release["namespace"])
    if begun == "creating":
        _helm(instance, "uninstall", release["name"], *where, "--ignore-not-found", "--wait")
    elif release["name"] in [
        it["name"] for it in json.loads(_helm(instance, "list", "--pending", *where, "-o", "json"))
    ]:
        _helm(instance, "rollback", release["name"], *where, "--wait")


def _alive(instance: Instance, lock: Path) -> bool:
    """Whether the pulumi that holds a lock still runs."""
    # The pid is one inside the machine, where another program may have it by now.
    owner = ["grep", "--quiet", "pulumi", f"/proc/{json.loads(lock.read_text())['pid']}/cmdline"]
    return subprocess.run(runner.command(instance, owner, Path("/")), capture_output=True).returncode == 0


def _begun(state: Path) -> list[dict[str, Any]]:
    """The operations that were begun and not ended."""
    latest: dict[str, Any] = json.loads(state.read_text())["checkpoint"]["latest"] or {}
    return latest.get("pending_operations") or []


def _changes(deployment: Mapping[str, Any]) -> dict[str, Any]:
    """The inputs of changes that were begun, by URN; but of releases, where a change that Helm began is taken back."""
    return {
        it["resource"]["urn"]: it["resource"]["inputs"]
        for it in deployment.get("pending_operations") or []
        if it["type"] == "updating" and it["resource"]["type"] != RELEASE
    }


def _helm(instance: Instance, *arguments: str) -> str:
    command = runner.command(instance, ["helm", *arguments], Path("/"))
    done = subprocess.run(command, env=runner.environment(instance), capture_output=True, text=True)
    if done.returncode:
        raise LabError(f"`helm {' '.join(arguments)}` failed while cleaning up: {done.stderr.strip()}")
    return done.stdout
