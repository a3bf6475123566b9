import io

import pytest

from mammogan_tf.console import Console, duration


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture
def clock(monkeypatch):
    """Time stands still until a test moves it: ``clock.append(seconds)``."""
    times = [1000.0]
    monkeypatch.setattr("mammogan_tf.console.time.monotonic", lambda: times[-1])
    return times


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0 s"),
        (59.4, "59 s"),
        (59.6, "1 min 0 s"),
        (75, "1 min 15 s"),
        (3599.7, "1 h 0 min"),
        (2 * 3600 + 5 * 60 + 20, "2 h 5 min"),
    ],
)
def test_durations(seconds, text):
    assert duration(seconds) == text


def test_plain_lines_where_the_output_is_no_terminal(clock):
    stream = io.StringIO()
    progress = Console(stream).progress("step", seconds_between_lines=10)
    for step in range(1, 7):
        clock.append(clock[-1] + 4)
        progress(step, 6, f"loss {step}")
    # Steps end 4, 8, ... seconds after the start; a line after 4, 16 and, as it is the end, 24 seconds.
    assert stream.getvalue().splitlines() == [
        "step 1/6  loss 1",
        f"step 4/6  loss 4  {(6 - 4) * 4} s left",
        f"step 6/6  loss 6  {6 * 4} s",
    ]


def test_a_line_that_moves_on_a_terminal(clock):
    stream = Terminal()
    console = Console(stream)
    progress = console.progress("films")
    for film in (1, 2, 3):
        clock.append(clock[-1] + 1)
        progress(film, 3)
    console.line("done")
    drawn = "\r\x1b[K"
    assert stream.getvalue() == f"{drawn}films 1/3{drawn}films 2/3  1 s left{drawn}films 3/3  3 s\ndone\n"


def test_a_resumed_work_knows_its_own_pace_only(clock):
    stream = io.StringIO()
    progress = Console(stream).progress("step", seconds_between_lines=0)
    for step in (501, 502):
        clock.append(clock[-1] + 2)
        progress(step, 600)
    assert stream.getvalue().splitlines()[-1] == f"step 502/600  {98 * 2 // 60} min {98 * 2 % 60} s left"


@pytest.mark.parametrize("stream", [io.StringIO(), Terminal()])
def test_quiet(stream):
    console = Console(stream, quiet=True)
    console.line("text")
    console.progress("films")(1, 2)
    console.progress("films")(2, 2)
    assert stream.getvalue() == ""
