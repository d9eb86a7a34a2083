"""Machines: a network, a PID and a mount namespace with one process that holds them, PID 1.

The network namespace has a name and stays; the other two live as long as PID 1. When PID 1 dies, the kernel ends
every process of the machine and takes its mounts away: stopping a machine cannot be done by halves. Nothing is written
down about a running machine that could become wrong: what runs is read from /proc.
"""

import ctypes
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

from lab import network
from lab.errors import LabError, NotStarted
from lab.instance import Instance
from lab.programs import SYSTEM_PATH, pinned, system

INIT = "pause"
"""What PID 1 is in the end: it waits, and reaps what is left to it."""
CLONE_NEWNET = 0x40000000

T = TypeVar("T")


def start(instance: Instance, machine: str, prepare: Sequence[str] = (), timeout: float = 15) -> None:
    """Start a machine unless it runs. Its network namespace must exist.

    `prepare` are shell commands that PID 1 runs inside before anything else: mounts and kernel settings of the machine.
    Raises NotStarted when one fails.
    """
    if pid(instance, machine):
        return
    _kill([instance.netns(machine)])
    shutil.rmtree(run_directory(instance, machine), ignore_errors=True)
    run_directory(instance, machine).mkdir(parents=True)
    log = instance.log(machine)
    log.parent.mkdir(parents=True, exist_ok=True)
    script = "\n".join(["set -eu", *prepare, f"exec {pinned(INIT)}"])
    command = [
        *(system("nsenter"), f"--net={instance.netns(machine)}", "--"),
        *(system("unshare"), "--pid", "--mount", "--mount-proc", "--propagation", "slave"),
        *("--fork", "--kill-child", "--"),
        *(system("sh"), "-c", script),
    ]
    with log.open("wb") as output:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            env={"PATH": SYSTEM_PATH},
            cwd="/",
            start_new_session=True,  # Ctrl-C is for `up`, not for the machines
        )
    end = time.monotonic() + timeout
    while not pid(instance, machine):
        if process.poll() is not None or time.monotonic() > end:
            raise NotStarted(f"machine {machine}", "did not start", log)
        time.sleep(0.01)


def stop(instance: Instance, machine: str) -> None:
    """End everything that runs in one machine."""
    _kill([instance.netns(machine)])


def stop_all(instance: Instance) -> None:
    """End everything that runs in the instance's machines."""
    _kill(network.namespaces(instance))


def pid(instance: Instance, machine: str) -> int | None:
    """The machine's PID 1, as the caller's PID namespace numbers it; None when the machine does not run."""
    depth = len(_ns_pids(os.getpid()))
    for process in _members([instance.netns(machine)]):
        numbers = _ns_pids(process)
        if len(numbers) == depth + 1 and numbers[-1] == 1 and Path(_arguments(process)[0]).name == INIT:
            return process
    return None


def enter(instance: Instance, machine: str, directory: str | os.PathLike[str] = "/") -> list[str]:
    """The command prefix that runs a command inside a machine, in `directory`. Raises LabError if it does not run."""
    target = pid(instance, machine)
    if target is None:
        raise LabError(
            f"machine {machine} of lab {instance.name} does not run: "
            f"see `python -m lab --instance {instance.name} status`"
        )
    where = f"--wdns={os.fspath(directory)}"
    return [system("nsenter"), f"--target={target}", "--net", "--pid", "--mount", where, "--"]


def root(instance: Instance, machine: str) -> Path | None:
    """The root directory as the machine sees it, None when it does not run."""
    target = pid(instance, machine)
    return Path(f"/proc/{target}/root") if target else None


def run_directory(instance: Instance, machine: str) -> Path:
    """Files that are true only while the machine runs: emptied when it starts."""
    return instance.directory / "run" / machine


def in_network(instance: Instance, machine: str, action: Callable[[], T]) -> T:
    """Call a function in a thread of its own that is in the machine's network: sockets made there belong to it."""
    libc = ctypes.CDLL(None, use_errno=True)

    def call() -> T:
        with instance.netns(machine).open() as namespace:
            if libc.setns(namespace.fileno(), CLONE_NEWNET):
                raise OSError(ctypes.get_errno(), f"cannot enter the network of {machine}")
        return action()

    with ThreadPoolExecutor(1) as executor:
        return executor.submit(call).result()


def _members(namespaces: Sequence[Path]) -> Iterator[int]:
    """The processes in these network namespaces. (Containers have network namespaces of their own.)"""
    wanted = {path.stat().st_ino for path in namespaces if path.exists()}
    for entry in Path("/proc").iterdir():
        try:
            if entry.name.isdigit() and (entry / "ns" / "net").stat().st_ino in wanted:
                yield int(entry.name)
        except OSError:
            continue  # ended meanwhile


def _kill(namespaces: Sequence[Path], timeout: float = 20) -> None:
    end = time.monotonic() + timeout
    while members := list(_members(namespaces)):
        if time.monotonic() > end:
            raise LabError(f"these processes do not end, though killed: {', '.join(map(str, members))}")
        for process in members:
            try:
                os.kill(process, signal.SIGKILL)
            except ProcessLookupError:
                continue
        time.sleep(0.02)


def _ns_pids(process: int) -> list[int]:
    """A process's number in each PID namespace, from ours inwards."""
    try:
        for line in Path(f"/proc/{process}/status").read_text().splitlines():
            if line.startswith("NSpid:"):
                return [int(number) for number in line.split()[1:]]
    except OSError:
        pass
    return []


def _arguments(process: int) -> list[str]:
    try:
        return Path(f"/proc/{process}/cmdline").read_text().rstrip("\0").split("\0")
    except OSError:
        return [""]
