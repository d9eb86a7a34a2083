"""What the failure modes of global rate limits promise, with the service taken away."""

from __future__ import annotations

import json
import secrets
import time
from collections.abc import Callable, Iterator

import pytest

from lab.instance import Instance
from tests.deployment import Stack, kubectl

pytestmark = pytest.mark.lab

NAMESPACE = "rate-limit"
ASKER = "asker"
IMAGE = "docker.io/curlimages/curl:8.16.0"
REQUESTS = 12
"""Twice as many as any of dev's global limits by a header lets through."""

PATIENCE = 60
"""Seconds until every sidecar has surely heard of a change."""

Ask = Callable[[str], list[str]]


@pytest.fixture
def ask(dev: Stack, lab: Instance) -> Iterator[Ask]:
    """Asks a path of the application so many times, as a client that nobody has counted yet: the statuses."""
    kubectl(lab, "run", ASKER, "-n", NAMESPACE, "--image", IMAGE, "--restart=Never", "--command", "--", "sleep", "600")

    def asked(path: str) -> list[str]:
        curl = ("curl", "-s", "-o", "/dev/null", "-w", "%{http_code} ", "-H", f"x-client: {secrets.token_hex(6)}")
        url = f"http://httpbin{path}?[1-{REQUESTS}]"
        return kubectl(lab, "exec", ASKER, "-n", NAMESPACE, "-c", ASKER, "--", *curl, url).split()

    try:
        kubectl(lab, "wait", "pod", ASKER, "-n", NAMESPACE, "--for=condition=Ready", "--timeout=60s")
        yield asked
    finally:
        kubectl(lab, "delete", "pod", ASKER, "-n", NAMESPACE, "--now", "--wait=false")


def test_without_its_service_the_failure_mode_decides(ask: Ask, lab: Instance) -> None:
    """deny: 500 (RLSE). allow: as many as come. Paths without a global limit do not feel it; all comes back."""
    limited, free = "/anything/global-client", "/get"
    _until(ask, limited, {"200", "429"})
    _scale(lab, 0)
    try:
        assert _until(ask, limited, {"500"}) == ["500"] * REQUESTS
        refused = _refused(lab, limited)
        assert [line for line in refused if "RLSE rate_limiter_error" not in line] == []
        assert ask(free) == ["200"] * REQUESTS
        assert "429" in ask("/anything/local-client") + ask("/anything/local-client")
        _failure_mode_deny(lab, False)
        try:
            assert _until(ask, limited, {"200"}) == ["200"] * REQUESTS
        finally:
            _failure_mode_deny(lab, True)
        assert _until(ask, limited, {"500"}) == ["500"] * REQUESTS
    finally:
        _scale(lab, 1)
    _until(ask, limited, {"200", "429"})


def _scale(lab: Instance, replicas: int) -> None:
    kubectl(lab, "scale", "deployment", "ratelimit", "-n", NAMESPACE, f"--replicas={replicas}")


def _failure_mode_deny(lab: Instance, deny: bool) -> None:
    path = "/spec/configPatches/0/patch/value/typed_config/failure_mode_deny"
    change = json.dumps([{"op": "replace", "path": path, "value": deny}])
    kubectl(lab, "patch", "envoyfilter", "ratelimit", "-n", NAMESPACE, "--type=json", "-p", change)


def _refused(lab: Instance, path: str) -> list[str]:
    """What the sidecar says of the requests it answered with 500; Envoy writes its log once a second."""
    end = time.monotonic() + PATIENCE
    while True:
        logs = kubectl(lab, "logs", "-n", NAMESPACE, "-l", "app=httpbin", "-c", "istio-proxy", "--tail=100")
        if lines := [line for line in logs.splitlines() if f"{path}?" in line and " 500 " in line]:
            return lines
        assert time.monotonic() < end, f"no request to {path} with 500 in the log of {NAMESPACE}'s sidecar:\n{logs}"
        time.sleep(0.3)


def _until(ask: Ask, path: str, right: set[str]) -> list[str]:
    """The statuses, once they are these and no others."""
    end = time.monotonic() + PATIENCE
    while True:
        statuses = ask(path)
        if set(statuses) == right:
            return statuses
        assert time.monotonic() < end, f"{path}: {statuses} after {PATIENCE} seconds, not {sorted(right)}"
        time.sleep(0.3)
