"""The end of the environment: nothing is left, neither in the cluster nor in Vault."""

from __future__ import annotations

import pytest

from lab import vault
from tests.deployment import kubectl
from tests.lab.onprem.environment import Onprem

pytestmark = pytest.mark.lab

LABS = {"default", "kube-node-lease", "kube-public", "kube-system"}
"""Namespaces of a cluster without anything."""


def test_destroy_leaves_nothing(onprem: Onprem) -> None:
    onprem.destroy()
    assert onprem.stack.resources() == []
    namespaces = kubectl(onprem.lab, "get", "namespaces", "-o", "jsonpath={.items[*].metadata.name}").split()
    assert set(namespaces) == LABS
    left = kubectl(onprem.lab, "get", "mutatingwebhookconfigurations,validatingwebhookconfigurations", "-o", "name")
    assert "istio" not in left
    assert not onprem.exists("clusterrolebinding", "role-tokenreview-binding")
    assert vault.as_root(onprem.lab, onprem.vault, vault.left) == []
