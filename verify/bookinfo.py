"""Scenario `bookinfo`: what each of its stages must show, rows B3 to B9 (source: KANS 7)."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from functools import partial

from settings import Settings
from settings.bookinfo import STEPS, Step
from verify import bookinfo_resilience as resilience
from verify import bookinfo_routing as routing
from verify import bookinfo_security as security
from verify.bookinfo_visit import IN_MESH, OUTSIDE
from verify.probe import Probe

WORKLOADS = (IN_MESH, OUTSIDE)
"""The probe pods of all stages."""

STAGES: Mapping[Step, Callable[[], Iterable[Probe]]] = {
    "no-mesh": routing.without_mesh,
    "no-rules": lambda: (*routing.entry(), routing.balanced("B3")),
    "all-v1": routing.all_v1,
    **{step: partial(routing.by_user, step) for step in routing.SIMILAR},
    "delay": resilience.delay,
    "abort": resilience.abort,
    "shift-50": partial(routing.shifted, "shift-50"),
    "shift-10": partial(routing.shifted, "shift-10"),
    "timeout": resilience.timeout,
    "faulty": resilience.faulty,
    "retries": resilience.retries,
    "outlier-detection": resilience.outlier_detection,
    "circuit-breaker": resilience.circuit_breaker,
    "permissive": lambda: (*security.permissive(), routing.balanced("B8")),
    "strict": lambda: (*security.strict(), routing.balanced("B8")),
    **{step: partial(security.authorization, step) for step in STEPS[STEPS.index("allow-nothing") :]},
}


def probes(settings: Settings) -> list[Probe]:
    """The probes of the present stage."""
    assert settings.bookinfo is not None
    return step_probes(settings, settings.bookinfo.step)


def step_probes(settings: Settings, step: Step) -> list[Probe]:
    """The probes of a stage, whatever the present one is."""
    return list(STAGES[step]())
