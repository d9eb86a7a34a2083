"""Who listens in a network namespace, as the kernel says it in /proc/net: every container has that to read."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

COMMAND = ("cat", "/proc/net/tcp", "/proc/net/tcp6")
LISTENING = "0A"
"""A socket's state there."""


@dataclass(frozen=True)
class Listening:
    """A socket that takes connections."""

    address: str
    """`*` for all of them."""

    user: int
    """Its owner's uid."""


def listening(text: str) -> Mapping[int, Listening]:
    """The ports on which somebody listens, in what COMMAND printed."""
    found: dict[int, Listening] = {}
    for line in text.splitlines():
        fields = line.split()
        if len(fields) > 7 and fields[3] == LISTENING:
            address, _, port = fields[1].partition(":")
            # The kernel writes each 32 bits as the machine has them in memory; of IPv6 the last ones tell enough.
            last = ".".join(str(byte) for byte in reversed(bytes.fromhex(address[-8:])))
            found[int(port, 16)] = Listening(last if address.strip("0") else "*", int(fields[7]))
    return found
