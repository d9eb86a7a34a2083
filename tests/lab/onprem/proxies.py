"""What the mesh's proxies hold: by it an operator knows when a rotation may go on."""

from __future__ import annotations

import json
import re
import subprocess
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.x509.oid import NameOID

from lab import pulumi as runner
from lab.instance import Instance
from tests.deployment import kubectl
from verify.authority_workloads import Held

CONTAINER = "istio-proxy"
REFRESHED = "meshgate.dev/refreshed"


@dataclass(frozen=True)
class Proxy:
    """A sidecar or a gateway."""

    pod: str
    """namespace/name."""

    serial: int
    """Of its certificate."""

    signer: str
    """Common name of the CA that signed it."""

    trusted: frozenset[str]
    """Common names of the roots that it trusts."""

    mounted: frozenset[str]
    """Those by which it trusts istiod: of the ConfigMap, as the kubelet has brought it."""


def proxies(lab: Instance) -> list[Proxy]:
    """All of the mesh."""
    with ThreadPoolExecutor(4) as pool:
        return list(pool.map(lambda pod: _proxy(lab, *pod), _pods(lab)))


def refresh(lab: Instance, *selector: str) -> None:
    """Have the kubelets bring changed Secrets and ConfigMaps at once, to the pods that `selector` chooses.

    They do so by themselves within a minute or two, and whenever a pod changes.
    """
    kubectl(lab, "annotate", "pods", "--overwrite", *selector, f"{REFRESHED}={time.time_ns()}")


def running(lab: Instance) -> set[str]:
    """<pod>.<namespace> of every pod in the mesh."""
    return {f"{pod}.{namespace}" for namespace, pod in _pods(lab)}


def served(lab: Instance, revision: str) -> dict[str, str]:
    """<pod>.<namespace> of those that an istiod of the revision serves, and the istiod.

    None while istioctl asks an istiod that is about to go.
    """
    command = runner.command(lab, ["istioctl", "proxy-status", "--revision", revision], Path("/"))
    done = subprocess.run(command, env=runner.environment(lab), capture_output=True, text=True)
    lines = re.findall(rf"^(\S+) .*\b(istiod-{revision}-\S+)", done.stdout, re.MULTILINE)
    return dict(lines)


def _pods(lab: Instance) -> Iterator[tuple[str, str]]:
    for pod in json.loads(kubectl(lab, "get", "pods", "-A", "-o", "json"))["items"]:
        containers = [*pod["spec"]["containers"], *pod["spec"].get("initContainers", [])]
        gone = pod["metadata"].get("deletionTimestamp") or pod["status"]["phase"] != "Running"
        if not gone and CONTAINER in [container["name"] for container in containers]:
            yield pod["metadata"]["namespace"], pod["metadata"]["name"]


def _proxy(lab: Instance, namespace: str, pod: str) -> Proxy:
    def run(*command: str) -> str:
        return kubectl(lab, "exec", pod, "-n", namespace, "-c", CONTAINER, "--", *command)

    dump: dict[str, Any] = json.loads(
        run("pilot-agent", "request", "GET", "config_dump?resource=dynamic_active_secrets")
    )
    held = Held.of(dump)
    mounted = x509.load_pem_x509_certificates(run("cat", "/var/run/secrets/istio/root-cert.pem").encode())
    return Proxy(
        f"{namespace}/{pod}",
        held.chain[0].serial_number,
        _common_name(held.chain[0].issuer),
        frozenset(_common_name(root.subject) for root in held.trusted),
        frozenset(_common_name(root.subject) for root in mounted),
    )


def _common_name(name: x509.Name) -> str:
    return str(name.get_attributes_for_oid(NameOID.COMMON_NAME)[0].value)
