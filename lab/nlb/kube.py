"""The cluster as the agent sees and changes it."""

import asyncio
import logging
from asyncio import Event, TaskGroup
from collections.abc import AsyncIterable, Callable
from typing import Any, Literal, TypeVar

from lightkube import AsyncClient
from lightkube.core.exceptions import ApiError
from lightkube.core.generic_client import ListAsyncIterable
from lightkube.models.meta_v1 import ObjectMeta
from lightkube.resources.apps_v1 import Deployment
from lightkube.resources.core_v1 import Node, Service
from lightkube.resources.discovery_v1 import EndpointSlice
from lightkube.types import PatchType

from lab import events
from lab.nlb.spec import FINALIZER, Key

CONTROLLER = ("kube-system", "aws-load-balancer-controller")
"""The Deployment of the AWS Load Balancer Controller."""

T = TypeVar("T", Service, Node, EndpointSlice, Deployment)

log = logging.getLogger("nlb")


class Cluster:
    """What the API server tells of the cluster. `changed` is set when that changes."""

    def __init__(self, client: AsyncClient) -> None:
        self.client = client
        self.services: dict[str, Service] = {}
        self.nodes: dict[str, Node] = {}
        self.slices: dict[str, EndpointSlice] = {}
        self.deployments: dict[str, Deployment] = {}
        self.changed = Event()

    @property
    def has_controller(self) -> bool:
        """Whether the AWS Load Balancer Controller is deployed."""
        return any(key(it) == CONTROLLER for it in self.deployments.values())

    async def follow(self, tasks: TaskGroup) -> None:
        """Watch the cluster, and return when all has been listed once."""
        client, namespace = self.client, CONTROLLER[0]
        listed = [
            self._begin(
                tasks,
                self.services,
                lambda: client.list(Service, namespace="*"),
                lambda version: client.watch(Service, namespace="*", resource_version=version),
            ),
            self._begin(
                tasks,
                self.slices,
                lambda: client.list(EndpointSlice, namespace="*"),
                lambda version: client.watch(EndpointSlice, namespace="*", resource_version=version),
            ),
            self._begin(
                tasks,
                self.nodes,
                lambda: client.list(Node),
                lambda version: client.watch(Node, resource_version=version),
            ),
            self._begin(
                tasks,
                self.deployments,
                lambda: client.list(Deployment, namespace=namespace),
                lambda version: client.watch(Deployment, namespace=namespace, resource_version=version),
            ),
        ]
        for event in listed:
            await event.wait()

    def _begin(
        self,
        tasks: TaskGroup,
        store: dict[str, T],
        begin: Callable[[], ListAsyncIterable[T]],
        watch: Callable[[str], AsyncIterable[tuple[str, T]]],
    ) -> Event:
        listed = Event()
        tasks.create_task(self._keep(store, begin, watch, listed))
        return listed

    async def _keep(
        self,
        store: dict[str, T],
        begin: Callable[[], ListAsyncIterable[T]],
        watch: Callable[[str], AsyncIterable[tuple[str, T]]],
        listed: Event,
    ) -> None:
        """Keep a store of objects, by UID, as the API server has them."""
        while True:
            try:
                objects = begin()
                found = {_metadata(it).uid or "": it async for it in objects}
                store.clear()
                store.update(found)
                listed.set()
                self.changed.set()
                async for event, it in watch(objects.resourceVersion):
                    if event == "DELETED":
                        store.pop(_metadata(it).uid or "", None)
                    else:
                        store[_metadata(it).uid or ""] = it
                    self.changed.set()
            except Exception as error:  # the API server restarts, a watch expires: whatever it is, begin anew
                log.warning("a watch ended: %s", error)
                await asyncio.sleep(0.3)

    async def set_host_name(self, it: Service, name: str | None) -> None:
        """Tell in a Service's status where its load balancer is; None: there is none."""
        if host_name(it) != name:
            ingress = [{"hostname": name}] if name else None
            await self._patch(it, {"status": {"loadBalancer": {"ingress": ingress}}}, status=True)

    async def set_finalizer(self, it: Service, *, has: bool) -> None:
        """Have the Service stay while it has a load balancer, or let it go."""
        if has_finalizer(it) != has:
            metadata = _metadata(it)
            others = [name for name in metadata.finalizers or [] if name != FINALIZER]
            finalizers = [*others, FINALIZER] if has else others
            # The version guards the list against somebody else who changes it.
            patch = {"metadata": {"finalizers": finalizers, "resourceVersion": metadata.resourceVersion}}
            await self._patch(it, patch, status=False)

    async def _patch(self, it: Service, patch: dict[str, Any], *, status: bool) -> None:
        namespace, name = key(it)
        log.info("%s/%s: %s", namespace, name, patch)
        kind = Service.Status if status else Service
        try:
            await self.client.patch(kind, name, patch, namespace=namespace, patch_type=PatchType.MERGE)
        except ApiError as error:
            if error.status.code not in (404, 409):  # gone, or changed meanwhile, which the watch tells
                raise

    async def say(self, it: Service, kind: Literal["Normal", "Warning"], reason: str, message: str) -> None:
        """Write an event about a Service."""
        log.info("%s/%s: %s: %s", *key(it), reason, message)
        await events.say(self.client, it, kind, reason, message, source="service")


def key(it: Service | Deployment) -> Key:
    """Namespace and name."""
    return _metadata(it).namespace or "", _metadata(it).name or ""


def host_name(it: Service) -> str | None:
    """Where the Service's status says that its load balancer is."""
    ingress = it.status.loadBalancer.ingress if it.status and it.status.loadBalancer else None
    return ingress[0].hostname if ingress else None


def has_finalizer(it: Service) -> bool:
    """Whether a Service has, or had, a load balancer of the agent's."""
    return FINALIZER in (_metadata(it).finalizers or [])


def is_deleted(it: Service) -> bool:
    """Whether a Service is to go."""
    return _metadata(it).deletionTimestamp is not None


def _metadata(it: Service | Node | EndpointSlice | Deployment) -> ObjectMeta:
    return it.metadata or ObjectMeta()
