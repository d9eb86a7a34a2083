"""What the mesh itself promises, broken on purpose."""

from __future__ import annotations

import json

import pytest

from lab.instance import Instance
from tests.deployment import UP, Stack, kubectl
from tests.lab.outcomes import verify

pytestmark = pytest.mark.lab


def test_a_promise_that_is_broken_is_found(dev: Stack, lab: Instance) -> None:
    """Somebody weakens the mesh by hand: the probe falls short, and the next refreshed `pulumi up` mends it.

    The last test of dev: for 45 seconds after each change of mutual TLS the sidecars drain connections, and
    close the rest at the end, which must not be taken for a request that failed of another change.
    """
    weaker = json.dumps({"spec": {"mtls": {"mode": "PERMISSIVE"}}})
    kubectl(lab, "patch", "peerauthentication", "default", "-n", "istio-system", "--type=merge", "-p", weaker)
    broken = verify(dev, "--only", "M1")
    assert broken.exit_code == 1
    assert broken.failed() != []
    dev.pulumi(*UP, "--refresh")
    assert verify(dev, "--only", "M1").failed() == []
