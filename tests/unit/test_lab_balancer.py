"""What the lab's balancer makes of what stacks hand out."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from lab import balancer, machine, programs, pulumi
from lab.errors import LabError
from lab.instance import Instance
from lab.nlb import haproxy


@pytest.fixture
def instance(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Instance:
    monkeypatch.setenv("MESHGATE_LAB_DIR", str(tmp_path))
    monkeypatch.setattr(machine, "enter", lambda *_: ["env"])
    found = Instance("unit")
    found.directory.mkdir()
    return found


class Stand:
    """In place of Pulumi and of the HAProxy that runs."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.outputs: dict[str, Any] | None = {}
        self.loaded: list[str] = []
        self.is_dead = False
        monkeypatch.setattr(pulumi, "execute", self._execute)
        monkeypatch.setattr(pulumi, "project", lambda _: Path("/"))
        stand = self

        class Proxy:
            def __init__(self, directory: Path) -> None:
                pass

            async def load(self, text: str) -> None:
                if stand.is_dead:
                    raise ConnectionRefusedError("refused")
                stand.loaded.append(text)

        monkeypatch.setattr(balancer, "Proxy", Proxy)

    def _execute(self, instance: Instance, command: Sequence[str], directory: Path, *, stdout: Any) -> int:
        if self.outputs is None:
            return 1
        stdout.write(json.dumps(self.outputs))
        return 0


@pytest.fixture
def stand(monkeypatch: pytest.MonkeyPatch) -> Stand:
    return Stand(monkeypatch)


def section(name: str, port: int) -> str:
    return f"""
defaults
    mode tcp
    timeout connect 3s
    timeout client 1m
    timeout server 1m

listen {name}
    bind 127.0.0.1:{port}
    server a 127.0.0.1:9
"""


def test_it_runs_what_is_handed_out_as_it_is(instance: Instance, stand: Stand) -> None:
    web = section("web", 18080)
    stand.outputs = {"ingress_balancers": {"web": web}, "cluster_name": "lab"}
    assert balancer.apply(instance, "dev")
    (text,) = stand.loaded
    assert text.endswith(web)
    own, _, _ = text.partition(web)
    # Of the lab: by what it is asked, and which configuration it is.
    assert [line.split()[0] for line in own.split("\n") if line] == ["global", "description", "stats"]


def test_stacks_do_not_take_each_others_gateways_away(instance: Instance, stand: Stand) -> None:
    for stack, name, port in (("a", "one", 18081), ("b", "two", 18082)):
        stand.outputs = {"ingress_balancers": {name: section(name, port)}}
        balancer.apply(instance, stack)
    assert "listen one" in stand.loaded[-1]
    assert "listen two" in stand.loaded[-1]
    # A stack that was destroyed hands out nothing any more.
    stand.outputs = {}
    assert not balancer.apply(instance, "a")
    assert "listen one" not in stand.loaded[-1]
    assert "listen two" in stand.loaded[-1]


def test_a_stack_without_the_layer_changes_nothing(instance: Instance, stand: Stand) -> None:
    stand.outputs = {"mesh_contract": 1}
    assert not balancer.apply(instance, "mesh")
    assert stand.loaded == []


def test_what_haproxy_does_not_take_is_not_loaded(instance: Instance, stand: Stand) -> None:
    stand.outputs = {"ingress_balancers": {"web": "listen web\n    bind nonsense\n"}}
    with pytest.raises(LabError, match=r"(?s)HAProxy does not take what output ingress_balancers says: .*nonsense"):
        balancer.apply(instance, "dev")
    assert stand.loaded == []
    # Nor kept for when something else is.
    stand.outputs = {"ingress_balancers": {"api": section("api", 18083)}}
    assert balancer.apply(instance, "other")
    assert "nonsense" not in stand.loaded[-1]


def test_errors_say_what_to_do(instance: Instance, stand: Stand) -> None:
    stand.outputs = None
    with pytest.raises(LabError, match="cannot read the outputs of stack dev"):
        balancer.apply(instance, "dev")
    stand.outputs, stand.is_dead = {"ingress_balancers": {"web": section("web", 18080)}}, True
    with pytest.raises(LabError, match=r"does not answer \(refused\): run `python -m lab up`"):
        balancer.apply(instance, "dev")


def test_it_begins_with_what_it_had(instance: Instance) -> None:
    service = balancer.proxy(instance)
    assert (service.machine, service.name) == ("balancer", "haproxy")
    config = haproxy.config_file(instance.directory / "balancer")
    assert service.command[-1] == str(config)
    # With nothing to forward it still runs, and can be told.
    assert "\nlisten" not in config.read_text()
    config.write_text("kept")
    balancer.proxy(instance)
    assert config.read_text() == "kept"


@pytest.fixture(autouse=True)
def _haproxy() -> None:
    try:
        programs.system("haproxy")
    except LabError as error:
        pytest.skip(str(error))
