"""The runner: what reaches Pulumi on the lab, and what does not."""

from __future__ import annotations

import os
import shutil
import signal
import stat
import subprocess
import sys
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest
import yaml

import tools
from lab import files, pki, vault
from lab import pulumi as runner
from lab.errors import LabError
from lab.instance import Instance
from lab.plugins import guard
from tests.unit.conftest import CHECKOUT

# What the overlay may touch: an environment must mean the same on the lab as anywhere else, but for these.
OVERLAY_KEYS = {
    "meshgate:cluster.kubeconfig",
    "meshgate:cluster.loadBalancerController.charts",
    "meshgate:istio.charts",
    "meshgate:istio.values.env.PILOT_ENABLE_ALPN_FILTER",
    "meshgate:istio.values.env.PILOT_ENABLE_METADATA_EXCHANGE",
    "meshgate:istio.values.env.PILOT_DISABLE_MX_ALPN",
    "meshgate:istio.values.telemetry.enabled",
    "meshgate:istio.values.meshConfig.defaultConfig.proxyMetadata.PEER_METADATA_DISCOVERY",
    "meshgate:istio.values.resources.requests.cpu",
    "meshgate:istio.values.resources.requests.memory",
    "meshgate:istio.values.global.proxy.resources.requests.cpu",
    "meshgate:istio.values.global.proxy.resources.requests.memory",
    "meshgate:teams.credentials.internet.ca",
    "meshgate:teams.credentials.internet-client.ca",
    "meshgate:teams.credentials.internet-client.certificate",
    "meshgate:teams.credentials.internet-client.key",
    "meshgate:authority.vault.address",
    "meshgate:authority.vault.ca",
    "meshgate:standalone_envoy.upstream.ca",
    "meshgate:verify.clients",
    "meshgate:verify.trust",
    "meshgate:verify.firewallCounters",
    "meshgate:verify.hsm.module",
    "meshgate:verify.hsm.tokenLabel",
    "meshgate:verify.hsm.pinFile",
    "meshgate:verify.vault.auditLog",
    "meshgate:verify.vault.otherMount",
}


OVERLAY: list[dict[str, Any]] = yaml.safe_load(runner.OVERLAY.read_text())


