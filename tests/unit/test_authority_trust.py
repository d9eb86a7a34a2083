"""How a running mesh is asked for the roots that it trusts."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pulumi
import pytest
import yaml

from components.authority.trust import live_roots

CONFIG_MAP = "/api/v1/namespaces/istio-control/configmaps/istio-ca-root-cert"


class Answers:
    """An API server that has this to say about the ConfigMap, and nothing else."""

    def __init__(self) -> None:
        self.status = 200
        self.body: dict[str, Any] = {"kind": "ConfigMap", "metadata": {}, "data": {"root-cert.pem": "<roots>"}}
        answers = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                known = self.path == CONFIG_MAP
                data = json.dumps(answers.body if known else {"code": 400, "message": self.path}).encode()
                self.send_response(answers.status if known else 400)
                self.send_header("content-type", "application/json")
                self.send_header("content-length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            def log_message(self, format: str, *args: Any) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.server.serve_forever, args=(0.01,), daemon=True).start()

    def refuse(self, status: int, message: str) -> None:
        """Answer with an error of the API."""
        self.status, self.body = status, {"kind": "Status", "code": status, "message": message}

    @property
    def kubeconfig(self) -> str:
        """Reaches it."""
        cluster = {"server": f"http://127.0.0.1:{self.server.server_port}"}
        return yaml.safe_dump(
            {
                "clusters": [{"name": "fake", "cluster": cluster}],
                "users": [{"name": "admin", "user": {}}],
                "contexts": [{"name": "fake", "context": {"cluster": "fake", "user": "admin"}}],
                "current-context": "fake",
            }
        )


@pytest.fixture
def api() -> Iterator[Answers]:
    """An API server of a mesh."""
    answers = Answers()
    yield answers
    answers.server.shutdown()
    answers.server.server_close()


def test_what_istiod_tells_its_own_namespace(api: Answers) -> None:
    assert live_roots("istio-control", api.kubeconfig) == "<roots>"


def test_no_mesh_yet(api: Answers) -> None:
    api.refuse(404, 'configmaps "istio-ca-root-cert" not found')
    assert live_roots("istio-control", api.kubeconfig) == ""
    api.status, api.body = 200, {"kind": "ConfigMap", "metadata": {}}
    assert live_roots("istio-control", api.kubeconfig) == ""


def test_refused(api: Answers) -> None:
    """Not to know is not to go on: a wrong step shows only when proxies fall out."""
    api.refuse(403, "configmaps is forbidden")
    with pytest.raises(pulumi.RunError) as error:
        live_roots("istio-control", api.kubeconfig)
    assert str(error.value) == (
        "the roots that the mesh trusts (ConfigMap istio-control/istio-ca-root-cert) cannot be read: "
        "configmaps is forbidden"
    )


def test_unreachable(api: Answers) -> None:
    kubeconfig = api.kubeconfig
    api.server.shutdown()
    api.server.server_close()
    with pytest.raises(pulumi.RunError, match=r"istio-ca-root-cert\) cannot be read: .*refused"):
        live_roots("istio-control", kubeconfig)
