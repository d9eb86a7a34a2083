"""What the people around a mesh CA in an HSM do by hand elsewhere: `python -m authority root`, `sign` and `provision`.

After a `pulumi up` that made the requests, `sign` here keeps their chains; the next `pulumi up` plugs them in.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from lab import chains, files, hsm, vault
from lab import pulumi as runner
from lab.errors import LabError
from lab.instance import Instance

ROOT_KEY = "mesh-root"
"""The label of the root's key in the token, unless told otherwise."""


def sign(
    instance: Instance,
    stack: str,
    config_file: Path | None = None,
    changes: Sequence[Mapping[str, Any]] = (),
    *,
    root_key: str = ROOT_KEY,
) -> bool:
    """Sign every generation of the stack's mesh CA that waits for it: whether there was one, so that `up` has work.

    The root's key is made when it is not there; the HSM client's secret is written to Vault, if it is not there and the
    stack has a place for it. Raises LabError.
    """
    config = runner.configuration(instance, stack, config_file, changes)
    _provision(instance, config)
    requests = chains.requests(runner.state_file(instance, stack))
    waiting = [generation["name"] for generation in chains.unsigned(config) if generation["name"] in requests]
    for generation in waiting:
        make_root(instance, root_key)
        _say(f"generation {generation} of the mesh CA waits for its chain: the HSM signs its request")
        chain = run(
            instance, "sign", *_token(root_key), "--request", "-", pin=hsm.pin(instance), text=requests[generation]
        )
        files.write(chains.file(instance, stack, generation), chain)
    return bool(waiting)


def make_root(instance: Instance, key: str = ROOT_KEY) -> Path:
    """Make a root's key in the token, and its certificate, unless they are there: the certificate's file."""
    kept = instance.directory / "authority" / f"{key}.pem"
    if not kept.exists():
        certificate = hsm.certificate(instance, key)  # of a run that was killed before it kept it
        if certificate is None:
            _say(f"the HSM makes the mesh CA's root {key}")
            certificate = run(instance, "root", *_token(key), pin=hsm.pin(instance))
        files.write(kept, certificate)
    return kept


def run(instance: Instance, *arguments: str, pin: Path, text: str = "") -> str:
    """What `python -m authority` printed; it gets the PIN by a file descriptor and `text` as its input.

    Raises LabError.
    """
    with pin.open() as descriptor:
        number = descriptor.fileno()
        program = [sys.executable, "-m", "authority", *arguments, "--pin-fd", str(number)]
        done = subprocess.run(
            runner.command(instance, program, runner.CHECKOUT),
            env=runner.environment(instance),
            input=text,
            capture_output=True,
            text=True,
            pass_fds=(number,),
        )
    if done.returncode:
        raise LabError(f"`python -m authority {' '.join(arguments)}` failed: {done.stderr.strip()}")
    for line in done.stderr.splitlines():
        _say(f"  {line}")
    return done.stdout


def _provision(instance: Instance, config: Mapping[str, Any]) -> None:
    given = config.get(chains.SECTION, {}).get("vault")
    if not given or "authority" not in config.get("meshgate:layers", []):
        return
    mount = given["mount"]
    path = f"{mount}/data/hsm" if given.get("kvVersion", 2) == 2 else f"{mount}/hsm"
    if vault.as_root(instance, vault.of(instance), lambda client: client.read(path)):
        return
    _say(f"Vault's {mount}/hsm has no secret yet: writing the HSM client's")
    client = hsm.client_files(instance)
    run(
        instance,
        "provision",
        *("--mount", mount),
        *("--client-cert", str(client["clientcert"]), "--client-key", str(client["clientkey"])),
        *("--server-cert", str(client["servercert"])),
        pin=client["PIN"],
    )


def _token(key: str) -> tuple[str, ...]:
    return ("--module", str(hsm.module()), "--token-label", hsm.LABEL, "--key-label", key)


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
