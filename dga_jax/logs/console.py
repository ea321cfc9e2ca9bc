"""The console line of a run, and numbers and names as a person reads them."""

import itertools
import math
import shutil
import sys
import unicodedata
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, TextIO

if TYPE_CHECKING:
    import tqdm

_QUIET_SECONDS = 30  # between lines of progress where nobody watches
_WIDTH = 110  # columns of a line in a file
_LONGEST_NAME = 12


class Progress:
    """One line per logged step, for a terminal and for a log file alike.

    Args:
        out: where to; standard output unless given.
        width: columns; as many of the leading domains are named as fit. The terminal's
            unless given, and `_WIDTH` where there is no terminal.
    """

    def __init__(self, out: TextIO | None = None, width: int | None = None):
        self._out = out
        self._width = width or shutil.get_terminal_size((_WIDTH, 0)).columns

    def line(
        self,
        step: int,
        total_steps: int,
        loss: float,
        target_loss: float | None,
        tokens_per_second: float | None,
        eta_seconds: float,
        leading: Iterable[tuple[str, float, bool]],
    ) -> None:
        """Prints where the run stands.

        Args:
            step: of the line.
            total_steps: of the run.
            loss: of the training batch, in nats per token.
            target_loss: of the last evaluation, if there was one.
            tokens_per_second: of training, lately; None before the first step.
            eta_seconds: to the end of the run.
            leading: of the domains with the most weight: the name, the weight, and
                whether the domain is used up, so that nothing of it is drawn any more.
        """
        target = "  -  " if target_loss is None else f"{target_loss:5.3f}"
        speed = "-" if tokens_per_second is None else quantity(tokens_per_second)
        text = (
            f"step {step:>{len(str(total_steps))}}/{total_steps}  loss {loss:5.3f}  "
            f"target {target}  {speed:>5} tok/s  "
            f"eta {duration(eta_seconds):>6} "
        )
        for name, weight, used_up in leading:
            entry = f" {shorten(name, _LONGEST_NAME)} {fraction(weight)}"
            entry += " (used up)" if used_up else ""
            if len(text) + len(entry) > self._width:
                break
            text += entry
        self.say(text.rstrip())

    def say(self, text: str) -> None:
        """Prints a line of its own."""
        print(text, file=self._out or sys.stdout, flush=True)


def shorten(name: str, length: int) -> str:
    """A name in at most `length` characters, its end replaced by ".." if need be."""
    return name if len(name) <= length else name[: length - 2] + ".."


def fraction(value: float, decimals: int = 2) -> str:
    """A number between 0 and 1 without its leading zero: .41, 1.00."""
    text = f"{value:.{decimals}f}"
    return text[1:] if text.startswith("0") else text


def quantity(value: float) -> str:
    """A count of three significant digits: 950, 12.3k, 1.25M."""
    units = ["", "k", "M", "G", "T"]
    while float(f"{value:.3g}") >= 1000 and len(units) > 1:
        value /= 1000
        units.pop(0)
    return f"{value:.3g}{units[0]}"


def scientific(value: float) -> str:
    """A large number of three significant digits: 1.25e15; "-" if it is not one."""
    if not math.isfinite(value):
        return "-"
    digits, _, exponent = f"{value:.2e}".partition("e")
    return f"{digits}e{int(exponent)}"


def duration(seconds: float) -> str:
    """Seconds as a person says them: 45s, 1m05s, 2h03m, 3d04h."""
    if not math.isfinite(seconds):
        return "-"
    seconds = round(seconds)
    if seconds < 60:
        return f"{seconds}s"
    if seconds < 3600:
        return f"{seconds // 60}m{seconds % 60:02}s"
    if seconds < 86400:
        return f"{seconds // 3600}h{seconds % 3600 // 60:02}m"
    return f"{seconds // 86400}d{seconds % 86400 // 3600:02}h"


def columns(rows: Iterable[Sequence[str]]) -> str:
    """Rows of text as a table: the first column to the left, others to the right.

    A row may be shorter than others: what it lacks is at its end.
    """
    by_column = list(itertools.zip_longest(*rows, fillvalue=""))
    widths = [max(map(_places, column)) for column in by_column]
    lines = []
    for row in zip(*by_column, strict=True):
        gaps = [" " * (w - _places(cell)) for cell, w in zip(row, widths, strict=True)]
        cells = [row[0] + gaps[0], *map(str.__add__, gaps[1:], row[1:])]
        lines.append("  ".join(cells).rstrip())
    return "\n".join(lines)


def _places(text: str) -> int:
    """How many a console needs: two for a wide character, none for a combining one."""
    wide = sum(unicodedata.east_asian_width(sign) in "WF" for sign in text)
    return len(text) + wide - sum(map(bool, map(unicodedata.combining, text)))


def progress(**options: Any) -> "tqdm.tqdm":
    """A progress bar, as `tqdm` takes its options; now and then if nobody watches."""
    import tqdm  # training has a line of its own

    interval = 0.1 if sys.stderr.isatty() else _QUIET_SECONDS
    return tqdm.tqdm(mininterval=interval, **options)
