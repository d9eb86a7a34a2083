"""The stand-in for gke-gcloud-auth-plugin, which kubeconfigs of GKE clusters name: the lab's administrator."""

from __future__ import annotations

import os
import sys

from lab.plugins.exec_credential import printed
from lab.plugins.guard import refusal


def main() -> int:
    """Print the credential; 1 outside the lab."""
    if reason := refusal(os.environ):
        print(
            f"gke-gcloud-auth-plugin here is a stand-in for meshgate's lab and refuses to work: {reason}",
            file=sys.stderr,
        )
        return 1
    print(printed())
    return 0


if __name__ == "__main__":
    sys.exit(main())
