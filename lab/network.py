"""The lab's network: a namespace per machine, a point-to-point link from each to the router, the router's rules."""

import fcntl
import json
import os
import subprocess
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from lab import counters, firewall
from lab.errors import LabError
from lab.files import write
from lab.instance import Instance
from lab.programs import system
from lab.topology import LINKS, MACHINES, ROUTER, Link

DIRECTORY = Path("/run/netns")
PROXY_TABLE = 100
"""The routing table for what a proxying machine gets; also the priority of the rule that leads to it."""


def create(instance: Instance, machines: tuple[str, ...] = MACHINES) -> None:
    """Make what is missing of the machines' namespaces; the links too when there is a router. Idempotent."""
    with _directory_locked():
        for machine in machines:
            _create_namespace(instance.netns(machine))
    for machine in machines:
        _run(["ip", "-n", instance.netns(machine).name, "link", "set", "lo", "up"])
    if ROUTER in machines:
        _create_links(instance)
        _load_rules(instance)


def delete(instance: Instance) -> None:
    """Remove the instance's namespaces and, with them, its links and rules. Nothing may run in them any more."""
    with _directory_locked():
        for path in namespaces(instance):
            _run(["ip", "netns", "delete", path.name])
        if DIRECTORY.exists() and not any(DIRECTORY.iterdir()):
            # iproute2 made the directory a mount of its own, maybe more than once.
            while subprocess.run([system("umount"), DIRECTORY], stderr=subprocess.DEVNULL).returncode == 0:
                pass
            DIRECTORY.rmdir()


def namespaces(instance: Instance) -> list[Path]:
    """The network namespaces that exist of an instance, also of machines that an older lab had."""
    prefix = instance.netns("").name
    # The instance `a` must not see the machines of the instance `a-b`.
    known = {instance.netns(machine).name for machine in MACHINES}
    return sorted(path for path in DIRECTORY.glob(f"{prefix}*") if path.name in known)


def _create_namespace(path: Path) -> None:
    if path.exists() and path.stat().st_dev == path.parent.stat().st_dev:
        path.unlink()  # `ip netns add` was killed before it mounted the namespace there
    if not path.exists():
        _run(["ip", "netns", "add", path.name])


def _create_links(instance: Instance) -> None:
    router = instance.netns(ROUTER).name
    present = {link["ifname"] for link in json.loads(_run(["ip", "-n", router, "-json", "link", "show"]))}
    missing = [link for link in LINKS if link.machine not in present]
    _batch(
        router,
        (f"link add {it.machine} type veth peer name eth0 netns {instance.netns(it.machine).name}" for it in missing),
    )
    _batch(router, (command for link in LINKS for command in _router_side(link)))
    for link in LINKS:
        machine = instance.netns(link.machine).name
        _batch(machine, _machine_side(link))
        if link.is_proxy:
            _route_apart(
                router, f"fwmark {firewall.PROXIED}", f"default via {link.addresses[0]} dev {link.machine} onlink"
            )
            _route_apart(machine, "iif eth0", "local default dev lo")


def _router_side(link: Link) -> Iterator[str]:
    device = link.machine
    yield f"address replace {link.gateway}/32 dev {device}"
    yield f"link set {device} up"
    for address in link.addresses:
        yield f"route replace {address}/32 dev {device} src {link.gateway}"
    for network in link.routed:
        yield f"route replace {network} via {link.addresses[0]} dev {device} onlink"


def _machine_side(link: Link) -> Iterator[str]:
    for address in link.addresses:
        yield f"address replace {address}/32 dev eth0"
    yield "link set eth0 up"
    if link.is_proxy:
        for network in link.routed:
            yield f"route replace local {network} dev lo"
    yield f"route replace default via {link.gateway} dev eth0 onlink src {link.addresses[0]}"


def _route_apart(namespace: str, which: str, route: str) -> None:
    """Have the packets that `which` (a selector of ip-rule) means go by this route, whatever else the routes say."""
    _batch(namespace, [f"route replace {route} table {PROXY_TABLE}"])
    rules = json.loads(_run(["ip", "-n", namespace, "-json", "rule", "show"]))
    if not any(rule["priority"] == PROXY_TABLE for rule in rules):
        _batch(namespace, [f"rule add priority {PROXY_TABLE} {which} lookup {PROXY_TABLE}"])


def _load_rules(instance: Instance) -> None:
    """Load the rules if they changed, so that a second `up` keeps the counters."""
    text = firewall.render()
    loaded = instance.directory / "router" / "rules.nft"
    try:
        if counters.firewall(instance) and loaded.read_text() == text:
            return
    except (LabError, FileNotFoundError):
        pass
    counters.nft(instance.netns(ROUTER), "--file", "-", text=text)
    write(loaded, text)


def _batch(namespace: str, commands: Iterable[str]) -> None:
    _run(["ip", "-n", namespace, "-batch", "-"], "".join(f"{command}\n" for command in commands))


def _run(command: list[str], text: str | None = None) -> str:
    answer = subprocess.run([system(command[0]), *command[1:]], input=text or "", capture_output=True, text=True)
    if answer.returncode:
        raise LabError(f"`{' '.join(command)}` failed: {answer.stderr.strip() or answer.stdout.strip()}")
    return answer.stdout


@contextmanager
def _directory_locked() -> Iterator[None]:
    """Keep two instances from making and removing /run/netns at the same time."""
    descriptor = os.open(DIRECTORY.parent, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)
