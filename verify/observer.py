"""What Prometheus and Jaeger say, asked from a pod in their namespace: nobody else may."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar
from urllib.parse import urlencode

from settings import Settings
from verify import curl
from verify.context import Context, user_agent
from verify.curl import Request, Response
from verify.errors import VerifyError
from verify.workload import Workload

T = TypeVar("T")

PAUSE = 1.0
"""Seconds between two questions while an answer is awaited."""


def observer(settings: Settings) -> Workload:
    """The pod that asks."""
    assert settings.observability is not None
    return Workload("observer", in_mesh=False, namespace=settings.observability.namespace)


@dataclass(frozen=True)
class Target:
    """Something that Prometheus asks for metrics."""

    labels: dict[str, str]
    url: str
    up: bool
    error: str
    """Why the last attempt failed; empty when it did not, or there was none."""

    @property
    def pod(self) -> tuple[str, str]:
        """Namespace and name."""
        return self.labels.get("namespace", ""), self.labels.get("pod", "")

    def __str__(self) -> str:
        state = "up" if self.up else f"down ({self.error or 'not asked yet'})"
        return f"{self.url} of {'/'.join(self.pod)} {state}"


@dataclass(frozen=True)
class Sample:
    """A series and its newest value."""

    labels: dict[str, str]
    value: float


@dataclass(frozen=True)
class Observer:
    """The programs of the scenario, as the probes' pod reaches them."""

    context: Context

    @property
    def interval(self) -> int:
        """Seconds between two questions to a target."""
        assert self.context.settings.observability is not None
        return self.context.settings.observability.prometheus.scrape_seconds

    def ask(self, program: str, path: str, **query: str) -> Response:
        """One request to a program of the contract's addresses."""
        where = self.context.contracts["observability"]["addresses"][program]
        asked = f"?{urlencode(query)}" if query else ""
        request = Request(url=f"{where}{path}{asked}", user_agent=user_agent("B10"))
        return curl.send(self.context.pods.get(observer(self.context.settings)), request)

    def targets(self, job: str) -> list[Target]:
        """What a job asks, and how that went."""
        found = self._prometheus("/api/v1/targets", state="active")["activeTargets"]
        return [
            Target(one["labels"], one["scrapeUrl"], one["health"] == "up", one.get("lastError", ""))
            for one in found
            if one["labels"].get("job") == job
        ]

    def series(self, expression: str) -> list[Sample]:
        """The newest values that a PromQL expression selects."""
        found = self._prometheus("/api/v1/query", query=expression)["result"]
        return [Sample(one["metric"], float(one["value"][1])) for one in found]

    def trace(self, trace_id: str) -> dict[str, int]:
        """How many spans of a trace each service has sent to Jaeger; none when it does not know the trace."""
        response = self.ask("jaeger", f"/api/traces/{trace_id}")
        if response.status == 404:
            return {}
        counts: dict[str, int] = {}
        for trace in _json(response, "Jaeger").get("data") or []:
            for span in trace["spans"]:
                service = str(trace["processes"][span["processID"]]["serviceName"])
                counts[service] = counts.get(service, 0) + 1
        return counts

    def awaited(self, ask: Callable[[], T], enough: Callable[[T], bool], seconds: float) -> T:
        """The first answer that is enough, or the last one."""
        end = time.monotonic() + seconds
        while True:
            answer = ask()
            if enough(answer) or time.monotonic() > end or self.context.stop.wait(PAUSE):
                return answer

    def _prometheus(self, path: str, **query: str) -> dict[str, Any]:
        answer = _json(self.ask("prometheus", path, **query), "Prometheus")
        if answer.get("status") != "success":
            raise VerifyError(f"Prometheus says: {answer.get('error', answer)}")
        data: dict[str, Any] = answer["data"]
        return data


def _json(response: Response, who: str) -> dict[str, Any]:
    if response.exit_code:
        raise VerifyError(f"{who} does not answer: {response}")
    try:
        answer: dict[str, Any] = json.loads(response.body)
    except ValueError:
        raise VerifyError(f"{who} answers {response} without JSON: {response.body[:200]}") from None
    return answer
