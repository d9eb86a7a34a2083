"""The lab's load balancer: gives Services of type LoadBalancer an address of the internet and routes it to a node.

It is to the lab what a cloud's controller and network load balancer are to a cloud: a connection arrives at a node with
the client's address, and kube-proxy there does the rest. Runs in the router machine:

    python -m lab.load_balancer --kubeconfig FILE [--status-only]

Each change in the cluster leads to the same few lines: list what is there, compute what should be, set what differs.
"""

import argparse
import asyncio
import json
import logging
import subprocess
import sys
import zlib
from collections.abc import AsyncIterable, Callable, Collection, Iterable
from dataclasses import dataclass, field
from ipaddress import IPv4Address
from pathlib import Path

from lightkube import AsyncClient, KubeConfig
from lightkube.core.exceptions import ApiError
from lightkube.models.core_v1 import ServiceSpec
from lightkube.resources.core_v1 import Node, Service
from lightkube.resources.discovery_v1 import EndpointSlice
from lightkube.types import PatchType

from lab import events, pki, service
from lab.instance import Instance
from lab.nlb import spec
from lab.topology import CONTROL, LOAD_BALANCER_FIRST, LOAD_BALANCER_LAST, LOAD_BALANCER_RESERVED, NODES, ROUTER

USER = "load-balancer"
POOL = [IPv4Address(number) for number in range(int(LOAD_BALANCER_FIRST), int(LOAD_BALANCER_LAST) + 1)]
ADDRESSES = [LOAD_BALANCER_RESERVED, *POOL]
"""Those of the pool are given to any Service, the reserved one only to a Service that asks for it."""

Key = tuple[str, str]
"""A Service's namespace and name."""

log = logging.getLogger("load-balancer")


def agent(instance: Instance, status_only: bool = False) -> service.Service:
    """The agent as a service of the lab; with `status_only` for a cluster without nodes, where nothing is routed."""
    kubeconfig = pki.kubeconfig(instance, USER, USER)
    command = (sys.executable, "-m", "lab.load_balancer", "--kubeconfig", str(kubeconfig))
    return service.Service(
        CONTROL if status_only else ROUTER,
        "load-balancer",
        (*command, "--status-only") if status_only else command,
        environment={"PYTHONPATH": str(Path(__file__).parent.parent), "PYTHONUNBUFFERED": "1"},
        files=(Path(__file__), Path(events.__file__), Path(spec.__file__)),
    )


@dataclass
class Allocation:
    """Who gets which address, and who asks for one that cannot be given."""

    addresses: dict[Key, IPv4Address] = field(default_factory=dict)
    refused: dict[Key, str] = field(default_factory=dict)
    """Why not."""

    def give(self, key: Key, address: IPv4Address) -> bool:
        """Whether the address was free."""
        if address in self.addresses.values():
            return False
        self.addresses[key] = address
        return True


def allocate(services: Iterable[Service]) -> Allocation:
    """An address for each Service of type LoadBalancer that wants no NLB (lab.nlb gives those theirs).

    What a Service has it keeps; spec.loadBalancerIP is honoured; otherwise the name decides, so that a Service made
    anew gets the same address again. Who asks for an address that is taken, or not the load balancer's, is refused:
    it gets none, or keeps the one that it has.
    """
    wanting = {_key(it): it for it in services if _spec(it).type == "LoadBalancer" and not spec.is_wanted(it)}
    result = Allocation()
    for key, it in sorted(wanting.items()):
        current, requested = _address(it), _spec(it).loadBalancerIP
        if current and (str(current) == requested or (not requested and current in POOL)):
            result.give(key, current)
    for key, it in sorted(wanting.items()):
        requested = _spec(it).loadBalancerIP
        if key in result.addresses or not requested:
            continue
        if requested not in map(str, ADDRESSES):
            ours = f"{LOAD_BALANCER_RESERVED}, {POOL[0]} to {POOL[-1]}"
            result.refused[key] = f"{requested} is not one of the load balancer's addresses ({ours})"
        elif not result.give(key, IPv4Address(requested)):
            holder = next(it for it, address in result.addresses.items() if str(address) == requested)
            result.refused[key] = f"{requested} is taken by {'/'.join(holder)}"
    for key, it in sorted(wanting.items()):
        current = _address(it)
        if key in result.refused and current in ADDRESSES:
            result.give(key, current)
    for key, it in sorted(wanting.items()):
        if key not in result.addresses and not _spec(it).loadBalancerIP:
            start = zlib.crc32("/".join(key).encode()) % len(POOL)
            any(result.give(key, address) for address in POOL[start:] + POOL[:start])
    return result


def candidates(it: Service, slices: Iterable[EndpointSlice], ready_nodes: Collection[str]) -> list[str]:
    """The nodes that may get a Service's connections: for externalTrafficPolicy Local those with a ready endpoint."""
    if _spec(it).externalTrafficPolicy != "Local":
        return sorted(ready_nodes)
    namespace, name = _key(it)
    nodes = set()
    for part in slices:
        assert part.metadata
        labels = part.metadata.labels or {}
        if (part.metadata.namespace, labels.get("kubernetes.io/service-name")) == (namespace, name):
            for endpoint in part.endpoints or []:
                if endpoint.conditions is None or endpoint.conditions.ready is not False:
                    nodes.add(endpoint.nodeName)
    return sorted(name for name in ready_nodes if name in nodes)


