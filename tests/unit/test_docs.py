"""What the docs say of outcomes is what the probes promise, and what they name exists."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from docs.outcomes import promised

CHECKOUT = Path(__file__).parents[2]
PAGES = [CHECKOUT / "README.md", *sorted((CHECKOUT / "docs").rglob("*.md")), *sorted(CHECKOUT.glob("*/README.md"))]


def test_outcomes_are_those_of_the_probes() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "docs.outcomes", "--check"], cwd=CHECKOUT, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("scenario", sorted({"network", *(probe.scenario for probe in promised("dev").values())}))
def test_every_scenario_has_its_page(scenario: str) -> None:
    page = (CHECKOUT / "docs" / "scenarios" / f"{scenario}.md").read_text()
    for heading in ("What it builds", "Run it", "What you must see", "Undo it"):
        assert f"\n## {heading}\n" in page


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(CHECKOUT)))
def test_links_and_targets_exist(page: Path) -> None:
    text = page.read_text()
    for target in re.findall(r"\]\(([^)#]+)\)", text):
        if "://" not in target:
            assert (page.parent / target).exists(), f"{page.name} links to {target}"
    targets = re.findall(r"^([a-z-]+):", (CHECKOUT / "Makefile").read_text(), re.MULTILINE)
    for named in re.findall(r"`make ([a-z-]+)", text):
        assert named in targets, f"{page.name} names make {named}"


def test_the_policy_for_vault_is_the_one_that_the_lab_proves() -> None:
    page = (CHECKOUT / "docs" / "environments" / "onprem.md").read_text()
    (shown,) = re.findall(r"```hcl\n(.*?)```", page, re.DOTALL)
    real = (CHECKOUT / "lab" / "vault-deployer.hcl").read_text()
    assert shown in real, "copy it from lab/vault-deployer.hcl"
    assert shown.count("path ") == real.count("\npath ")
