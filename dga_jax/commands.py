"""The console scripts of an installed package: each is `python -m` of a module."""

import functools
import runpy


def _run(module: str) -> None:
    """Runs a module as `python -m` does; its flags are those of the command line."""
    runpy.run_module(module, run_name="__main__", alter_sys=True)


train = functools.partial(_run, "dga_jax.main")
prepare = functools.partial(_run, "dga_jax.prepare")
report = functools.partial(_run, "dga_jax.report")
experiment = functools.partial(_run, "dga_jax.experiment")
export = functools.partial(_run, "dga_jax.export")
generate = functools.partial(_run, "dga_jax.generate")
lm_eval = functools.partial(_run, "dga_jax.lm_eval")
benchmark = functools.partial(_run, "dga_jax.benchmark")
