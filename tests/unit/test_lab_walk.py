"""`python -m lab walk`: which steps it takes, what it tells of them, and how it ends."""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from copy import deepcopy
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import yaml

from lab import deploy, walk, walker
from lab import pulumi as runner
from lab.errors import LabError
from lab.instance import Instance
from lab.propagation import Observation, Propagation, Sign, Writes
from lab.walker import Walker, at
from settings import SettingsError
from settings.bookinfo import STEPS, Step
from tests.deployment import split, stack_file
from tests.unit.verify_fakes import context
from verify import bookinfo, mesh
from verify.errors import VerifyError
from verify.probe import Outcome, Probe
from verify.runner import Patience
from verify.runner import run as run_probes
from verify.workload import Workload

PULUMI = """#!/bin/sh
# Stands for pulumi: notes what it is asked for and at which step, and that it has changed two resources.
for last; do :; done
echo "$@" >> asked
step=$(sed -n 's/.*step: //p' Pulumi.walked.yaml)
echo $step >> steps
outputs='"bookinfo_contract": 1, "bookinfo_namespace": "bookinfo", "bookinfo_gateways": {}, "bookinfo_step": "'$step'"'
echo '{"checkpoint": {"latest": {"resources": [
  {"type": "pulumi:pulumi:Stack", "outputs": {'$outputs'}}, {"type": "kubernetes:core/v1:Namespace"}]}}}' > state.json
echo '{"summaryEvent": {"resourceChanges": {"same": 40, "read": 1, "update": 1, "create": 1}}}' > "$last"
"""

CONFIG = split("dev")["dev-bookinfo"]
IN_BOOKINFO = Workload("inside", in_mesh=True, namespace="bookinfo", service_account="default")


def _good(_: object) -> Outcome:
    return Outcome(ok=True, observed="good", evidence="seen")


