"""The lab's own Go programs (lab/apps), with Go's own tools."""

import subprocess
from pathlib import Path

import pytest

APPS = Path(__file__).parents[2] / "lab" / "apps"


@pytest.mark.engine
@pytest.mark.parametrize("command", [["gofmt", "-l", "."], ["go", "vet", "./..."], ["go", "test", "./..."]])
def test_apps(command: list[str]) -> None:
    answer = subprocess.run(command, cwd=APPS, capture_output=True, text=True)
    assert answer.returncode == 0, answer.stdout + answer.stderr
    if command[0] == "gofmt":
        assert answer.stdout == "", "these files are not formatted"
