"""The lab's mesh CA: which chains reach a stack's configuration, and what is signed when."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509

from lab import authority, chains, files, hsm, vault
from lab import pulumi as runner
from lab.errors import LabError
from lab.instance import Instance
from tests.unit import mesh_ca

CONFIG: dict[str, Any] = {
    "meshgate:layers": ["authority", "mesh"],
    "meshgate:authority": {"kind": "hsm", "generations": [{"name": "2026"}, {"name": "2027"}]},
}


@pytest.fixture
def instance(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Instance:
    monkeypatch.setenv("MESHGATE_LAB_DIR", str(tmp_path))
    made = Instance("unit")
    made.directory.mkdir()
    return made


def state(instance: Instance, **requests: str) -> Path:
    """A state with these generations' requests: generation -> the key's name."""
    pems = {name: mesh_ca.request(key) for name, key in requests.items()}
    outputs = {"authority_generations": {name: {"status": "waiting", "request": pem} for name, pem in pems.items()}}
    resources: list[dict[str, Any]] = [{"type": "pulumi:pulumi:Stack", "outputs": outputs}]
    resources += [{"type": chains.REQUEST, "outputs": {"certRequestPem": pem}} for pem in pems.values()]
    path = instance.directory / "state.json"
    path.write_text(json.dumps({"checkpoint": {"latest": {"resources": resources}}}))
    return path


def keep(instance: Instance, generation: str, key: str) -> str:
    chain = mesh_ca.chain(key)
    files.write(chains.file(instance, "dev", generation), chain)
    return chain


def laid(instance: Instance, state: Path, config: Mapping[str, Any] = CONFIG) -> list[dict[str, Any]]:
    generations: list[dict[str, Any]] = chains.laid(instance, "dev", config, state)[chains.SECTION]["generations"]
    return generations


# --- chains ---


def test_a_kept_chain_is_laid_into_its_generation(instance: Instance) -> None:
    chain = keep(instance, "2026", "one")
    assert laid(instance, state(instance, **{"2026": "one", "2027": "two"})) == [
        {"name": "2026", "chain": chain},
        {"name": "2027"},
    ]
    assert CONFIG["meshgate:authority"]["generations"] == [{"name": "2026"}, {"name": "2027"}]


def test_a_chain_of_a_key_that_is_gone_is_not_used(instance: Instance) -> None:
    keep(instance, "2026", "one")
    without = [{"name": "2026"}, {"name": "2027"}]
    assert laid(instance, state(instance, **{"2026": "another"})) == without
    assert laid(instance, state(instance)) == without
    assert laid(instance, instance.directory / "no state") == without


def test_a_request_that_is_being_replaced_does_not_count(instance: Instance) -> None:
    keep(instance, "2026", "one")
    path = state(instance, **{"2026": "one"})
    content = json.loads(path.read_text())
    content["checkpoint"]["latest"]["resources"][1]["delete"] = True
    path.write_text(json.dumps(content))
    assert "chain" not in laid(instance, path)[0]


def test_a_chain_in_the_configuration_stays(instance: Instance) -> None:
    keep(instance, "2026", "one")
    own = {**CONFIG, "meshgate:authority": {"kind": "hsm", "generations": [{"name": "2026", "chain": "own"}]}}
    assert laid(instance, state(instance, **{"2026": "one"}), own) == [{"name": "2026", "chain": "own"}]


def test_another_stacks_chain_is_not_used(instance: Instance) -> None:
    keep(instance, "2026", "one")
    path = state(instance, **{"2026": "one"})
    assert chains.laid(instance, "other", CONFIG, path) == CONFIG


@pytest.mark.parametrize(
    "config",
    [
        {"meshgate:layers": ["authority"], "meshgate:authority": {"kind": "self-signed"}},
        {"meshgate:layers": ["mesh"], "meshgate:authority": CONFIG["meshgate:authority"]},
        {"meshgate:layers": ["mesh"]},
    ],
)
def test_other_stacks_are_left_alone(instance: Instance, config: dict[str, Any]) -> None:
    keep(instance, "2026", "one")
    assert chains.laid(instance, "dev", config, state(instance, **{"2026": "one"})) == config


# --- signing ---


class Hands:
    """Stands for `python -m authority` and Vault: keeps what is asked."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, ...]] = []
        self.secret: dict[str, Any] | None = None
        self.roots: dict[str, str] = {}
        """The certificates in the token, by label."""
        self.config = CONFIG

    def run(self, instance: Instance, *arguments: str, pin: Path, text: str = "") -> str:
        self.asked.append((arguments[0], pin.name, *arguments[1:]))
        if arguments[0] != "sign":
            return mesh_ca.root_certificate()
        (name,) = x509.load_pem_x509_csr(text.encode()).subject
        return mesh_ca.chain(str(name.value))


