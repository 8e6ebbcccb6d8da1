"""The log never holds up who logs."""

from __future__ import annotations

import io
import logging
import threading

from server.aside import FORMAT, Aside


class Stopped(io.StringIO):
    """A terminal that takes nothing until it goes on."""

    def __init__(self) -> None:
        super().__init__()
        self.reached, self.goes_on = threading.Event(), threading.Event()

    def write(self, text: str) -> int:
        self.reached.set()
        self.goes_on.wait()
        return super().write(text)


def test_a_terminal_that_was_stopped_holds_up_nobody() -> None:
    terminal = Stopped()
    handler = logging.StreamHandler(terminal)
    handler.setFormatter(logging.Formatter(FORMAT))
    aside = Aside(handler, most=3)
    log = logging.Logger("a test")
    log.addHandler(aside)
    log.warning("first %d", 1)
    assert terminal.reached.wait(10)  # it is being written, and will not come to an end
    for number in range(8):
        log.info("line %d", number)
    assert aside.lost == 5
    terminal.goes_on.set()
    aside.queue.join()
    words = [line.split(" ", 2)[2] for line in terminal.getvalue().splitlines()]
    assert words == [
        "WARNING first 1",
        "WARNING 5 lines of this log were lost: nobody took them",
        *(f"INFO line {number}" for number in range(3)),
    ]


def test_what_waits_at_the_end_is_still_written_with_its_traceback() -> None:
    text = io.StringIO()
    aside = Aside(logging.StreamHandler(text))
    log = logging.Logger("a test")
    log.addHandler(aside)
    try:
        raise ValueError("of ours")
    except ValueError:
        log.exception("the trigger failed")
    aside.close()
    assert text.getvalue().startswith("the trigger failed\nTraceback")
    assert text.getvalue().rstrip().endswith("ValueError: of ours")
