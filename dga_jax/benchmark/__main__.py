"""Speed and memory, in tables: `python -m dga_jax.benchmark [PART ...]`."""

import functools
from collections.abc import Callable, Iterator, Sequence

import jax
from absl import flags

from dga_jax import cli
from dga_jax.benchmark import (
    alignment,
    clusters,
    domains,
    pipeline,
    prepare,
    sampler,
    stages,
    start,
    step,
    variants,
)
from dga_jax.benchmark.tables import Table, environment
from dga_jax.errors import UserError

PARTS = (
    "alignment",
    "sampler",
    "pipeline",
    "step",
    "start",
    "domains",
    "clusters",
    "prepare",
    "stages",
)

_PART = flags.DEFINE_multi_enum(
    "part", [], PARTS, "What to measure, as positional arguments do; default all."
)
_QUICK = flags.DEFINE_bool("quick", False, "Small sizes, in seconds: a trial run.")
_CONFIG = flags.DEFINE_multi_string(
    "config",
    ["configs/quickstart.py"],
    "Config whose train step or start is measured:"
    " configs/NAME.py[:debug][,field=value]. May be repeated.",
)


def main(argv: Sequence[str]) -> None:
    """Prints the tables of the parts asked for, each as it is done."""
    parts = list(dict.fromkeys([*argv[1:], *_PART.value])) or PARTS
    for part in parts:
        if part not in PARTS:
            raise UserError(f"no part {part!r}; choose from {', '.join(PARTS)}")
    print(environment(), flush=True)
    for part in parts:
        for table in _runner(part)():
            print(f"\n{table}", flush=True)


def _runner(part: str) -> Callable[[], Iterator[Table]]:
    quick = _QUICK.value
    if part == "alignment":
        large = variants.SMALL if jax.default_backend() == "cpu" else variants.LARGE
        return functools.partial(alignment.run, variants.QUICK if quick else large)
    if part in ("start", "step"):
        module = {"start": start, "step": step}[part]
        size = module.QUICK if quick else module.Size()
        return functools.partial(module.run, size, _CONFIG.value)
    modules = {
        "sampler": sampler,
        "pipeline": pipeline,
        "domains": domains,
        "clusters": clusters,
        "prepare": prepare,
        "stages": stages,
    }
    module = modules[part]
    return functools.partial(module.run, module.QUICK if quick else module.Size())


if __name__ == "__main__":
    cli.run(main)
