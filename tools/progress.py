"""What a long build shows: one live line on a terminal, a plain line every 30 seconds elsewhere."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.markup import escape

HEARTBEAT = 30.0
DETAIL = 80  # characters of the newest line of a log


class Progress:
    """Writes to stderr, so that stdout stays free for answers."""

    def __init__(self, console: Console | None = None) -> None:
        self.console = console or Console(stderr=True, highlight=False, soft_wrap=True)

    def say(self, line: str) -> None:
        self.console.print(escape(line))

    @contextmanager
    def step(self, title: str) -> Iterator["Step"]:
        """One step: says when it starts and, if it succeeds, how long it took."""
        self.say(f"{title} ...")
        start = time.monotonic()
        if self.console.is_terminal:
            with self.console.status(escape(title)) as status:
                yield Step(start, lambda line: status.update(escape(line[: self.console.width - 4])), title, 0.0)
        else:
            yield Step(start, self.say, title, HEARTBEAT)
        self.say(f"{title} done in {time.monotonic() - start:.0f} s")


class Step:
    """Shows that a step goes on, at most every `interval` seconds."""

    def __init__(self, start: float, show: Callable[[str], None], title: str, interval: float) -> None:
        self._start, self._show, self._title, self._interval = start, show, title, interval
        self._shown = start

    def tick(self, detail: str) -> None:
        now = time.monotonic()
        if now - self._shown >= self._interval:
            self._shown = now
            self._show(f"{self._title} {now - self._start:.0f} s: {detail[:DETAIL]}")
