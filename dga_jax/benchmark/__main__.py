"""Speed and memory, in tables: `python -m dga_jax.benchmark [PART ...]`.

`python -m dga_jax.benchmark fit --help` is of what a run takes on chips that are not
here; see `fit`.
"""

import functools
import sys
from collections.abc import Callable, Iterator, Sequence

import jax
from absl import flags

from dga_jax import cli
from dga_jax.benchmark import (
    alignment,
    clusters,
    domains,
    exports,
    fit,
    peers,
    pipeline,
    prepare,
    sampler,
    stages,
    start,
    step,
    updates,
    variants,
)
from dga_jax.benchmark.tables import Table, environment
from dga_jax.errors import UserError

_MODULES = {
    "alignment": alignment,
    "sampler": sampler,
    "pipeline": pipeline,
    "step": step,
    "start": start,
    "domains": domains,
    "updates": updates,
    "clusters": clusters,
    "prepare": prepare,
    "stages": stages,
    "peers": peers,
    "export": exports,
}
PARTS = tuple(_MODULES)


def _define_flags() -> None:
    flags.DEFINE_multi_enum(
        "part", [], PARTS, "What to measure, as positional arguments do; default all."
    )
    flags.DEFINE_bool("quick", False, "Small sizes, in seconds: a trial run.")
    flags.DEFINE_bool("most", False, "Of `domains`: over 16,777,216 of them.")
    flags.DEFINE_multi_string(
        "config",
        ["configs/quickstart.py"],
        "Config whose train step or start is measured:"
        " configs/NAME.py[:debug][,field=value]. May be repeated.",
    )


def main(argv: Sequence[str]) -> None:
    """Prints the tables of the parts asked for, each as it is done."""
    parts = list(dict.fromkeys([*argv[1:], *flags.FLAGS.part])) or PARTS
    for part in parts:
        if part not in PARTS:
            raise UserError(f"no part {part!r}; choose from {', '.join(PARTS)}")
    print(environment(), flush=True)
    for part in parts:
        for table in _runner(part)():
            print(f"\n{table}", flush=True)


def _runner(part: str) -> Callable[[], Iterator[Table]]:
    module, quick = _MODULES[part], flags.FLAGS.quick
    if part == "alignment":
        large = variants.SMALL if jax.default_backend() == "cpu" else variants.LARGE
        return functools.partial(alignment.run, variants.QUICK if quick else large)
    size = module.QUICK if quick else module.Size()
    if part == "domains" and flags.FLAGS.most:
        size = domains.MOST
    configs = [flags.FLAGS.config] if part in ("start", "step") else []
    return functools.partial(module.run, size, *configs)


if __name__ == "__main__":
    if sys.argv[1:2] == ["fit"]:  # its --config has fields that flags change
        fit.define_flags()
        cli.run(fit.main)
    _define_flags()
    cli.run(main)
