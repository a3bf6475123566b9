"""Progress on long work: a line that moves where the output is a terminal, plain lines otherwise. And silence."""

import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TextIO

__all__ = ["Console", "Progress", "duration", "suppress_stderr"]

Progress = Callable[[int, int], None]
"""What long work calls with (done, total)."""


class Console:
    """Writes to ``stream`` (standard error by default); ``Console(quiet=True)`` says nothing."""

    def __init__(self, stream: TextIO | None = None, quiet: bool = False) -> None:
        self._stream = stream or sys.stderr
        self._quiet = quiet
        self._moving = self._stream.isatty()
        self._drawn = False

    def line(self, text: str) -> None:
        """A line that stays."""
        if not self._quiet:
            self._stream.write(("\r\x1b[K" if self._drawn else "") + text + "\n")
            self._stream.flush()
            self._drawn = False

    def _draw(self, text: str) -> None:
        self._stream.write("\r\x1b[K" + text[:200])
        self._stream.flush()
        self._drawn = True

    def progress(self, label: str, seconds_between_lines: float = 10.0) -> "Counter":
        """A counter to call as ``progress(done, total, note)``."""
        return Counter(self, label, 0.1 if self._moving else seconds_between_lines)


class Counter:
    """Shows how far a piece of work is and when it will end, at most once in ``interval`` seconds, and at its end."""

    def __init__(self, console: Console, label: str, interval: float) -> None:
        self._console, self._label, self._interval = console, label, interval
        self._created = time.monotonic()
        self._first: tuple[float, int] | None = None
        self._shown = 0.0

    def __call__(self, done: int, total: int, note: str = "") -> None:
        now = time.monotonic()
        if self._first is None:
            self._first = (now, done)
        if done < total and now - self._shown < self._interval:
            return
        self._shown = now
        begin, before = self._first
        if done >= total:
            time_note = duration(now - self._created)
        elif done > before:
            time_note = f"{duration((now - begin) / (done - before) * (total - done))} left"
        else:
            time_note = ""
        text = "  ".join(part for part in (f"{self._label} {done}/{total}", note, time_note) if part)
        if self._console._moving and done < total and not self._console._quiet:
            self._console._draw(text)
        else:
            self._console.line(text)


def duration(seconds: float) -> str:
    """``75.0`` to ``1 min 15 s``."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"


@contextmanager
def suppress_stderr() -> Iterator[None]:
    """Nothing is written to standard error, also by processes that start now: TensorFlow's first lines obey no log level."""
    usual, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, 2)
        yield
    finally:
        os.dup2(usual, 2)
        os.close(usual)
        os.close(nowhere)
