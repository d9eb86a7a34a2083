"""`make up` that is interrupted goes on at the next `make up`: during a build, the cluster's start and `pulumi up`."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from lab import cluster, deploy
from lab.instance import Instance
from tests.deployment import CHECKOUT, DESTROY, UP, Stack
from tests.lab.interrupted import interrupted
from tests.lab.onprem.environment import NAME, ROOT, Onprem
from tests.lab.onprem.rotation import Rotation, requests_at_new_connections
from tests.lab.outcomes import verify

pytestmark = pytest.mark.soak

SIGNALS = [signal.SIGINT, signal.SIGKILL]


@pytest.fixture(scope="module")
def instance() -> Iterator[Instance]:
    instance = Instance("soak")
    cluster.down(instance, print)
    yield instance
    cluster.down(instance, print)


@pytest.mark.parametrize("number", SIGNALS)
@pytest.mark.parametrize("seconds", [0.3, 1.5, 4, 8])
def test_the_lab_goes_on_after_an_interrupted_start(instance: Instance, seconds: float, number: int) -> None:
    cluster.down(instance, print)
    interrupted([sys.executable, "-m", "lab", "--instance", instance.name, "up"], seconds, number)
    cluster.up(instance, False, print)
    assert [row for row in cluster.status(instance) if row.state != "running"] == []


@pytest.mark.parametrize("number", SIGNALS)
@pytest.mark.parametrize("seconds", [4, 14, 30, 50, 75])
def test_the_stack_goes_on_after_an_interrupted_up(instance: Instance, seconds: float, number: int) -> None:
    cluster.up(instance, False, print)
    dev = Stack(instance, "dev", CHECKOUT / "Pulumi.dev.yaml")
    deploy = [sys.executable, "-m", "lab", "--instance", instance.name, "deploy", "dev"]
    interrupted(deploy, seconds, number)
    done = subprocess.run(deploy, cwd=CHECKOUT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert verify(dev).failed() == []
    dev.pulumi(*DESTROY)
    assert dev.resources() == []


@pytest.mark.parametrize("number", SIGNALS)
def test_a_build_goes_on_after_an_interrupt(tmp_path: Path, number: int) -> None:
    environment = {**os.environ, "MESHGATE_CACHE": str(tmp_path)}
    build = [sys.executable, "-m", "tools", "build", "kwok"]
    interrupted(build, 3, number, environment)
    started = time.monotonic()
    subprocess.run(build, cwd=CHECKOUT, env=environment, check=True, capture_output=True)
    assert [path.name for path in tmp_path.glob("programs/kwok/*/kwok")] == ["kwok"]
    # A finished build is not begun again.
    subprocess.run(build, cwd=CHECKOUT, env=environment, check=True, capture_output=True)
    assert time.monotonic() - started < 600


@pytest.fixture(scope="module")
def onprem(instance: Instance, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Onprem]:
    cluster.up(instance, False, print)
    onprem = Onprem(instance, tmp_path_factory.mktemp("onprem"))
    onprem.deploy()
    yield onprem
    onprem.destroy()
    assert onprem.stack.resources() == []


@pytest.mark.parametrize("seconds", [None, 3, 6, 12])
def test_root_after_root_without_a_failed_request(onprem: Onprem, tmp_path: Path, seconds: float | None) -> None:
    """To the next root and back, whose key is in the HSM already; with every `pulumi up` killed so soon, or none."""

    def killed() -> None:
        if seconds is not None:
            # As the operator's shell would run it.
            up = ["pulumi", "--config-file", str(onprem.stack.config_file), "--stack", NAME, *UP]
            lab = [sys.executable, "-m", "lab", "--instance", onprem.lab.name]
            interrupted([*lab, *up], seconds, signal.SIGKILL)
            deploy.recover(onprem.lab, NAME)

    rotation = Rotation(onprem, before=killed)
    with requests_at_new_connections(onprem, tmp_path) as requests:
        for number, root in enumerate((f"{ROOT}-{seconds or 'whole'}", ROOT)):
            old = [entry["name"] for entry in onprem.generations]
            new = f"soak-{seconds or 'whole'}-{number}"
            rotation.add(new)
            rotation.trust(new, root)
            rotation.activate(new)
            rotation.drop(*old)
            assert onprem.statuses() == {new: "active"}
    assert requests.failures == []
    assert verify(onprem.stack, "--only", "H4").failed() == []
