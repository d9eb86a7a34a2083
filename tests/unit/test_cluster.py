"""The cluster that exists: its kubeconfig made fit to be handed on, and what differs from the settings."""

from __future__ import annotations

import base64
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

import stacks
from components.cluster.kubeconfig import KubeconfigError, self_contained
from settings import SettingsError, load
from tests.unit.conftest import FakeCluster, node
from tests.unit.program import Program, run

# Kubeconfig


def kubeconfig() -> dict[str, Any]:
    """Two clusters, two users, two contexts; the current one names files."""
    return {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [
            {"name": "one", "cluster": {"server": "https://10.5.0.2:6443", "certificate-authority": "pki/ca.pem"}},
            {"name": "two", "cluster": {"server": "https://10.5.0.3:6443"}},
        ],
        "users": [
            {"name": "admin", "user": {"client-certificate": "pki/admin.pem", "client-key": "pki/admin-key.pem"}},
            {"name": "reader", "user": {"token": "not-a-real-token"}},
        ],
        "contexts": [
            {"name": "first", "context": {"cluster": "one", "user": "admin"}},
            {"name": "second", "context": {"cluster": "two", "user": "reader", "namespace": "shop"}},
        ],
        "current-context": "first",
    }


@pytest.fixture
def file(tmp_path: Path) -> Path:
    (tmp_path / "pki").mkdir()
    for name in ("ca", "admin", "admin-key"):
        (tmp_path / "pki" / f"{name}.pem").write_text(f"<{name}>")
    path = tmp_path / "config"
    path.write_text(yaml.safe_dump(kubeconfig()))
    return path


def encoded(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


def test_current_context_with_its_files_put_in(file: Path) -> None:
    assert yaml.safe_load(self_contained(str(file), None)) == {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [
            {
                "name": "one",
                "cluster": {"server": "https://10.5.0.2:6443", "certificate-authority-data": encoded("<ca>")},
            }
        ],
        "users": [
            {
                "name": "admin",
                "user": {
                    "client-certificate-data": encoded("<admin>"),
                    "client-key-data": encoded("<admin-key>"),
                },
            }
        ],
        "contexts": [{"name": "first", "context": {"cluster": "one", "user": "admin"}}],
        "current-context": "first",
    }


def test_chosen_context_and_nothing_of_the_others(file: Path) -> None:
    text = self_contained(str(file), "second")
    result = yaml.safe_load(text)
    assert result["current-context"] == "second"
    assert result["contexts"] == [
        {"name": "second", "context": {"cluster": "two", "user": "reader", "namespace": "shop"}}
    ]
    assert result["users"] == [{"name": "reader", "user": {"token": "not-a-real-token"}}]
    assert "10.5.0.2" not in text
    assert "admin" not in text


def test_absolute_paths_and_home(file: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    config = kubeconfig()
    config["clusters"][0]["cluster"]["certificate-authority"] = str(tmp_path / "pki/ca.pem")
    file.write_text(yaml.safe_dump(config))
    monkeypatch.setenv("HOME", str(tmp_path))
    result = yaml.safe_load(self_contained("~/config", None))
    assert result["clusters"][0]["cluster"]["certificate-authority-data"] == encoded("<ca>")


def test_the_same_text_every_time(file: Path) -> None:
    """Else the provider would change at every `pulumi up`."""
    config = kubeconfig()
    first = self_contained(str(file), None)
    file.write_text(yaml.safe_dump(dict(reversed(config.items())), sort_keys=False))
    assert self_contained(str(file), None) == first


def test_token_file_is_put_in(file: Path, tmp_path: Path) -> None:
    (tmp_path / "token").write_text("not-a-real-token\n")
    config = kubeconfig()
    config["users"][0]["user"] = {"tokenFile": "token"}
    file.write_text(yaml.safe_dump(config))
    assert yaml.safe_load(self_contained(str(file), None))["users"][0]["user"] == {"token": "not-a-real-token"}


def _without(*path: str | int) -> Callable[[dict[str, Any]], None]:
    def change(config: dict[str, Any]) -> None:
        at: Any = config
        for part in path[:-1]:
            at = at[part]
        del at[path[-1]]

    return change


@pytest.mark.parametrize(
    ("change", "context", "message"),
    [
        (_without("contexts"), None, "{file} has no contexts; is it a kubeconfig?"),
        (_without("current-context"), None, "{file} has no current-context; name one with the key context"),
        (None, "third", "{file} has no 'third' under contexts (there are: first, second)"),
        (_without("clusters", 0), None, "{file} has no 'one' under clusters (there are: two)"),
        (_without("users"), None, "{file} has no 'admin' under users (there are: none)"),
    ],
)
def test_kubeconfig_that_lacks_something(
    file: Path, change: Callable[[dict[str, Any]], None] | None, context: str | None, message: str
) -> None:
    config = kubeconfig()
    if change:
        change(config)
    file.write_text(yaml.safe_dump(config))
    with pytest.raises(KubeconfigError) as error:
        self_contained(str(file), context)
    assert str(error.value) == message.format(file=file)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("clusters: [", "{file} is not YAML"),
        ("just text", "{file} has no contexts; is it a kubeconfig?"),
        ("", "{file} has no contexts; is it a kubeconfig?"),
        ("a: 1\n---\nb: 2\n", "{file} is not YAML"),
    ],
)
def test_file_that_is_no_kubeconfig(file: Path, content: str, message: str) -> None:
    file.write_text(content)
    with pytest.raises(KubeconfigError) as error:
        self_contained(str(file), None)
    assert str(error.value) == message.format(file=file)


