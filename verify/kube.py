"""What probes need of the Kubernetes API; its errors become VerifyErrors with the object's name."""

from __future__ import annotations

import base64
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

import httpx2
import lightkube
import yaml
from httpx2.websockets import HTTPXWSException
from lightkube.config.kubeconfig import KubeConfig
from lightkube.core.exceptions import ApiError
from lightkube.core.exceptions import ConfigError as KubeconfigError
from lightkube.core.resource import GlobalResource, NamespacedResource
from lightkube.models.authorization_v1 import ResourceAttributes, SubjectAccessReviewSpec
from lightkube.resources.authorization_v1 import SubjectAccessReview
from lightkube.resources.core_v1 import Namespace, Node, Pod, Secret
from lightkube.types import CascadeType

from verify.errors import VerifyError
from verify.shell import Completed

N = TypeVar("N", bound=NamespacedResource)

FORBIDDEN, MISSING, CONFLICT, INVALID = 403, 404, 409, 422


@dataclass(frozen=True)
class Subject:
    """Somebody who asks the API server, as it knows them."""

    user: str
    groups: tuple[str, ...]


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

    def create(self, item: NamespacedResource | GlobalResource, *, exists_ok: bool = False) -> None:
        """Create an object, which carries its namespace itself."""
        with _told(f"create {_described(item)}", fine=(CONFLICT,) if exists_ok else ()), self._decoding:
            self._client.create(item)

    def refusal(self, item: NamespacedResource) -> str | None:
        """Why the API server would not admit an object, in its own words; None when it would.

        A dry run: the object goes through all of admission and is not made.
        """
        try:
            with self._decoding:
                self._client.create(item, dry_run=True)
        except ApiError as error:
            if error.status.code in (FORBIDDEN, INVALID):
                return error.status.message or "no reason given"
            raise VerifyError(f"cannot ask for {_described(item)}: {error.status.message}") from None
        except httpx2.HTTPError as error:
            raise VerifyError(f"cannot ask for {_described(item)}: {error or type(error).__name__}") from None
        return None

    def may(self, subject: Subject, verb: str, resource: str, namespace: str) -> bool:
        """Whether RBAC lets somebody do something.

        `resource` is a plural[/subresource], with `.<API group>` but for the core's.
        """
        plural, _, group = resource.partition(".")
        plural, _, part = plural.partition("/")
        review = SubjectAccessReview(
            spec=SubjectAccessReviewSpec(
                user=subject.user,
                groups=list(subject.groups),
                resourceAttributes=ResourceAttributes(
                    namespace=namespace, verb=verb, group=group, resource=plural, subresource=part
                ),
            )
        )
        with _told(f"ask whether {subject.user} may {verb} {resource} in {namespace}"), self._decoding:
            answer = self._client.create(review)
        return answer.status is not None and answer.status.allowed

    def namespaces(self, labels: dict[str, str]) -> list[Namespace]:
        """The namespaces with these labels."""
        with _told("list namespaces"), self._decoding:
            return list(self._client.list(Namespace, labels=dict(labels)))

    def delete_namespace(self, name: str) -> None:
        """Delete a namespace with all that is in it; it goes away later. Gone already is fine."""
        with _told(f"delete namespace {name}", fine=(MISSING,)), self._decoding:
            self._client.delete(Namespace, name, cascade=CascadeType.BACKGROUND)

    def delete(self, kind: type[NamespacedResource], namespace: str, name: str) -> None:
        """Delete an object; gone already is fine."""
        with _told(f"delete {kind.__name__} {namespace}/{name}", fine=(MISSING,)), self._decoding:
            self._client.delete(kind, name, namespace=namespace)

    def everywhere(self, kind: type[N], labels: Mapping[str, str]) -> list[N]:
        """The objects of a kind with these labels, in any namespace."""
        with _told(f"list {kind.__name__}s"), self._decoding:
            return list(self._client.list(kind, namespace="*", labels=dict(labels)))

    def nodes(self, labels: Mapping[str, str]) -> list[Node]:
        """The nodes with these labels."""
        with _told("list nodes"), self._decoding:
            return list(self._client.list(Node, labels=dict(labels)))

    def pod(self, namespace: str, name: str) -> Pod:
        """One pod."""
        with _told(f"get pod {namespace}/{name}"), self._decoding:
            return self._client.get(Pod, name, namespace=namespace)

    def running(self, namespace: str, labels: Mapping[str, str]) -> list[Pod]:
        """The running pods with these labels."""
        with _told(f"list pods in {namespace}"), self._decoding:
            found = self._client.list(Pod, namespace=namespace, labels=dict(labels))
            return [pod for pod in found if pod.status is not None and pod.status.phase == "Running"]

    def pods(self, namespace: str, labels: Mapping[str, str]) -> list[str]:
        """Names of the running pods with these labels."""
        return [_name(pod) for pod in self.running(namespace, labels)]

    def secret(self, namespace: str, name: str) -> dict[str, bytes]:
        """A Secret's data, decoded."""
        with _told(f"read Secret {namespace}/{name}"), self._decoding:
            data = self._client.get(Secret, name, namespace=namespace).data
        return {key: base64.b64decode(value) for key, value in (data or {}).items()}

    def log(self, namespace: str, pod: str, container: str, since: int) -> list[str]:
        """A container's log lines of the last `since` seconds; none when the pod is gone."""
        with _told(f"read the log of pod {namespace}/{pod}", fine=(MISSING,)):
            return list(self._client.log(pod, namespace=namespace, container=container, since=since, newlines=False))
        return []

    def run(
        self, namespace: str, pod: str, container: str, command: Sequence[str], timeout: float, stdin: str = ""
    ) -> Completed:
        """Run a command in a container for at most `timeout` seconds; `stdin` is what it may read."""
        with _told(f"run {command[0]} in pod {namespace}/{pod}"):
            # Output that is no UTF-8 is no reason to fail: decoded here, not by lightkube.
            done = self._client.exec(
                pod,
                namespace=namespace,
                container=container,
                command=list(command),
                stdin=stdin or None,
                stdout=True,
                stderr=True,
                decode=None,
                timeout=timeout,
            )
        return Completed(done.exit_code, _text(done.stdout), _text(done.stderr))


@contextmanager
def _told(what: str, *, fine: tuple[int, ...] = ()) -> Iterator[None]:
    """Tells of the API's errors, but for those with a status code that is fine."""
    try:
        yield
    except ApiError as error:
        if error.status.code not in fine:
            raise VerifyError(f"cannot {what}: {error.status.message}") from None
    except (httpx2.HTTPError, HTTPXWSException) as error:
        raise VerifyError(f"cannot {what}: {error or type(error).__name__}") from None


def _text(output: str | bytes | None) -> str:
    return output.decode("utf-8", errors="replace") if isinstance(output, bytes) else output or ""


def _described(item: NamespacedResource | GlobalResource) -> str:
    metadata = getattr(item, "metadata", None)
    return "/".join(filter(None, (type(item).__name__, metadata and metadata.namespace, metadata and metadata.name)))


def _name(item: Any) -> str:
    return str(item.metadata.name)
