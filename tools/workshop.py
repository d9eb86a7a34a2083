"""Runs the commands of a build: logged, watched, and ended together with us."""

import json
import os
import shlex
import subprocess
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tools.errors import CommandFailed, ToolsError

TAIL = 20
Command = Sequence[str | Path]


@dataclass(frozen=True)
class Workshop:
    """Where one part is built.

    scratch: an empty directory, removed afterwards; log: the file that gets all output of the commands;
    tick: called about once a second with the newest line of the log.
    """

    scratch: Path
    log: Path
    tick: Callable[[str], None]

    def run(self, command: Command, *, cwd: Path | None = None, env: Mapping[str, str] | None = None) -> None:
        """Run a command to its end; its output goes to the log. Raises CommandFailed."""
        self._run(command, cwd, env, None)

    def read(self, command: Command, *, cwd: Path | None = None, env: Mapping[str, str] | None = None) -> str:
        """Run a command and return what it printed; only its stderr goes to the log. Raises CommandFailed."""
        output = self.scratch / "output"
        self._run(command, cwd, env, output)
        return output.read_text()

    def _run(self, command: Command, cwd: Path | None, env: Mapping[str, str] | None, output: Path | None) -> None:
        argv = [str(part) for part in command]
        with self.log.open("ab") as log:
            log.write(f"$ {shlex.join(argv)}\n".encode())
            log.flush()
            with output.open("wb") if output else self.log.open("ab") as stdout:
                try:
                    process = subprocess.Popen(
                        # Whatever ends us, kill -9 too, must not leave a compiler running behind our back.
                        ["setpriv", "--pdeathsig", "KILL", "--", *argv],
                        stdin=subprocess.DEVNULL,
                        stdout=stdout,
                        stderr=log,
                        cwd=cwd,
                        # Temporary files land where the next build cleans up, should this one be killed.
                        env={**os.environ, "TMPDIR": str(self.scratch), **(env or {})},
                    )
                except FileNotFoundError as error:
                    raise ToolsError("`setpriv` is not on PATH (Debian package util-linux): needed to build") from error
        try:
            while True:
                try:
                    status = process.wait(timeout=1)
                    break
                except subprocess.TimeoutExpired:
                    self.tick(self._tail(1))
        except BaseException:
            process.terminate()
            process.wait()
            raise
        if status:
            raise CommandFailed(argv[0], status, self.log, self._tail(TAIL).splitlines())

    def _tail(self, lines: int) -> str:
        with self.log.open("rb") as log:
            log.seek(max(0, self.log.stat().st_size - 16_384))
            return "\n".join(log.read().decode(errors="replace").splitlines()[-lines:])

    def module_dir(self, module: str, cwd: Path) -> Path:
        """The directory of a Go module's source, at the version in the go.mod of `cwd`, checked by its go.sum."""
        answer = json.loads(self.read(["go", "mod", "download", "-json", module], cwd=cwd, env=GO_ENVIRONMENT))
        return Path(answer["Dir"])


# -mod=readonly: nothing but what go.mod and go.sum name; the other flags make equal inputs give equal programs.
# -dwarf=false: what debuggers need, which linking leaves out anyway, is a fifth of the compiler's work.
# GOWORK: a go.work of the user above this checkout must not change what is built.
GO_ENVIRONMENT = {
    "CGO_ENABLED": "0",
    "GOWORK": "off",
    "GOFLAGS": "-mod=readonly -trimpath -buildvcs=false -gcflags=all=-dwarf=false",
}
