"""Rows B3 to B9: the walk through all of Bookinfo's steps, each a `pulumi up` of a stack that holds Bookinfo alone."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import pytest

from lab.instance import Instance
from settings.bookinfo import STEPS
from tests.deployment import CHECKOUT, UP
from tests.lab.split.conftest import BOOKINFO, Split

pytestmark = pytest.mark.lab

AUTHORIZATION = STEPS[STEPS.index("allow-nothing") :]
AUTHORIZATION_SECONDS = 120
"""For the whole sequence: `pulumi up`, propagation and probes of each."""

MADE_ANEW = ("no-mesh", "no-rules")
"""Steps at which pods are made anew."""

SMALL = 9
"""Resources that any other step changes at most: the DestinationRules and VirtualServices of the four services go and a
PeerAuthentication comes."""


@pytest.fixture(scope="module")
def walked(lab: Instance, stacks: Split) -> dict[str, dict[str, Any]]:
    """What the walk has seen, by step."""
    stacks.bookinfo(STEPS[0])
    stack = stacks.stack(BOOKINFO)
    command = [sys.executable, "-m", "lab", "--instance", lab.name, "walk", stack.name, "--json"]
    command += ["--config-file", str(stack.config_file)]
    done = subprocess.run(command, cwd=CHECKOUT, stdout=subprocess.PIPE, text=True)
    steps = json.loads(done.stdout)["steps"]
    assert [step["step"] for step in steps] == list(STEPS), f"exit code {done.returncode}"
    return {step["step"]: step for step in steps}


def test_every_stages_probes_pass(walked: dict[str, dict[str, Any]]) -> None:
    assert {name: step["failed"] for name, step in walked.items() if step["failed"]} == {}
    assert [name for name, step in walked.items() if step["passed"] != step["probes"] or not step["probes"]] == []


def test_each_change_is_seen(walked: dict[str, dict[str, Any]], capsys: pytest.CaptureFixture[str]) -> None:
    with capsys.disabled():
        print()
        for name, step in walked.items():
            seconds = step["propagation"]["seconds"]
            print(
                f"  {name:20}{step['changed']:3} resources, up {step['up']:5.1f} s, propagation "
                f"{'    -' if seconds is None else f'{seconds:5.1f}'} s ({step['propagation']['seen']}), "
                f"{step['passed']}/{step['probes']} probes in {step['probing']:.1f} s"
            )
    assert {name for name, step in walked.items() if step["propagation"]["seconds"] is None} == set(MADE_ANEW)


def test_a_step_is_a_small_change(walked: dict[str, dict[str, Any]]) -> None:
    assert [name for name in STEPS if name not in MADE_ANEW and not 0 < walked[name]["changed"] <= SMALL] == []


def test_the_authorization_sequence_takes_less_than_two_minutes(
    walked: dict[str, dict[str, Any]], capsys: pytest.CaptureFixture[str]
) -> None:
    seconds = sum(
        walked[name]["up"] + (walked[name]["propagation"]["seconds"] or 0) + walked[name]["probing"]
        for name in AUTHORIZATION
    )
    with capsys.disabled():
        print(f"\n  {AUTHORIZATION[0]} to {AUTHORIZATION[-1]}: {seconds:.0f} s")
    assert seconds < AUTHORIZATION_SECONDS


@pytest.mark.usefixtures("walked")
def test_the_walk_leaves_the_stack_as_its_file_says(stacks: Split) -> None:
    stack = stacks.stack(BOOKINFO)
    assert stack.outputs()["bookinfo_step"] == STEPS[-1]
    assert set(stack.changes(*UP, "--expect-no-changes")) <= {"same", "read"}