class World:
    """A lab with a deployed stack `walked`, and a pulumi that does nothing."""

    def __init__(self, directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.directory = directory
        self.config: dict[str, Any] = deepcopy(CONFIG)
        self.attempt: Callable[[Step], Outcome] = lambda step: _good(None)
        self.contracts: dict[str, Any] = {
            "cluster": {"kubeconfig": "{}"},
            "mesh": {"trust_domain": "cluster.local"},
            "bookinfo": {"namespace": "bookinfo", "step": "all-v1", "gateways": {}},
        }
        self.said: list[str] = []
        self.started: list[set[str]] = []
        """Names of the workloads that were started together."""
        self._monkeypatch = monkeypatch
        self.script(PULUMI)
        monkeypatch.setenv("PATH", f"{directory}:{os.environ['PATH']}")
        monkeypatch.setenv("MESHGATE_LAB_DIR", str(directory / "labs"))
        Instance("test").log("x").parent.mkdir(parents=True)
        monkeypatch.setattr(runner, "configuration", lambda instance, stack, file: self.config)
        monkeypatch.setattr(runner, "project", lambda instance: directory)
        monkeypatch.setattr(runner, "workspace", self._workspace)
        monkeypatch.setattr(walker, "read_contracts", self._read)
        monkeypatch.setattr(walker, "session", self._session)
        monkeypatch.setattr(runner, "state_file", lambda instance, stack: directory / "state.json")
        monkeypatch.setattr(walker, "sign", lambda context, step: None)
        monkeypatch.setattr(Writes, "watch", lambda self, kubeconfig: None)
        monkeypatch.setattr(bookinfo, "step_probes", self._probes)

    def script(self, text: str) -> None:
        (self.directory / "pulumi").write_text(text)
        (self.directory / "pulumi").chmod(0o755)

    def walker(self) -> Walker:
        return Walker(Instance("test"), "walked", None, self.said.append)

    def steps(self) -> list[str]:
        """The steps at which there was a `pulumi up`."""
        return (self.directory / "steps").read_text().split()

    def _workspace(self, instance: Instance, stack: str, file: Path) -> None:
        (self.directory / f"Pulumi.{stack}.yaml").write_text(file.read_text())

    def _read(self, stack: str, settings: Any) -> dict[str, Any]:
        return {layer: self.contracts[layer] for layer in (*settings.upstream, *settings.layers)}

    @contextmanager
    def _session(self, settings: Any, contracts: dict[str, Any], tell: object) -> Iterator[Any]:
        made = context(self.directory, settings, contracts=contracts)
        self._monkeypatch.setattr(made.pods, "start", lambda them: self.started.append({one.name for one in them}))
        yield made

    def _probes(self, settings: Any, step: Step) -> list[Probe]:
        assert settings.bookinfo.step == step
        return [
            Probe(row="B4", scenario="bookinfo", expected="good", attempt=_good, workloads=(mesh.CALLER,)),
            Probe(
                row="B4",
                scenario="bookinfo",
                expected=f"what {step} promises",
                attempt=lambda context: self._attempt(context, step),
                workloads=(IN_BOOKINFO,),
            ),
        ]

    def _attempt(self, context: Any, step: Step) -> Outcome:
        assert context.settings.bookinfo.step == step
        assert context.contracts == {**self.contracts, "bookinfo": {**self.contracts["bookinfo"], "step": step}}
        return self.attempt(step)


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    return World(tmp_path, monkeypatch)


def test_every_step_and_then_the_one_that_the_file_says(world: World) -> None:
    world.config["meshgate:bookinfo"]["step"] = "all-v1"
    outcomes = list(world.walker().through("jason-exact", "delay"))
    assert [outcome.step for outcome in outcomes] == ["jason-exact", "jason-prefix", "jason-regex", "delay"]
    assert world.steps() == ["jason-exact", "jason-prefix", "jason-regex", "delay", "all-v1"]
    assert {(one.changed, one.probes, one.passed, one.ok) for one in outcomes} == {(2, 2, 2, True)}
    (command,) = set((world.directory / "asked").read_text().splitlines())
    assert command.startswith("up --yes --skip-preview --stack walked --event-log ")


def test_at_the_step_of_the_file_nothing_is_left_to_do(world: World) -> None:
    world.config["meshgate:bookinfo"]["step"] = "ratings-viewer"
    list(world.walker().through("reviews-viewer", "ratings-viewer"))
    assert world.steps() == ["reviews-viewer", "ratings-viewer"]


def test_all_steps_are_walked_through(world: World) -> None:
    assert [outcome.step for outcome in world.walker().through(STEPS[0], STEPS[-1])] == list(STEPS)


def test_a_probe_that_falls_short_is_told_and_the_walk_goes_on(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    def attempt(step: Step) -> Outcome:
        return Outcome(ok=step != "abort", observed="no stars", evidence="the log")

    world.attempt = attempt
    # Asked once only.
    monkeypatch.setattr(walker, "run_probes", partial(run_probes, patience=Patience(tries=1)))
    delay, abort, shift = world.walker().through("delay", "shift-50")
    assert (delay.ok, abort.ok, shift.ok) == (True, False, True)
    assert (abort.passed, abort.probes) == (1, 2)
    assert abort.failed == ["B4b: expected what abort promises; observed no stars (the log)"]
    assert f"  {abort.failed[0]}" in world.said


def test_pods_in_bookinfos_own_namespaces_wait_for_their_step(world: World) -> None:
    list(world.walker().through("abort", "shift-50"))
    assert world.started == [{"caller"}, {"caller", "inside"}, {"caller", "inside"}]


def test_what_is_seen_is_measured_while_pulumi_runs(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    order: list[str] = []

    def absent(self: Sign) -> bool:
        order.append("before" if not (world.directory / "asked").exists() else "late")
        return True

    def follow(self: Observation, ended: Callable[[], bool]) -> Propagation:
        order.append("follows")
        while not ended():
            time.sleep(0.01)
        return Propagation(seconds=None, seen="not within 30 s: stars", arrived=False)

    monkeypatch.setattr(walker, "sign", lambda context, step: Sign(what="stars", seen=lambda: 1.0, steady=1))
    monkeypatch.setattr(Sign, "absent", absent)
    monkeypatch.setattr(Observation, "follow", follow)
    (outcome,) = world.walker().through("ratings-viewer", "ratings-viewer")
    assert order == ["before", "follows"]
    assert (outcome.passed, outcome.probes) == (2, 2)
    # The probes pass, but the change was not seen.
    assert not outcome.ok


def test_a_pulumi_that_fails_ends_the_walk(world: World) -> None:
    world.script("#!/bin/sh\necho it broke\nexit 3\n")
    with pytest.raises(LabError, match=r"(?s)`pulumi up` of stack walked failed:\n    it broke\n.*walk-pulumi\.log"):
        list(world.walker().through("abort", "shift-50"))


def test_an_interrupt_lets_pulumi_end_what_it_has_begun(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world.script(
        "#!/bin/sh\ntrap 'sleep 0.3; echo ended > end; exit 1' INT\ntouch began\nwhile :; do sleep 0.05; done\n"
    )

    def follow(self: Observation, ended: Callable[[], bool]) -> Propagation:
        while not (world.directory / "began").exists():
            time.sleep(0.01)
        threading.Timer(0.1, lambda: os.kill(os.getpid(), signal.SIGINT)).start()
        time.sleep(10)
        raise AssertionError("not interrupted")

    monkeypatch.setattr(Observation, "follow", follow)
    # Whoever runs the tests in the background has it ignored, by what they start as well.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt):
            list(world.walker().through("abort", "abort"))
    finally:
        signal.signal(signal.SIGINT, before)
    assert (world.directory / "end").read_text() == "ended\n"


def test_without_mesh_no_stack_of_the_mesh_is_named(world: World) -> None:
    config = world.config
    assert at(config, "no-mesh")["meshgate:upstream"] == {"cluster": "organization/meshgate/dev-base"}
    assert at(config, "abort")["meshgate:upstream"] == config["meshgate:upstream"]
    assert at(config, "abort")["meshgate:bookinfo"] == {**config["meshgate:bookinfo"], "step": "abort"}
    assert "step" not in config["meshgate:bookinfo"]
    dev = stack_file("dev")
    assert at(dev, "no-mesh") == {**dev, "meshgate:bookinfo": {**dev["meshgate:bookinfo"], "step": "no-mesh"}}


def test_a_stack_without_bookinfo_has_no_steps(world: World) -> None:
    world.config = split("dev")["dev-ingress"]
    with pytest.raises(LabError, match=r"Pulumi.walked.yaml has no layer bookinfo"):
        world.walker()


def test_steps_in_the_wrong_order_are_refused(world: World) -> None:
    with pytest.raises(LabError, match="--from strict comes after --to abort"):
        list(world.walker().through("strict", "abort"))


def test_what_is_wrong_at_any_step_is_said_before_the_first(world: World) -> None:
    """Of a file at no-mesh that does not name the stack of the mesh, which the other steps need."""
    world.config = at(world.config, "no-mesh")
    with pytest.raises(SettingsError, match=r"upstream\.mesh"):
        world.walker()
    assert not (world.directory / "asked").exists()


@pytest.fixture
def command(world: World, monkeypatch: pytest.MonkeyPatch) -> Callable[..., int]:
    def run(*arguments: str) -> int:
        monkeypatch.setattr(sys, "argv", ["lab.walker", "--instance", "test", "walked", *arguments])
        return walker.main()

    return run


def test_json_alone_is_on_stdout(command: Callable[..., int], capsys: pytest.CaptureFixture[str]) -> None:
    assert command("--from", "abort", "--to", "shift-50", "--json") == 0
    said = capsys.readouterr()
    document = json.loads(said.out)
    assert document["stack"] == "walked"
    assert document.keys() == {"stack", "seconds", "steps"}
    assert [step["step"] for step in document["steps"]] == ["abort", "shift-50"]
    assert document["steps"][0] == {
        "step": "abort",
        "changed": 2,
        "up": document["steps"][0]["up"],
        "propagation": {"seconds": None, "seen": "pods are made anew", "arrived": True},
        "probes": 2,
        "passed": 2,
        "probing": document["steps"][0]["probing"],
        "failed": [],
        "ok": True,
    }
    assert "1 of 2: abort: 2 resources in" in said.err


def test_the_table_has_what_was_seen_before_a_failure(
    world: World, command: Callable[..., int], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    world.script(PULUMI + "grep -q 'step: shift-50' Pulumi.walked.yaml && exit 1\nexit 0\n")
    assert command("--from", "delay", "--to", "shift-50") == 1
    said = capsys.readouterr()
    assert [name for name in ("delay", "abort", "shift-50") if name in said.out] == ["delay", "abort"]
    assert "2/2" in said.out
    assert "error: `pulumi up` of stack walked failed" in said.err


@pytest.mark.parametrize(("error", "code"), [(VerifyError("no such stack"), 1), (KeyboardInterrupt(), 130)])
def test_how_it_ends(
    command: Callable[..., int], monkeypatch: pytest.MonkeyPatch, error: BaseException, code: int
) -> None:
    def fail(*_: object) -> None:
        raise error

    monkeypatch.setattr(walker, "read_contracts", fail)
    assert command() == code


def test_the_command_goes_on_after_a_kill_and_runs_the_walk_in_the_lab(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    parser = argparse.ArgumentParser()
    walk.arguments(parser)
    state = world.directory / "state.json"
    calls: list[Any] = []
    monkeypatch.setattr(deploy, "recover", lambda instance, stack: calls.append(("recover", stack)))

    def execute(instance: Instance, program: list[str], directory: Path) -> int:
        calls.append(program)
        return 7

    monkeypatch.setattr(runner, "execute", execute)
    given = parser.parse_args(["walked", "--from", "abort", "--config-file", "x.yaml", "--json"])
    with pytest.raises(LabError, match="there is no stack walked on lab test: deploy it first"):
        walk.run(Instance("test"), given)
    state.touch()
    calls.clear()
    assert walk.run(Instance("test"), given) == 7
    assert calls == [
        ("recover", "walked"),
        [
            *(sys.executable, "-m", "lab.walker", "--instance", "test", "walked"),
            *("--from", "abort", "--to", "ratings-viewer", "--json", "--config-file", str(Path("x.yaml").absolute())),
        ],
    ]


def test_the_steps_configuration_is_what_pulumi_gets(world: World) -> None:
    list(world.walker().through("no-mesh", "no-mesh"))
    assert world.steps() == ["no-mesh"]
    written = yaml.safe_load((world.directory / "walk.yaml").read_text())
    # The file's own, at last.
    assert written == {"config": world.config}
