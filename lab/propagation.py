"""How long after its last write a change of Istio objects is seen in what requests get.

A watch of the objects tells when they were written; a request that is sent again and again tells what comes of it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from threading import Condition, Thread
from typing import Any

import httpx2
import lightkube
import yaml
from lightkube.config.kubeconfig import KubeConfig
from lightkube.core.exceptions import ApiError
from lightkube.generic_resource import GenericNamespacedResource, create_namespaced_resource
from lightkube.resources.apiextensions_v1 import CustomResourceDefinition
from lightkube.types import OnErrorAction, OnErrorResult

from verify.errors import VerifyError

PAUSE = 0.1
"""Seconds between two samples."""

LIMIT = 30.0
"""Seconds in which new behaviour must have become steady, after everything is written."""


@dataclass(frozen=True, kw_only=True)
class Sign:
    """What shows that a change has arrived."""

    what: str
    """In words."""

    seen: Callable[[], float | None]
    """Asks once: the moment (`time.monotonic()`) at which it did, if it got the new behaviour; else None, as for a
    VerifyError."""

    steady: int
    """So many samples in a row must show it: one alone may be chance, or one proxy of several."""

    def sample(self) -> float | None:
        """What `seen` says."""
        try:
            return self.seen()
        except VerifyError:
            return None

    def absent(self) -> bool:
        """Whether any of so many samples still shows the old behaviour: else nothing could be seen to change."""
        return any(self.sample() is None for _ in range(self.steady))

    def arrival(
        self,
        ended: Callable[[], bool],
        *,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], object] = time.sleep,
    ) -> float | None:
        """The moment of the first of steadily new samples; None when it never became steady.

        Samples at least until `ended`, which says whether everything is written, and at most LIMIT seconds longer.
        """
        new: list[float] = []
        end = float("inf")
        while True:
            begun, over = clock(), ended()
            moment = self.sample()
            new = [] if moment is None else [*new, moment]
            if over and len(new) >= self.steady:
                return new[0]
            end = min(end, begun + LIMIT) if over else end
            if clock() > end:
                return None
            sleep(max(0.0, begun + PAUSE - clock()))


class Writes:
    """When Istio's objects in some namespaces were written, as a watch of each of their kinds tells.

    The watches go on until the process ends.
    """

    def __init__(self, namespaces: Collection[str]) -> None:
        self._namespaces = namespaces
        self._seen: dict[str, str] = {}
        """resourceVersion by UID."""
        self._last: float | None = None
        self._changed = Condition()

    def watch(self, kubeconfig: str) -> None:
        """Begin; `kubeconfig` is YAML with one context. Raises VerifyError when the API server does not tell."""
        try:
            client = lightkube.Client(config=KubeConfig.from_dict(yaml.safe_load(kubeconfig)).get())
            for kind in _kinds(client):
                there = client.list(kind, namespace="*")
                self._seen.update({_uid(item): _version(item) for item in there})
                Thread(target=self._follow, args=(client, kind, there.resourceVersion), daemon=True).start()
        except (ApiError, httpx2.HTTPError) as error:
            raise VerifyError(f"cannot watch Istio's objects: {error}") from None

    def forget(self) -> None:
        """From now on only what comes is of interest."""
        with self._changed:
            self._last = None

    @property
    def last(self) -> float | None:
        """The moment (`time.monotonic()`) of the last write; None: there was none."""
        with self._changed:
            return self._last

    def await_first(self, ended: Callable[[], bool]) -> None:
        """Wait for a write, or for the end of the one who might write."""
        with self._changed:
            while self._last is None and not ended():
                self._changed.wait(PAUSE)

    def tell(self, happened: str, item: dict[str, Any]) -> None:
        """Take note of a watch's event (ADDED, MODIFIED, DELETED)."""
        with self._changed:
            known = self._seen.get(_uid(item)) == _version(item)
            self._seen[_uid(item)] = _version(item)
            # A watch that begins anew tells everything again as ADDED.
            if item["metadata"]["namespace"] in self._namespaces and not (happened == "ADDED" and known):
                self._last = time.monotonic()
                self._changed.notify_all()

    def _follow(self, client: lightkube.Client, kind: type[GenericNamespacedResource], resource_version: str) -> None:
        for happened, item in client.watch(kind, namespace="*", resource_version=resource_version, on_error=_once_more):
            self.tell(happened, item)


@dataclass(frozen=True, kw_only=True)
class Propagation:
    """How a change has arrived."""

    seconds: float | None
    """From the last write of an object to the first question that got steadily new behaviour; None: `seen` says why."""

    seen: str
    """The sign that was looked for, or why none was."""

    arrived: bool = True
    """False where it was looked for and did not come."""


class Observation:
    """Of one change, which has not begun yet."""

    def __init__(self, sign: Sign | None, writes: Writes) -> None:
        """Looks at the old behaviour; without a sign there is nothing to see at once, as pods are made anew."""
        self._sign = sign
        self._visible = sign is not None and sign.absent()
        self._writes = writes
        writes.forget()

    def follow(self, ended: Callable[[], bool]) -> Propagation:
        """Until the change is seen; `ended` says whether everything is written."""
        if self._sign is None:
            return Propagation(seconds=None, seen="pods are made anew")
        if not self._visible:
            return Propagation(seconds=None, seen=f"nothing to see, as before: {self._sign.what}")
        # Nothing is asked while Pulumi only starts: both share the processors.
        self._writes.await_first(ended)
        if self._writes.last is None:
            return Propagation(seconds=None, seen="no Istio object was written")
        arrival = self._sign.arrival(ended)
        if arrival is None:
            return Propagation(seconds=None, seen=f"not within {LIMIT:g} s: {self._sign.what}", arrived=False)
        return Propagation(seconds=round(max(0.0, arrival - self._writes.last), 1), seen=self._sign.what)


def _once_more(error: Exception, count: int) -> OnErrorResult:
    return OnErrorResult(OnErrorAction.RETRY, sleep=PAUSE)


def _kinds(client: lightkube.Client) -> Iterator[type[GenericNamespacedResource]]:
    """Those kinds of Istio's that the cluster has."""
    for definition in client.list(CustomResourceDefinition):
        spec = definition.spec
        if spec is not None and spec.group.endswith(".istio.io"):
            version = next(version.name for version in spec.versions if version.storage)
            yield create_namespaced_resource(spec.group, version, spec.names.kind, spec.names.plural)


def _uid(item: dict[str, Any]) -> str:
    return str(item["metadata"]["uid"])


def _version(item: dict[str, Any]) -> str:
    return str(item["metadata"]["resourceVersion"])
