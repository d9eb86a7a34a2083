"""Starting, looking at and removing a lab."""

import fcntl
import json
import os
import shlex
import shutil
import string
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from lab import (
    balancer,
    bare,
    cgroups,
    control_plane,
    dns,
    hsm,
    internet,
    load_balancer,
    machine,
    network,
    network_policy,
    node,
    registry,
    service,
    topology,
    vault,
)
from lab.errors import LabError, NotStarted
from lab.files import write
from lab.google import agent as google
from lab.instance import Instance, base_directory
from lab.nlb import agent as nlb
from lab.programs import pinned
from lab.service import Service
from lab.topology import CONTROL, MACHINES, NODES

INOTIFY_INSTANCES = 1024
"""Each kubelet, proxy and agent watches files; a kernel's usual 128 per user are not enough for a cluster."""

Say = Callable[[str], None]


@dataclass(frozen=True)
class Plan:
    """What a lab consists of, in the order of its start."""

    machines: dict[str, list[str]]
    """Machine -> what it does at its start."""
    vault: Service
    """Started first and waited for last: it takes as long as half of the rest."""
    services: list[list[Service]]
    """Groups; a group is started when the one before it works."""

    @property
    def all_services(self) -> list[Service]:
        return [self.vault, *(it for group in self.services for it in group)]


def full_plan(instance: Instance) -> Plan:
    """The whole lab, with its configuration written. Raises tools.NotBuilt."""
    resolver = f"mount --bind {shlex.quote(dns.resolv_conf(instance))} /etc/resolv.conf"
    forward = "echo 1 > /proc/sys/net/ipv4/ip_forward"
    machines = {name: [resolver] for name in MACHINES}
    machines[topology.ROUTER].append(forward)
    machines.update({it.name: node.prepare(instance, it) for it in NODES})
    nodes = [node.services(instance, it) for it in NODES]
    return Plan(
        machines,
        vault.server(instance),
        [
            [
                control_plane.etcd(instance),
                registry.registry(instance),
                *internet.servers(instance),
                nlb.proxy(instance),
                balancer.proxy(instance),
                *(it for services in nodes for it in services if it.name == "containerd"),
            ],
            [control_plane.api_server(instance)],
            [
                *control_plane.controllers(instance),
                dns.coredns(instance),
                load_balancer.agent(instance),
                nlb.agent(instance),
                network_policy.agent(instance),
                google.agent(instance),
                *(it for services in nodes for it in services if it.name != "containerd"),
            ],
        ],
    )


def bare_plan(instance: Instance) -> Plan:
    """The bare control plane, with its configuration written. Raises tools.NotBuilt."""
    addresses = (topology.CONTROL_PLANE, topology.VAULT_ADDRESS)
    prepare = [f"ip address replace {address}/32 dev lo" for address in addresses]
    return Plan({CONTROL: prepare}, vault.server(instance, CONTROL), bare.services(instance))


def up(instance: Instance, is_bare: bool, say: Say) -> None:
    """Start what does not run and wait until all works. Raises LabError, tools.ToolsError."""
    require_root()
    with _locked(instance, say):
        _remember_kind(instance, is_bare)
        control_plane.admin_kubeconfig(instance)
        internet.certificates(instance)
        hsm.prepare(instance)
        plan = bare_plan(instance) if is_bare else full_plan(instance)
        progress = _Progress(say, steps=4 + len(plan.all_services))
        _raise_limits()
        network.create(instance, tuple(plan.machines))
        progress.done("network")
        for name, prepare in plan.machines.items():
            machine.start(instance, name, prepare)
        progress.done(f"{len(plan.machines)} machines")
        service.start(instance, plan.vault)
        with ThreadPoolExecutor(1) as aside:
            prepared = aside.submit(vault.prepare, instance, plan.vault)
            for group in plan.services:
                for it in group:
                    service.start(instance, it)
                if group is plan.services[-1]:
                    apply(instance, "\n---\n".join([manifests(), *([bare.nodes()] if is_bare else [])]))
                    progress.done("the cluster's own resources")
                service.wait(instance, group, 90, lambda it: progress.done(f"{it.machine}: {it.name}"))
            prepared.result()
            progress.done(f"{plan.vault.machine}: {plan.vault.name}")
        _wait_until_usable(instance, 90)
        if not is_bare:  # the simulated nodes have theirs
            apply(instance, node.pod_ranges())
        progress.done(f"{len(NODES)} nodes ready")


def down(instance: Instance, say: Say) -> None:
    """Remove the instance and all that it left, whatever state it is in. Raises LabError."""
    require_root()
    with _locked(instance, say):
        machine.stop_all(instance)
        network.delete(instance)
        cgroups.delete(instance.cgroup)
        shutil.rmtree(instance.directory)
    if not os.environ.get("MESHGATE_LAB_DIR") and not any(base_directory().iterdir()):
        base_directory().rmdir()


@dataclass(frozen=True)
class Row:
    """A line of `status`."""

    machine: str
    service: str
    state: str
    """running, not ready, or stopped."""
    log: str


