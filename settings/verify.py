"""Settings of the probes. The program makes nothing of them; `python -m verify` reads them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from ipaddress import IPv4Address
from typing import Annotated

from pydantic import Field

from settings.model import DnsLabel, Model, Problem


class Client(Model):
    """A place outside the cluster from which probes ask."""

    name: DnsLabel
    command: tuple[str, ...] = ()
    """What runs curl there with this machine's files, for example nsenter with a network; empty for this machine."""

    address: IPv4Address | None = None
    """The address that the internet sees it with, which rules about clients' addresses are asked by. Without it, probes
    of such rules do not apply to it."""


class HsmAccess(Model):
    """The PKCS#11 token with the mesh CA's root key, as probes reach it from this machine."""

    module: str
    """Path of the token's PKCS#11 module."""

    token_label: str
    pin_file: str
    """Path of the file with the PIN of a user who sees private keys; nobody else may read it."""


class VaultAccess(Model):
    """What probes may see of the Vault in `authority.vault`, beyond what it answers."""

    audit_log: str | None = None
    """Path of its audit log (JSON), where this machine can read it. The lines of the probes' requests are evidence."""

    other_mount: str | None = None
    """Mount of another cluster, for example asm-c2: its role must refuse this cluster's istiod, and its secret stay
    closed."""


class VerifySettings(Model):
    """Who asks, and with which image."""

    image: str = "docker.io/curlimages/curl:8.16.0"
    """Image of the short-lived probe pods; it has sh, sleep and curl with OpenSSL."""

    trust: str | None = None
    """Path of the CAs' certificates (PEM) that probe pods trust for hosts outside, and clients for balancers that end
    TLS; left out, those of the image, and the clients' own."""

    firewall_counters: tuple[str, ...] = ()
    """A command that prints how many packets each rule of the nodes' firewall decided on, as a JSON object by the
    rule's name; packets that NetworkPolicies dropped are `egress-<namespace>` and `ingress-<namespace>`. Without it,
    probes say that the firewall's part was not seen."""

    hsm: HsmAccess | None = None
    """Without it, probes say that the HSM was not looked into."""

    vault: VaultAccess = VaultAccess()
    clients: Annotated[tuple[Client, ...], Field(min_length=1)] = (Client(name="here"),)

    def problems(self) -> Iterator[Problem]:
        for name, times in Counter(client.name for client in self.clients).items():
            if times > 1:
                yield Problem(key="clients", message=f"'{name}' names {times} clients; names must differ")
