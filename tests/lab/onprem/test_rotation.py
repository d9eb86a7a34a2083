"""Another intermediate, and another root, for a mesh that is in use: no request fails."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.deployment import kubectl
from tests.lab.onprem.environment import GATEWAY, NEXT_ROOT, ROOT, Onprem
from tests.lab.onprem.rotation import Rotation
from tests.lab.outcomes import verify
from tests.lab.steady import SteadyRequests, webapp

pytestmark = pytest.mark.lab

NEW_CONNECTIONS = """\
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {{name: {name}-new-connections, namespace: istioinaction}}
spec:
  host: {name}.istioinaction.svc.cluster.local
  trafficPolicy: {{connectionPool: {{http: {{maxRequestsPerConnection: 1}}}}}}
"""
"""A connection that exists outlives any certificate; so each request makes new ones, with a handshake at every hop."""


@pytest.fixture
def requests(onprem: Onprem, tmp_path: Path) -> Iterator[SteadyRequests]:
    """From the internet through the gateway to webapp and catalog."""
    file = tmp_path / "new-connections.yaml"
    file.write_text("---\n".join(NEW_CONNECTIONS.format(name=name) for name in ("webapp", "catalog")))
    kubectl(onprem.lab, "apply", "-f", str(file))
    with SteadyRequests(webapp(onprem.stack, GATEWAY, tmp_path)) as requests:
        yield requests
    kubectl(onprem.lab, "delete", "-f", str(file))


def test_renewal_and_root_rotation_without_a_failed_request(onprem: Onprem, requests: SteadyRequests) -> None:
    rotation = Rotation(onprem)

    # Both requests at once; the mesh stays as it is.
    rotation.add("2027", "2028")
    assert onprem.statuses() == {"2026": "active", "2027": "waiting", "2028": "waiting"}
    assert "withheld" not in onprem.stack.outputs()

    rotation.renew("2027", ROOT)
    assert onprem.statuses() == {"2026": "retired", "2027": "active", "2028": "waiting"}

    # Not in one step: a running istiod would not follow, and one that starts anew would divide the mesh.
    refused = rotation.swap("2028", NEXT_ROOT)
    assert "the mesh does not trust the root of '2028' yet" in refused
    assert onprem.statuses() == {"2026": "retired", "2027": "active", "2028": "waiting"}

    rotation.trust("2028", NEXT_ROOT)
    assert onprem.statuses() == {"2026": "retired", "2027": "active", "2028": "ready"}
    assert onprem.stack.outputs()["authority_root_certificate"] == onprem.root(ROOT) + onprem.root(NEXT_ROOT)

    rotation.activate("2028")
    assert onprem.statuses() == {"2026": "retired", "2027": "retired", "2028": "active"}

    rotation.drop("2026", "2027")
    assert onprem.statuses() == {"2028": "active"}
    assert onprem.stack.outputs()["authority_root_certificate"] == onprem.root(NEXT_ROOT)

    assert requests.failures == []
    assert requests.count > 200
    # The new root's chain at every proxy, also a new one.
    assert verify(onprem.stack, "--only", "H4").failed() == []
