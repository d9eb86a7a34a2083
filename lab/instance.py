"""One lab on this machine: its name and where its files are."""

import os
import re
from dataclasses import dataclass
from pathlib import Path

from lab.errors import LabError


def base_directory() -> Path:
    """Where the state of all instances lives: `$MESHGATE_LAB_DIR`, or /var/lib/meshgate. Raises LabError."""
    path = Path(os.environ.get("MESHGATE_LAB_DIR") or "/var/lib/meshgate").absolute()
    if path.is_relative_to("/run"):
        raise LabError(f"MESHGATE_LAB_DIR is {path}, but a node has a /run of its own: choose a directory elsewhere")
    return path


def default_name() -> str:
    """`$MESHGATE_LAB`, or dev."""
    return os.environ.get("MESHGATE_LAB") or "dev"


@dataclass(frozen=True)
class Instance:
    """A lab by name: 1 to 8 characters of a-z, 0-9 and `-`. Raises LabError for another name."""

    name: str

    def __post_init__(self) -> None:
        if not re.fullmatch(r"[a-z0-9]([a-z0-9-]{0,6}[a-z0-9])?", self.name):
            raise LabError(
                f"{self.name!r} is no name for a lab: use 1 to 8 characters of a-z, 0-9 and -, with no - at either end"
            )

    @property
    def directory(self) -> Path:
        """Everything that the instance keeps on disk; `down` removes it."""
        return base_directory() / self.name

    @property
    def kubeconfig(self) -> Path:
        """The administrator's kubeconfig. Its server is reached from inside the lab's machines only."""
        return self.directory / "admin.kubeconfig"

    @property
    def internet_ca(self) -> Path:
        """The certificate of the CA that signs the web servers of the lab's internet."""
        return self.directory / "internet" / "ca.pem"

    @property
    def internet_client_certificate(self) -> Path:
        """The certificate by which mutual.example.com of the lab's internet knows its client."""
        return self.directory / "internet" / "clients" / "egress-gateway.pem"

    @property
    def internet_client_key(self) -> Path:
        """Its key."""
        return self.directory / "internet" / "clients" / "egress-gateway-key.pem"

    @property
    def vault_ca(self) -> Path:
        """The certificate of the CA that signed Vault's."""
        return self.directory / "vault" / "pki" / "ca.pem"

    @property
    def cgroup(self) -> str:
        """The instance's cgroup, relative to the root of each hierarchy."""
        return f"meshgate/{self.name}"

    def netns(self, machine: str) -> Path:
        """The network namespace of one machine, for `nsenter --net=`."""
        return Path("/run/netns") / f"mg-{self.name}-{machine}"

    def log(self, part: str) -> Path:
        """The log of a machine, or of `<machine>-<service>`."""
        return self.directory / "log" / f"{part}.log"
