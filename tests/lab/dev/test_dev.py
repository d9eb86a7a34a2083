"""dev on the lab: every row that probes show, and a certificate's rotation (T8)."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest
from cryptography import x509

from lab.instance import Instance
from tests.deployment import UP, Stack, kubectl, stack_file, write_stack_file
from tests.lab.outcomes import Outcomes, verify
from tests.lab.steady import SteadyRequests, webapp

pytestmark = pytest.mark.lab

ROWS = {
    *("M1", "M2"),
    *(f"T{row}" for row in range(1, 8)),
    *(f"G{row}" for row in range(4, 15)),
    *(f"O{row}" for row in range(1, 7)),
}


@pytest.fixture(scope="module")
def outcomes(dev: Stack) -> Outcomes:
    return verify(dev)


def test_every_probe_succeeds(outcomes: Outcomes) -> None:
    assert outcomes.failed() == []
    assert outcomes.exit_code == 0
    assert outcomes.rows() >= ROWS


def test_probes_say_where_it_was_decided(outcomes: Outcomes) -> None:
    assert [name for name, probe in outcomes.probes.items() if probe["ok"] and not probe["evidence"]] == []


def test_second_up_changes_nothing(dev: Stack) -> None:
    changes = dev.changes(*UP, "--expect-no-changes")
    assert set(changes) <= {"same", "read"}


def test_probes_leave_nothing_behind(outcomes: Outcomes, lab: Instance) -> None:
    # The namespace's deletion has begun when verify ends; its pods take a moment to go.
    left = [name for name in kubectl(lab, "get", "namespaces", "-o", "name").split() if "meshgate-verify" in name]
    for name in left:
        kubectl(lab, "wait", "--for=delete", name, "--timeout=60s")
    assert "meshgate-verify" not in kubectl(lab, "get", "pods", "--all-namespaces", "--no-headers")


def test_t8_a_new_certificate_without_a_failed_request(dev: Stack, lab: Instance, tmp_path: Path) -> None:
    before = _served(dev, tmp_path)
    pods = _gateway_pods(lab)
    config = stack_file("dev")
    config["meshgate:ingress"]["certificates"]["webapp-credential"]["validityHours"] = 2000
    changed = Stack(lab, "dev", write_stack_file(tmp_path, "dev", config))

    with SteadyRequests(webapp(dev, "simple", tmp_path)) as requests:
        changes = changed.changes(*UP)
        assert changes.get("replace") == 1, changes
        assert changes.get("update") == 1, changes
        for _ in range(100):
            if _served(dev, tmp_path).serial_number != before.serial_number:
                break
            requests.stopping.wait(0.2)
        # The old certificate must also not come back.
        requests.stopping.wait(2)

    after = _served(dev, tmp_path)
    assert after.serial_number != before.serial_number
    assert after.issuer == before.issuer
    assert _gateway_pods(lab) == pods
    assert requests.failures == []
    assert requests.count > 50
    dev.pulumi(*UP)


def _served(dev: Stack, directory: Path) -> x509.Certificate:
    """The leaf that the gateway `simple` serves."""
    command = webapp(dev, "simple", directory, "--write-out", "%{certs}")
    shown = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    return x509.load_pem_x509_certificates(shown.encode())[0]


def _gateway_pods(lab: Instance) -> list[tuple[str, int]]:
    """Names and restarts."""
    pods = json.loads(kubectl(lab, "get", "pods", "-n", "istio-ingress", "-o", "json"))["items"]
    return sorted((pod["metadata"]["name"], pod["status"]["containerStatuses"][0]["restartCount"]) for pod in pods)
