"""Egress before and after changes of its settings, on the lab: rows G6, G9 and what a team's leaving does to others."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.deployment import UP, Stack, stack_file, write_stack_file
from tests.lab.outcomes import Outcomes, verify
from verify import certificates

pytestmark = pytest.mark.lab


def _entry(config: dict[str, Any], team: str, host: str, mode: str) -> dict[str, Any]:
    """A team's entry of a host, to be changed."""
    hosts = next(it for it in config["meshgate:teams"]["teams"] if it["name"] == team)["hosts"]
    found: dict[str, Any] = next(it for it in hosts if (it["host"], it["mode"]) == (host, mode))
    return found


def _observed(outcomes: Outcomes, words: str) -> dict[str, Any]:
    """The one probe whose promise begins with these words."""
    (found,) = (probe for probe in outcomes.probes.values() if probe["expected"].startswith(words))
    return found


def test_g6_before_the_policies_and_after(dev: Stack, tmp_path: Path) -> None:
    """Before its policies, team-x and team-y may ask httpbin.org for anything."""
    config = stack_file("dev")
    for team in ("team-x", "team-y"):
        _entry(config, team, "httpbin.org", "http")["allow"] = "all"
    unrestricted = Stack(dev.instance, "dev", write_stack_file(tmp_path, "dev", config))
    unrestricted.pulumi(*UP)
    before = verify(unrestricted, "--only", "G5")
    assert before.failed() == []
    for team in ("team-x", "team-y"):
        assert _observed(before, f"http://httpbin.org/ from {team}:")["observed"].startswith("200")

    changes = dev.changes(*UP)
    assert set(changes) <= {"same", "read", "update"}, changes

    after = verify(dev, "--only", "G5,G6,G7,G8")
    assert after.failed() == []
    for team in ("team-x", "team-y"):
        assert _observed(after, f"http://httpbin.org/ from {team}, not allowed")["observed"].startswith("403")
    assert _observed(after, "http://httpbin.org/status/418 from team-y:")["observed"].startswith("418")
    assert _observed(after, "http://example.com/ from team-x:")["observed"].startswith("200")
    assert _observed(after, "http://example.com/ from team-y, to which")["observed"].startswith("502")


def test_g9_a_wrong_upstream_ca_and_a_team_that_leaves(dev: Stack, tmp_path: Path) -> None:
    """team-x is told to trust another CA for example.com; team-z, with its credential, is taken out."""
    config = stack_file("dev")
    teams = config["meshgate:teams"]
    stranger = certificates.authority(certificates.common_name("not the lab internet's CA"))
    ca = tmp_path / "ca.pem"
    ca.write_bytes(stranger.certificate_pem)
    teams["credentials"]["wrong"] = {"kind": "files", "ca": str(ca)}
    _entry(config, "team-x", "example.com", "originate")["tls"] = {"credential": "wrong"}
    teams["teams"] = [team for team in teams["teams"] if team["name"] != "team-z"]
    changed = Stack(dev.instance, "dev", write_stack_file(tmp_path, "dev", config))
    changes = changed.changes(*UP)
    assert changes.get("delete", 0) > 5, changes

    outcomes = verify(changed, "--only", "G5,G7,G8,G9,G10")
    # What was TLS that begins at the gateway fails there, whatever else is as before.
    broken = _observed(outcomes, "http://example.com/ from team-x: the gateway speaks")
    assert broken["ok"] is False
    assert broken["observed"].startswith("503")
    assert "CERTIFICATE_VERIFY_FAILED" in broken["observed"] + broken["evidence"]
    assert _observed(outcomes, "http://example.com/ from team-x: the host's")["ok"] is False
    assert len(outcomes.failed()) == 2, outcomes.failed()
    assert _observed(outcomes, "https://example.com/ from team-x:")["ok"] is True
    assert _observed(outcomes, "http://httpbin.org/status/418 from team-y:")["ok"] is True
    dev.pulumi(*UP)
