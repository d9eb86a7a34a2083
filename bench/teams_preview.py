"""`pulumi preview` of a stack with nothing but teams, none of them there yet: what a resource takes among more."""

from __future__ import annotations

import re
from statistics import median

from bench import tenants
from bench.result import Result
from bench.stacks import BenchError, Say, deployed
from lab.instance import Instance


def measure(instance: Instance, rounds: int, say: Say) -> Result:
    """Preview each number of teams in turn, on the cluster that has dev."""
    say("pulumi up of dev")
    deployed(instance, "dev")
    seconds: dict[int, list[float]] = {count: [] for count in tenants.COUNTS}
    resources: dict[int, int] = {}
    with tenants.stack(instance) as empty:
        for number in range(1, rounds + 1):
            for count in tenants.COUNTS:
                tenants.configure(empty, count)
                ran = empty.pulumi("preview")
                seconds[count].append(ran.seconds)
                resources[count] = to_create(ran.output)
                say(f"round {number} of {rounds}: {resources[count]} resources of {count} teams: {ran.seconds:.1f} s")
    few, more, many = tenants.COUNTS
    return Result(
        name="teams_preview",
        value=cost(seconds, resources, more, many) / cost(seconds, resources, few, more),
        unit="x",
        limit=1.3,
        aim=None,
        runs={f"{count} teams": of_count for count, of_count in seconds.items()},
        runs_unit="s",
        sizes={f"resources of {count} teams": of_count for count, of_count in resources.items()},
    )


def cost(seconds: dict[int, list[float]], resources: dict[int, int], few: int, many: int) -> float:
    """Seconds that each further resource takes between two numbers of teams; what each run begins with cancels out."""
    return (median(seconds[many]) - median(seconds[few])) / (resources[many] - resources[few])


def to_create(output: str) -> int:
    """How many resources a preview says that it would create. Raises BenchError when it says none."""
    if found := re.search(r"^ *\+ (\d+) to create$", output, re.MULTILINE):
        return int(found[1])
    raise BenchError("`pulumi preview` would create nothing: is something left of an earlier bench?")
