"""HAProxy's configuration for the NLBs that there are, and HAProxy at work.

One frontend per listener and zone; behind it two backends per target group and zone: the healthy targets, and all of
them for when none is healthy (an NLB "fails open").
"""

import asyncio
import csv
import hashlib
import io
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from lab.errors import LabError
from lab.files import write
from lab.nlb.addresses import Place
from lab.nlb.spec import HealthCheck, Listener, LoadBalancer
from lab.nlb.targets import Groups
from lab.topology import AVAILABILITY_ZONES, AvailabilityZone

HASTE = 5
"""In the lab the clock of health checks goes faster by this: an interval of 10 seconds is 2."""
IDLE = 350
"""Seconds after which an NLB forgets a TCP connection that says nothing."""
DRAIN = 300
"""Seconds for which connections live on after a change: NLBs wait as long when a target goes."""


@dataclass(frozen=True)
class Deployed:
    """An NLB with all that its data path needs."""

    balancer: LoadBalancer
    place: Place
    targets: Groups


def render(deployed: Iterable[Deployed], directory: Path, certificate: Callable[[str], Path]) -> str:
    """HAProxy's configuration. `certificate` gives the file for an ARN."""
    text = _global(directory) + "".join(
        section
        for it in sorted(deployed, key=lambda it: it.balancer.key)
        for listener in it.balancer.listeners
        for section in _sections(it, listener, certificate)
    )
    return text.replace(_REVISION, revision(text))


def revision(text: str) -> str:
    """Tells one configuration from another; a running HAProxy gives it as its description."""
    return hashlib.sha256(text.encode()).hexdigest()[:16]


_REVISION = "@revision@"


def _global(directory: Path) -> str:
    return f"""# Written by lab.nlb for each change; what is changed here is lost.
global
    description {_REVISION}
    log stdout format raw local0 info
    stats socket {worker_socket(directory)} mode 600 level admin expose-fd listeners
    server-state-file {directory / "server-state"}
    hard-stop-after {DRAIN}s
    maxconn 4000
    nbthread 1
    # The first check of a server decides, and does not wait for its turn.
    max-spread-checks 100

defaults
    mode tcp
    log global
    load-server-state-from-file global
    timeout connect 3s
    timeout client {IDLE}s
    timeout server {IDLE}s
    # A target that refuses a connection has refused it: an NLB does not ask the next one.
    retries 0
"""


def _sections(it: Deployed, listener: Listener, certificate: Callable[[str], Path]) -> Iterator[str]:
    for zone in AVAILABILITY_ZONES:
        yield _frontend(it, listener, zone, certificate)
        yield _backend(it, listener, zone, fails_open=False)
        yield _backend(it, listener, zone, fails_open=True)


def backend(balancer: LoadBalancer, port: int, zone: AvailabilityZone) -> str:
    """The name of a target group's backend in a zone."""
    return f"{balancer.namespace}.{balancer.name}:{port}:{zone.name}"


def _frontend(it: Deployed, listener: Listener, zone: AvailabilityZone, certificate: Callable[[str], Path]) -> str:
    name = backend(it.balancer, listener.port, zone)
    bind = [f"bind {it.place.address(zone)}:{listener.port}"]
    version = "-"
    if listener.tls:
        lowest, highest = listener.tls.versions
        bind += ["ssl", *(f"crt {certificate(arn)}" for arn in listener.tls.certificates)]
        bind += [f"ssl-min-ver {lowest} ssl-max-ver {highest}"]
        if lowest < "TLSv1.2":  # OpenSSL's usual level of security forbids them
            bind += ["ciphers DEFAULT:@SECLEVEL=0"]
        if listener.tls.alpn:
            bind += [f"alpn {','.join(listener.tls.alpn)}"]
        version = "%sslv"
    # What may be missing is `-` and hence a string.
    line = (
        f'{{"time": %Ts.%ms, "client": "%ci", "client_port": %cp, "service": "{it.place.service}", '
        f'"listener": {listener.port}, "zone": "{zone.name}", "tls": "{version}", "target": "%s", '
        f'"target_address": "%si", "target_port": "%sp", "source": "%bi", "end": "%ts", "ms": %Tt, '
        f'"bytes_in": %U, "bytes_out": %B}}'
    )
    return f"""
frontend {name}
    {" ".join(bind)}
    log-format '{line}'
    use_backend {name}:all if {{ nbsrv({name}) eq 0 }}
    default_backend {name}
"""


def _backend(it: Deployed, listener: Listener, zone: AvailabilityZone, fails_open: bool) -> str:
    balancer = it.balancer
    name = backend(balancer, listener.port, zone)
    lines = [
        f"backend {name}{':all' if fails_open else ''}",
        f"source {it.place.interface(zone)}{' usesrc clientip' if balancer.keeps_client_address else ''}",
        f"balance {'source' if balancer.is_sticky else 'roundrobin'}",
    ]
    checks = []
    # Where each zone has all targets, one of them asks how they are.
    first = AVAILABILITY_ZONES[0]
    tracked = backend(balancer, listener.port, first) if balancer.cross_zone and zone is not first else None
    if not fails_open and not tracked:
        lines += _check_of_backend(balancer.health)
        checks = _check_of_server(balancer, listener)
    options = ["send-proxy-v2"] if balancer.proxy_protocol else []
    if listener.speaks_tls:
        options += ["ssl", "verify none"]
        if listener.tls and listener.tls.alpn:
            options += [f"alpn {','.join(listener.tls.alpn)}"]
    for target in it.targets.get(listener.port, ()):
        if balancer.cross_zone or target.zone == zone.name:
            health = [f"track {tracked}/{target.name}"] if tracked and not fails_open else checks
            lines += [" ".join(["server", target.name, f"{target.address}:{target.port}", *options, *health])]
    return "\n" + "\n    ".join(lines) + "\n"


