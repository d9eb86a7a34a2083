"""The environment onprem on a lab, and what its operator and its security administrator do, step by step."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lab import authority, balancer, hsm, service, vault
from lab.instance import Instance
from lab.service import Service
from tests.deployment import DESTROY, UP, Stack, kubectl, stack_file, write_stack_file

NAME = "onprem"
AUTHORITY = "meshgate:authority"
MOUNT = "asm-c1"
ROOT, NEXT_ROOT = "mesh-root", "mesh-root-next"
"""Labels of the roots' keys in the token."""

GATEWAY = "istio-ingressgateway"
"""The gateway at the integrated balancer's address."""

SIGNED, WAITING = "signed", "waiting for the signed chain"


@dataclass
class Onprem:
    """What the operator has: Pulumi.onprem.yaml, in which the chains are put, and the lab.

    A test changes `config` and runs `up`; what the next test finds is what the last one left.
    """

    lab: Instance
    directory: Path
    """Where the operator's file is."""

    config: dict[str, Any] = field(default_factory=lambda: stack_file(NAME))

    @property
    def stack(self) -> Stack:
        """The stack with the configuration as it is now."""
        return Stack(self.lab, NAME, write_stack_file(self.directory, NAME, self.config))

    def up(self, *, check: bool = True) -> subprocess.CompletedProcess[str]:
        """`pulumi up`."""
        return self.stack.pulumi(*UP, check=check)

    def deploy(self) -> None:
        """`pulumi up`, the HSM's signature, `pulumi up`: whatever of it has not been done."""
        if self.status() is None:
            self.up()
        if self.status() == WAITING:
            self.provision()
            self.set_chain("2026", self.signed("2026", ROOT))
            self.up()
            self.configure_balancer()
        assert self.status() == SIGNED

    def destroy(self) -> None:
        """As whoever means it does: what must not be lost is protected."""
        self.stack.pulumi("state", "unprotect", "--all", "--yes", check=False)
        self.stack.pulumi(*DESTROY)
        self.configure_balancer()

    def status(self) -> str | None:
        """Of the mesh CA; None before the first `pulumi up`."""
        status: str | None = self.stack.outputs().get("authority_status")
        return status

    @property
    def generations(self) -> list[dict[str, Any]]:
        """Of the mesh CA, in the operator's file."""
        generations: list[dict[str, Any]] = self.config[AUTHORITY]["generations"]
        return generations

    def set_chain(self, generation: str, chain: str | None) -> None:
        """Put a generation's chain into the file, or take it out."""
        entry = next(entry for entry in self.generations if entry["name"] == generation)
        entry.pop("chain", None)
        if chain:
            entry["chain"] = chain

    def statuses(self) -> dict[str, str]:
        """Of the generations, from the stack's outputs."""
        return {name: entry["status"] for name, entry in self._generations().items()}

    def request(self, generation: str) -> str:
        """A generation's request (PEM), from the stack's outputs."""
        request: str = self._generations()[generation]["request"]
        return request

    def _generations(self) -> dict[str, dict[str, str]]:
        printed = self.stack.pulumi("stack", "output", "authority_generations", "--json").stdout
        generations: dict[str, dict[str, str]] = json.loads(printed)
        return generations

    def signed(self, generation: str, root: str) -> str:
        """The chain of a generation's request, signed by a root in the HSM, whose key is made when it is not there."""
        return self.sign(self.request(generation), root)

    def sign(self, request: str, root: str) -> str:
        """`python -m authority sign`: the chain."""
        authority.make_root(self.lab, root)
        token = ("--module", str(hsm.module()), "--token-label", hsm.LABEL, "--key-label", root)
        return authority.run(self.lab, "sign", *token, "--request", "-", pin=hsm.pin(self.lab), text=request)

    def provision(self) -> None:
        """`python -m authority provision`: the HSM client's secret, into the place that `pulumi up` made in Vault."""
        client = hsm.client_files(self.lab)
        options = (("--client-cert", "clientcert"), ("--client-key", "clientkey"), ("--server-cert", "servercert"))
        given = [text for option, name in options for text in (option, str(client[name]))]
        authority.run(self.lab, "provision", "--mount", MOUNT, *given, pin=client["PIN"])

    def configure_balancer(self) -> None:
        """Give the balancer that is configured by hand what the stack has rendered for it."""
        balancer.apply(self.lab, NAME)

    def root(self, key: str) -> str:
        """The certificate of a root in the HSM, PEM."""
        return authority.make_root(self.lab, key).read_text()

    @property
    def vault(self) -> Service:
        """Vault, as a service of the lab."""
        return vault.of(self.lab)

    def seal(self) -> None:
        """As an administrator does in an emergency."""
        vault.as_root(self.lab, self.vault, lambda client: client.sys.seal())

    def unseal(self) -> None:
        """As its administrators do with their keys."""
        vault.unseal(self.lab, self.vault)

    def stop_vault(self) -> None:
        """Nothing answers at its address any more."""
        service.stop(self.lab, self.vault)

    def start_vault(self) -> None:
        """Start Vault, and unseal it."""
        service.start(self.lab, self.vault)
        vault.prepare(self.lab, self.vault)

    def exists(self, *resource: str) -> bool:
        """Whether the cluster has something: `exists("secret", "cacerts", "-n", "istio-system")`."""
        return bool(kubectl(self.lab, "get", *resource, "--ignore-not-found", "-o", "name").strip())


def wait_for(what: str, condition: Callable[[], bool], seconds: float = 180) -> None:
    """Ask until it is so; fails the test with `what` when it takes longer than `seconds`."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, f"not after {seconds:.0f} s: {what}"
        time.sleep(0.2)
