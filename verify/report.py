"""What became of the probes: for people, for programs, for CI."""

from __future__ import annotations

import json
import re
import xml.etree.ElementTree as ElementTree
from collections.abc import Sequence

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from verify.runner import Result

WORDS = {True: "ok", False: "FAILED", None: "n/a"}
STYLES = {True: "green", False: "bold red", None: "dim"}

WIDTH = 200
"""Of the table where there is no terminal to ask."""


def as_json(stack: str, results: Sequence[Result]) -> str:
    """The document that `--json` prints."""
    probes = [
        {
            "id": result.id,
            "scenario": result.scenario,
            "ok": result.ok,
            "expected": result.expected,
            "observed": result.observed,
            "evidence": result.evidence,
            "seconds": result.seconds,
            "tries": result.tries,
        }
        for result in results
    ]
    return json.dumps({"stack": stack, "probes": probes}, indent=2)


def as_junit(stack: str, results: Sequence[Result]) -> str:
    """A JUnit document: a test suite for each scenario, a test case for each probe."""
    root = ElementTree.Element("testsuites", name=f"meshgate verify {stack}")
    for scenario in dict.fromkeys(result.scenario for result in results):
        cases = [result for result in results if result.scenario == scenario]
        suite = ElementTree.SubElement(
            root,
            "testsuite",
            name=scenario,
            tests=str(len(cases)),
            failures=str(sum(case.ok is False for case in cases)),
            skipped=str(sum(case.ok is None for case in cases)),
            time=f"{sum(case.seconds for case in cases):.3f}",
        )
        for case in cases:
            element = ElementTree.SubElement(
                suite,
                "testcase",
                classname=f"{stack}.{scenario}",
                name=f"{case.id} {_printable(case.expected)}",
                time=f"{case.seconds:.3f}",
            )
            if case.ok is False:
                failure = ElementTree.SubElement(element, "failure", message=_printable(case.observed))
                failure.text = _printable(f"{case.tries} tries; {case.evidence or 'no evidence'}")
            elif case.ok is None:
                ElementTree.SubElement(element, "skipped", message=_printable(case.observed))
    ElementTree.indent(root)
    return ElementTree.tostring(root, encoding="unicode", xml_declaration=True)


def print_table(results: Sequence[Result], console: Console) -> None:
    """The table that people see on a terminal."""
    table = Table(show_lines=True)
    for name, ratio in (("", None), ("id", None), ("scenario", None), ("expected", 3), ("observed", 4)):
        table.add_column(name, ratio=ratio, no_wrap=ratio is None, overflow="fold")
    table.add_column("where it was decided", ratio=5, overflow="fold")
    table.add_column("tries", justify="right")
    table.add_column("s", justify="right")
    for result in results:
        table.add_row(
            f"[{STYLES[result.ok]}]{WORDS[result.ok]}[/]",
            result.id,
            result.scenario,
            escape(result.expected),
            escape(result.observed),
            escape(result.evidence),
            str(result.tries),
            f"{result.seconds:.1f}",
        )
    console.print(table)


def summary(results: Sequence[Result]) -> str:
    """All of it in one line."""
    failed = [result.id for result in results if result.ok is False]
    absent = sum(result.ok is None for result in results)
    good = len(results) - len(failed) - absent
    text = f"{len(results)} probes: {good} as expected"
    if failed:
        text += f", {len(failed)} short of it ({', '.join(failed)})"
    return text + (f", {absent} not applicable" if absent else "")


def _printable(text: str) -> str:
    """Without the control characters that XML has no way to write."""
    return re.sub(r"[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]", "?", text)
