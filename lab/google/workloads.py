"""Whose an address is: the pod that has it, and what its ServiceAccount says."""

import threading
import time
from ipaddress import IPv4Address

from lightkube import Client
from lightkube.core.exceptions import ApiError
from lightkube.resources.core_v1 import Pod, ServiceAccount

from lab.google.metadata import ANNOTATION, Workload
from lab.topology import PODS_RANGE

PATIENCE = 5.0
"""Seconds. A new pod's first request may come before its kubelet has told the API server the pod's address."""


class Workloads:
    """The cluster's workloads, by their addresses. Safe to use from several threads."""

    def __init__(self, client: Client) -> None:
        self._client = client
        # msgspec, by which lightkube decodes objects, crashes when two threads are the first to decode a type.
        self._asking = threading.Lock()

    def find(self, address: str) -> Workload | None:
        """The workload at a pod's address. None if there is none: a node's own address belongs to no workload."""
        end = time.monotonic() + PATIENCE
        while IPv4Address(address) in PODS_RANGE:
            # Asked anew for each request: an address changes hands.
            with self._asking:
                pods = self._client.list(Pod, namespace="*", fields={"status.podIP": address})
                holders = [pod for pod in pods if holds_address(pod)]
                if holders:
                    return self._workload(holders[0])
            if time.monotonic() > end:
                break
            time.sleep(0.3)
        return None

    def _workload(self, pod: Pod) -> Workload | None:
        assert pod.metadata
        assert pod.metadata.namespace
        assert pod.spec
        namespace, name = pod.metadata.namespace, pod.spec.serviceAccountName or "default"
        try:
            account = self._client.get(ServiceAccount, name, namespace=namespace)
        except ApiError as error:
            if error.status.code == 404:  # deleted under a pod that runs
                return None
            raise
        annotations = (account.metadata.annotations if account.metadata else None) or {}
        return Workload(namespace, name, annotations.get(ANNOTATION, ""))


def holds_address(pod: Pod) -> bool:
    """Whether the pod's address is its own, and still is."""
    phase = pod.status.phase if pod.status else None
    return phase not in ("Succeeded", "Failed") and not (pod.spec and pod.spec.hostNetwork)
