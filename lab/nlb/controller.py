"""To the lab's cluster what the AWS Load Balancer Controller, and the AWS behind it, are to another.

Each change in the cluster leads to the same few lines: read what is there, compute what should be, set what differs.
"""

import asyncio
import logging
from typing import Literal

from lightkube.resources.core_v1 import Service

from lab.instance import Instance
from lab.nlb import addresses, certificates, directory, kube, spec, targets
from lab.nlb.data_path import DataPath
from lab.nlb.haproxy import Deployed
from lab.nlb.kube import Cluster
from lab.nlb.spec import Key, LoadBalancer, Refused

log = logging.getLogger("nlb")


class Controller:
    """Gives each Service that asks for one its NLB. Without a data path it gives names alone."""

    def __init__(self, instance: Instance, cluster: Cluster, data_path: DataPath | None) -> None:
        self.cluster = cluster
        self.data_path = data_path
        self.places = directory(instance) / "load-balancers.json"
        self.simulated_cloud = instance.directory / "clouds" / "aws.json"
        self.built: dict[Key, LoadBalancer] = {}
        """What each Service last asked for that can be had: a wrong change leaves that as it is."""
        self.said: dict[Key, str] = {}
        """The last event about each Service."""

    async def run(self) -> None:
        """Follow the cluster, for ever."""
        changed = self.cluster.changed
        async with asyncio.TaskGroup() as tasks:
            await self.cluster.follow(tasks)
            if self.data_path:
                tasks.create_task(_follow_health(self.data_path))
            while True:
                await changed.wait()
                changed.clear()
                try:
                    await self.reconcile()
                except Exception as error:
                    log.warning("cannot reconcile, trying again: %r", error)
                    changed.set()
                    await asyncio.sleep(1)
                await asyncio.sleep(0.1)  # changes come in groups

    async def reconcile(self) -> None:
        """Set what differs from what should be, as the cluster is now."""
        if self.simulated_cloud.exists() and not self.cluster.has_controller:
            return  # there, as in AWS, the controller is a part of the environment that is built
        cluster = self.cluster
        services = {kube.key(it): it for it in cluster.services.values()}
        wanting = {key: it for key, it in services.items() if spec.is_wanted(it) and not kube.is_deleted(it)}
        self.built = {key: it for key, it in self.built.items() if key in wanting}
        self.said = {key: it for key, it in self.said.items() if key in wanting}
        refused = {}
        for key, it in wanting.items():
            try:
                self.built[key] = spec.parse(it, certificates.NAMES if self.data_path else None)
            except Refused as why:
                refused[key] = why
                await self._say(it, "Warning", why.reason, str(why))
        names = {addresses.host_name(key, it.scheme): key for key, it in sorted(self.built.items())}
        for key in self.built:
            await cluster.set_finalizer(services[key], has=True)
        await self._deploy(names)
        for name, key in names.items():
            await cluster.set_host_name(services[key], name)
            if key not in refused:
                await self._say(services[key], "Normal", "SuccessfullyReconciled", "Successfully reconciled")
        for key, it in services.items():
            if kube.has_finalizer(it) and key not in wanting:
                if (kube.host_name(it) or "").endswith(addresses.DOMAIN) and not kube.is_deleted(it):
                    await cluster.set_host_name(it, None)
                await cluster.set_finalizer(it, has=False)

    async def _deploy(self, names: dict[str, Key]) -> None:
        """Have the NLBs of these names, and no others."""
        current = addresses.load(self.places)
        places = addresses.allocate({name: (key, self.built[key].scheme) for name, key in names.items()}, current)
        # Who reads this file sees no NLB too late, and none too early gone.
        if places != current:
            addresses.save(self.places, {**current, **places})
        if self.data_path:
            nodes, slices = self.cluster.nodes.values(), self.cluster.slices.values()
            deployed = [
                Deployed(balancer, places[name], targets.groups(balancer, nodes, slices))
                for name, key in names.items()
                for balancer in [self.built[key]]
            ]
            await self.data_path.set(deployed, places)
        if places != current:
            addresses.save(self.places, places)

    async def _say(self, it: Service, kind: Literal["Normal", "Warning"], reason: str, message: str) -> None:
        """Write an event about a Service, unless it was the last one."""
        key = kube.key(it)
        if self.said.get(key) != message:
            await self.cluster.say(it, kind, reason, message)
            self.said[key] = message


async def _follow_health(data_path: DataPath) -> None:
    while True:
        await asyncio.sleep(1)
        try:
            await data_path.set_names()
        except Exception as error:
            log.warning("cannot read the targets' health: %r", error)