@pytest.mark.parametrize(
    "content",
    [
        "contexts: [first]\ncurrent-context: first\n",
        "contexts: [{name: first}]\ncurrent-context: first\n",
        "contexts: [{name: first, context: {cluster: one}}]\ncurrent-context: first\nclusters: [{name: one}]\n",
        b"\xff\xfe\x00",
    ],
)
def test_file_with_the_wrong_shape(file: Path, content: str | bytes) -> None:
    file.write_bytes(content.encode() if isinstance(content, str) else content)
    with pytest.raises(KubeconfigError):
        self_contained(str(file), None)


def test_missing_files(file: Path, tmp_path: Path) -> None:
    with pytest.raises(KubeconfigError) as error:
        self_contained(str(tmp_path / "none"), None)
    assert str(error.value) == f"{tmp_path}/none cannot be read (No such file or directory)"
    (tmp_path / "pki/ca.pem").unlink()
    with pytest.raises(KubeconfigError) as error:
        self_contained(str(file), None)
    assert str(error.value) == (f"{file} names {tmp_path}/pki/ca.pem, which cannot be read (No such file or directory)")


# Preflight


@pytest.fixture
def config(dev: dict[str, Any]) -> dict[str, Any]:
    """Of dev the layer `cluster` alone, which is all that is checked."""
    return {"name": "dev", "layers": ["cluster"], "cluster": dev["cluster"]}


def differs(config: dict[str, Any]) -> list[tuple[str, str]]:
    """What the program says of the cluster instead of making anything."""
    with pytest.raises(SettingsError) as error:
        run(config)
    return [(problem.key, problem.message) for problem in error.value.problems]


def test_cluster_is_as_configured(config: dict[str, Any]) -> None:
    run(config)


@pytest.mark.parametrize(
    ("major", "minor", "minimum", "message"),
    [
        ("1", "31", "1.32", "the server is Kubernetes 1.31, older than 1.32; upgrade it"),
        # 1.9 is older than 1.10, which text is not.
        ("1", "9", "1.10", "the server is Kubernetes 1.9, older than 1.10; upgrade it"),
        ("1", "31+", "1.32", "the server is Kubernetes 1.31, older than 1.32; upgrade it"),
        ("1", "32", "1.32", None),
        # As GKE and EKS say it.
        ("1", "34+", "1.34", None),
        ("1", "100", "1.34", None),
    ],
)
def test_version(
    cluster: FakeCluster, config: dict[str, Any], major: str, minor: str, minimum: str, message: str | None
) -> None:
    cluster.version = {"major": major, "minor": minor}
    config["cluster"]["minimumVersion"] = minimum
    if message is None:
        run(config)
    else:
        assert differs(config) == [("cluster.minimumVersion", message)]


def test_missing_nodes(cluster: FakeCluster, config: dict[str, Any]) -> None:
    del cluster.nodes[1]
    assert differs(config) == [
        (
            "cluster.nodePools[0]",
            "pool 'application' should have 2 nodes labelled cloud.google.com/gke-nodepool=application; "
            "the cluster has 1",
        )
    ]


def test_more_nodes_than_asked_for(cluster: FakeCluster, config: dict[str, Any]) -> None:
    cluster.nodes.append(node("app-3", "10.0.0.15", "10.1.5.0/24", "application"))
    run(config)


def test_no_nodes_at_all(cluster: FakeCluster, config: dict[str, Any]) -> None:
    cluster.nodes.clear()
    assert [key for key, _ in differs(config)] == [f"cluster.nodePools[{index}]" for index in range(3)]


def test_taint_that_is_missing_one_too_many_and_another_value(cluster: FakeCluster, config: dict[str, Any]) -> None:
    cluster.nodes[0]["spec"]["taints"] = [{"key": "batch", "effect": "NoExecute"}]
    cluster.nodes[2]["spec"]["taints"] = []
    cluster.nodes[3]["spec"]["taints"][0]["value"] = "gateways"
    assert differs(config) == [
        (
            "cluster.nodePools[0].taints",
            "node 'app-1' has batch=:NoExecute; pool 'application' should have no taint",
        ),
        (
            "cluster.nodePools[1].taints",
            "node 'open' has no taint; pool 'open' should have dedicated=open:NoSchedule",
        ),
        (
            "cluster.nodePools[2].taints",
            "node 'gateway' has dedicated=gateways:NoSchedule; pool 'gateway' should have dedicated=gateway:NoSchedule",
        ),
    ]


def test_taints_that_kubernetes_sets_itself_do_not_count(cluster: FakeCluster, config: dict[str, Any]) -> None:
    for item in cluster.nodes:
        item["spec"]["taints"].append({"key": "node.kubernetes.io/not-ready", "effect": "NoSchedule"})
    run(config)


