"""What Squid says: the line of its access log that a request left."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from components.external.squid import NAME
from verify.context import Context
from verify.envoy import awaited

# components.external.squid.LOG_FORMAT
_LINE = re.compile(
    r"\d+\.\d+ +\d+ (?P<client>\S+) (?P<result>\w+)/(?P<status>\d+) \d+ (?P<method>\S+) (?P<url>\S+) "
    r'\S+ \S+ \S+ "(?P<user_agent>.*)"'
)


@dataclass(frozen=True)
class SquidLine:
    """A line of Squid's access log."""

    text: str
    client: str
    """The address that asked."""

    result: str
    """TCP_TUNNEL, TCP_MISS, TCP_DENIED, ..."""

    status: str
    method: str
    url: str
    user_agent: str

    def __str__(self) -> str:
        return self.text

    @classmethod
    def parse(cls, text: str) -> SquidLine | None:
        """Read one line; None when it is no line of the access log (Squid's own messages are in between)."""
        found = _LINE.fullmatch(text.strip())
        return cls(text=text.strip(), **found.groupdict()) if found else None


@dataclass(frozen=True)
class Squid:
    """The proxy, as the layer `external` hands it on."""

    context: Context

    @property
    def proxy(self) -> str:
        """<address>:<port>, as its clients name it."""
        return str(self.context.contracts["external"]["proxy"])

    def line(self, match: Callable[[SquidLine], bool], since: float) -> SquidLine | None:
        """The first line after `since` (a `time.monotonic()`) that matches; waits until it must be there."""
        return awaited(lambda: self.lines(since), match, self.context.stop)

    def lines(self, since: float) -> Iterator[SquidLine]:
        """The lines after `since`, in order."""
        kube, namespace = self.context.kube, self.context.contracts["external"]["namespaces"]["proxy"]
        seconds = int(time.monotonic() - since) + 2
        for pod in kube.pods(namespace, {"app": NAME}):
            for text in kube.log(namespace, pod, NAME, seconds):
                if line := SquidLine.parse(text):
                    yield line
