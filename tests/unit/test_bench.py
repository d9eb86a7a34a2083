"""The bench without a lab: the script and the flat program that come from a state, targets, the table."""

from __future__ import annotations

import json
import shlex
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from bench import flat, script
from bench.__main__ import main
from bench.result import Failure, Result, ratio_of_medians, table
from bench.state import SECRET, plain

SECRET_MARK = "1b47061264138c4ac30d75fd1eb44270"
ROOT = "urn:pulumi:dev::meshgate::pulumi:pulumi:Stack::meshgate-dev"
COMPONENT = "urn:pulumi:dev::meshgate::meshgate:mesh:Istio::mesh"
PROVIDER = "urn:pulumi:dev::meshgate::pulumi:providers:kubernetes::cluster"
TLS_PROVIDER = "urn:pulumi:dev::meshgate::pulumi:providers:tls::default_5_6_2"


def secret(value: Any) -> dict[str, str]:
    """A value as `pulumi stack export --show-secrets` writes a secret."""
    return {SECRET: SECRET_MARK, "plaintext": json.dumps(value)}


def urn(token: str, name: str) -> str:
    return f"urn:pulumi:dev::meshgate::meshgate:mesh:Istio${token}::{name}"


def resource(token: str, name: str, inputs: dict[str, Any] | None, *dependencies: str, **more: Any) -> dict[str, Any]:
    """A resource of the component, as a state has it."""
    return {
        "urn": urn(token, name),
        "type": token,
        "custom": True,
        "id": name,
        "inputs": inputs,
        "parent": COMPONENT,
        "provider": f"{PROVIDER}::1",
        "dependencies": list(dependencies),
        **more,
    }


def kubernetes_object(kind: str, name: str, **more: Any) -> dict[str, Any]:
    return {"apiVersion": "v1", "kind": kind, "metadata": {"name": name, "namespace": "istio-system"}, **more}


NAMESPACE = "kubernetes:core/v1:Namespace"
KEY = "tls:index/privateKey:PrivateKey"
RESOURCES = [
    {"urn": ROOT, "type": "pulumi:pulumi:Stack", "custom": False, "outputs": {"cluster_contract": 1}},
    {
        "urn": PROVIDER,
        "type": "pulumi:providers:kubernetes",
        "custom": True,
        "id": "1",
        "parent": ROOT,
        "inputs": {"__internal": {}, "enableServerSideApply": "true", "kubeconfig": secret("k"), "version": "4"},
    },
    {"urn": TLS_PROVIDER, "type": "pulumi:providers:tls", "custom": True, "id": "2", "inputs": {"version": "5.6.2"}},
    {"urn": COMPONENT, "type": "meshgate:mesh:Istio", "custom": False, "parent": ROOT},
    resource(KEY, "key", {"algorithm": "ECDSA", "ecdsaCurve": "P256"}, provider=f"{TLS_PROVIDER}::2"),
    resource(
        script.RELEASE,
        "istiod",
        {
            "name": "istiod-1",
            "chart": "/charts/istiod",
            "namespace": "istio-system",
            "values": {"revision": "1"},
            "disableCRDHooks": False,
        },
    ),
    resource(NAMESPACE, "namespace", kubernetes_object("Namespace", "apps"), urn(script.RELEASE, "istiod")),
    resource(
        "kubernetes:core/v1:Secret",
        "secret",
        kubernetes_object("Secret", "tls", data=secret({"tls.key": "a2V5"})),
        urn(NAMESPACE, "namespace"),
        urn(KEY, "key"),
        propertyDependencies={"data": [urn(KEY, "key")], "metadata": None},
    ),
    resource(script.RELEASE, "gateway", {"name": "gw", "chart": "c", "namespace": "apps"}, urn(NAMESPACE, "namespace")),
    resource(
        "kubernetes:apps/v1:Deployment",
        "webapp",
        kubernetes_object("Deployment", "webapp"),
        urn(NAMESPACE, "namespace"),
    ),
    resource("kubernetes:core/v1:Service", "service", None, external=True),
    resource("kubernetes:networking.istio.io/v1:Gateway", "entry", kubernetes_object("Gateway", "entry")),
]


# --- the script ---


def test_steps_follow_the_dependencies_and_take_objects_together() -> None:
    shown = [
        [item["kind"] for item in step.objects] if isinstance(step, script.Apply) else step.inputs["name"]
        for step in script.steps(RESOURCES)
    ]
    assert shown == [["Gateway"], "istiod-1", ["Namespace", "Secret", "Deployment"], "gw"]


def test_secrets_are_in_the_objects_in_clear() -> None:
    objects = [item for step in script.steps(RESOURCES) if isinstance(step, script.Apply) for item in step.objects]
    assert [item["data"] for item in objects if item["kind"] == "Secret"] == [{"tls.key": "a2V5"}]


def test_the_script_waits_for_what_pulumi_waits_for(tmp_path: Path) -> None:
    install, remove = script.write(script.steps(RESOURCES), tmp_path)
    lines = [shlex.split(line) for line in install.read_text().splitlines()[1:]]
    assert [line[:3] for line in lines] == [
        ["kubectl", "apply", "--server-side"],
        ["helm", "install", "istiod-1"],
        ["kubectl", "apply", "--server-side"],
        ["kubectl", "rollout", "status"],
        ["helm", "install", "gw"],
    ]
    assert all("--wait" in line for line in lines if line[0] == "helm")
    assert lines[3][3:6] == ["deployment/webapp", "--namespace", "istio-system"]
    values = json.loads(Path(lines[1][lines[1].index("--values") + 1]).read_text())
    assert values == {"revision": "1"}
    assert [line.split()[:3] for line in remove.read_text().splitlines()[1:]] == [
        ["helm", "uninstall", "gw"],
        ["kubectl", "delete", "--ignore-not-found"],
        ["helm", "uninstall", "istiod-1"],
        ["kubectl", "delete", "--ignore-not-found"],
    ]
    assert install.read_text().startswith("set -eu\n")


