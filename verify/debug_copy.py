"""A copy of a pod with one container more, as `kubectl debug POD --copy-to=COPY -c netdebug --share-processes` does."""

from __future__ import annotations

import copy
import secrets
import time
from collections.abc import Iterator
from contextlib import contextmanager

from lightkube.models.core_v1 import Capabilities, Container, SeccompProfile, SecurityContext
from lightkube.models.meta_v1 import ObjectMeta
from lightkube.resources.core_v1 import Pod

from verify.context import Context
from verify.errors import VerifyError
from verify.pods import NAME, READY_TIMEOUT
from verify.workload import LABELS, LIFETIME, USER

CONTAINER = "netdebug"
ALWAYS = "Always"
"""Restart policy of an init container that stays: a native sidecar."""


@contextmanager
def debug_copy(context: Context, original: Pod) -> Iterator[Pod]:
    """The copy, ready; it is gone after the block. Raises VerifyError when it does not get ready."""
    made = copied(original, f"{NAME}-{secrets.token_hex(4)}-debug", context.settings.verify.image)
    assert made.metadata is not None
    namespace, name = str(made.metadata.namespace), str(made.metadata.name)
    context.kube.create(made)
    try:
        yield _ready(context, namespace, name)
    finally:
        context.kube.delete(Pod, namespace, name)


def copied(original: Pod, name: str, image: str) -> Pod:
    """The pod without its labels, so that no Service sends it anything, without probes, and on any node.

    The container netdebug has no privilege; to see the others' processes it needs none.
    """
    assert original.metadata is not None
    assert original.spec is not None
    spec = copy.deepcopy(original.spec)
    spec.nodeName = None
    spec.ephemeralContainers = None
    spec.shareProcessNamespace = True
    for container in [*spec.containers, *(spec.initContainers or [])]:
        container.livenessProbe = container.readinessProbe = container.startupProbe = None
    spec.containers.append(
        Container(
            name=CONTAINER,
            image=image,
            command=["sleep", str(int(LIFETIME.total_seconds()))],
            securityContext=SecurityContext(
                runAsNonRoot=True,
                runAsUser=USER,
                allowPrivilegeEscalation=False,
                capabilities=Capabilities(drop=["ALL"]),
                seccompProfile=SeccompProfile(type="RuntimeDefault"),
            ),
        )
    )
    # Not kubectl's: should the run be killed, it ends by itself.
    spec.activeDeadlineSeconds = int(LIFETIME.total_seconds())
    return Pod(
        metadata=ObjectMeta(
            name=name,
            namespace=original.metadata.namespace,
            labels=dict(LABELS),
            annotations=dict(original.metadata.annotations or {}),
        ),
        spec=spec,
    )


def readiness(pod: Pod) -> tuple[int, int]:
    """How many containers are ready, and how many there are, as in kubectl's column READY: with native sidecars."""
    assert pod.spec is not None
    staying = {container.name for container in pod.spec.initContainers or [] if container.restartPolicy == ALWAYS}
    wanted = {container.name for container in pod.spec.containers} | staying
    statuses = (
        []
        if pod.status is None
        else [
            *(pod.status.containerStatuses or []),
            *(pod.status.initContainerStatuses or []),
        ]
    )
    return sum(status.ready for status in statuses if status.name in wanted), len(wanted)


def _ready(context: Context, namespace: str, name: str) -> Pod:
    end = time.monotonic() + READY_TIMEOUT
    while True:
        pod = context.kube.pod(namespace, name)
        ready, wanted = readiness(pod)
        if ready == wanted:
            return pod
        if time.monotonic() > end or context.stop.wait(0.5):
            raise VerifyError(f"pod {namespace}/{name} is {ready}/{wanted} after {READY_TIMEOUT} seconds")
