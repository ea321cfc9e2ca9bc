"""How long a run takes to its first train step, and where the seconds go."""

import dataclasses
import pathlib
import statistics
import tempfile
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence

from dga_jax.benchmark.measured import printed
from dga_jax.benchmark.started import PARTS
from dga_jax.benchmark.tables import Check, Table

COLD, WARM, RESTART = "cold", "warm", "restart"
ALL = "in all"
_GOAL = 10.0  # seconds of a warm start
Seconds = Mapping[str, Sequence[float]]  # by part: of the clock and of the processors


@dataclasses.dataclass(frozen=True)
class Size:
    """What is measured.

    Attributes:
      rounds: of the three starts, in turn.
    """

    rounds: int = 3


QUICK = Size(rounds=1)


def run(size: Size, config_files: Iterable[str]) -> Iterator[Table]:
    """A table of each config, named as `--config` of `dga_jax.main` names it.

    Each start is a process of its own: with nothing kept, with the programs that the
    first has kept, and with these from the first's checkpoint. The config names its
    store.

    Raises:
      UserError: a config that does not exist or cannot be run.
    """
    for text in config_files:
        rounds = [_round(text) for _ in range(size.rounds)]
        yield table(text, rounds)


def table(text: str, rounds: Sequence[Mapping[str, Seconds]]) -> Table:
    """Medians over the rounds, each with the seconds of the three starts."""
    starts = (COLD, WARM, RESTART)

    def medians(parts: Sequence[str]) -> tuple[float, ...]:
        return tuple(
            statistics.median(
                sum(one[start][part][kind] for part in parts) for one in rounds
            )
            for kind in (0, 1)
            for start in starts
        )

    rows = {part: medians([part]) for part in PARTS} | {ALL: medians(PARTS)}
    goal = f"a warm start's first step within {_GOAL:.0f} s"
    clock, processors = (rows[ALL][kind + starts.index(WARM)] for kind in (0, 3))
    return Table(
        f"start: {text}, seconds until the first train step has ended",
        (*(f"{start}, s" for start in starts), *(f"{s}, CPU s" for s in starts)),
        rows,
        (
            Check(f"{goal}, by the clock", clock, _GOAL),
            Check(
                f"{goal} of processors, which others cannot slow down",
                processors,
                _GOAL,
            ),
        ),
    )


def _round(text: str) -> dict[str, Seconds]:
    with tempfile.TemporaryDirectory() as directory:
        folder = pathlib.Path(directory)
        return {
            start: _start(text, folder / workdir, folder / "compiled")
            for start, workdir in ((COLD, "one"), (WARM, "two"), (RESTART, "one"))
        }


def _start(text: str, workdir: pathlib.Path, cache: pathlib.Path) -> Seconds:
    began = str(time.time())
    return printed(
        ["-m", "dga_jax.benchmark.started", began, text, workdir, cache],
        what=f"a start of {text}",
    )