def status(instance: Instance) -> list[Row]:
    """What runs and what does not; empty when there is no such lab. Raises LabError, tools.ToolsError."""
    require_root()
    kind = _kind(instance)
    if kind is None:
        return []
    plan = bare_plan(instance) if kind == "bare" else full_plan(instance)
    rows = []
    for name in plan.machines:
        state = "running" if machine.pid(instance, name) else "stopped"
        rows.append(Row(name, "", state, str(instance.log(name))))
        for it in plan.all_services:
            if it.machine == name:
                state = "stopped"
                if service.alive(instance, it):
                    state = "running" if service.ready(instance, it) else "not ready"
                rows.append(Row(name, it.name, state, str(instance.log(it.part))))
    return rows


def apply(instance: Instance, text: str, timeout: float = 20) -> None:
    """Apply manifests with the lab's kubectl. Raises LabError.

    They must be whole: a field of an object that an earlier call set, and this one does not, is taken away.
    """
    end = time.monotonic() + timeout
    command = ["apply", "--server-side", "--force-conflicts", "--filename=-"]
    while True:
        answer = kubectl(instance, command, text)
        if answer.returncode == 0:
            return
        if time.monotonic() > end:  # a new API server takes a moment to make its first namespaces
            raise LabError(f"kubectl apply failed: {answer.stderr.strip()}")
        time.sleep(0.5)


def kubectl(instance: Instance, arguments: Sequence[str], text: str = "") -> "subprocess.CompletedProcess[str]":
    """Run kubectl as the administrator inside the control machine."""
    command = [*machine.enter(instance, CONTROL), pinned("kubectl"), f"--kubeconfig={instance.kubeconfig}", *arguments]
    return subprocess.run(command, input=text, capture_output=True, text=True, env={"HOME": "/nonexistent"})


def manifests() -> str:
    """What the lab puts into its cluster."""
    template = (Path(__file__).parent / "manifests.yaml").read_text()
    return string.Template(template).substitute(DNS_SERVICE=topology.DNS_SERVICE, RESOLVER=topology.RESOLVER)


def require_root() -> None:
    """Raises LabError for anyone else."""
    if os.geteuid():
        raise LabError(
            "the lab needs root, for its network namespaces and mounts: run this as root, or use a cluster of your own"
        )


def _wait_until_usable(instance: Instance, timeout: float) -> None:
    """Wait until the nodes are ready and pods can be made (they need their namespace's ServiceAccount)."""
    end = time.monotonic() + timeout
    while True:
        answer = kubectl(instance, ["get", "nodes,serviceaccounts", "--namespace=default", "--output=json"])
        items = json.loads(answer.stdout)["items"] if answer.returncode == 0 else []
        conditions = {
            item["metadata"]["name"]: condition
            for item in items
            for condition in item.get("status", {}).get("conditions", [])
            if condition["type"] == "Ready"
        }
        waiting = [it.name for it in NODES if conditions.get(it.name, {}).get("status") != "True"]
        if not waiting and any(item["kind"] == "ServiceAccount" for item in items):
            return
        if time.monotonic() > end:
            if not waiting:
                log = instance.log(f"{CONTROL}-kube-controller-manager")
                raise NotStarted("the cluster", "has no ServiceAccount default/default", log)
            reason = conditions.get(waiting[0], {}).get("message", "it has not registered")
            raise NotStarted(f"node {waiting[0]}", f"is not ready ({reason})", instance.log(f"{waiting[0]}-kubelet"))
        time.sleep(0.3)


def _raise_limits() -> None:
    limit = Path("/proc/sys/fs/inotify/max_user_instances")
    if int(limit.read_text()) < INOTIFY_INSTANCES:
        limit.write_text(str(INOTIFY_INSTANCES))


def _kind(instance: Instance) -> str | None:
    try:
        return (instance.directory / "kind").read_text()
    except FileNotFoundError:
        return None


def _remember_kind(instance: Instance, is_bare: bool) -> None:
    wanted = "bare" if is_bare else "full"
    found = _kind(instance)
    if found not in (None, wanted):
        raise LabError(
            f"lab {instance.name} is a {found} one, not a {wanted} one: "
            f"run `python -m lab --instance {instance.name} down` first, or use another name"
        )
    write(instance.directory / "kind", wanted)


@contextmanager
def _locked(instance: Instance, say: Say) -> Iterator[None]:
    """Let only one command at a time change an instance. The lock is on its directory, so it leaves no file."""
    while True:
        instance.directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor = os.open(instance.directory, os.O_RDONLY | os.O_DIRECTORY)
        holder = instance.directory / "holder"
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            who = holder.read_text() if holder.exists() else "another command"
            say(f"lab {instance.name} is being changed by {who}; waiting")
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        try:
            same = os.path.samestat(os.fstat(descriptor), instance.directory.stat())
        except FileNotFoundError:
            same = False
        if same:  # not removed by a `down` that had the lock before
            break
        os.close(descriptor)
    try:
        holder.write_text(f"process {os.getpid()} ({' '.join(sys.argv)})")
        yield
    finally:
        os.close(descriptor)


class _Progress:
    def __init__(self, say: Say, steps: int) -> None:
        self.say, self.steps, self.step, self.start = say, steps, 0, time.monotonic()

    def done(self, what: str) -> None:
        self.step += 1
        self.say(f"[{self.step:2}/{self.steps}] {time.monotonic() - self.start:5.1f} s  {what}")
