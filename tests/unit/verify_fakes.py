"""Stand-ins at the boundaries of verify: curl, and the Kubernetes API with Envoys behind it."""

from __future__ import annotations

import json
import stat
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from lightkube.models.core_v1 import Container, PodCondition, PodSpec, PodStatus
from lightkube.resources.core_v1 import Pod

from components.mesh.istio import ACCESS_LOG_FORMAT
from settings import Settings
from verify import envoy
from verify.context import Context
from verify.counters import Firewall
from verify.curl import TOO_MANY_REDIRECTS
from verify.kube import Kube
from verify.pods import Pods
from verify.shell import Completed
from verify.workload import Images

LOCAL = "203.0.113.10:40000"


def option(command: Sequence[str], name: str) -> str | None:
    """The value of a command line's option."""
    return command[command.index(name) + 1] if name in command else None


def transfer(
    command: Sequence[str],
    *,
    exit_code: int = 0,
    error: str = "",
    status: int = 200,
    http_version: str = "2",
    tls: str | None = "TLSv1.3",
    headers: dict[str, list[str]] | None = None,
    body: str = "",
    certificates: Sequence[x509.Certificate] = (),
    local: str = LOCAL,
    remote: str = "198.51.100.10",
    tried: str | None = None,
    redirects: int = 0,
    url: str | None = None,
    seconds: float = 0.01,
) -> Completed:
    """What curl writes for one transfer."""
    separator, _, _ = (option(command, "--write-out") or "").partition("{")
    address, _, port = local.rpartition(":")
    facts = {
        "errormsg": error or None,
        "response_code": 0 if exit_code not in (0, TOO_MANY_REDIRECTS) else status,
        "http_version": "0" if exit_code else http_version,
        "certs": "".join(f"Subject:x\nIssuer:y\n{one.public_bytes(Encoding.PEM).decode()}" for one in certificates),
        "remote_ip": "" if exit_code in (6, 7, 28) else remote,
        "remote_port": 80,
        "local_ip": address,
        "local_port": int(port),
        "num_redirects": redirects,
        "url_effective": url or command[-1],
        "time_total": seconds,
    }
    stderr = f"*   Trying {tried}...\n" if tried else ""
    stderr += f"* SSL connection using {tls} / TLS_AES_256_GCM_SHA384\n" if tls and not exit_code else ""
    written = json.dumps({"transfer": facts, "headers": headers or {}})
    return Completed(
        exit_code, f"{body}{separator}{written}", stderr + (f"curl: ({exit_code}) {error}\n" if error else "")
    )


def log_line(**operators: str) -> str:
    """A line in the mesh's format; `-` for every operator that is not given, by its name in lower case."""
    line = ACCESS_LOG_FORMAT.strip()
    names = {
        "user_agent": "%REQ(USER-AGENT)%",
        "upstream_cluster": "%UPSTREAM_CLUSTER_RAW%",
        "peer": "%DOWNSTREAM_PEER_URI_SAN%",
    }
    for name, value in operators.items():
        operator = names.get(name, f"%{name.upper()}%")
        assert operator in line
        line = line.replace(operator, value)
    return "".join(part if index % 2 == 0 else "-" for index, part in enumerate(line.split("%")))


@dataclass
class FakeShell:
    """A client; `answer` stands in for curl."""

    answer: Callable[[Sequence[str]], Completed]
    name: str = "here"
    commands: list[list[str]] = field(default_factory=list)

    def run(self, command: Sequence[str], timeout: float, stdin: str = "") -> Completed:
        self.commands.append(list(command))
        return self.answer(command)


@dataclass
class FakeKube:
    """An API server whose pods log and count what a test says."""

    lines: dict[str, list[str]] = field(default_factory=dict)
    """Log lines by pod."""

    counters: dict[str, int] = field(default_factory=dict)
    listeners: list[int] = field(default_factory=list)
    """Ports on which its proxies listen."""

    secrets: dict[str, dict[str, bytes]] = field(default_factory=dict)
    created: list[Any] = field(default_factory=list)
    deleted: list[str] = field(default_factory=list)
    ran: list[tuple[str, list[str]]] = field(default_factory=list)

    def create(self, item: Any, *, exists_ok: bool = False) -> None:
        self.created.append(item)

    def everywhere(self, kind: type[Any], labels: Mapping[str, str]) -> list[Any]:
        return []

    def delete(self, kind: type[Any], namespace: str, name: str) -> None:
        self.deleted.append(f"{kind.__name__} {namespace}/{name}")

    def namespaces(self, labels: dict[str, str]) -> list[Any]:
        return []

    def delete_namespace(self, name: str) -> None:
        self.deleted.append(name)

    def pods(self, namespace: str, labels: dict[str, str]) -> list[str]:
        return [labels["app"]]

    def pod(self, namespace: str, name: str) -> Pod:
        """Ready at once, with a sidecar."""
        return Pod(
            spec=PodSpec(containers=[], initContainers=[Container(name="istio-proxy")]),
            status=PodStatus(conditions=[PodCondition(type="Ready", status="True")]),
        )

    def secret(self, namespace: str, name: str) -> dict[str, bytes]:
        return self.secrets[name]

    def log(self, namespace: str, pod: str, container: str, since: int) -> list[str]:
        return self.lines.get(pod, [])

    def run(
        self, namespace: str, pod: str, container: str, command: Sequence[str], timeout: float, stdin: str = ""
    ) -> Completed:
        self.ran.append((pod, list(command)))
        if command[-1] == "listeners":
            return Completed(0, "".join(f"0.0.0.0_{port}::0.0.0.0:{port}\n" for port in self.listeners), "")
        text = "".join(f"listener.0.0.0.0_443.{name}: {value}\n" for name, value in self.counters.items())
        return Completed(0, text, "")


def context(
    directory: Path,
    settings: Settings,
    *,
    kube: Any = None,
    client: FakeShell | None = None,
    contracts: dict[str, dict[str, Any]] | None = None,
    firewall: Firewall | None = None,
) -> Context:
    """A context of fakes."""
    stop = threading.Event()
    kube = cast(Kube, kube or FakeKube())
    return Context(
        settings=settings,
        contracts=cast(Any, contracts or {}),
        clients=(client or FakeShell(lambda command: transfer(command)),),
        kube=kube,
        pods=Pods(kube, "stable", Images(asking="curl", serving="proxyv2"), stop, lambda text: None),
        directory=directory,
        stop=stop,
        firewall=firewall or Firewall(),
    )


def impatient(monkeypatch: Any) -> None:
    """Logs are read once, without waiting for lines."""
    monkeypatch.setattr(envoy, "LOG_DELAY", 0)
    monkeypatch.setattr(envoy, "LOG_PAUSE", 0)


def private(path: Path) -> bool:
    """Whether only its owner may read and write a file."""
    return stat.S_IMODE(path.stat().st_mode) == 0o600
