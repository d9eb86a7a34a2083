"""Peak memory of the process that runs the program, during a preview that finds nothing to change."""

from __future__ import annotations

import os
from pathlib import Path
from tempfile import TemporaryDirectory

from bench.result import Result
from bench.stacks import Say, deployed, run
from lab.instance import Instance
from lab.pulumi import CHECKOUT

PEAK = Path(__file__).parent / "peak"


def measure(instance: Instance, rounds: int, say: Say) -> Result:
    """The largest resident set that the kernel saw, neither the engine's nor a plugin's."""
    say("pulumi up of dev")
    dev = deployed(instance, "dev")
    megabytes = []
    with TemporaryDirectory(dir=instance.directory) as name:
        file = Path(name) / "peak"
        settings = [f"PYTHONPATH={PEAK}{os.pathsep}{CHECKOUT}", f"MESHGATE_BENCH_PEAK={file}"]
        preview = ["pulumi", "preview", "--expect-no-changes", "--stack", dev.name]
        for number in range(1, rounds + 1):
            run(instance, ["env", *settings, *preview], dev.directory)
            megabytes.append(int(file.read_text().split()[1]) * 1024 / 1e6)
            say(f"round {number} of {rounds}: {megabytes[-1]:.0f} MB")
            file.unlink()
    return Result(
        name="peak_memory",
        value=max(megabytes),
        unit="MB",
        limit=200,
        aim=None,
        runs={"no-op preview": megabytes},
        runs_unit="MB",
        sizes={"resources": len(dev.export()["resources"])},
    )