@pytest.fixture
def instance(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Instance:
    """An instance in a scratch directory, with programs that only exist."""
    programs = tmp_path / "programs"
    programs.mkdir()
    for name in runner.PLUGINS:
        (programs / name).touch()
    monkeypatch.setattr(tools, "programs_path", lambda: [programs])
    monkeypatch.setattr(tools, "program", lambda name: programs / name)
    monkeypatch.setattr(tools, "charts_dir", lambda: tmp_path / "charts")
    monkeypatch.setenv("MESHGATE_LAB_DIR", str(tmp_path / "labs"))
    checkout = tmp_path / "checkout"
    checkout.mkdir()
    (checkout / "lab").symlink_to(runner.CHECKOUT / "lab")
    (checkout / "Pulumi.yaml").write_text("name: meshgate\nruntime: {name: python, options: {virtualenv: .venv}}\n")
    (checkout / "Pulumi.dev.yaml").write_text(
        "encryptionsalt: v1:somebody-elses\n"
        "config: {'meshgate:layers': [cluster], 'meshgate:cluster': {kind: onprem}}\n"
    )
    monkeypatch.setattr(runner, "CHECKOUT", checkout)
    return up("unit")


def up(name: str) -> Instance:
    """An instance as far as the runner cares: its directory is there."""
    instance = Instance(name)
    instance.directory.mkdir(parents=True)
    return instance


# --- the environment ---


def test_nothing_of_the_caller_leaks(instance: Instance, monkeypatch: pytest.MonkeyPatch) -> None:
    leaks = {
        "PULUMI_BACKEND_URL": "s3://production",
        "PULUMI_ACCESS_TOKEN": "leak",
        "PULUMI_CONFIG_PASSPHRASE": "leak",
        "PULUMI_STACK": "leak",
        "PULUMI_HOME": "leak",
        "AWS_ACCESS_KEY_ID": "leak",
        "AWS_PROFILE": "leak",
        "GOOGLE_CREDENTIALS": "leak",
        "GOOGLE_APPLICATION_CREDENTIALS": "leak",
        "CLOUDSDK_CONFIG": "leak",
        "VAULT_TOKEN": "leak",
        "KUBECONFIG": "leak",
        "PYTHONPATH": "leak",
        "HTTPS_PROXY": "leak",
        "HELM_CONFIG_HOME": "leak",
        "LD_PRELOAD": "leak",
        "PATH": f"/leak:{os.environ['PATH']}",
        "MESHGATE_LAB": "leak",
    }
    monkeypatch.setenv("LANG", "C.UTF-8")
    for name, value in leaks.items():
        monkeypatch.setenv(name, value)
    environment = runner.environment(instance)
    assert not [name for name, value in environment.items() if "leak" in value or "production" in value]
    assert environment["LANG"] == "C.UTF-8"
    for name in ("PULUMI_ACCESS_TOKEN", "PULUMI_CONFIG_PASSPHRASE", "PULUMI_STACK"):
        assert name not in environment


def test_everything_lies_in_the_labs_directory(instance: Instance) -> None:
    environment = runner.environment(instance)
    directory = str(instance.directory)
    for name in ("PULUMI_HOME", "PULUMI_CONFIG_PASSPHRASE_FILE", "KUBECONFIG", "HELM_CACHE_HOME"):
        assert environment[name].startswith(f"{directory}/"), name
    assert environment["PULUMI_BACKEND_URL"].startswith(f"file://{directory}/")
    assert environment["PULUMI_SKIP_UPDATE_CHECK"] == "true"
    assert environment["MESHGATE_LAB"] == "unit"
    # The language host runs the first python on PATH, which must be the one with the project's packages.
    assert environment["PATH"].split(":")[0] == str(Path(sys.prefix) / "bin")


def test_the_passphrase_is_random_private_and_stays(instance: Instance, tmp_path: Path) -> None:
    file = Path(runner.environment(instance)["PULUMI_CONFIG_PASSPHRASE_FILE"])
    first = file.read_text()
    assert len(first) >= 32
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert stat.S_IMODE(file.parent.stat().st_mode) == 0o700
    runner.environment(instance)
    assert file.read_text() == first
    assert Path(runner.environment(up("other"))["PULUMI_CONFIG_PASSPHRASE_FILE"]).read_text() != first


def test_the_guard_accepts_this_environment_only(instance: Instance, tmp_path: Path) -> None:
    environment = runner.environment(instance)
    assert guard.refusal(environment) is None
    for foreign in ("file:///tmp", f"file://{tmp_path}", "s3://bucket", "https://api.pulumi.com"):
        assert guard.refusal({**environment, "PULUMI_BACKEND_URL": foreign}), foreign
    assert guard.refusal({**environment, "MESHGATE_LAB": "other"})


def test_plugins_are_linked_under_the_version_that_is_asked_for(instance: Instance) -> None:
    plugins = Path(runner.environment(instance)["PULUMI_HOME"]) / "plugins"
    gcp = plugins / f"resource-gcp-v{metadata.version('pulumi_gcp')}" / "pulumi-resource-gcp"
    assert os.access(gcp, os.X_OK)
    tls = plugins / f"resource-tls-v{metadata.version('pulumi_tls')}" / "pulumi-resource-tls"
    assert os.access(tls, os.X_OK)
    kubernetes = plugins / f"resource-kubernetes-v{metadata.version('pulumi_kubernetes')}"
    assert (kubernetes / "pulumi-resource-kubernetes").exists()
    assert (plugins / f"language-python-v{metadata.version('pulumi')}" / "pulumi-language-python").exists()
    # After an update of a program the link follows.
    tls.unlink()
    tls.symlink_to("/nowhere")
    runner.environment(instance)
    assert os.access(tls, os.X_OK)


def test_credentials_of_simulated_clusters_are_on_the_path(instance: Instance) -> None:
    environment = runner.environment(instance)
    found = shutil.which("gke-gcloud-auth-plugin", path=environment["PATH"])
    assert found is not None
    assert Path(found).is_relative_to(instance.directory)
    # The plugins themselves are found in Pulumi's home alone.
    assert shutil.which("pulumi-resource-gcp", path=environment["PATH"]) is None


def test_the_labs_api_server_is_trusted_like_the_public_cas(instance: Instance) -> None:
    trusted = Path(runner.environment(instance)["SSL_CERT_FILE"]).read_text()
    assert pki.cluster_authority(instance).certificate.read_text() in trusted
    assert trusted.count("BEGIN CERTIFICATE") > 1


def test_vault_and_hsm_are_the_labs(instance: Instance, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VAULT_TOKEN", "the caller's")
    monkeypatch.setenv("VAULT_NAMESPACE", "the caller's")
    environment = runner.environment(instance)
    assert environment["VAULT_ADDR"] == "https://10.7.0.2:8200"
    assert environment["SOFTHSM2_CONF"].startswith(f"{instance.directory}/")
    assert "VAULT_TOKEN" not in environment  # this lab's Vault was not prepared
    assert "VAULT_NAMESPACE" not in environment
    files.write(vault.deployer_token(instance), "the lab's")
    assert runner.environment(instance)["VAULT_TOKEN"] == "the lab's"


def test_a_lab_that_is_not_there_leaves_no_trace(instance: Instance) -> None:
    with pytest.raises(LabError, match="there is no lab absent: start it with"):
        runner.project(Instance("absent"))
    assert not Instance("absent").directory.exists()


# --- the workspace ---


def test_the_project_runs_the_checkout(instance: Instance) -> None:
    description = yaml.safe_load((runner.project(instance) / "Pulumi.yaml").read_text())
    assert description == {"name": "meshgate", "runtime": "python", "main": str(runner.CHECKOUT)}


def test_the_salt_of_an_earlier_run_stays_and_another_environments_does_not(instance: Instance) -> None:
    file = runner.workspace(instance, "dev") / "Pulumi.dev.yaml"
    content = yaml.safe_load(file.read_text())
    assert "encryptionsalt" not in content
    assert content["config"]["meshgate:cluster"] == {"kind": "onprem", "kubeconfig": str(instance.kubeconfig)}
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    file.write_text(yaml.safe_dump(content | {"encryptionsalt": "v1:ours"}))
    runner.workspace(instance, "dev")
    assert yaml.safe_load(file.read_text()) == content | {"encryptionsalt": "v1:ours"}


def test_another_config_file(instance: Instance, tmp_path: Path) -> None:
    source = tmp_path / "split.yaml"
    source.write_text("config: {'meshgate:layers': [mesh]}\n")
    directory = runner.workspace(instance, "mesh", source)
    config = yaml.safe_load((directory / "Pulumi.mesh.yaml").read_text())["config"]
    assert set(config) == {"meshgate:layers", "meshgate:istio", "meshgate:verify"}


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (None, "does not exist"),
        ("config: [", "is not YAML"),
        ("just words", "must hold a mapping"),
        ("config: {'meshgate:a': {b: [{secure: v1:x}]}, 'meshgate:c': 1}", "meshgate:a is encrypted"),
    ],
)
def test_a_config_file_that_cannot_be_used(instance: Instance, tmp_path: Path, content: str | None, words: str) -> None:
    source = tmp_path / "Pulumi.bad.yaml"
    if content is not None:
        source.write_text(content)
    with pytest.raises(LabError, match=words) as raised:
        runner.workspace(instance, "bad", source)
    assert str(source) in str(raised.value)


