"""The balancer that an operator configures by hand: HAProxy with what the stack hands out for it (ingress_balancers).

What a stack hands out is loaded as it is, after `haproxy -c` has taken it; of the lab are only the sockets by which the
running HAProxy is asked and told. lab/nlb has the same program for another purpose, and what it takes to reload it.
"""

import asyncio
import json
import subprocess
import tempfile
from pathlib import Path

from lab import machine, pulumi
from lab.errors import LabError
from lab.files import write
from lab.instance import Instance
from lab.nlb.haproxy import Proxy, config_file, master_socket, revision, worker_socket
from lab.programs import system
from lab.service import Service
from lab.topology import BALANCER

OUTPUT = "ingress_balancers"


def proxy(instance: Instance) -> Service:
    """HAProxy. It begins with what stacks handed out last, before the first of them with nothing."""
    place = _directory(instance)
    if not config_file(place).exists():
        write(config_file(place), _own(place, ""))
    return Service(
        BALANCER,
        "haproxy",
        (system("haproxy"), "-W", "-S", f"{master_socket(place)},mode,600", "-f", str(config_file(place))),
        f"unix://{worker_socket(place)}",
    )


def apply(instance: Instance, stack: str) -> bool:
    """Load what a stack hands out, as its operator would: whether it hands anything out. Raises LabError.

    Connections that exist go on. What other stacks handed out stays; a stack that was destroyed hands out nothing.
    """
    place = _directory(instance)
    record = place / "handed-out.json"
    before: dict[str, dict[str, str]] = json.loads(record.read_text()) if record.exists() else {}
    now = {**before, stack: _output(instance, stack)}
    if now[stack] or before.get(stack):
        text = "\n".join(now[name][gateway] for name in sorted(now) for gateway in sorted(now[name]))
        _check(instance, text)
        try:
            asyncio.run(Proxy(place).load(_own(place, text)))
        except OSError as error:
            raise LabError(
                f"the HAProxy of machine {BALANCER} does not answer ({error}): run `python -m lab up`"
            ) from error
        write(record, json.dumps(now, indent=2))
    return bool(now[stack])


def _directory(instance: Instance) -> Path:
    return instance.directory / "balancer"


def _own(place: Path, text: str) -> str:
    """What stacks hand out, and before it the sockets, and which configuration it is."""
    return f"""global
    description {revision(text)}
    stats socket {worker_socket(place)} mode 600 level admin expose-fd listeners

{text}"""


def _output(instance: Instance, stack: str) -> dict[str, str]:
    """The stack's output; empty when it has no such gateways."""
    command = ["pulumi", "stack", "output", "--json", "--stack", stack]
    with tempfile.TemporaryFile("w+") as answer:
        if pulumi.execute(instance, command, pulumi.project(instance), stdout=answer):
            raise LabError(f"cannot read the outputs of stack {stack}")
        answer.seek(0)
        found: dict[str, str] = json.loads(answer.read()).get(OUTPUT, {})
    return found


def _check(instance: Instance, text: str) -> None:
    if not text:
        return  # HAProxy alone would have nothing to do; the lab's still takes commands
    with tempfile.NamedTemporaryFile("w", suffix=".cfg") as file:
        file.write(text)
        file.flush()
        command = [*machine.enter(instance, BALANCER), system("haproxy"), "-c", "-f", file.name]
        done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise LabError(f"HAProxy does not take what output {OUTPUT} says: {done.stderr.strip()}")
