"""What carries the connections of the NLBs: HAProxy and security groups in the machine `nlb`, and their names."""

import asyncio
from collections.abc import Mapping, Sequence
from pathlib import Path

from lab.files import write
from lab.instance import Instance
from lab.nlb import addresses, certificates, directory, haproxy, security_group
from lab.nlb.addresses import Place
from lab.nlb.haproxy import Deployed
from lab.nlb.security_group import Group
from lab.topology import AVAILABILITY_ZONES, NLB

NAMES_RELOAD = 0.2
"""Seconds until CoreDNS sees a change of names."""


def names_file(instance: Instance) -> Path:
    """The NLBs' names and addresses, for CoreDNS."""
    return directory(instance) / "hosts"


class DataPath:
    """Sets what differs from what should be."""

    def __init__(self, instance: Instance) -> None:
        self.instance = instance
        self.proxy = haproxy.Proxy(directory(instance))
        self.table = security_group.Table(instance.netns(NLB))
        self.groups: list[Group] | None = None
        """The security groups in force; None: not known yet."""
        self.deployed: Sequence[Deployed] = ()
        self.places: Mapping[str, Place] = {}

    async def set(self, deployed: Sequence[Deployed], places: Mapping[str, Place]) -> None:
        """Have these NLBs, and no others; when this returns, it is so, also for whoever asks for a name."""
        text = haproxy.render(deployed, directory(self.instance), lambda arn: certificates.file(self.instance, arn))
        await self.proxy.load(text)
        groups = [_group(it) for it in deployed]
        if groups != self.groups:
            self.table.set(groups)
            self.groups = groups
        self.deployed, self.places = deployed, places
        if await self.set_names():
            await asyncio.sleep(2 * NAMES_RELOAD)

    async def set_names(self) -> bool:
        """Write the names' addresses, without zones that have no healthy target. Tells whether one changed."""
        unhealthy = haproxy.unhealthy_zones(self.deployed, await self.proxy.without_healthy())
        text, file = addresses.render_hosts(self.places, unhealthy), names_file(self.instance)
        if file.exists() and file.read_text() == text:
            return False
        write(file, text)
        return True


def _group(it: Deployed) -> Group:
    return Group(
        service=it.place.service,
        addresses=tuple(it.place.address(zone) for zone in AVAILABILITY_ZONES),
        ports=tuple(listener.port for listener in it.balancer.listeners),
        sources=it.balancer.source_ranges,
    )
