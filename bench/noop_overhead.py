"""`pulumi up` that changes nothing: the program against a flat program with the same resources."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from tempfile import TemporaryDirectory

import yaml

from bench import flat
from bench.result import Result, ratio_of_medians
from bench.stacks import UP, Say, Stack, deployed
from lab.instance import Instance

NOTHING = (*UP, "--expect-no-changes")
PROGRAM = Path(__file__).with_name("flat_program.py")


def measure(instance: Instance, rounds: int, say: Say) -> Result:
    """Run both in turn, each on a stack of its own; the flat one's state is made from the program's."""
    say("pulumi up of dev")
    dev = deployed(instance, "dev")
    dev.pulumi(*NOTHING)
    deployment = dev.export()
    with TemporaryDirectory(dir=instance.directory) as name:
        directory = Path(name)
        (directory / "Pulumi.yaml").write_text(yaml.safe_dump({"name": flat.PROJECT, "runtime": "python"}))
        # The same salt and passphrase, so that the state made below can be read.
        salt = yaml.safe_load((dev.directory / f"Pulumi.{dev.name}.yaml").read_text())["encryptionsalt"]
        (directory / f"Pulumi.{flat.STACK}.yaml").write_text(yaml.safe_dump({"encryptionsalt": salt}))
        (directory / "resources.json").write_text(json.dumps(flat.resources(deployment)))
        shutil.copy(PROGRAM, directory / "__main__.py")
        plain = Stack(instance, directory, flat.STACK)
        plain.make()
        plain.pulumi("stack", "import", given=json.dumps(flat.state(deployment)))
        # What the two write down about a resource differs a little; from then on nothing changes.
        plain.pulumi(*NOTHING)

        runs: dict[str, list[float]] = {"program": [], "flat program": []}
        for number in range(1, rounds + 1):
            runs["program"].append(dev.pulumi(*NOTHING).seconds)
            runs["flat program"].append(plain.pulumi(*NOTHING).seconds)
            say(f"round {number} of {rounds}: " + ", ".join(f"{what} {it[-1]:.1f} s" for what, it in runs.items()))
        # Forgotten, not destroyed: the resources are dev's.
        plain.pulumi("stack", "rm", "--yes", "--force")
    return Result(
        name="noop_overhead",
        value=ratio_of_medians(runs, "program", "flat program"),
        unit="x",
        limit=1.15,
        aim=None,
        runs=runs,
        runs_unit="s",
        sizes={"resources": len(deployment["resources"]), "of them plain": len(flat.resources(deployment))},
    )
