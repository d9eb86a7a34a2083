"""Scenario `authority`: the mesh CA's root in its HSM, Vault, and what a stack hands on of them (rows H1, H2, H9)."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator

from settings import Settings
from verify import authority_token, vault
from verify.context import Context
from verify.exchange import judged
from verify.probe import Outcome, Probe

SCENARIO = "authority"

HARMLESS = {"CERTIFICATE", "CERTIFICATE REQUEST"}
"""What may be handed on in PEM."""


def probes(settings: Settings) -> list[Probe]:
    """The probes of the mesh CA itself; those of what it signs are the mesh's (H4)."""
    return [*authority_token.probes(settings), *vault.probes(settings), *_outputs()]


def _outputs() -> Iterator[Probe]:
    yield Probe(
        row="H9",
        scenario=SCENARIO,
        expected="the outputs of the layer authority hold certificates and requests, and no key",
        attempt=_no_key,
    )


def _no_key(context: Context) -> Outcome:
    text = json.dumps(context.contracts["authority"])
    kinds = re.findall(r"-----BEGIN ([A-Z0-9 ]+)-----", text)
    counted = ", ".join(f"{kinds.count(kind)} {kind}" for kind in sorted(set(kinds))) or "no PEM"
    faults = [f"a {kind} is among them" for kind in sorted(set(kinds) - HARMLESS)]
    return judged(counted, faults, f"stack outputs authority_*: {counted}")
