"""The Debian packages that the lab needs, installed without starting any of their services on the user's machine."""

import os
import shutil
import subprocess
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from tools.errors import ToolsError
from tools.progress import Progress

PACKAGES = (
    "ca-certificates",
    "conntrack",
    "containerd",
    "containernetworking-plugins",
    "curl",
    "debian-archive-keyring",
    "docker-registry",
    "etcd-client",
    "etcd-server",
    "ethtool",
    "haproxy",
    "iproute2",
    "ipset",
    "iptables",
    "kmod",
    "mmdebstrap",
    "mount",
    "nftables",
    "opensc",
    "procps",
    "runc",
    "socat",
    "softhsm2",
    "util-linux",
)
# Debian enables these on installation: they would come up at the next boot, though only the lab is to run them.
SERVICES = ("containerd", "docker-registry", "etcd", "haproxy")

POLICY = Path("/usr/sbin/policy-rc.d")
POLICY_TEXT = "#!/bin/sh\n# Put here by meshgate while it installs packages. May be removed.\nexit 101\n"

Runner = Callable[[Sequence[str]], "subprocess.CompletedProcess[str]"]


def run(command: Sequence[str]) -> "subprocess.CompletedProcess[str]":
    """Run a command and keep its output, without questions and in English."""
    environment: Mapping[str, str] = {**os.environ, "DEBIAN_FRONTEND": "noninteractive", "LC_ALL": "C.UTF-8"}
    return subprocess.run(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environment, stdin=subprocess.DEVNULL
    )


def missing(runner: Runner = run) -> list[str]:
    """The packages that are not installed. Raises ToolsError where there is no dpkg."""
    if not shutil.which("dpkg-query"):
        raise ToolsError(
            "this is no Debian-like system (no dpkg-query); the lab needs Debian or the programs of these Debian "
            f"packages, installed by other means: {' '.join(PACKAGES)}"
        )
    answer = runner(["dpkg-query", "--show", "--showformat", "${Package} ${db:Status-Status}\n", *PACKAGES])
    installed = {line.split()[0] for line in answer.stdout.splitlines() if line.endswith(" installed")}
    return [name for name in PACKAGES if name not in installed]


def install(progress: Progress, runner: Runner = run, policy: Path = POLICY) -> None:
    """Install what is missing, if anything. Raises ToolsError."""
    wanted = missing(runner)
    if not wanted:
        progress.say("all Debian packages are there")
        return
    if os.geteuid() != 0 or not shutil.which("apt-get"):
        reason = "only root can install packages" if shutil.which("apt-get") else "there is no apt-get"
        raise ToolsError(f"{reason}; install these Debian packages by other means: {' '.join(wanted)}")
    with progress.step(f"packages: {' '.join(wanted)}"), services_stay_off(policy):
        check(runner, ["apt-get", "update", "--quiet"])
        check(runner, ["apt-get", "install", "--yes", "--quiet", "--no-install-recommends", *wanted])
        if shutil.which("systemctl"):
            for service in SERVICES:
                if service in wanted or f"{service}-server" in wanted:
                    check(runner, ["systemctl", "disable", service])


def check(runner: Runner, command: Sequence[str]) -> None:
    """Run a command. Raises ToolsError with its last lines when it fails."""
    answer = runner(command)
    if answer.returncode:
        lines = "\n".join(f"    {line}" for line in answer.stdout.splitlines()[-20:])
        raise ToolsError(f"`{' '.join(command)}` failed with exit status {answer.returncode}:\n{lines}")


@contextmanager
def services_stay_off(policy: Path) -> Iterator[None]:
    """Have Debian's packages start no service meanwhile, unless the machine has a policy of its own."""
    leftover = policy.exists() and policy.read_text() == POLICY_TEXT  # of a run that was killed
    if policy.exists() and not leftover:
        yield
        return
    policy.write_text(POLICY_TEXT)
    policy.chmod(0o755)
    try:
        yield
    finally:
        policy.unlink()
