"""Numbers of a run, by name: columns of a table, axes of a figure."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

Line = Mapping[str, Any]


class Measure(NamedTuple):
    """A number of a run.

    Attributes:
      label: heading of a column, axis of a figure.
      digits: behind the point.
      of: of a line, and the name of what is its target's loss.
      says: what it is, where the heading does not say it and not every table has it.
    """

    label: str
    digits: int
    of: Callable[[Line, str], float | None]
    says: str = ""


def _final(name: str) -> Callable[[Line, str], float | None]:
    return lambda line, _: line["final"].get(name)


def _gap(line: Line, _: str) -> float | None:
    """Held-out loss of what is trained on, less the training loss."""
    if line["heldout_loss"] is None or line["train_loss"] is None:
        return None
    return line["heldout_loss"] - line["train_loss"]


MEASURES = {
    "target": Measure("target loss", 3, lambda line, loss: line["final"].get(loss)),
    "best": Measure("best target loss", 3, lambda line, loss: line["best"][loss][0]),
    "natural": Measure("generic, natural", 3, _final("generic_natural")),
    "uniform": Measure("generic, uniform", 3, _final("generic_uniform")),
    "effective": Measure(
        "effective domains", 1, lambda line, _: line["effective_domains"]
    ),
    "epochs": Measure("most epochs", 1, lambda line, _: line["most_epochs"]),
    "gap": Measure("held-out less train", 2, _gap),
    "movement": Measure(
        "movement",
        2,
        lambda line, _: line["movement"],
        "how far the weights went in all, half the sum of their changes",
    ),
    # Results of before this was measured do not have it.
    "rise": Measure(
        "largest rise",
        2,
        lambda line, _: line.get("rise"),
        "how far the train loss rose at most, from five lines of a run's log to the"
        " next five, its first tenth left out",
    ),
    "flops": Measure("GFLOPs", 0, lambda line, _: line["cost"]["flops"] / 1e9),
}
