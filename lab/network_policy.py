"""The lab's network policy engine: enforces NetworkPolicies on all nodes.

It is to the lab what Calico, Cilium or GKE's Dataplane V2 are to a cluster. One process in the control machine, which
enters the nodes' network namespaces:

    python -m lab.network_policy --instance NAME --kubeconfig FILE --socket FILE

No pod starts without its rules: a CNI plugin tells the address of each new pod over the socket and waits for the rules.
While the engine does not run, what it set stays in force and no pod starts.
"""

import argparse
import asyncio
import http.client
import io
import json
import logging
import shlex
import sys
from asyncio import Event, Future, StreamReader, StreamWriter
from collections.abc import AsyncIterable, Callable, Iterable
from ipaddress import IPv4Address, IPv4Interface
from pathlib import Path
from typing import Any, TypeVar

from lightkube import AsyncClient, KubeConfig
from lightkube.core.generic_client import ListAsyncIterable
from lightkube.models.core_v1 import PodSpec, PodStatus
from lightkube.models.meta_v1 import ObjectMeta
from lightkube.resources.core_v1 import Namespace
from lightkube.resources.core_v1 import Pod as PodResource
from lightkube.resources.networking_v1 import NetworkPolicy

from lab import network_policy_rules, pki, service
from lab.counters import NETWORK_POLICY, listed, nft
from lab.instance import Instance
from lab.network_policy_rules import Pod, Rules, compute, render
from lab.programs import system
from lab.topology import CONTROL, NODES

USER = "network-policy"
PLUGIN = "network-policy"
"""The name of the CNI plugin."""
PATIENCE = 10
"""Seconds that a pod's start waits for its rules, before the kubelet tries again."""

T = TypeVar("T", PodResource, Namespace, NetworkPolicy)

log = logging.getLogger("network-policy")


def agent(instance: Instance) -> service.Service:
    """The engine as a service of the lab. It is ready when each node has the rules of the cluster as it is."""
    kubeconfig = pki.kubeconfig(instance, USER, USER)
    command = (sys.executable, "-m", "lab.network_policy", "--instance", instance.name, "--kubeconfig", str(kubeconfig))
    return service.Service(
        CONTROL,
        "network-policy",
        (*command, "--socket", str(_socket(instance))),
        f"unix://{_socket(instance)}",
        environment={"PYTHONPATH": str(Path(__file__).parent.parent), "PYTHONUNBUFFERED": "1"},
        files=(Path(__file__), Path(network_policy_rules.__file__)),
    )


def plugin(instance: Instance) -> str:
    """The CNI plugin, a shell script; the last of its chain. A pod that is not admitted does not start."""
    url = "http://network-policy/"
    curl = shlex.join([system("curl"), "--silent", "--show-error", "--fail", "--max-time", str(PATIENCE)])
    socket = shlex.quote(str(_socket(instance)))
    return f"""#!/bin/sh
case "$CNI_COMMAND" in
ADD) exec {curl} --unix-socket {socket} --header "CNI-Args: $CNI_ARGS" --header Expect: --data-binary @- {url} ;;
VERSION) echo '{{"cniVersion": "1.0.0", "supportedVersions": ["1.0.0"]}}' ;;
esac
"""


class Node:
    """The table in a node's network namespace. The kernel holds it."""

    def __init__(self, namespace: Path) -> None:
        self.namespace = namespace

    def counters(self) -> dict[str, int]:
        """Dropped packets by the counter's name; empty before the engine's first start."""
        return listed(self.namespace, NETWORK_POLICY)

    def set(self, rules: Rules, former_counters: Iterable[str]) -> None:
        nft(self.namespace, "--file", "-", text=render(rules, set(former_counters) - set(rules.counters)))


class Cluster:
    """What the API server tells of the cluster, and the addresses of pods that it does not know yet."""

    def __init__(self) -> None:
        self.pods: dict[str, PodResource] = {}
        self.namespaces: dict[str, Namespace] = {}
        self.policies: dict[str, NetworkPolicy] = {}
        self.assigned: dict[str, IPv4Address] = {}
        """By the pod's UID. The API server hears of an address up to a second after the pod's first process ran."""

    def rules(self, nodes: Iterable[str]) -> dict[str, Rules]:
        """The nodes' rules as the cluster is now."""
        self.assigned = {uid: address for uid, address in self.assigned.items() if uid in self.pods}
        pods = [pod for uid, it in self.pods.items() if (pod := networked(it, self.assigned.get(uid)))]
        labels = {_metadata(it).name or "": _metadata(it).labels or {} for it in self.namespaces.values()}
        return {node: compute(node, self.policies.values(), pods, labels) for node in nodes}


def networked(it: PodResource, assigned: IPv4Address | None) -> Pod | None:
    """A pod as the rules see it; None when it has no network of its own: not yet, no more, or the node's."""
    spec, status = it.spec or PodSpec(containers=[]), it.status or PodStatus()
    address = assigned or (IPv4Address(status.podIP) if status.podIP else None)
    # A pod that has ended still tells its address, which another may have by now.
    if not address or not spec.nodeName or spec.hostNetwork or status.phase in ("Succeeded", "Failed"):
        return None
    sidecars = [container for container in spec.initContainers or [] if container.restartPolicy == "Always"]
    ports: dict[tuple[str, str], int] = {}
    for container in [*spec.containers, *sidecars]:
        for port in container.ports or []:
            if port.name:
                ports.setdefault((port.name, (port.protocol or "TCP").lower()), port.containerPort)
    metadata = _metadata(it)
    return Pod(metadata.namespace or "", metadata.labels or {}, spec.nodeName, address, ports)


