"""The NLB as parts of the lab: the agent in the control machine, HAProxy in the machine `nlb`."""

import sys
from pathlib import Path

from lab import pki
from lab.files import write
from lab.instance import Instance
from lab.nlb import certificates, directory, haproxy
from lab.nlb.data_path import names_file
from lab.programs import system
from lab.service import Service
from lab.topology import CONTROL, NLB

USER = "nlb"


def agent(instance: Instance, status_only: bool = False) -> Service:
    """The agent; with `status_only` for a cluster without nodes, where names and finalizers are all there is."""
    kubeconfig = pki.kubeconfig(instance, USER, USER)
    command = (sys.executable, "-m", "lab.nlb", "--instance", instance.name, "--kubeconfig", str(kubeconfig))
    return Service(
        CONTROL,
        "nlb-controller",
        (*command, "--status-only") if status_only else command,
        environment={"PYTHONPATH": str(Path(__file__).parents[2]), "PYTHONUNBUFFERED": "1"},
        files=tuple(sorted(Path(__file__).parent.glob("*.py"))),
    )


def proxy(instance: Instance) -> Service:
    """HAProxy. What it serves, the agent tells it; it begins with what it served last."""
    certificates.create(instance)
    place = directory(instance)
    config = haproxy.config_file(place)
    if not config.exists():
        write(config, haproxy.render([], place, Path))
        write(names_file(instance), "")
    return Service(
        NLB,
        "haproxy",
        (system("haproxy"), "-W", "-S", f"{haproxy.master_socket(place)},mode,600", "-f", str(config)),
        f"unix://{haproxy.worker_socket(place)}",
    )
