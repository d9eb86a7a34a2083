"""What probes need of the Kubernetes API; its errors become VerifyErrors with the object's name."""

from __future__ import annotations

import base64
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

import httpx2
import lightkube
import yaml
from httpx2.websockets import HTTPXWSException, WebSocketDisconnect, WebSocketNetworkError
from lightkube.config.kubeconfig import KubeConfig
from lightkube.core.exceptions import ApiError
from lightkube.core.exceptions import ConfigError as KubeconfigError
from lightkube.core.resource import GlobalResource, NamespacedResource
from lightkube.models.authorization_v1 import ResourceAttributes, SubjectAccessReviewSpec
from lightkube.models.core_v1 import ServiceSpec
from lightkube.models.meta_v1 import Status
from lightkube.resources.admissionregistration_v1 import MutatingWebhookConfiguration
from lightkube.resources.authorization_v1 import SubjectAccessReview
from lightkube.resources.core_v1 import ConfigMap, Namespace, Node, Pod, Secret, Service
from lightkube.types import CascadeType

from verify.errors import VerifyError
from verify.shell import Completed

N = TypeVar("N", bound=NamespacedResource)
T = TypeVar("T")

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
        # Commands in pods end with a Status, and nothing locks there: so it is decoded first here, by one thread.
        Status.from_dict({})

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
        with _fine(*((CONFLICT,) if exists_ok else ())):
            self._ask(f"create {_described(item)}", lambda: self._client.create(item), again=UNSENT)

    def refusal(self, item: NamespacedResource) -> str | None:
        """Why the API server would not admit an object, in its own words; None when it would.

        A dry run: the object goes through all of admission and is not made.
        """
        try:
            self._ask(f"ask for {_described(item)}", lambda: self._client.create(item, dry_run=True))
        except Refused as error:
            if error.code not in (FORBIDDEN, INVALID):
                raise
            return error.said
        return None

    def may(self, subject: Subject, verb: str, resource: str, namespace: str) -> bool:
        """Whether RBAC lets somebody do something.

        `resource` is a plural[/subresource], with `.<API group>` but for the core's; `namespace` is empty for what is
        not in a namespace, or for all of them.
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
        what = f"ask whether {subject.user} may {verb} {resource} in {namespace or 'the cluster'}"
        answer = self._ask(what, lambda: self._client.create(review))
        return answer.status is not None and answer.status.allowed

    def namespaces(self, labels: Mapping[str, str]) -> list[Namespace]:
        """The namespaces with these labels."""
        return self._ask("list namespaces", lambda: list(self._client.list(Namespace, labels=dict(labels))))

    def delete_namespace(self, name: str) -> None:
        """Delete a namespace with all that is in it; it goes away later. Gone already is fine."""
        with _fine(MISSING):
            self._ask(
                f"delete namespace {name}",
                lambda: self._client.delete(Namespace, name, cascade=CascadeType.BACKGROUND),
            )

    def delete(self, kind: type[NamespacedResource], namespace: str, name: str) -> None:
        """Delete an object; gone already is fine."""
        with _fine(MISSING):
            self._ask(
                f"delete {kind.__name__} {namespace}/{name}",
                lambda: self._client.delete(kind, name, namespace=namespace),
            )

    def everywhere(self, kind: type[N], labels: Mapping[str, str]) -> list[N]:
        """The objects of a kind with these labels, in any namespace."""
        return self._ask(
            f"list {kind.__name__}s", lambda: list(self._client.list(kind, namespace="*", labels=dict(labels)))
        )

    def nodes(self, labels: Mapping[str, str]) -> list[Node]:
        """The nodes with these labels."""
        return self._ask("list nodes", lambda: list(self._client.list(Node, labels=dict(labels))))

    def pod(self, namespace: str, name: str) -> Pod:
        """One pod."""
        return self._ask(f"get pod {namespace}/{name}", lambda: self._client.get(Pod, name, namespace=namespace))

    def running(self, namespace: str, labels: Mapping[str, str]) -> list[Pod]:
        """The running pods with these labels."""
        found = self._ask(
            f"list pods in {namespace}",
            lambda: list(self._client.list(Pod, namespace=namespace, labels=dict(labels))),
        )
        return [pod for pod in found if pod.status is not None and pod.status.phase == "Running"]

    def pods(self, namespace: str, labels: Mapping[str, str]) -> list[str]:
        """Names of the running pods with these labels."""
        return [_name(pod) for pod in self.running(namespace, labels)]

    def service(self, namespace: str, name: str) -> ServiceSpec:
        """What a Service is to be."""
        what = f"get Service {namespace}/{name}"
        return self._ask(what, lambda: self._client.get(Service, name, namespace=namespace).spec) or ServiceSpec()

    def config_map(self, namespace: str, name: str) -> dict[str, str]:
        """A ConfigMap's data."""
        what = f"read ConfigMap {namespace}/{name}"
        return self._ask(what, lambda: self._client.get(ConfigMap, name, namespace=namespace).data) or {}

    def webhooks(self, labels: Mapping[str, str]) -> list[MutatingWebhookConfiguration]:
        """The configurations of mutating webhooks with these labels."""
        return self._ask(
            "list MutatingWebhookConfigurations",
            lambda: list(self._client.list(MutatingWebhookConfiguration, labels=dict(labels))),
        )

    def secret(self, namespace: str, name: str) -> dict[str, bytes]:
        """A Secret's data, decoded."""
        what = f"read Secret {namespace}/{name}"
        data = self._ask(what, lambda: self._client.get(Secret, name, namespace=namespace).data)
        return {key: base64.b64decode(value) for key, value in (data or {}).items()}

    def log(self, namespace: str, pod: str, container: str, since: int) -> list[str]:
        """A container's log lines of the last `since` seconds; none when the pod is gone."""
        lines: list[str] = []
        with _fine(MISSING):
            lines = _told(
                f"read the log of pod {namespace}/{pod}",
                lambda: list(
                    self._client.log(pod, namespace=namespace, container=container, since=since, newlines=False)
                ),
                BROKEN,
            )
        return lines

    def run(
        self, namespace: str, pod: str, container: str, command: Sequence[str], timeout: float, stdin: str = ""
    ) -> Completed:
        """Run a command in a container for at most `timeout` seconds; `stdin` is what it may read.

        A command may be run twice, when the connection breaks while its end is awaited.
        """
        done = _told(
            f"run {command[0]} in pod {namespace}/{pod}",
            # Output that is no UTF-8 is no reason to fail: decoded here, not by lightkube.
            lambda: self._client.exec(
                pod,
                namespace=namespace,
                container=container,
                command=list(command),
                stdin=stdin or None,
                stdout=True,
                stderr=True,
                decode=None,
                timeout=timeout,
            ),
            BROKEN,
        )
        return Completed(done.exit_code, _text(done.stdout), _text(done.stderr))

    def _ask(self, what: str, action: Callable[[], T], again: Errors | None = None) -> T:
        def locked() -> T:
            with self._decoding:
                return action()

        return _told(what, locked, again or BROKEN)


