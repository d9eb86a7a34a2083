"""Kubernetes' Pod Security Standards: namespaces of the level `restricted`, and containers that it lets in."""

from __future__ import annotations

from collections.abc import Mapping

import pulumi_kubernetes as kubernetes

RESTRICTED: Mapping[str, str] = {
    f"pod-security.kubernetes.io/{mode}": "restricted" for mode in ("enforce", "warn", "audit")
}
"""Labels of a namespace of pods without sidecars; a sidecar's init container needs more than this level allows."""


def restricted(user: int) -> kubernetes.core.v1.SecurityContextArgs:
    """A container under this user and group that writes to its volumes alone.

    Reference: Kubernetes, "Pod Security Standards", "Restricted"; the root's file system is our addition.
    """
    return kubernetes.core.v1.SecurityContextArgs(
        run_as_non_root=True,
        run_as_user=user,
        run_as_group=user,
        read_only_root_filesystem=True,
        allow_privilege_escalation=False,
        capabilities=kubernetes.core.v1.CapabilitiesArgs(drop=["ALL"]),
        seccomp_profile=kubernetes.core.v1.SeccompProfileArgs(type="RuntimeDefault"),
    )