def is_ready(node: Node) -> bool:
    """Whether a node takes traffic."""
    conditions = (node.status.conditions if node.status else None) or []
    return any(condition.type == "Ready" and condition.status == "True" for condition in conditions)


class Routes:
    """The router's routes to the pool's addresses: address -> node. The kernel holds them; nothing is kept here."""

    def current(self) -> dict[IPv4Address, str]:
        routes = json.loads(self._ip("-json", "route", "show"))
        found = {}
        for route in routes:
            destination = route["dst"].split("/")[0]
            if destination != "default" and IPv4Address(destination) in ADDRESSES:
                found[IPv4Address(destination)] = route["dev"]
        return found

    def set(self, wanted: dict[IPv4Address, str]) -> None:
        current = self.current()
        gateways = {node.name: node.address for node in NODES}
        for address in current.keys() - wanted.keys():
            log.info("%s: no route", address)
            self._ip("route", "delete", f"{address}/32")
        for address, node in wanted.items():
            if current.get(address) != node:
                log.info("%s: routed to %s", address, node)
                self._ip("route", "replace", f"{address}/32", "via", str(gateways[node]), "dev", node, "onlink")

    def _ip(self, *arguments: str) -> str:
        return subprocess.run(["ip", *arguments], check=True, capture_output=True, text=True).stdout


async def reconcile(client: AsyncClient, routes: Routes | None, said: dict[Key, str]) -> None:
    """Give addresses and set routes as the cluster is now. `said` are the refusals that Services have heard of."""
    services = [it async for it in client.list(Service, namespace="*")]
    allocation = allocate(services)
    addresses = allocation.addresses
    for it in services:
        why = allocation.refused.get(_key(it))
        if why and said.get(_key(it)) != why:
            log.warning("%s/%s: %s", *_key(it), why)
            # As Kubernetes' own controller says it of a cloud's load balancer.
            message = f"Error syncing load balancer: {why}"
            await events.say(client, it, "Warning", "SyncLoadBalancerFailed", message, source="service-controller")
    said.clear()
    said.update(allocation.refused)
    for it in services:
        address = addresses.get(_key(it))
        if address and address != _address(it):
            namespace, name = _key(it)
            log.info("%s/%s: address %s", namespace, name, address)
            patch = {"status": {"loadBalancer": {"ingress": [{"ip": str(address)}]}}}
            try:
                await client.patch(Service.Status, name, patch, namespace=namespace, patch_type=PatchType.MERGE)
            except ApiError as error:
                if error.status.code != 404:  # deleted meanwhile
                    raise
    if routes is None:
        return
    slices = [it async for it in client.list(EndpointSlice, namespace="*")]
    ready = {it.metadata.name async for it in client.list(Node) if it.metadata and is_ready(it)}
    ready_nodes = [node.name for node in NODES if node.name in ready]
    current, wanted = routes.current(), {}
    for it in services:
        if address := addresses.get(_key(it)):
            nodes = candidates(it, slices, ready_nodes)
            if nodes:
                wanted[address] = current[address] if current.get(address) in nodes else nodes[0]
    routes.set(wanted)


async def run(kubeconfig: str, status_only: bool) -> None:
    """Reconcile at each change, for ever."""
    client = AsyncClient(KubeConfig.from_file(kubeconfig))
    changed = asyncio.Event()
    said: dict[Key, str] = {}

    async def watch(begin: Callable[[], AsyncIterable[object]]) -> None:
        while True:
            try:
                async for _ in begin():
                    changed.set()
            except Exception as error:  # the API server restarts, a watch expires: whatever it is, begin anew
                log.warning("a watch ended: %s", error)
                await asyncio.sleep(1)

    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(watch(lambda: client.watch(Service, namespace="*")))
        if not status_only:
            tasks.create_task(watch(lambda: client.watch(EndpointSlice, namespace="*")))
            tasks.create_task(watch(lambda: client.watch(Node)))
        while True:
            await changed.wait()
            changed.clear()
            try:
                await reconcile(client, None if status_only else Routes(), said)
            except Exception as error:
                log.warning("cannot reconcile, trying again: %s", error)
                changed.set()
                await asyncio.sleep(1)
            await asyncio.sleep(0.1)  # changes come in groups


def _key(it: Service) -> Key:
    assert it.metadata
    assert it.metadata.namespace
    assert it.metadata.name
    return it.metadata.namespace, it.metadata.name


def _spec(it: Service) -> ServiceSpec:
    return it.spec or ServiceSpec()


def _address(it: Service) -> IPv4Address | None:
    ingress = it.status.loadBalancer.ingress if it.status and it.status.loadBalancer else None
    return IPv4Address(ingress[0].ip) if ingress and ingress[0].ip else None


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m lab.load_balancer", description=__doc__.splitlines()[0])
    parser.add_argument("--kubeconfig", required=True)
    parser.add_argument("--status-only", action="store_true", help="give addresses, route nothing")
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    logging.getLogger("httpx2").setLevel(logging.WARNING)
    asyncio.run(run(arguments.kubeconfig, arguments.status_only))


if __name__ == "__main__":
    main()
