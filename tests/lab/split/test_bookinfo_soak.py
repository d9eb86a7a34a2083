"""What chance decides on never fails, and a walk that was interrupted or killed is begun anew."""

from __future__ import annotations

import json
import signal
import subprocess
import sys

import pytest

from settings.bookinfo import STEPS, Step
from tests.deployment import CHECKOUT, kubectl
from tests.lab.interrupted import interrupted
from tests.lab.outcomes import verify
from tests.lab.split.conftest import BOOKINFO, Split

pytestmark = pytest.mark.soak

RUNS = 10

BY_CHANCE: tuple[Step, ...] = (
    *("no-mesh", "no-rules", "all-v1", "jason-exact", "shift-50", "shift-10"),
    *("faulty", "retries", "outlier-detection", "circuit-breaker", "permissive"),
)
"""Steps with probes that count versions or failures, or send requests at the same time."""


@pytest.mark.parametrize("step", BY_CHANCE)
def test_no_probe_falls_short_by_chance(stacks: Split, step: Step) -> None:
    stack = stacks.bookinfo(step)
    assert [failed for _ in range(RUNS) for failed in verify(stack).failed()] == []


@pytest.mark.parametrize(
    ("seconds", "number"),
    [(5, signal.SIGINT), (25, signal.SIGKILL), (60, signal.SIGTERM), (100, signal.SIGKILL), (130, signal.SIGINT)],
)
def test_a_walk_is_begun_anew(stacks: Split, seconds: float, number: int) -> None:
    stack = stacks.bookinfo(STEPS[0])
    walk = [sys.executable, "-m", "lab", "--instance", stacks.lab.name, "walk", BOOKINFO, "--json"]
    walk += ["--config-file", str(stacks.stack(BOOKINFO).config_file)]
    before = _own_namespaces(stacks)
    interrupted(walk, seconds, number)
    if number != signal.SIGKILL:
        assert _own_namespaces(stacks) <= before
    done = subprocess.run(walk, cwd=CHECKOUT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert stack.outputs()["bookinfo_step"] == STEPS[-1]


def _own_namespaces(stacks: Split) -> set[str]:
    """Those of walks that are not going away; a killed one's stays for an hour."""
    namespaces = json.loads(kubectl(stacks.lab, "get", "namespaces", "-o", "json"))["items"]
    found = [one["metadata"] for one in namespaces if one["metadata"]["name"].startswith("meshgate-verify-")]
    return {metadata["name"] for metadata in found if "deletionTimestamp" not in metadata}
