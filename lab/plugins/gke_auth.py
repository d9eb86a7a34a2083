"""The stand-in for gke-gcloud-auth-plugin, which kubeconfigs of GKE clusters name: the lab's administrator.

Google's prints an access token of the caller's; this one prints the client certificate of the lab's administrator, for
the cluster of the simulated cloud is the lab's own API server.
"""

from __future__ import annotations

import base64
import json
import os
import sys

from lab.instance import Instance
from lab.plugins.guard import refusal


def credential(instance: Instance, version: str) -> dict[str, object]:
    """An ExecCredential of this version of client.authentication.k8s.io."""
    kubeconfig = json.loads(instance.kubeconfig.read_text())
    user = kubeconfig["users"][0]["user"]
    status = {
        "clientCertificateData": _decoded(user["client-certificate-data"]),
        "clientKeyData": _decoded(user["client-key-data"]),
    }
    return {"apiVersion": version, "kind": "ExecCredential", "status": status}


def _decoded(data: str) -> str:
    return base64.b64decode(data).decode()


def main() -> int:
    """Print the credential; 1 outside the lab."""
    if reason := refusal(os.environ):
        print(
            f"gke-gcloud-auth-plugin here is a stand-in for meshgate's lab and refuses to work: {reason}",
            file=sys.stderr,
        )
        return 1
    # Clients say which version they take; those that do not are old enough for the first.
    asked = json.loads(os.environ.get("KUBERNETES_EXEC_INFO") or "{}")
    version = asked.get("apiVersion", "client.authentication.k8s.io/v1beta1")
    print(json.dumps(credential(Instance(os.environ["MESHGATE_LAB"]), version)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
