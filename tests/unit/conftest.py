"""The environments' configurations, and an API server and a Vault to run their preflights against."""

from __future__ import annotations

import copy
import gc
import json
import os
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from functools import cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, get_args
from unittest import mock

import pytest
import yaml
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.x509.oid import NameOID

from settings import Layer, requires
from tests.unit import mesh_ca
from tests.unit.fake_vault import TOKEN, FakeVault, fake_vault
from tests.unit.program import Program, run

CHECKOUT = Path(__file__).parents[2]

# The SDKs are many objects that never go; to look through all of them so often takes a fifth of the tests' time.
gc.set_threshold(200_000, 50, 1000)


@pytest.fixture(scope="session", autouse=True)
def labs_elsewhere(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """No unit test leaves anything where this machine's labs are."""
    with mock.patch.dict(os.environ, MESHGATE_LAB_DIR=str(tmp_path_factory.mktemp("labs"))):
        yield


class FakeCluster:
    """An API server that knows its version and its nodes: as much as the preflight asks for."""

    def __init__(self) -> None:
        self.version: object = {"major": "1", "minor": "34"}
        self.status = 200
        self.nodes = [
            node("app-1", "10.0.0.11", "10.1.1.0/24", "application"),
            node("app-2", "10.0.0.12", "10.1.2.0/24", "application"),
            node("open", "10.0.0.13", "10.1.3.0/24", "open", taint="open"),
            node("gateway", "10.0.0.14", "10.1.4.0/24", "gateway", taint="gateway"),
        ]
        cluster = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                nodes = {"apiVersion": "v1", "kind": "NodeList", "metadata": {}, "items": cluster.nodes}
                body = cluster.version if self.path == "/version" else nodes
                data = body if isinstance(body, bytes) else json.dumps(body).encode()
                self.send_response(cluster.status)
                self.send_header("content-type", "application/json")
                self.send_header("content-length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            def log_message(self, format: str, *args: Any) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.server.serve_forever, args=(0.01,), daemon=True).start()

    def kubeconfig(self) -> dict[str, Any]:
        """A kubeconfig that reaches it."""
        return {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": "fake", "cluster": {"server": f"http://127.0.0.1:{self.server.server_port}"}}],
            "users": [{"name": "admin", "user": {"token": "not-a-real-token"}}],
            "contexts": [{"name": "fake", "context": {"cluster": "fake", "user": "admin"}}],
            "current-context": "fake",
        }


def node(name: str, address: str, pods: str, pool: str, taint: str = "") -> dict[str, Any]:
    """A Node as the API server shows it."""
    taints = [{"key": "dedicated", "value": taint, "effect": "NoSchedule"}] if taint else []
    return {
        "metadata": {"name": name, "labels": {"cloud.google.com/gke-nodepool": pool, "meshgate.dev/pool": pool}},
        "spec": {"podCIDR": pods, "taints": taints},
        "status": {"addresses": [{"type": "InternalIP", "address": address}]},
    }


@contextmanager
def fake_cluster() -> Iterator[FakeCluster]:
    """A cluster that is as Pulumi.dev.yaml says, as long as it is used."""
    cluster = FakeCluster()
    try:
        yield cluster
    finally:
        cluster.server.shutdown()
        cluster.server.server_close()


@pytest.fixture
def cluster() -> Iterator[FakeCluster]:
    """A cluster that is as Pulumi.dev.yaml says."""
    with fake_cluster() as cluster:
        yield cluster


def stack_file(name: str) -> dict[str, Any]:
    """The configuration in Pulumi.<name>.yaml, keys without their namespace; each caller may change its own copy."""
    return copy.deepcopy(_stack_file(name))


@cache
def _stack_file(name: str) -> dict[str, Any]:
    config = yaml.safe_load((CHECKOUT / f"Pulumi.{name}.yaml").read_text())["config"]
    return {key.removeprefix("meshgate:"): value for key, value in config.items()}


def part(config: Mapping[str, Any], layers: Sequence[Layer], stack: str | Mapping[Layer, str]) -> dict[str, Any]:
    """The configuration of one stack of several: the same values, but only these layers.

    What they need besides is in `stack`, or in the one that it names for the layer.
    """
    needed = [below for layer in layers for below in requires(layer, config[layer]) or () if below not in layers]
    return {
        **{key: value for key, value in config.items() if key not in get_args(Layer)},
        "layers": list(layers),
        **{layer: config[layer] for layer in layers},
        "upstream": {layer: stack if isinstance(stack, str) else stack[layer] for layer in needed},
    }


@contextmanager
def on_site(environment: str, directory: Path) -> Iterator[dict[str, Any]]:
    """The configuration of dev or onprem, on a fake cluster and with a fake Vault as long as it is used.

    Its mesh CA has its chain, and the files that it names are in `directory`.
    """
    with fake_cluster() as cluster, fake_vault(directory) as vault, mock.patch.dict(os.environ, VAULT_TOKEN=TOKEN):
        yield _reaching(environment, cluster, vault, directory)


def _reaching(environment: str, cluster: FakeCluster, vault: FakeVault, directory: Path) -> dict[str, Any]:
    kubeconfig = directory / "kubeconfig"
    kubeconfig.write_text(yaml.safe_dump(cluster.kubeconfig()))
    config = stack_file(environment)
    config["cluster"]["kubeconfig"] = str(kubeconfig)
    config["authority"]["vault"] |= vault.settings
    for generation in config["authority"]["generations"]:
        generation["chain"] = mesh_ca.chain(f"{environment}-authority-{generation['name']}-request")
    if credentials := config["teams"].get("credentials"):
        config["teams"]["credentials"] = _credentials(credentials, directory)
    return config


def _credentials(credentials: Mapping[str, Mapping[str, str]], directory: Path) -> dict[str, dict[str, str]]:
    """The credentials with files in `directory` that may be what they say: one certificate, which signs itself."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "internet")])
    begin = datetime(2026, 1, 1, tzinfo=UTC)
    certificate = (
        x509.CertificateBuilder(name, name, key.public_key(), 1, begin, begin + timedelta(days=36500))
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, SHA256())
    )
    encoding = serialization.Encoding.PEM
    pem = {
        "ca": certificate.public_bytes(encoding),
        "certificate": certificate.public_bytes(encoding),
        "key": key.private_bytes(encoding, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()),
    }
    for field, content in pem.items():
        (directory / f"internet-{field}.pem").write_bytes(content)
    return {
        credential: {
            field: str(directory / f"internet-{field}.pem") if field in pem else value for field, value in files.items()
        }
        for credential, files in credentials.items()
    }


@pytest.fixture
def vault(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeVault]:
    """A Vault that is ready, and an operator who is logged in."""
    monkeypatch.setenv("VAULT_TOKEN", TOKEN)
    with fake_vault(tmp_path) as vault:
        yield vault


@pytest.fixture
def dev(cluster: FakeCluster, vault: FakeVault, tmp_path: Path) -> dict[str, Any]:
    """The configuration of dev on the fake cluster; each test may change its own copy."""
    return _reaching("dev", cluster, vault, tmp_path)


@pytest.fixture
def onprem(cluster: FakeCluster, vault: FakeVault, tmp_path: Path) -> dict[str, Any]:
    """The configuration of onprem on the fake cluster; each test may change its own copy."""
    return _reaching("onprem", cluster, vault, tmp_path)


@pytest.fixture
def dev_config() -> dict[str, Any]:
    """The configuration of dev as it is in its file, for tests that ask no cluster."""
    return stack_file("dev")


@pytest.fixture
def gke() -> dict[str, Any]:
    """The configuration of gke; each test may change its own copy."""
    return stack_file("gke")


@pytest.fixture(scope="session")
def gke_program() -> Program:
    """What gke registers: one run for all tests that only look at it."""
    return run(stack_file("gke"), stack="gke")


@pytest.fixture
def eks() -> dict[str, Any]:
    """The configuration of eks; each test may change its own copy."""
    return stack_file("eks")


@pytest.fixture(scope="session")
def eks_program() -> Program:
    """What eks registers: one run for all tests that only look at it."""
    return run(stack_file("eks"), stack="eks")


@pytest.fixture(scope="session")
def dev_program(tmp_path_factory: pytest.TempPathFactory) -> Program:
    """What dev registers: one run for all tests that only look at it."""
    with on_site("dev", tmp_path_factory.mktemp("dev")) as config:
        return run(config)


@pytest.fixture(scope="session")
def onprem_program(tmp_path_factory: pytest.TempPathFactory) -> Program:
    """What onprem registers once its mesh CA is signed: one run for all tests that only look at it."""
    with on_site("onprem", tmp_path_factory.mktemp("onprem")) as config:
        return run(config, stack="onprem")