def test_addresses_outside(cluster: FakeCluster, config: dict[str, Any]) -> None:
    cluster.nodes[0]["status"]["addresses"] = [
        {"type": "Hostname", "address": "app-1"},
        {"type": "ExternalIP", "address": "203.0.113.9"},
        {"type": "InternalIP", "address": "10.0.1.11"},
        # Of a node with two families only IPv4 is compared.
        {"type": "InternalIP", "address": "fd00::11"},
    ]
    cluster.nodes[3]["spec"]["podCIDR"] = "10.2.0.0/24"
    assert differs(config) == [
        ("cluster.cidrs.nodes", "node 'app-1' has the address 10.0.1.11, outside 10.0.0.0/24"),
        ("cluster.cidrs.pods", "node 'gateway' gives its pods addresses of 10.2.0.0/24, outside 10.1.0.0/16"),
    ]


def test_nodes_without_pod_cidr(cluster: FakeCluster, config: dict[str, Any]) -> None:
    """Calico and Cilium give pods addresses in their own way."""
    for item in cluster.nodes:
        del item["spec"]["podCIDR"]
    run(config)


def test_several_problems_at_once(cluster: FakeCluster, config: dict[str, Any]) -> None:
    cluster.version = {"major": "1", "minor": "30"}
    del cluster.nodes[3]
    cluster.nodes[2]["spec"]["taints"] = []
    cluster.nodes[0]["spec"]["podCIDR"] = "10.9.0.0/24"
    assert [key for key, _ in differs(config)] == [
        "cluster.minimumVersion",
        "cluster.nodePools[1].taints",
        "cluster.nodePools[2]",
        "cluster.cidrs.pods",
    ]


def test_server_that_nobody_answers_for(cluster: FakeCluster, config: dict[str, Any]) -> None:
    cluster.server.shutdown()
    cluster.server.server_close()
    server = f"http://127.0.0.1:{cluster.server.server_port}"
    [(key, message)] = differs(config)
    assert key == "cluster.kubeconfig"
    assert message.startswith(f"the API server {server} does not answer as it should: ")
    assert "refused" in message


def test_credentials_that_are_not_enough(cluster: FakeCluster, config: dict[str, Any]) -> None:
    cluster.status = 403
    [(key, message)] = differs(config)
    assert key == "cluster.kubeconfig"
    assert f"the API server http://127.0.0.1:{cluster.server.server_port} does not answer as it should: " in message
    assert "403" in message
    assert "not-a-real-token" not in message


@pytest.mark.parametrize("answer", [b"<html>Log in first</html>", {"hello": "world"}, ["1", "34"]])
def test_server_that_is_no_api_server(cluster: FakeCluster, config: dict[str, Any], answer: object) -> None:
    cluster.version = answer
    [(key, message)] = differs(config)
    assert key == "cluster.kubeconfig"
    assert f"the API server http://127.0.0.1:{cluster.server.server_port} does not answer as it should: " in message


def test_kubeconfig_that_cannot_be_used(config: dict[str, Any]) -> None:
    config["cluster"]["context"] = "other"
    file = config["cluster"]["kubeconfig"]
    assert differs(config) == [("cluster.kubeconfig", f"{file} has no 'other' under contexts (there are: fake)")]


def test_nothing_is_registered_when_the_preflight_fails(
    cluster: FakeCluster, dev: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    cluster.nodes.clear()

    def too_early(*_: object) -> None:
        pytest.fail("the stack's parts are made although the preflight failed")

    monkeypatch.setattr(stacks, "Upstream", too_early)
    with pytest.raises(SettingsError):
        stacks.build(load(dev))


# What it hands on


def test_cluster_contract(config: dict[str, Any], cluster: FakeCluster) -> None:
    program = run(config)
    handed = yaml.safe_load(program.outputs.pop("cluster_kubeconfig"))
    assert handed["clusters"][0]["cluster"]["server"] == f"http://127.0.0.1:{cluster.server.server_port}"
    assert program.outputs == {
        "cluster_contract": 1,
        "cluster_identifier": "dev",
        "cluster_pod_cidr": "10.1.0.0/16",
        "cluster_service_cidr": "10.2.0.0/20",
        "cluster_name": "dev",
        "cluster_location": "",
    }
    assert program.secret_outputs == {"cluster_kubeconfig"}
    # Nobody in this stack uses a provider, so there is none.
    assert [resource.type for resource in program.resources] == ["meshgate:cluster:OnpremCluster"]


def test_provider(dev_program: Program) -> None:
    provider = dev_program.one("dev-kubernetes")
    assert provider.secrets == {"kubeconfig"}
    assert provider.inputs["kubeconfig"] == dev_program.outputs["cluster_kubeconfig"]
    del provider.inputs["kubeconfig"]
    assert provider.inputs == {
        "clusterIdentifier": "dev",
        "enableServerSideApply": "true",
        "enableSecretMutable": "true",
        "enableConfigMapMutable": "true",
    }