# --- the overlay ---


def paths(value: Mapping[str, Any], prefix: str = "") -> set[str]:
    found = set()
    for key, item in value.items():
        found |= paths(item, f"{prefix}{key}.") if isinstance(item, Mapping) else {f"{prefix}{key}"}
    return found


def test_the_overlays_keys_are_limited() -> None:
    parts = [{key: value for key, value in part.items() if key != "when"} for part in OVERLAY]
    assert set().union(*map(paths, parts)) == OVERLAY_KEYS


@pytest.mark.parametrize("kind", ["onprem", "gke", "eks"])
def test_a_cluster_of_the_cloud_brings_its_own_kubeconfig(instance: Instance, kind: str) -> None:
    config = {"meshgate:layers": ["cluster"], "meshgate:cluster": {"kind": kind}}
    over = runner.overlaid(config, runner.overlay(instance))
    lab: dict[str, dict[str, Any]] = {
        "onprem": {"kubeconfig": str(instance.kubeconfig)},
        # The chart of its load balancer controller is a stand-in.
        "eks": {"loadBalancerController": {"charts": str(runner.STAND_IN_CHARTS)}},
    }
    assert over["meshgate:cluster"] == {"kind": kind, **lab.get(kind, {})}


@pytest.mark.parametrize(("mesh", "touched"), [({"kind": "istiod"}, True), ({}, True), ({"kind": "managed"}, False)])
def test_flags_are_for_istiod_in_the_cluster(instance: Instance, mesh: dict[str, str], touched: bool) -> None:
    config = {"meshgate:layers": ["mesh"], "meshgate:mesh": mesh}
    assert ("values" in runner.overlaid(config, runner.overlay(instance))["meshgate:istio"]) == touched


def test_credentials_of_the_internet_are_for_those_who_name_them(instance: Instance) -> None:
    config = {
        "meshgate:layers": ["teams"],
        "meshgate:teams": {
            "credentials": {"internet": {"kind": "files", "ca": "a"}, "own": {"kind": "files", "ca": "b"}}
        },
    }
    over = runner.overlaid(config, runner.overlay(instance))
    assert over["meshgate:teams"]["credentials"] == {
        "internet": {"kind": "files", "ca": str(instance.internet_ca)},
        "own": {"kind": "files", "ca": "b"},
    }
    for foreign in ({"internet": {"kind": "existing"}}, {}):
        config["meshgate:teams"] = {"credentials": foreign}
        assert runner.overlaid(config, runner.overlay(instance))["meshgate:teams"] == config["meshgate:teams"]


