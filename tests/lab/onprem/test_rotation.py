"""Another intermediate, and another root, for a mesh that is in use: no request fails."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.lab.onprem.environment import NEXT_ROOT, ROOT, Onprem
from tests.lab.onprem.rotation import Rotation, requests_at_new_connections
from tests.lab.outcomes import verify

pytestmark = pytest.mark.lab


def test_renewal_and_root_rotation_without_a_failed_request(onprem: Onprem, tmp_path: Path) -> None:
    rotation = Rotation(onprem)
    with requests_at_new_connections(onprem, tmp_path) as requests:
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
