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


def egress(namespace: str) -> str:
    """The counter of packets that NetworkPolicies kept a namespace's pods from sending."""
    return f"egress-{namespace}"


def ingress(namespace: str) -> str:
    """The counter of packets that NetworkPolicies kept from a namespace's pods."""
    return f"ingress-{namespace}"


@dataclass
class Rises:
    """How much each rule's counter rose during the `with` block that gave it."""

    by_rule: dict[str, int] = field(default_factory=dict)

    def of(self, rule: str) -> int | None:
        """The rise of a rule's counter; None where there is no such counter."""
        return self.by_rule.get(rule)

    def said(self, *rules: str) -> str:
        """What became of these rules' counters, of those that there are, in words."""
        return ", ".join(f"counter {rule} rose by {self.by_rule[rule]}" for rule in rules if rule in self.by_rule)


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
            rises.by_rule = {rule: packets - before.get(rule, 0) for rule, packets in after.items()}

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