@pytest.mark.parametrize(("host", "laid"), [("www.envoyproxy.io", True), ("www.example.com", False)])
def test_cas_of_the_internet_are_for_the_upstream_that_is_there(instance: Instance, host: str, laid: bool) -> None:
    config = {"meshgate:layers": ["standalone_envoy"], "meshgate:standalone_envoy": {"upstream": {"host": host}}}
    over = runner.overlaid(config, runner.overlay(instance))["meshgate:standalone_envoy"]["upstream"]
    assert over == {"host": host, **({"ca": str(instance.internet_ca)} if laid else {})}


@pytest.mark.parametrize(
    ("authority", "laid"),
    [
        ({"kind": "hsm", "vault": {"mount": "asm-c1", "address": "https://vault.example.com:8200"}}, True),
        ({"kind": "hsm-kms", "vault": {"mount": "asm-c1"}}, True),
        ({"kind": "hsm", "vault": {"mount": "asm-c9"}}, False),
        ({"kind": "hsm"}, False),
        ({"kind": "self-signed"}, False),
    ],
)
def test_vault_is_the_labs_for_whom_it_has_a_policy(instance: Instance, authority: dict[str, Any], laid: bool) -> None:
    config = {"meshgate:layers": ["authority"], "meshgate:authority": authority}
    over = runner.overlaid(config, runner.overlay(instance))["meshgate:authority"]
    lab = {"mount": "asm-c1", "address": "https://10.7.0.2:8200", "ca": str(instance.vault_ca)}
    assert over == ({**authority, "vault": lab} if laid else authority)


def test_placeholders_are_filled(instance: Instance, tmp_path: Path) -> None:
    over = runner.overlay(instance)
    assert "$" not in yaml.safe_dump(over)
    whole = runner.overlaid({"meshgate:layers": []}, over)
    assert whole["meshgate:istio"]["charts"] == str(tmp_path / "charts")
    assert whole["meshgate:verify"]["clients"][0] == {
        "name": "client-a",
        "command": ["nsenter", "--net=/run/netns/mg-unit-client-a", "--"],
        "address": "203.0.113.10",
    }


def test_a_part_applies_to_what_the_stack_holds() -> None:
    over: list[dict[str, Any]] = [
        {"when": {"cluster": "onprem"}, "meshgate:cluster": {"kubeconfig": "lab"}},
        {"meshgate:istio": {"charts": "lab"}},
        {"meshgate:istio": {"charts": "later"}, "meshgate:verify": {"a": 1}},
    ]
    config: dict[str, Any] = {
        "meshgate:layers": ["mesh"],
        "meshgate:cluster": {"kind": "onprem", "kubeconfig": "own"},
        "meshgate:istio": {"hub": "own"},
    }
    assert runner.overlaid(config, over) == {
        "meshgate:layers": ["mesh"],
        "meshgate:cluster": {"kind": "onprem", "kubeconfig": "own"},  # the layer is another stack's
        "meshgate:istio": {"hub": "own", "charts": "later"},
        "meshgate:verify": {"a": 1},
    }
    config["meshgate:layers"] = ["cluster", "mesh"]
    assert runner.overlaid(config, over)["meshgate:cluster"] == {"kind": "onprem", "kubeconfig": "lab"}
    config["meshgate:cluster"]["kind"] = "gke"
    assert runner.overlaid(config, over)["meshgate:cluster"] == {"kind": "gke", "kubeconfig": "own"}
    assert config["meshgate:istio"] == {"hub": "own"}, "the environment's own stays as it is"


def test_merged() -> None:
    base = {"a": {"b": 1, "c": {"d": 1}}, "list": [1, 2], "plain": 1, "mapping": {"x": 1}}
    over = {"a": {"c": {"e": 2}}, "list": [3], "plain": {"now": "a mapping"}, "mapping": 5, "new": 6}
    assert runner.merged(base, over) == {
        "a": {"b": 1, "c": {"d": 1, "e": 2}},
        "list": [3],
        "plain": {"now": "a mapping"},
        "mapping": 5,
        "new": 6,
    }
    assert base["a"] == {"b": 1, "c": {"d": 1}}, "neither side is changed"


COMMAND = """
import os, sys
from lab import pulumi as runner

# In place of nsenter: what waits for the program, and hands no signal on.
runner.enter = lambda *given: ["sh", "-c", '"$@"; exit $?', "nsenter"]
runner.environment = lambda instance: dict(os.environ)
program = "trap 'sleep 0.3; exit 3' INT TERM; echo begun; while :; do sleep 0.05; done"
sys.exit(runner.execute(None, ["sh", "-c", program], "/"))
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_program_that_is_ended_with_its_group_is_waited_for(number: int) -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", COMMAND], cwd=CHECKOUT, stdout=subprocess.PIPE, start_new_session=True
    )
    with process:
        assert process.stdout
        assert process.stdout.readline() == b"begun\n"
        os.killpg(process.pid, number)
        assert process.wait(10) == 3
