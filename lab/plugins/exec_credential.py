"""The credential that kubeconfigs of simulated clusters get from the stand-ins of the clouds' own programs.

The real programs print a token of the caller's; these print the client certificate of the lab's administrator, for a
cluster of a simulated cloud is the lab's own API server.
"""

from __future__ import annotations

import base64
import json
import os

from lab.instance import Instance


def credential(instance: Instance, version: str) -> dict[str, object]:
    """An ExecCredential of this version of client.authentication.k8s.io."""
    kubeconfig = json.loads(instance.kubeconfig.read_text())
    user = kubeconfig["users"][0]["user"]
    status = {
        "clientCertificateData": _decoded(user["client-certificate-data"]),
        "clientKeyData": _decoded(user["client-key-data"]),
    }
    return {"apiVersion": version, "kind": "ExecCredential", "status": status}


def printed() -> str:
    """The credential for the client that asks, in JSON."""
    # Clients say which version they take; those that do not are old enough for the first.
    asked = json.loads(os.environ.get("KUBERNETES_EXEC_INFO") or "{}")
    version = asked.get("apiVersion", "client.authentication.k8s.io/v1beta1")
    return json.dumps(credential(Instance(os.environ["MESHGATE_LAB"]), version))


def _decoded(data: str) -> str:
    return base64.b64decode(data).decode()
