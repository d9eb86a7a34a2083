"""What the nodes' firewall counts: which of its rules dropped a packet that nobody ever answered."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field

from verify.errors import VerifyError
from verify.shell import Local

DENY = "global-deny-egress-all"
"""The rule of the VPC's firewall that decides on whatever no other rule allows (layer `network`)."""

TIMEOUT = 30


def egress(namespace: str) -> str:
    """The counter of packets that NetworkPolicies kept a namespace's pods from sending."""
    return f"egress-{namespace}"


def ingress(namespace: str) -> str:
    """The counter of packets that NetworkPolicies kept from a namespace's pods."""
    return f"ingress-{namespace}"


@dataclass
class Rises:
    """How much some counters rose during the `with` block that gave it; those that do not exist are left out."""

    by_rule: Mapping[str, int] = field(default_factory=dict)

    @property
    def total(self) -> int:
        """All of them together."""
        return sum(self.by_rule.values())

    def __str__(self) -> str:
        return ", ".join(f"counter {rule} rose by {rise}" for rule, rise in self.by_rule.items())


class Firewall:
    """The counters that a command of the settings prints; none where there is no command."""

    def __init__(self, command: tuple[str, ...] = ()) -> None:
        self._command = command
        self._locks: dict[str, threading.Lock] = {}
        self._locking = threading.Lock()
        self._rules: frozenset[str] | None = None
        self._turn = threading.Condition()
        self._begun = self._ended = 0
        """Readings so far."""
        self._last: Mapping[str, int] | VerifyError = {}

    @property
    def counts(self) -> bool:
        """Whether there are counters to read."""
        return bool(self._command)

    @property
    def counts_policies(self) -> bool:
        """Whether packets that NetworkPolicies drop are counted too."""
        with self._locking:
            if self._rules is None:
                self._rules = frozenset(self._read())
            return any(rule.startswith((egress(""), ingress(""))) for rule in self._rules)

    @contextmanager
    def counting(self, *rules: str) -> Iterator[Rises]:
        """How much these counters rise during the block.

        One block at a time for each counter, so that probes do not count each other's packets.
        """
        with ExitStack() as held:
            for rule in sorted(set(rules)):
                with self._locking:
                    lock = self._locks.setdefault(rule, threading.Lock())
                held.enter_context(lock)
            before = self._read()
            rises = Rises()
            yield rises
            after = self._read()
            rises.by_rule = {rule: after[rule] - before.get(rule, 0) for rule in rules if rule in after}

    def _read(self) -> Mapping[str, int]:
        """The counters, read after this call; calls that wait for one another share a reading."""
        with self._turn:
            mine = self._begun + 1
            self._turn.wait_for(lambda: self._ended >= mine or self._begun == self._ended)
            reads = self._ended < mine
            if reads:
                self._begun += 1
        if reads:
            try:
                found: Mapping[str, int] | VerifyError = self._printed()
            except VerifyError as error:
                found = error
            with self._turn:
                self._last, self._ended = found, self._begun
                self._turn.notify_all()
        else:
            found = self._last
        if isinstance(found, VerifyError):
            raise found
        return found

    def _printed(self) -> Mapping[str, int]:
        if not self._command:
            return {}
        done = Local("firewall counters").run(self._command, TIMEOUT)
        try:
            return {str(rule): int(packets) for rule, packets in json.loads(done.stdout).items()}
        except (ValueError, AttributeError, TypeError):
            said = done.stderr.strip() or done.stdout.strip()[:200] or "nothing"
            raise VerifyError(
                f"meshgate:verify.firewallCounters: `{' '.join(self._command)}` printed no JSON object of numbers "
                f"(exit {done.exit_code}): {said}"
            ) from None
