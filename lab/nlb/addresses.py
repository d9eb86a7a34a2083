"""Names and addresses of NLBs."""

import hashlib
import json
import re
import zlib
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from ipaddress import IPv4Address
from pathlib import Path

from lab.files import write
from lab.nlb.spec import Key, Scheme
from lab.topology import AVAILABILITY_ZONES, REGION, AvailabilityZone

DOMAIN = f"elb.{REGION}.amazonaws.com"
FIRST, LAST = 4, 126
"""Numbers of an NLB's network interfaces in their subnets. AWS keeps the first three of a subnet for itself."""


@dataclass(frozen=True)
class Place:
    """An NLB's place in the network, for as long as it exists."""

    service: str
    """namespace/name"""
    scheme: Scheme
    number: int

    def interface(self, zone: AvailabilityZone) -> IPv4Address:
        """Its address in the VPC: what targets see of it."""
        return zone.subnet[self.number]

    def address(self, zone: AvailabilityZone) -> IPv4Address:
        """Where its clients reach it."""
        return zone.public[self.number] if self.scheme == "internet-facing" else self.interface(zone)


def host_name(key: Key, scheme: Scheme) -> str:
    """The name of an NLB. Other than AWS's, it is the same again when a Service is made anew.

    >>> host_name(("edge", "tls"), "internal").partition(".")[2]
    'elb.eu-central-1.amazonaws.com'
    """
    namespace, name = (re.sub("[^a-zA-Z0-9]", "", part)[:8] for part in key)
    digest = hashlib.sha256("/".join([*key, scheme]).encode()).hexdigest()
    return f"k8s-{namespace}-{name}-{digest[:10]}-{digest[10:26]}.{DOMAIN}"


def allocate(wanted: Mapping[str, tuple[Key, Scheme]], current: Mapping[str, Place]) -> dict[str, Place]:
    """A place for each host name: its current one, or one that the name decides. Raises OverflowError: none is left."""
    result = {name: current[name] for name in wanted if name in current}
    taken = {place.number for place in result.values()}
    every = range(FIRST, LAST + 1)
    for name in sorted(wanted.keys() - result.keys()):
        start = zlib.crc32(name.encode()) % len(every)
        free = [number for number in [*every[start:], *every[:start]] if number not in taken]
        if not free:
            raise OverflowError(f"all {len(every)} NLBs of the lab are in use")
        key, scheme = wanted[name]
        result[name] = Place("/".join(key), scheme, free[0])
        taken.add(free[0])
    return result


def load(path: Path) -> dict[str, Place]:
    """The places that `save` wrote, by host name; none before the first."""
    try:
        return {name: Place(**place) for name, place in json.loads(path.read_text()).items()}
    except FileNotFoundError:
        return {}


def save(path: Path, places: Mapping[str, Place]) -> None:
    """Write the load balancers that exist. The simulated cloud reads this, too."""
    content = {name: asdict(place) for name, place in sorted(places.items())}
    write(path, json.dumps(content, indent=2) + "\n")


def render_hosts(places: Mapping[str, Place], unhealthy: Iterable[tuple[str, str]] = ()) -> str:
    """The names for CoreDNS. `unhealthy` are pairs of service and zone that are left out, unless all of one are."""
    without = set(unhealthy)
    lines = []
    for name, place in sorted(places.items()):
        zones = [zone for zone in AVAILABILITY_ZONES if (place.service, zone.name) not in without]
        lines += [f"{place.address(zone)} {name}\n" for zone in zones or AVAILABILITY_ZONES]
    return "".join(lines)
