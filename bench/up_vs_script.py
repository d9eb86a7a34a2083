"""`pulumi up` of the layers mesh and ingress against a sequential helm and kubectl script that does the same."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import yaml

from bench import script
from bench.result import Result, ratio_of_medians
from bench.stacks import UP, Say, deployed, of_program, run
from lab.instance import Instance
from lab.pulumi import CHECKOUT
from lab.topology import NODES

LOWER, UPPER = ("cluster", "authority"), ("mesh", "ingress")
LOWER_STACK, UPPER_STACK = "bench-lower", "bench-upper"
DESTROY = ("destroy", "--yes", "--skip-preview")
SPARE_NODES = [node.name for node in NODES if not node.pool.taints][1:]
"""Kept free of pods: with one node left, each run finds the images there and has the same placement."""

MESH = ("--namespace", "istio-system")
LEFT_BEHIND = (
    # Helm keeps CRDs, and does not wait for istiod's end.
    ("delete", "crd", "--selector", "app.kubernetes.io/part-of=istio"),
    ("wait", "pod", "--for=delete", "--all", *MESH, "--timeout=120s"),
    # The old istiod's leader locks: the next one would wait half a minute before it hands out the root certificate.
    ("delete", "configmap,lease", "--all", *MESH),
)


def measure(instance: Instance, rounds: int, say: Say) -> Result:
    """Install and remove both ways in turn, on a cluster that has the layers below."""
    with TemporaryDirectory(dir=instance.directory) as name:
        directory = Path(name)
        dev = yaml.safe_load((CHECKOUT / "Pulumi.dev.yaml").read_text())["config"]
        # An earlier bench may have left its lab with dev on it.
        of_program(instance, "dev").pulumi(*DESTROY)
        run(instance, ["kubectl", "cordon", *SPARE_NODES], directory)
        say(f"pulumi up of {' and '.join(LOWER)}")
        lower = deployed(instance, LOWER_STACK, _config(directory, dev, LOWER, {}))
        upstream = dict.fromkeys(LOWER, LOWER_STACK)
        upper = of_program(instance, UPPER_STACK, _config(directory, dev, UPPER, upstream))

        say(f"pulumi up of {' and '.join(UPPER)}, not counted: images come to the node")
        upper.pulumi(*UP)
        resources = upper.export()["resources"]
        steps = script.steps(resources)
        install, remove = script.write(steps, directory)
        upper.pulumi(*DESTROY)
        _fresh(instance, directory)

        runs: dict[str, list[float]] = {"pulumi up": [], "script": []}
        for number in range(1, rounds + 1):
            runs["pulumi up"].append(upper.pulumi(*UP).seconds)
            upper.pulumi(*DESTROY)
            _fresh(instance, directory)
            runs["script"].append(run(instance, ["sh", str(install)], directory).seconds)
            run(instance, ["sh", str(remove)], directory)
            _fresh(instance, directory)
            say(f"round {number} of {rounds}: " + ", ".join(f"{what} {it[-1]:.1f} s" for what, it in runs.items()))

        upper.pulumi(*DESTROY, "--remove")
        lower.pulumi(*DESTROY, "--remove")
        run(instance, ["kubectl", "uncordon", *SPARE_NODES], directory)
    kinds = Counter(type(step).__name__ for step in steps)
    objects = sum(len(step.objects) for step in steps if isinstance(step, script.Apply))
    return Result(
        name="up_vs_script",
        value=ratio_of_medians(runs, "pulumi up", "script"),
        unit="x",
        limit=1.1,
        aim=0.9,
        runs=runs,
        runs_unit="s",
        sizes={"resources": len(resources), "releases": kinds["Install"], "objects": objects, "steps": len(steps)},
    )


def _config(directory: Path, dev: dict[str, Any], layers: tuple[str, ...], upstream: dict[str, str]) -> Path:
    """dev's configuration cut down to some of its layers."""
    others = {f"meshgate:{layer}" for layer in dev["meshgate:layers"] if layer not in layers}
    config = {key: value for key, value in dev.items() if key not in others}
    config |= {"meshgate:layers": list(layers), "meshgate:upstream": upstream}
    file = directory / f"{'-'.join(layers)}.yaml"
    file.write_text(yaml.safe_dump({"config": config}))
    return file


def _fresh(instance: Instance, directory: Path) -> None:
    """Take away what neither way of removing takes, so that each run installs on a cluster that never had Istio."""
    for command in LEFT_BEHIND:
        run(instance, ["kubectl", *command], directory)
