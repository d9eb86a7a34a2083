"""The probes of Bookinfo's stages against one that does what it should, and against ones that do not."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import pytest

from settings import Settings, load
from settings.bookinfo import STEPS, Step
from tests.unit.bookinfo_fakes import CONTRACTS, Bookshop, Client
from tests.unit.conftest import stack_file
from tests.unit.verify_fakes import context, impatient
from verify import bookinfo, scenarios
from verify.errors import VerifyError
from verify.probe import Outcome, Probe, numbered


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    impatient(monkeypatch)


@pytest.fixture(scope="module")
def settings() -> Settings:
    return load(stack_file("dev"))


def _probes(settings: Settings, step: Step) -> dict[str, Probe]:
    return numbered(bookinfo.step_probes(settings, step))


def _outcomes(settings: Settings, step: Step, shop: Bookshop, directory: Path) -> Iterator[tuple[str, Outcome]]:
    """What the probes of a step see, one after the other."""
    asked = context(directory, settings, kube=shop, client=cast(Any, Client(shop)), contracts=CONTRACTS)
    for name, probe in _probes(settings, step).items():
        # Only what the probe says it needs is there.
        asked.pods.start(probe.workloads)
        try:
            yield name, probe.attempt(asked)
        except VerifyError as error:
            yield name, Outcome(ok=False, observed=str(error))


@pytest.mark.parametrize("step", STEPS)
def test_each_stage_passes(step: Step, settings: Settings, tmp_path: Path) -> None:
    outcomes = dict(_outcomes(settings, step, Bookshop(step), tmp_path))
    assert {name: outcome for name, outcome in outcomes.items() if outcome.ok is not True} == {}
    assert [name for name, outcome in outcomes.items() if not outcome.evidence] == []


@pytest.mark.parametrize("at", STEPS)
def test_a_stage_is_told_from_every_other(at: Step, settings: Settings, tmp_path: Path) -> None:
    taken_for = {
        step
        for step in STEPS
        if step != at and all(it.ok for _, it in _outcomes(settings, step, Bookshop(at), tmp_path))
    }
    # The mesh is STRICT anyway, and no-rules does not ask without a sidecar.
    alike: dict[Step, set[Step]] = {"no-rules": {"strict"}, "permissive": {"no-rules"}, "strict": {"no-rules"}}
    assert taken_for == alike.get(at, set())


@pytest.mark.parametrize(
    ("step", "broken", "short"),
    [
        ("no-mesh", "a version is missing", "B3"),
        ("no-mesh", "a sidecar is left", "B3"),
        ("no-rules", "a version is missing", "B3d"),
        ("no-rules", "no stars", "B3a B3d"),
        ("no-rules", "every path is open", "B3c"),
        ("no-rules", "no static files", "B3b"),
        ("no-rules", "nobody can log in", "B3b"),
        ("no-rules", "sessions are lost", "B3b"),
        ("no-rules", "no log of bookinfo-gateway", "B3a B3b B3c"),
        ("no-rules", "no log of productpage", "B3d"),
        ("all-v1", "no rules", "B4a"),
        ("all-v1", "jason is known", "B4a"),
        ("all-v1", "a subset is missing", "B4b"),
        ("all-v1", "no route of productpage", "B4b"),
        ("all-v1", "no route of ratings", "B4b"),
        ("all-v1", "another way", "B4a"),
        ("all-v1", "no logs", "B4a"),
        ("jason-exact", "nobody is jason", "B4a"),
        ("jason-exact", "everybody is jason", "B4b B4c"),
        ("jason-exact", "no stars", "B4a"),
        ("jason-exact", "jason-prefix", "B4c"),
        ("jason-exact", "jason-regex", "B4c"),
        ("jason-prefix", "jason-exact", "B4c"),
        ("jason-prefix", "jason-regex", "B4c"),
        ("jason-regex", "jason-exact", "B4c"),
        ("jason-regex", "sessions are lost", "B4a B4c"),
        ("delay", "no fault", "B5a"),
        ("delay", "shorter delay", "B5a"),
        ("delay", "no flags", "B5a"),
        ("delay", "no log of reviews", "B5a"),
        ("delay", "everybody is jason", "B5b"),
        ("abort", "no fault", "B5a"),
        ("abort", "no flags", "B5a"),
        ("abort", "no log of reviews", "B5a"),
        ("abort", "everybody is jason", "B5b"),
        ("abort", "nobody is jason", "B5a"),
        ("shift-50", "other weights", "B6a"),
        ("shift-10", "other weights", "B6a"),
        ("shift-50", "no rules", "B6a B6b"),
        ("shift-50", "no logs", "B6a B6b"),
        ("timeout", "no timeout", "B7a"),
        ("timeout", "no flags", "B7a B7b"),
        ("timeout", "no fault", "B7b"),
        ("faulty", "never fails", "B7"),
        ("faulty", "always fails", "B7"),
        ("faulty", "not its own answer", "B7"),
        ("faulty", "no logs", "B7"),
        ("retries", "no retries", "B7"),
        ("retries", "never fails", "B7"),
        ("retries", "always fails", "B7"),
        ("retries", "no counters", "B7"),
        ("retries", "no log of ratings", "B7"),
        ("outlier-detection", "nothing is ejected", "B7"),
        ("outlier-detection", "not ejected", "B7"),
        ("outlier-detection", "no faulty pod", "B7"),
        ("outlier-detection", "no logs", "B7"),
        ("circuit-breaker", "no breaker", "B7a"),
        ("circuit-breaker", "wide breaker", "B7a"),
        ("circuit-breaker", "closed for good", "B7a"),
        ("circuit-breaker", "no flags", "B7a"),
        ("circuit-breaker", "no counters", "B7a"),
        ("circuit-breaker", "no logs", "B7a B7b"),
        ("permissive", "plaintext never passes", "B8b"),
        ("permissive", "nobody has an identity", "B8a"),
        ("permissive", "no logs", "B8a B8b B8c"),
        ("strict", "plaintext passes", "B8b"),
        ("strict", "nobody has an identity", "B8a"),
        ("strict", "no log of ratings", "B8a B8b"),
        ("allow-nothing", "no policies", "B9a B9b B9c B9d B9e B9f B9g"),
        ("allow-nothing", "another policy", "B9a B9b B9c B9d B9e B9f B9g"),
        ("allow-nothing", "no logs", "B9a B9b B9c B9d B9e B9f B9g B9h"),
        ("allow-nothing", "plaintext passes", "B9h"),
        ("productpage-viewer", "no policies", "B9a B9b B9c B9e B9f B9g B9h"),
        ("productpage-viewer", "one policy too many", "B9a"),
        ("productpage-viewer", "one policy too few", "B9a B9c B9d"),
        ("productpage-viewer", "POST is allowed", "B9b B9h"),
        ("productpage-viewer", "another policy", "B9a B9b B9c B9e B9f B9g B9h"),
        ("productpage-viewer", "nobody has an identity", "B9d B9e B9f B9g B9h"),
        ("details-viewer", "one policy too many", "B9a"),
        ("details-viewer", "one policy too few", "B9a"),
        ("details-viewer", "policies are for everybody", "B9e"),
        ("details-viewer", "no log of reviews", "B9a B9f B9i"),
        ("reviews-viewer", "one policy too many", "B9a"),
        ("reviews-viewer", "one policy too few", "B9a"),
        ("reviews-viewer", "a version is missing", "B9a"),
        ("reviews-viewer", "policies are for everybody", "B9e B9f"),
        ("reviews-viewer", "no log of ratings", "B9a B9c B9g B9i"),
        ("ratings-viewer", "no policies", "B9b B9c B9e B9f B9g B9h"),
        ("ratings-viewer", "one policy too few", "B9a"),
        ("ratings-viewer", "policies are for everybody", "B9c B9e B9f B9g"),
        ("ratings-viewer", "no stars", "B9a"),
        ("ratings-viewer", "POST is allowed", "B9b B9h"),
        ("ratings-viewer", "plaintext passes", "B9i"),
    ],
)
def test_what_is_broken_falls_short_and_nothing_else(
    step: Step, broken: str, short: str, settings: Settings, tmp_path: Path
) -> None:
    outcomes = _outcomes(settings, step, Bookshop(step, broken), tmp_path)
    assert " ".join(name for name, outcome in outcomes if outcome.ok is False) == short


@pytest.mark.parametrize(
    ("step", "name", "observed", "evidence"),
    [
        ("no-rules", "B3c", "/api/v1/other 404", " NR "),
        ("all-v1", "B4a", "nobody: v1 50, 0 stars; jason: v1 50, 0 stars", "(50 lines, the first)"),
        ("jason-exact", "B4a", "jason: v2 50, 450 stars", "outbound|9080|v2|reviews.bookinfo.svc.cluster.local"),
        ("delay", "B5a", "200, details, 'Error fetching product reviews', 6.0 s", " DI "),
        ("delay", "B5a", "6.0 s", " DC "),
        ("abort", "B5a", "v2 20, 0 stars", " 500 FI "),
        ("shift-50", "B6a", "of 400 (99.9 %: v1: 167 to 233, v3: 167 to 233)", "outbound|9080|v"),
        ("timeout", "B7a", "10 pages in 1.0 to 1.0 s", " 504 UT "),
        ("timeout", "B7b", "200 after 2.0 s", " DI "),
        ("faulty", "B7", "of 100 pages without stars (99.9 %: 34 to 66)", " 503 - via_upstream"),
        ("retries", "B7", " of 100 pages without stars (99.9 %: 0 to 2)", "counter upstream_rq_retry rose by"),
        ("outlier-detection", "B7", "then 0 of 100", "10.1.0.8:9080 /failed_outlier_check"),
        ("circuit-breaker", "B7a", "3 of 10 at once 200, 7 503; afterwards 200, details, reviews of v2", " 503 UO "),
        ("circuit-breaker", "B7a", "3 of 10", "counter upstream_rq_pending_overflow rose by 14"),
        ("permissive", "B8a", "200", "spiffe://cluster.local/ns/meshgate-verify-"),
        ("strict", "B8b", "ratings 000 exit 56", "filter_chain_not_found"),
        ("allow-nothing", "B9a", "403 RBAC: access denied", "rbac_access_denied_matched_policy[none]"),
        ("details-viewer", "B9a", "'Error fetching product reviews'", "ns/bookinfo/sa/bookinfo-productpage"),
        ("reviews-viewer", "B9a", "reviews of", "ns/bookinfo/sa/bookinfo-reviews"),
        ("ratings-viewer", "B9c", "403", "ns/bookinfo/sa/bookinfo-productpage"),
        ("ratings-viewer", "B9i", "ratings 000 exit 56", "sidecar of reviews"),
    ],
)
def test_what_is_seen_and_who_said_so(
    step: Step, name: str, observed: str, evidence: str, settings: Settings, tmp_path: Path
) -> None:
    outcome = dict(_outcomes(settings, step, Bookshop(step), tmp_path))[name]
    assert observed in outcome.observed
    assert evidence in outcome.evidence
    assert outcome.proven


def test_a_session_is_not_in_a_command_line(settings: Settings, tmp_path: Path) -> None:
    shop = Bookshop("jason-exact")
    client = Client(shop)
    asked = context(tmp_path, settings, kube=shop, client=cast(Any, client), contracts=CONTRACTS)
    assert _probes(settings, "jason-exact")["B4a"].attempt(asked).ok
    login, *pages = client.commands
    assert login[-1].endswith("/login")
    assert "username=jason" in login
    # Fifty pages by four curls.
    assert len(pages) == 4
    assert all("--config" in command and not any("session=" in word for word in command) for command in pages)


def test_every_denial_has_its_success(settings: Settings) -> None:
    paired = {}
    for step in STEPS:
        probes = _probes(settings, step)
        names = {probe: name for name, probe in probes.items()}
        paired[step] = {name: names[probe.pair] for name, probe in probes.items() if probe.pair}
    assert paired["no-rules"] == {"B3c": "B3a"}
    assert paired["strict"] == {"B8b": "B8a"}
    # Nothing is allowed, so there is no success to set beside; the sidecars' own words prove it.
    assert paired["allow-nothing"] == {}
    for step in STEPS[STEPS.index("productpage-viewer") :]:
        by_page, by_pod = (
            dict.fromkeys(("B9b", "B9c"), "B9a"),
            dict.fromkeys(("B9e", "B9f", "B9g", "B9h", "B9i"), "B9d"),
        )
        assert paired[step] == by_page | by_pod


def test_the_present_stage_is_the_settings(dev_config: dict[str, Any]) -> None:
    steps: tuple[Step, ...] = ("all-v1", "details-viewer")
    for step in steps:
        settings = load({**dev_config, "bookinfo": {**dev_config["bookinfo"], "step": step}})
        seen = [it.expected for it in scenarios.probes(settings).values() if it.scenario == "bookinfo"]
        assert seen == [it.expected for it in bookinfo.step_probes(settings, step)]


def test_all_stages_share_two_pods(settings: Settings) -> None:
    used = {
        workload for step in STEPS for probe in bookinfo.step_probes(settings, step) for workload in probe.workloads
    }
    assert used == set(bookinfo.WORKLOADS)
    assert {workload.name: workload.in_mesh for workload in bookinfo.WORKLOADS} == {"caller": True, "outsider": False}