def _check_of_backend(health: HealthCheck) -> list[str]:
    lines = [f"timeout check {health.timeout * 1000 // HASTE}ms"]
    if health.protocol != "TCP":
        lines += [f"option httpchk GET {health.path}", f"http-check expect status {health.codes}"]
    return lines


def _check_of_server(balancer: LoadBalancer, listener: Listener) -> list[str]:
    health = balancer.health
    interval = health.interval * 1000 // HASTE
    options = ["check", f"inter {interval}ms", f"fastinter {min(interval, 300)}ms"]
    options += [f"rise {health.healthy} fall {health.unhealthy}"]
    if health.port is not None:
        options += [f"port {health.port}"]
    if balancer.proxy_protocol:  # an NLB's health checks begin with a PROXY header, too
        options += ["check-send-proxy"]
    if health.protocol == "HTTPS":
        options += ["check-ssl", "verify none"]
    elif listener.speaks_tls:
        options += ["no-check-ssl"]
    return options


def config_file(directory: Path) -> Path:
    """Where HAProxy's configuration is."""
    return directory / "haproxy.cfg"


def worker_socket(directory: Path) -> Path:
    """Where the running HAProxy answers."""
    return directory / "worker.sock"


def master_socket(directory: Path) -> Path:
    """Where its master takes commands, such as reload."""
    return directory / "master.sock"


class Proxy:
    """The HAProxy that runs."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    async def load(self, text: str) -> None:
        """Have HAProxy work by this configuration; connections that exist go on. Raises LabError."""
        wanted = _described(text)
        if await self._description() == wanted:
            return
        await self._keep_health(text)
        write(config_file(self.directory), text)
        await _ask(master_socket(self.directory), "reload")
        for _ in range(100):
            if await self._description() == wanted:
                return
            await asyncio.sleep(0.05)
        raise LabError("HAProxy did not take its new configuration: see its log")

    async def without_healthy(self) -> set[str]:
        """The backends that have no healthy server."""
        answer = await _ask(worker_socket(self.directory), "show stat -1 2 -1")
        rows = csv.DictReader(io.StringIO(answer.removeprefix("# ")))
        return {row["pxname"] for row in rows if row["act"] == "0"}

    async def _description(self) -> str:
        try:
            answer = await _ask(worker_socket(self.directory), "show info")
        except OSError:
            return ""
        found = re.search("^description: (.*)$", answer, re.MULTILINE)
        return found[1] if found else ""

    async def _keep_health(self, text: str) -> None:
        """Write down what is known of the targets' health, so that a reload does not take all for healthy."""
        try:
            known = await _ask(worker_socket(self.directory), "show servers state")
        except OSError:
            known = ""
        write(self.directory / "server-state", state(known, text))


def state(known: str, text: str) -> str:
    """What HAProxy said of its servers (`show servers state`), without those that a new configuration changes.

    It would take their former ports over the configuration's.
    """
    version, header, *rows = known.splitlines() or ["1", "#"]
    names = header.split()[1:]
    kept = set(_servers(text))
    wanted = ("be_name", "srv_name", "srv_addr", "srv_port", "srv_check_port")
    fields = ((row, dict(zip(names, row.split(), strict=False))) for row in rows)
    lines = [version, header, *(row for row, it in fields if tuple(it.get(name, "") for name in wanted) in kept)]
    return "".join(f"{line}\n" for line in lines)


def _servers(text: str) -> Iterator[tuple[str, ...]]:
    """Backend, name, address, port and the port of its checks, or 0, of each server of a configuration."""
    name = ""
    for line in text.splitlines():
        words = line.split()
        if words[:1] == ["backend"]:
            name = words[1]
        elif words[:1] == ["server"]:
            address, _, port = words[2].partition(":")
            yield name, words[1], address, port, words[words.index("port") + 1] if "port" in words else "0"


def _described(text: str) -> str:
    found = re.search("^    description (.*)$", text, re.MULTILINE)
    assert found
    return found[1]


async def _ask(socket: Path, command: str) -> str:
    reader, writer = await asyncio.open_unix_connection(socket)
    try:
        writer.write(f"{command}\n".encode())
        await writer.drain()
        return (await asyncio.wait_for(reader.read(), 5)).decode()
    finally:
        writer.close()


def unhealthy_zones(
    deployed: Iterable[Deployed], without_healthy: Mapping[str, object] | set[str]
) -> set[tuple[str, str]]:
    """Services and zones in which a listener has no healthy target."""
    return {
        (it.place.service, zone.name)
        for it in deployed
        for listener in it.balancer.listeners
        for zone in AVAILABILITY_ZONES
        if backend(it.balancer, listener.port, zone) in without_healthy
    }
