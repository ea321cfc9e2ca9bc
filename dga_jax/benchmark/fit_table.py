"""The table of docs/fit.md: `python -m dga_jax.benchmark fit --table`."""

import pathlib
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

from dga_jax import sharding
from dga_jax.benchmark.fit_bounds import Bounds
from dga_jax.benchmark.fit_chips import tpu_target
from dga_jax.benchmark.fit_programs import (
    ALIGN,
    OPTIMIZER,
    PARAMETERS,
    TEMPORARIES,
    TRAIN,
    DoesNotFit,
    Fit,
)
from dga_jax.benchmark.fit_report import GIB, Report, measure
from dga_jax.benchmark.step import load_config
from dga_jax.benchmark.tables import number
from dga_jax.errors import UserError


class Line(NamedTuple):
    """A config on a topology, and the mesh to use there.

    Attributes:
      config: its name in configs/.
      topology: of TPUs.
      axis: of the mesh, along which all chips lie.
      microbatches: that a step is cut into.
    """

    config: str
    topology: str
    axis: str
    microbatches: int = 8


LINES = (
    Line("125m", "v5e:2x4", "data"),
    Line("125m", "v5p:2x2x2", "data"),
    Line("125m", "v6e:2x4", "data"),
    Line("350m", "v5e:4x4", "fsdp", 4),
    Line("350m", "v5p:2x2x2", "data"),
    Line("350m", "v6e:4x4", "fsdp", 4),
    Line("750m", "v5e:2x4", "fsdp"),
    Line("750m", "v5p:2x2x2", "fsdp"),
    Line("750m", "v6e:2x4", "fsdp"),
    Line("7b", "v5e:8x8", "fsdp"),
    Line("7b", "v5p:2x4x4", "fsdp"),
    Line("7b", "v6e:8x8", "fsdp"),
)
_DOMAINS = 64
_HEADINGS = (
    "config",
    "topology",
    "data x fsdp x tensor",
    "rows of a microbatch",
    "parameters, optimizer",
    "temporaries: train",
    "alignment",
    "in all, of the chip's",
    "GB sent: train",
    "alignment",
    "least ms: compute",
    "memory",
    "network",
    "best MFU",
)


def lines(only: Sequence[str]) -> Iterator[str]:
    """The table in Markdown, a line as it is compiled.

    Args:
      only: names of configs; none of them for all.

    Raises:
      UserError: a name that is not in the table.
    """
    configs = dict.fromkeys(line.config for line in LINES)
    for name in only:
        if name not in configs:
            raise UserError(f"--only={name}: choose from {', '.join(configs)}")
    yield _row(_HEADINGS)
    yield _row(["---"] * len(_HEADINGS))
    for line in LINES:
        if not only or line.config in only:
            yield _row(cells(line, _compiled(line)))


def _path(config: str) -> pathlib.Path:
    return pathlib.Path("configs", f"{config}.py")


def _compiled(line: Line) -> Report:
    config, target = load_config(str(_path(line.config))), tpu_target(line.topology)
    sizes = dict.fromkeys(sharding.AXES, 1) | {line.axis: len(target.devices)}
    config.mesh.update(sizes)
    config.train.microbatches = line.microbatches
    return measure(config, target, _DOMAINS, (TRAIN, ALIGN))


def cells(line: Line, report: Report) -> list[str]:
    """A row of the table; "-" where a program does not fit."""
    train, align = report.fits[TRAIN], report.fits[ALIGN]
    memory = report.target.chip.memory / GIB
    rows = report.config.train.batch_size // line.microbatches
    compiled = [fit for fit in (train, align) if isinstance(fit, Fit)]
    state = ""
    if compiled:
        held = train if isinstance(train, Fit) else compiled[0]
        state = number((held.parts[PARAMETERS] + held.parts[OPTIMIZER]) / GIB)
    most = max((fit.total for fit in compiled), default=0) / GIB
    if len(compiled) < len(report.fits):
        in_all = f"does not fit {memory:.2f}"
    else:
        in_all = f"{most:.2f} of {memory:.2f}"
    bound = report.bounds(TRAIN)
    return [
        line.config,
        line.topology,
        " x ".join(map(str, report.mesh.shape.values())),
        str(rows),
        state or "-",
        _of(train, lambda fit: fit.parts[TEMPORARIES] / GIB),
        _of(align, lambda fit: fit.parts[TEMPORARIES] / GIB),
        in_all,
        _of(train, lambda fit: fit.sent / 1e9),
        _of(align, lambda fit: fit.sent / 1e9),
        *(number(s and s * 1e3) for s in bound or (None,) * len(Bounds._fields)),
        f"{100 * report.mfu:.0f}%, {bound.by}" if report.mfu else "-",
    ]


def _of(fit: Fit | DoesNotFit, value: Callable[[Fit], float]) -> str:
    return number(value(fit)) if isinstance(fit, Fit) else "-"


def _row(values: Sequence[str]) -> str:
    return f"| {' | '.join(values)} |"