@pytest.fixture
def hands(instance: Instance, monkeypatch: pytest.MonkeyPatch) -> Hands:
    made = Hands()
    path = instance.directory / "state.json"
    monkeypatch.setattr(authority, "run", made.run)
    monkeypatch.setattr(hsm, "certificate", lambda instance, label: made.roots.get(label))
    monkeypatch.setattr(vault, "of", lambda instance: None)
    monkeypatch.setattr(vault, "as_root", lambda *_: made.secret)
    monkeypatch.setattr(runner, "state_file", lambda *_: path)
    monkeypatch.setattr(
        runner, "configuration", lambda instance, stack, *_: chains.laid(instance, stack, made.config, path)
    )
    return made


def test_what_waits_is_signed_once(instance: Instance, hands: Hands) -> None:
    state(instance, **{"2026": "one", "2027": "two"})
    assert authority.sign(instance, "dev")
    assert [line[0] for line in hands.asked] == ["root", "sign", "sign"]
    assert hands.asked[1][1:] == (
        *("pin", "--module", str(hsm.module()), "--token-label", "meshgate", "--key-label", "mesh-root"),
        *("--request", "-"),
    )
    assert chains.file(instance, "dev", "2026").read_text() == mesh_ca.chain("one")
    assert chains.file(instance, "dev", "2027").read_text() == mesh_ca.chain("two")
    assert not authority.sign(instance, "dev")
    assert len(hands.asked) == 3


def test_a_stack_that_was_made_anew_is_signed_anew(instance: Instance, hands: Hands) -> None:
    state(instance, **{"2026": "two"})
    keep(instance, "2026", "one")
    assert authority.sign(instance, "dev")
    assert chains.file(instance, "dev", "2026").read_text() == mesh_ca.chain("two")


def test_without_a_request_nothing_is_signed(instance: Instance, hands: Hands) -> None:
    assert not authority.sign(instance, "dev")
    hands.config = {"meshgate:layers": ["authority"], "meshgate:authority": {"kind": "self-signed"}}
    state(instance, **{"2026": "one"})
    assert not authority.sign(instance, "dev")
    assert hands.asked == []


def test_another_root_is_made_beside_the_first(instance: Instance, hands: Hands) -> None:
    first = authority.make_root(instance)
    second = authority.make_root(instance, "mesh-root-2027")
    assert [line[-1] for line in hands.asked] == ["mesh-root", "mesh-root-2027"]
    assert first != second
    assert second.read_text() == mesh_ca.root_certificate()


def test_a_root_that_the_token_has_is_not_made_again(instance: Instance, hands: Hands) -> None:
    hands.roots = {authority.ROOT_KEY: "root"}
    assert authority.make_root(instance).read_text() == "root"
    assert hands.asked == []


@pytest.mark.parametrize("found", [None, {"data": {}}])
def test_the_clients_secret_is_written_once(instance: Instance, hands: Hands, found: dict[str, Any] | None) -> None:
    state(instance)
    hands.secret = found
    hands.config = {**CONFIG, "meshgate:authority": {**CONFIG["meshgate:authority"], "vault": {"mount": "asm-c1"}}}
    authority.sign(instance, "dev")
    credentials = instance.directory / "hsm" / "client"
    expected = (
        *("provision", "pin", "--mount", "asm-c1", "--client-cert", str(credentials / "client.pem")),
        *("--client-key", str(credentials / "client-key.pem"), "--server-cert", str(credentials / "server.pem")),
    )
    assert hands.asked == ([] if found else [expected])


def test_a_pin_goes_by_a_descriptor_and_a_failure_is_told(
    instance: Instance, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pin = files.write(instance.directory / "pin", "secret-pin")
    monkeypatch.setattr(runner, "environment", lambda instance: {"PATH": os.environ["PATH"]})
    script = "import os, sys; print(os.read(int(sys.argv[-1]), 99), sys.stdin.read()); sys.exit(int('no' in sys.argv))"
    monkeypatch.setattr(runner, "command", lambda _, program, __: [program[0], "-c", script, *program[3:]])
    assert authority.run(instance, "sign", pin=pin, text="request") == "b'secret-pin' request\n"
    with pytest.raises(LabError, match="`python -m authority no` failed"):
        authority.run(instance, "no", pin=pin)
    assert "secret-pin" not in capsys.readouterr().err
