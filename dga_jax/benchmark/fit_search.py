"""The largest microbatch that fits, by compiling few of those that there are."""

from collections.abc import Callable

from dga_jax.benchmark.fit_programs import TEMPORARIES, DoesNotFit, Fit


def microbatch_sizes(batch_size: int, shards: int) -> list[int]:
    """Rows of a microbatch that a batch divides into and a mesh divides, ascending."""
    return [
        rows for rows in range(shards, batch_size + 1, shards) if batch_size % rows == 0
    ]


def largest_fitting(
    sizes: list[int],
    compile_at: Callable[[int], Fit | DoesNotFit],
    memory: float,
    known: dict[int, Fit | DoesNotFit],
) -> int | None:
    """The largest of `sizes` whose program fits; None if none does.

    More rows are taken to need more memory. What is compiled next is where a line
    through the temporaries of what fits would reach the memory's end, so that two or
    three programs are compiled.

    Args:
      sizes: rows of a microbatch, ascending.
      compile_at: compiles the train step with so many.
      memory: bytes of the device.
      known: what is compiled already, by rows; added to.
    """

    def fits(rows: int) -> bool:
        if rows not in known:
            known[rows] = compile_at(rows)
        found = known[rows]
        return not isinstance(found, DoesNotFit) and found.total <= memory

    low, high = -1, len(sizes)  # of indices: fits, does not fit
    for i, rows in enumerate(sizes):
        if rows in known:
            low, high = (max(low, i), high) if fits(rows) else (low, min(high, i))
    while high - low > 1:
        if low < 0:
            i = 0  # the smallest: is there any?
        else:
            fitting = {rows: known[rows] for rows in sizes[: low + 1] if rows in known}
            reach = _reach(fitting, memory)
            below = [i for i in range(low + 1, high) if sizes[i] <= reach]
            i = below[-1] if below else low + 1
        low, high = (i, high) if fits(sizes[i]) else (low, i)
    return sizes[low] if low >= 0 else None


def _reach(fitting: dict[int, Fit], memory: float) -> float:
    """Rows at which a line through the two largest, or 0 and one, fills the memory."""
    used = [(0, 0), *((n, fit.parts[TEMPORARIES]) for n, fit in fitting.items())]
    (few, before), (rows, temporaries) = used[-2:]
    slope = (temporaries - before) / (rows - few)
    free = memory - fitting[rows].total
    return rows + free / slope if slope > 0 else float("inf")