class Engine:
    """Sets the nodes' rules at each change in the cluster, for ever."""

    def __init__(self, client: AsyncClient, nodes: dict[str, Node]) -> None:
        self.client = client
        self.nodes = nodes
        self.cluster = Cluster()
        self.applied: dict[str, Rules] = {}
        self.changed = Event()
        self.waiting: list[Future[None]] = []

    async def run(self, socket: str) -> None:
        """Watch the cluster and set the rules; take calls at the socket when each node has its first."""
        cluster, client = self.cluster, self.client
        listed = [Event(), Event(), Event()]
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(
                self.follow(
                    cluster.pods,
                    lambda: client.list(PodResource, namespace="*"),
                    lambda version: client.watch(PodResource, namespace="*", resource_version=version),
                    listed[0],
                )
            )
            tasks.create_task(
                self.follow(
                    cluster.namespaces,
                    lambda: client.list(Namespace),
                    lambda version: client.watch(Namespace, resource_version=version),
                    listed[1],
                )
            )
            tasks.create_task(
                self.follow(
                    cluster.policies,
                    lambda: client.list(NetworkPolicy, namespace="*"),
                    lambda version: client.watch(NetworkPolicy, namespace="*", resource_version=version),
                    listed[2],
                )
            )
            for event in listed:
                await event.wait()
            tasks.create_task(self.reconcile())
            await self.next_pass()
            async with await asyncio.start_unix_server(self.answer, socket) as server:
                await server.serve_forever()

    async def follow(
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
                found = {_uid(it): it async for it in objects}
                store.clear()
                store.update(found)
                listed.set()
                self.changed.set()
                async for event, it in watch(objects.resourceVersion):
                    if event == "DELETED":
                        store.pop(_uid(it), None)
                    else:
                        store[_uid(it)] = it
                    self.changed.set()
            except Exception as error:  # the API server restarts, a watch expires: whatever it is, begin anew
                log.warning("a watch ended: %s", error)
                await asyncio.sleep(0.3)

    async def reconcile(self) -> None:
        """Set the rules that changed. Whoever waits is told when a whole pass is done."""
        while True:
            await self.changed.wait()
            self.changed.clear()
            waiting, self.waiting = self.waiting, []
            try:
                for node, rules in self.cluster.rules(self.nodes).items():
                    former = self.applied.get(node)
                    if rules != former:
                        self.nodes[node].set(rules, former.counters if former else self.nodes[node].counters())
                        self.applied[node] = rules
                        accepts = len(rules.egress.accepts) + len(rules.ingress.accepts)
                        log.info("%s: %d rules, counters %s", node, accepts, ", ".join(rules.counters) or "none")
                for it in waiting:
                    if not it.done():
                        it.set_result(None)
            except Exception as error:
                log.warning("cannot set the rules, trying again: %s", error)
                self.waiting += waiting
                self.changed.set()
                await asyncio.sleep(1)
            await asyncio.sleep(0.02)  # changes come in groups

    async def next_pass(self) -> None:
        """Wait for a pass over all nodes that has not begun yet."""
        done: Future[None] = asyncio.get_running_loop().create_future()
        self.waiting.append(done)
        self.changed.set()
        await done

    async def admit(self, uid: str, address: IPv4Address) -> None:
        """Wait until a new pod's rules are in force."""
        while uid not in self.cluster.pods:  # the kubelet heard of it first
            await self.next_pass()
        self.cluster.assigned[uid] = address
        await self.next_pass()

    async def answer(self, reader: StreamReader, writer: StreamWriter) -> None:
        """One call of the CNI plugin: HTTP, with the pod's name in a header and the network's state as the body."""
        try:
            if not await reader.readline():  # only looked whether someone is here
                return
            header = http.client.parse_headers(io.BytesIO(await reader.readuntil(b"\r\n\r\n")))
            network = json.loads(await reader.readexactly(int(header["Content-Length"])))
            uid, address = new_pod(header["CNI-Args"], network)
            await asyncio.wait_for(self.admit(uid, address), PATIENCE)
            body = json.dumps(network["prevResult"]).encode()
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\nConnection: close\r\n\r\n%s" % (len(body), body))
            await writer.drain()
        except Exception as error:
            log.warning("a call failed: %r", error)
        finally:
            writer.close()


def new_pod(arguments: str, network: dict[str, Any]) -> tuple[str, IPv4Address]:
    """A pod's UID and address, from what a CNI plugin gets: its CNI_ARGS, and the JSON document on its input."""
    values = dict(it.split("=", 1) for it in arguments.split(";"))
    return values["K8S_POD_UID"], IPv4Interface(network["prevResult"]["ips"][0]["address"]).ip


def _socket(instance: Instance) -> Path:
    return instance.directory / CONTROL / "network-policy.sock"


def _metadata(it: PodResource | Namespace | NetworkPolicy) -> ObjectMeta:
    return it.metadata or ObjectMeta()


def _uid(it: PodResource | Namespace | NetworkPolicy) -> str:
    uid = _metadata(it).uid
    assert uid
    return uid


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m lab.network_policy", description=__doc__.splitlines()[0])
    parser.add_argument("--instance", required=True, help="the lab's name")
    parser.add_argument("--kubeconfig", required=True)
    parser.add_argument("--socket", required=True, help="where the CNI plugin calls")
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    logging.getLogger("httpx2").setLevel(logging.WARNING)
    instance = Instance(arguments.instance)
    nodes = {node.name: Node(instance.netns(node.name)) for node in NODES}
    asyncio.run(Engine(AsyncClient(KubeConfig.from_file(arguments.kubeconfig)), nodes).run(arguments.socket))


if __name__ == "__main__":
    main()
