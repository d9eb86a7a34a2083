"""What probes need of the Kubernetes API; its errors become VerifyErrors with the object's name."""

from __future__ import annotations

import base64
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

import httpx2
import lightkube
import yaml
from httpx2.websockets import HTTPXWSException
from lightkube.config.kubeconfig import KubeConfig
from lightkube.core.exceptions import ApiError
from lightkube.core.exceptions import ConfigError as KubeconfigError
from lightkube.core.resource import GlobalResource, NamespacedResource
from lightkube.resources.core_v1 import Namespace, Pod, Secret
from lightkube.types import CascadeType

from verify.errors import VerifyError
from verify.shell import Completed

R = TypeVar("R", NamespacedResource, GlobalResource)


class Kube:
    """A cluster's API. Safe to use from several threads."""

    def __init__(self, client: lightkube.Client) -> None:
        self._client = client
        # msgspec, by which lightkube decodes objects, crashes when two threads are the first to decode a type.
        self._decoding = threading.Lock()

    @classmethod
    def from_kubeconfig(cls, kubeconfig: str) -> Kube:
        """`kubeconfig` is YAML with one context."""
        try:
            config = KubeConfig.from_dict(yaml.safe_load(kubeconfig)).get()
            return cls(lightkube.Client(config=config, timeout=httpx2.Timeout(15)))
        except (KubeconfigError, KeyError, yaml.YAMLError) as error:
            raise VerifyError(f"the cluster's kubeconfig (output cluster_kubeconfig) cannot be used: {error}") from None

    def create(self, item: NamespacedResource | GlobalResource) -> None:
        """Create an object, which carries its namespace itself."""
        with _told(f"create {item}"), self._decoding:
            self._client.create(item)

    def namespaces(self, labels: dict[str, str]) -> list[Namespace]:
        """The namespaces with these labels."""
        with _told("list namespaces"), self._decoding:
            return list(self._client.list(Namespace, labels=dict(labels)))

    def delete_namespace(self, name: str) -> None:
        """Delete a namespace with all that is in it; it goes away later. Gone already is fine."""
        with _told(f"delete namespace {name}", missing_ok=True), self._decoding:
            self._client.delete(Namespace, name, cascade=CascadeType.BACKGROUND)

    def pod(self, namespace: str, name: str) -> Pod:
        """One pod."""
        with _told(f"get pod {namespace}/{name}"), self._decoding:
            return self._client.get(Pod, name, namespace=namespace)

    def pods(self, namespace: str, labels: dict[str, str]) -> list[str]:
        """Names of the running pods with these labels."""
        with _told(f"list pods in {namespace}"), self._decoding:
            found = self._client.list(Pod, namespace=namespace, labels=dict(labels))
            return [_name(pod) for pod in found if pod.status is not None and pod.status.phase == "Running"]

    def secret(self, namespace: str, name: str) -> dict[str, bytes]:
        """A Secret's data, decoded."""
        with _told(f"read Secret {namespace}/{name}"), self._decoding:
            data = self._client.get(Secret, name, namespace=namespace).data
        return {key: base64.b64decode(value) for key, value in (data or {}).items()}

    def log(self, namespace: str, pod: str, container: str, since: int) -> list[str]:
        """A container's log lines of the last `since` seconds; none when the pod is gone."""
        with _told(f"read the log of pod {namespace}/{pod}", missing_ok=True):
            return list(self._client.log(pod, namespace=namespace, container=container, since=since, newlines=False))
        return []

    def run(self, namespace: str, pod: str, container: str, command: Sequence[str], timeout: float) -> Completed:
        """Run a command in a container for at most `timeout` seconds."""
        with _told(f"run {command[0]} in pod {namespace}/{pod}"):
            # Output that is no UTF-8 is no reason to fail: decoded here, not by lightkube.
            done = self._client.exec(
                pod,
                namespace=namespace,
                container=container,
                command=list(command),
                stdout=True,
                stderr=True,
                decode=None,
                timeout=timeout,
            )
        return Completed(done.exit_code, _text(done.stdout), _text(done.stderr))


@contextmanager
def _told(what: str, *, missing_ok: bool = False) -> Iterator[None]:
    try:
        yield
    except ApiError as error:
        if not (missing_ok and error.status.code == 404):
            raise VerifyError(f"cannot {what}: {error.status.message}") from None
    except (httpx2.HTTPError, HTTPXWSException) as error:
        raise VerifyError(f"cannot {what}: {error or type(error).__name__}") from None


def _text(output: str | bytes | None) -> str:
    return output.decode("utf-8", errors="replace") if isinstance(output, bytes) else output or ""


def _name(item: Any) -> str:
    return str(item.metadata.name)
