"""The forms of the outcome."""

from __future__ import annotations

import io
import json
import xml.etree.ElementTree as ElementTree

from rich.console import Console

from verify import report
from verify.runner import Result


def _result(name: str, ok: bool | None, scenario: str = "ingress", observed: str = "200") -> Result:
    return Result(
        id=name,
        scenario=scenario,
        ok=ok,
        expected=f"{name} is 200",
        observed=observed,
        evidence='gateway simple: [2026-11-21T06:35:38.798Z] "GET / HTTP/2" 200',
        tries=2,
        seconds=1.25,
    )


RESULTS = [
    _result("M1a", True, "mesh"),
    _result("T3", True),
    _result("T5", False, observed="exit 7 <\x00>"),
    _result("T6a", None),
]


def test_json() -> None:
    document = json.loads(report.as_json("dev", RESULTS))
    assert document["stack"] == "dev"
    assert [probe["id"] for probe in document["probes"]] == ["M1a", "T3", "T5", "T6a"]
    assert list(document["probes"][0]) == [
        "id",
        "scenario",
        "ok",
        "expected",
        "observed",
        "evidence",
        "seconds",
        "tries",
    ]
    assert [probe["ok"] for probe in document["probes"]] == [True, True, False, None]
    assert (document["probes"][0]["seconds"], document["probes"][0]["tries"]) == (1.25, 2)


def test_junit() -> None:
    root = ElementTree.fromstring(report.as_junit("dev", RESULTS))
    suites = root.findall("testsuite")
    assert [(suite.get("name"), suite.get("tests")) for suite in suites] == [("mesh", "1"), ("ingress", "3")]
    assert (suites[1].get("failures"), suites[1].get("skipped")) == ("1", "1")
    cases = root.findall("testsuite/testcase")
    assert [case.get("name") for case in cases] == ["M1a M1a is 200", "T3 T3 is 200", "T5 T5 is 200", "T6a T6a is 200"]
    failure = root.find(".//failure")
    assert failure is not None
    assert failure.get("message") == "exit 7 <?>"
    assert "2 tries; gateway simple" in (failure.text or "")


def test_the_table_shows_brackets_as_they_are() -> None:
    output = io.StringIO()
    report.print_table(RESULTS, Console(file=output, width=200))
    text = output.getvalue()
    for part in ("T3 is 200", "[2026-11-21T06:35:38.798Z]", "FAILED", "n/a", "1.2"):
        assert part in text


def test_the_summary_names_what_fell_short() -> None:
    assert report.summary(RESULTS) == "4 probes: 2 as expected, 1 short of it (T5), 1 not applicable"
    assert report.summary(RESULTS[:2]) == "2 probes: 2 as expected"
