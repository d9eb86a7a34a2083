"""What the nodes' firewall counts: which of its rules dropped a packet that nobody ever answered."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from verify.errors import VerifyError
from verify.shell import Local

DENY = "global-deny-egress-all"
"""The rule of the VPC's firewall that decides on whatever no other rule allows (layer `network`)."""

TIMEOUT = 15


def policy(namespace: str) -> str:
    """The counter of packets that NetworkPolicies kept a namespace's pods from sending."""
    return f"egress-{namespace}"


@dataclass
class Rises:
    """By how much each rule's counter rose during the `with` block that gave it; only those that did."""

    by_rule: dict[str, int] = field(default_factory=dict)

    def said(self, *rules: str) -> str:
        """What became of these rules' counters, in words."""
        return "counters of the nodes' firewall: " + ", ".join(
            f"{rule} rose by {self.by_rule.get(rule, 0)}" for rule in rules
        )


@dataclass(frozen=True)
class Firewall:
    """The counters that a command of the settings prints; none where there is no command."""

    command: tuple[str, ...] = ()
    _one_at_a_time: threading.Lock = field(default_factory=threading.Lock)

    @property
    def counts(self) -> bool:
        """Whether there are counters to read."""
        return bool(self.command)

    @contextmanager
    def counting(self) -> Iterator[Rises]:
        """What rose during the block. One at a time, so that probes do not count each other's packets."""
        with self._one_at_a_time:
            before = self._read()
            rises = Rises()
            yield rises
            after = self._read()
            rises.by_rule = {
                rule: rise for rule, packets in sorted(after.items()) if (rise := packets - before.get(rule, 0)) > 0
            }

    def _read(self) -> dict[str, int]:
        if not self.command:
            return {}
        done = Local("firewall counters").run(self.command, TIMEOUT)
        try:
            found = json.loads(done.stdout)
            return {str(rule): int(packets) for rule, packets in found.items()}
        except (ValueError, AttributeError, TypeError):
            raise VerifyError(
                f"meshgate:verify.firewallCounters: `{' '.join(self.command)}` printed no JSON object of numbers "
                f"(exit {done.exit_code}): {done.stderr.strip() or done.stdout.strip()[:200] or 'nothing'}"
            ) from None
