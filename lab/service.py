"""Services: the programs that run in machines."""

import hashlib
import http.client
import socket
import ssl
import subprocess
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from lab import machine
from lab.errors import NotStarted
from lab.files import write
from lab.instance import Instance
from lab.programs import SYSTEM_PATH, system


@dataclass(frozen=True)
class Service:
    """A program that a machine keeps running."""

    machine: str
    name: str
    command: tuple[str, ...]
    ready: str = ""
    """Tells when it works, inside the machine: a URL that answers 2xx, or tcp://ADDRESS:PORT or unix:PATH that takes
    connections. Empty: it works while it runs."""
    environment: dict[str, str] = field(default_factory=dict)
    files: tuple[Path, ...] = ()
    """What it reads only at its start."""

    @property
    def part(self) -> str:
        """Its name in messages, and its log's."""
        return f"{self.machine}-{self.name}"


def start(instance: Instance, service: Service) -> None:
    """Start a service unless it runs; anew if its program, arguments or files changed. Its machine must run."""
    fingerprint = _fingerprint(service)
    record = machine.run_directory(instance, service.machine) / f"{service.name}.fingerprint"
    if alive(instance, service):
        if record.exists() and record.read_text() == fingerprint:
            return
        stop(instance, service)
    write(record, fingerprint)
    # The shell writes the process id down before it ends, so an interrupt of ours cannot lose a started service.
    script = 'setsid "$@" & echo $! > "$0"'
    pid_file = machine.run_directory(instance, service.machine) / service.name
    with instance.log(service.part).open("ab") as output:
        subprocess.run(
            [*machine.enter(instance, service.machine), system("sh"), "-c", script, pid_file, *service.command],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            env={"PATH": SYSTEM_PATH, "HOME": "/root", **service.environment, "MESHGATE_SERVICE": service.name},
            start_new_session=True,
            check=True,
        )


def stop(instance: Instance, service: Service, patience: float = 10) -> None:
    """End a service: ask it first, and kill it when it takes longer than `patience` seconds."""
    number = (machine.run_directory(instance, service.machine) / service.name).read_text().strip()
    killed_at = time.monotonic() + patience
    sent = ""
    while alive(instance, service):
        signal = "TERM" if time.monotonic() < killed_at else "KILL"
        if signal != sent:
            command = [*machine.enter(instance, service.machine), system("sh"), "-c", f"kill -{signal} {number}"]
            subprocess.run(command, stderr=subprocess.DEVNULL)  # it may end by itself just now
            sent = signal
        time.sleep(0.05)


def alive(instance: Instance, service: Service) -> bool:
    """Whether the service's process exists."""
    root = machine.root(instance, service.machine)
    if root is None:
        return False
    try:
        number = int((machine.run_directory(instance, service.machine) / service.name).read_text())
        process = root / "proc" / str(number)
        environment = (process / "environ").read_bytes()
        state = (process / "stat").read_text().rpartition(")")[2].split()[0]
    except (OSError, ValueError):
        return False
    # The mark tells the service from another process that got its number later. While the kernel loads a program,
    # and when it has ended, there is no environment.
    marked = f"MESHGATE_SERVICE={service.name}".encode() in environment.split(b"\0")
    return state not in "ZX" and (marked or not environment)


def ready(instance: Instance, service: Service) -> bool:
    """Whether the service works."""
    if not alive(instance, service):
        return False
    url = urlsplit(service.ready)
    try:
        match url.scheme:
            case "unix":
                with socket.socket(socket.AF_UNIX) as connection:
                    connection.connect(f"{machine.root(instance, service.machine)}{url.path}")
                return True
            case "tcp":
                return machine.in_network(instance, service.machine, lambda: _connects(service.ready))
            case "http" | "https":
                return machine.in_network(instance, service.machine, lambda: _answers(service.ready))
    except OSError:
        return False
    return True


def wait(
    instance: Instance, services: Sequence[Service], timeout: float, done: Callable[[Service], None] = lambda _: None
) -> None:
    """Wait until all are ready; `done` hears of each. Raises NotStarted for the first that dies or takes too long."""
    waiting = list(services)
    end = time.monotonic() + timeout
    while waiting:
        for service in list(waiting):
            if ready(instance, service):
                waiting.remove(service)
                done(service)
            elif not alive(instance, service):
                raise NotStarted(service.part, "ended right after its start", instance.log(service.part))
            elif time.monotonic() > end:
                raise NotStarted(service.part, f"is not ready after {timeout:.0f} s", instance.log(service.part))
        if waiting:
            time.sleep(0.2)


def _fingerprint(service: Service) -> str:
    digest = hashlib.sha256(repr((service.command, sorted(service.environment.items()))).encode())
    for path in service.files:
        digest.update(path.read_bytes())
    return digest.hexdigest()


def _connects(url: str) -> bool:
    parts = urlsplit(url)
    with socket.create_connection((parts.hostname or "", parts.port or 0), timeout=2):
        return True


def _answers(url: str) -> bool:
    parts = urlsplit(url)
    assert parts.hostname
    connection: http.client.HTTPConnection
    if parts.scheme == "https":
        # Only asks "are you well?": some of these servers sign their own certificate.
        context = ssl._create_unverified_context()
        connection = http.client.HTTPSConnection(parts.hostname, parts.port, timeout=2, context=context)
    else:
        connection = http.client.HTTPConnection(parts.hostname, parts.port, timeout=2)
    try:
        connection.request("GET", parts.path or "/")
        return 200 <= connection.getresponse().status < 300
    except http.client.HTTPException:
        return False
    finally:
        connection.close()