def test_no_secret_is_in_a_command(tmp_path: Path) -> None:
    install, remove = script.write(script.steps(RESOURCES), tmp_path)
    assert "a2V5" not in install.read_text() + remove.read_text()


def test_plain_opens_secrets_at_every_depth() -> None:
    assert plain({"a": [secret({"b": 1})], "c": secret(secret("d"))}) == {"a": [{"b": 1}], "c": "d"}


# --- the flat program ---


def test_the_flat_state_has_the_same_resources_without_components() -> None:
    moved = flat.state({"manifest": {}, "resources": RESOURCES, "secrets_providers": {"type": "passphrase"}})
    assert moved["deployment"]["secrets_providers"] == {"type": "passphrase"}
    kept = {it["urn"]: it for it in moved["deployment"]["resources"]}
    assert len(kept) == len(RESOURCES) - 1
    assert "outputs" not in kept["urn:pulumi:flat::flat::pulumi:pulumi:Stack::flat-flat"]
    moved_secret = kept["urn:pulumi:flat::flat::kubernetes:core/v1:Secret::secret"]
    assert moved_secret["parent"] == "urn:pulumi:flat::flat::pulumi:pulumi:Stack::flat-flat"
    assert moved_secret["provider"] == "urn:pulumi:flat::flat::pulumi:providers:kubernetes::cluster::1"
    assert set(moved_secret["dependencies"]) <= set(kept)
    assert moved_secret["propertyDependencies"] == {
        "data": ["urn:pulumi:flat::flat::tls:index/privateKey:PrivateKey::key"],
        "metadata": [],
    }
    assert moved_secret["inputs"] == RESOURCES[7]["inputs"]


def test_the_flat_program_names_classes_and_arguments_of_the_sdk() -> None:
    made = {it["name"]: it for it in flat.resources({"resources": RESOURCES})}
    assert {name: f"{it['module']}.{it['class']}" for name, it in made.items()} == {
        "cluster": "pulumi_kubernetes.Provider",
        "key": "pulumi_tls.PrivateKey",
        "istiod": "pulumi_kubernetes.helm.v3.Release",
        "namespace": "pulumi_kubernetes.core.v1.Namespace",
        "secret": "pulumi_kubernetes.core.v1.Secret",
        "gateway": "pulumi_kubernetes.helm.v3.Release",
        "webapp": "pulumi_kubernetes.apps.v1.Deployment",
        "service": "pulumi_kubernetes.core.v1.Service",
        "entry": "pulumi_kubernetes.apiextensions.CustomResource",
    }
    for it in made.values():
        assert hasattr(import_module(it["module"]), it["class"])
    assert made["cluster"]["arguments"] == {"enable_server_side_apply": True, "kubeconfig": secret("k")}
    assert made["key"]["arguments"] == {"algorithm": "ECDSA", "ecdsa_curve": "P256"}
    assert made["key"]["provider"] is None
    assert made["istiod"]["provider"] == "urn:pulumi:flat::flat::pulumi:providers:kubernetes::cluster"
    assert "disable_crd_hooks" in made["istiod"]["arguments"]
    assert (made["service"]["id"], made["webapp"]["id"]) == ("service", None)
    assert made["gateway"]["depends_on"] == ["urn:pulumi:flat::flat::kubernetes:core/v1:Namespace::namespace"]


# --- targets and the table ---


def result(value: float, aim: float | None = 0.9) -> Result:
    return Result(
        name="up_vs_script",
        value=value,
        unit="x",
        limit=1.1,
        aim=aim,
        runs={"pulumi up": [20.0, 22.0]},
        runs_unit="s",
        sizes={"resources": 75},
    )


@pytest.mark.parametrize(
    ("value", "aim", "outcome"),
    [(0.9, 0.9, "aim met"), (1.0, 0.9, "met"), (1.1, None, "met"), (1.11, 0.9, "MISSED"), (0.5, None, "met")],
)
def test_outcomes(value: float, aim: float | None, outcome: str) -> None:
    assert result(value, aim).outcome == outcome


def test_the_ratio_is_of_medians() -> None:
    assert ratio_of_medians({"a": [1.0, 3.0, 100.0], "b": [2.0, 2.0, 50.0]}, "a", "b") == 1.5


def test_the_table_says_value_target_and_outcome() -> None:
    console = Console(width=160, no_color=True)
    with console.capture() as capture:
        console.print(table([result(1.234), Failure("noop_overhead", "`pulumi up` ended with 255.\nlong log")]))
    shown = capture.get()
    for words in ("1.23", "at most 1.1, aim 0.9", "MISSED", "20.0 22.0 s", "75 resources", "could not be made"):
        assert words in shown
    assert "ended with 255" in shown
    assert "long log" not in shown


def test_an_unknown_measurement_is_named(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr("sys.argv", ["bench", "speed"])
    with pytest.raises(SystemExit):
        main()
    assert "no such measurement: speed (there are: up_vs_script, " in capsys.readouterr().err
