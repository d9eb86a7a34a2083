"""What the Envoys say: which line of the access log a request left, and which counter a refused handshake raised."""

from __future__ import annotations

import json
import re
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Literal, TypeVar
from urllib.parse import quote

from verify.errors import VerifyError
from verify.kube import Kube
from verify.logs import AccessLogLine, Cluster, parse

CONTAINER = "istio-proxy"
LOG_DELAY = 6
"""Seconds until a line is surely in the log: Envoy writes every second, the kubelet may be busy."""

LOG_PAUSE = 0.5

EVER = 10 * 365 * 86400
"""Seconds that no log is older than."""

LISTENERS = r"listener\..*"
"""Where the counters of all listeners are."""

CONFIG_DUMP = {
    "listener": ("dynamic_listeners", ("active_state", "listener")),
    "route": ("dynamic_route_configs", ("route_config",)),
    "cluster": ("dynamic_active_clusters", ("cluster",)),
}
"""Envoy's names for what istiod gives it, and where in each entry the thing itself is."""

L = TypeVar("L")


def awaited(lines: Callable[[], Iterator[L]], match: Callable[[L], bool], stop: threading.Event) -> L | None:
    """The first line that matches; `lines` reads them anew until it must be there."""
    end = time.monotonic() + LOG_DELAY
    while True:
        for line in lines():
            if match(line):
                return line
        if time.monotonic() > end or stop.wait(LOG_PAUSE):
            return None


@dataclass
class Watch:
    """The counter's rise during the `with` block that gave it."""

    rise: int = 0


@dataclass(frozen=True)
class Proxies:
    """The proxies of the pods with some labels."""

    kube: Kube
    stop: threading.Event
    """Set when nobody waits for answers any more."""

    namespace: str
    labels: dict[str, str]
    _one_at_a_time: threading.Lock = field(default_factory=threading.Lock)

    def line(self, match: Callable[[AccessLogLine], bool], since: float) -> AccessLogLine | None:
        """The first access log line after `since` (a `time.monotonic()`) that matches; waits until it must be there."""
        return awaited(lambda: self._lines(since), match, self.stop)

    def lines(self, match: Callable[[AccessLogLine], bool], since: float, least: int = 1) -> list[AccessLogLine]:
        """All access log lines after `since` that match, once there are `least` of them or all must be there."""
        end = time.monotonic() + LOG_DELAY
        while True:
            found = [line for line in self._lines(since) if match(line)]
            if len(found) >= least or time.monotonic() > end or self.stop.wait(LOG_PAUSE):
                return found

    def _lines(self, since: float) -> Iterator[AccessLogLine]:
        seconds = int(time.monotonic() - since) + 2
        for pod in self.kube.pods(self.namespace, self.labels):
            for text in self.kube.log(self.namespace, pod, CONTAINER, seconds):
                if line := parse(text):
                    yield line

    def count(self, text: str) -> tuple[int, int]:
        """How many lines the logs hold once everything up to now must be in them, and how many of them have `text`."""
        self.stop.wait(LOG_DELAY)
        lines = [
            line
            for pod in self.kube.pods(self.namespace, self.labels)
            for line in self.kube.log(self.namespace, pod, CONTAINER, EVER)
        ]
        return len(lines), sum(text in line for line in lines)

    @contextmanager
    def counting(self, counter: str, scope: str = LISTENERS) -> Iterator[Watch]:
        """How much the counters `<scope>.<counter>` rise together during the block; `scope` is a regular expression.

        One at a time, so that probes do not count each other's. Raises VerifyError when there is no such counter.
        """
        with self._one_at_a_time:
            before = self._sum(scope, counter)
            watch = Watch()
            yield watch
            watch.rise = self._sum(scope, counter) - before

    def clusters(self) -> set[Cluster]:
        """The services that the proxies know."""
        names = {line.partition("::")[0] for text in self._administration("clusters") for line in text.splitlines()}
        return {cluster for name in names if (cluster := Cluster.parse(name))}

    def health(self, cluster: Cluster) -> dict[str, set[str]]:
        """For the address and port of each of a service's hosts: what the proxies say of its health, `healthy` or why
        it gets no requests (`/failed_outlier_check`)."""
        name = f"outbound|{cluster.port}|{cluster.subset}|{cluster.host}"
        said: dict[str, set[str]] = {}
        for text in self._administration("clusters"):
            for host, flags in re.findall(
                rf"^{re.escape(name)}::([^:]+:\d+)::health_flags::(\S+)$", text, re.MULTILINE
            ):
                said.setdefault(host, set()).add(flags)
        return said

    def ports(self) -> set[int]:
        """The ports on which the proxies listen."""
        texts = self._administration("listeners")
        return {int(port) for text in texts for port in re.findall(r":(\d+)$", text, re.MULTILINE)}

    def config(self, kind: Literal["listener", "route", "cluster"], name: str) -> dict[str, Any]:
        """One part of what istiod has given the first of the proxies, as `istioctl proxy-config` shows it.

        Empty when there is none of that name.
        """
        resource, path = CONFIG_DUMP[kind]
        said = next(self._administration(f"config_dump?resource={resource}&name_regex={quote(re.escape(name))}"), "{}")
        for found in json.loads(said).get("configs", []):
            for key in path:
                found = found.get(key, {})
            return dict(found)
        return {}

    def certificates(self) -> str:
        """What the proxies say of the certificates that they hold: JSON."""
        return "".join(self._administration("certs"))

    def secrets(self) -> list[dict[str, Any]]:
        """What each of the proxies proves itself by and trusts."""
        return [secrets(self.kube, self.namespace, pod) for pod in self.kube.pods(self.namespace, self.labels)]

    def _sum(self, scope: str, counter: str) -> int:
        pattern = rf"^{scope}\.{re.escape(counter)}$"
        values = [
            int(value)
            for text in self._administration(f"stats?filter={quote(pattern)}")
            for value in re.findall(r": (\d+)$", text, re.MULTILINE)
        ]
        if not values:
            raise VerifyError(
                f"the proxies {self.namespace}/{self._selector} keep no counter {scope}.{counter}; "
                "their pods' annotation proxy.istio.io/config must have it under proxyStatsMatcher"
            )
        return sum(values)

    def _administration(self, path: str) -> Iterator[str]:
        """What each proxy's administration interface says."""
        for pod in self.kube.pods(self.namespace, self.labels):
            yield _ask(self.kube, self.namespace, pod, path)

    @property
    def _selector(self) -> str:
        return ",".join(f"{key}={value}" for key, value in self.labels.items())


def secrets(kube: Kube, namespace: str, pod: str) -> dict[str, Any]:
    """What a pod's proxy proves itself by and trusts, as `istioctl proxy-config secret` shows it; no keys are in it."""
    found: dict[str, Any] = json.loads(_ask(kube, namespace, pod, "config_dump?resource=dynamic_active_secrets"))
    return found


def _ask(kube: Kube, namespace: str, pod: str, path: str) -> str:
    """What the administration interface of a pod's proxy says."""
    done = kube.run(namespace, pod, CONTAINER, ["pilot-agent", "request", "GET", path], timeout=15)
    if done.exit_code:
        raise VerifyError(f"cannot ask the proxy of pod {namespace}/{pod}: {done.stderr.strip()}")
    return done.stdout