Errors = tuple[type[Exception], ...]

UNSENT: Errors = (httpx2.ConnectError,)
"""After these the API server has not seen the request."""

BROKEN: Errors = (httpx2.NetworkError, httpx2.RemoteProtocolError, WebSocketDisconnect, WebSocketNetworkError)
"""After these it may have."""

PAUSES = (0.1, 0.5)


def _told(what: str, action: Callable[[], T], again: Errors) -> T:
    """Do something, again after errors of that kind, and tell of all others.

    A websocket that ends (`run`) leaves a thread of its library reading from the closed socket; the connection that
    gets the same file descriptor next breaks, most often before its handshake is done.
    """
    for pause in (*PAUSES, None):
        try:
            return action()
        except ApiError as error:
            raise Refused(what, error.status.code or 0, error.status.message or "no reason given") from None
        except TimeoutError:
            # A command's (`run`); it may still be running.
            raise VerifyError(f"cannot {what}: it did not end in time") from None
        except (httpx2.HTTPError, HTTPXWSException) as error:
            if pause is None or not isinstance(error, again):
                raise VerifyError(f"cannot {what}: {str(error) or type(error).__name__}") from None
            time.sleep(pause)
    raise AssertionError("the last pause is None")


class Refused(VerifyError):
    """The API server's no."""

    def __init__(self, what: str, code: int, said: str) -> None:
        super().__init__(f"cannot {what}: {said}")
        self.code = code
        """HTTP status."""

        self.said = said
        """In its own words."""


@contextmanager
def _fine(*codes: int) -> Iterator[None]:
    """A no with one of these codes is as good as a yes."""
    try:
        yield
    except Refused as error:
        if error.code not in codes:
            raise


def _text(output: str | bytes | None) -> str:
    return output.decode("utf-8", errors="replace") if isinstance(output, bytes) else output or ""


def _described(item: NamespacedResource | GlobalResource) -> str:
    metadata = getattr(item, "metadata", None)
    return "/".join(filter(None, (type(item).__name__, metadata and metadata.namespace, metadata and metadata.name)))


def _name(item: Any) -> str:
    return str(item.metadata.name)
