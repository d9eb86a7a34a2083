"""What the places' workloads accept, as specs of PeerAuthentication; plain data."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from settings.peer_authentication import Place

SERVER = "httpbin"
"""Name of each place's Deployment and Service, and the label `app` of its pods."""

PORT = 8080
"""Where a server listens; its Service has port 80."""

SPECS: Mapping[Place, dict[str, Any]] = {
    "permissive": {"mtls": {"mode": "PERMISSIVE"}},
    "strict": {"mtls": {"mode": "STRICT"}},
    "disable": {"mtls": {"mode": "DISABLE"}},
    # Without a mode of its own it has the mesh's, STRICT, but for the one port. Only a policy with a selector may name
    # ports, which are the pods', not the Service's.
    "port-level": {
        "selector": {"matchLabels": {"app": SERVER}},
        "portLevelMtls": {str(PORT): {"mode": "PERMISSIVE"}},
    },
}
"""Places that are not here have no sidecars."""
