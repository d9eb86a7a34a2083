"""Whose an address is: the pod that has it, and what its ServiceAccount says."""

import time
from ipaddress import IPv4Address

from lightkube import Client
from lightkube.core.exceptions import ApiError
from lightkube.models.core_v1 import PodSpec
from lightkube.resources.core_v1 import Pod, ServiceAccount

from lab.google.metadata import ANNOTATION, Workload
from lab.topology import PODS_RANGE

PATIENCE = 5.0
"""Seconds. A new pod's first request may come before its kubelet has told the API server the pod's address."""


def find(client: Client, address: str) -> Workload | None:
    """The workload at a pod's address. None if there is none: a node's own address belongs to no workload."""
    end = time.monotonic() + PATIENCE
    while IPv4Address(address) in PODS_RANGE:
        # Asked anew for each request: an address changes hands.
        pods = [it for it in client.list(Pod, namespace="*", fields={"status.podIP": address}) if holds_address(it)]
        if pods:
            return _workload(client, pods[0])
        if time.monotonic() > end:
            break
        time.sleep(0.3)
    return None


def holds_address(pod: Pod) -> bool:
    """Whether the pod's address is its own, and still is."""
    phase = pod.status.phase if pod.status else None
    return phase not in ("Succeeded", "Failed") and not (pod.spec and pod.spec.hostNetwork)


def _workload(client: Client, pod: Pod) -> Workload | None:
    assert pod.metadata
    assert pod.metadata.namespace
    namespace, name = pod.metadata.namespace, (pod.spec or PodSpec(containers=[])).serviceAccountName or "default"
    try:
        account = client.get(ServiceAccount, name, namespace=namespace)
    except ApiError as error:
        if error.status.code == 404:  # deleted under a pod that runs
            return None
        raise
    annotations = (account.metadata.annotations if account.metadata else None) or {}
    return Workload(namespace, name, annotations.get(ANNOTATION, ""))
