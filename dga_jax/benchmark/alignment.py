"""Alignments by forward mode against the gradients that it does without."""

import dataclasses
import functools
from collections.abc import Callable, Iterator
from typing import Any

import jax
import optax

from dga_jax.benchmark.tables import Check, Table, Timings, interleaved
from dga_jax.benchmark.traffic import traffic_table
from dga_jax.benchmark.variants import (
    Size,
    alignments,
    gradient,
    one_device,
    plain_loss,
    random_probes,
    row_loss,
    shapes,
    vmapped_gradients,
)
from dga_jax.training import train_state
from dga_jax.training.steps import weighted_rows

FORWARD = "forward mode"
CHUNKED = "forward mode in chunks"
PLAIN = "plain gradient"
TRAIN = "train step's gradient"
VMAP_GRAD = "vmap(grad)"
REVERSE = "reverse mode by row"


def run(size: Size) -> Iterator[Table]:
    """Times where all fits, temporaries where it would not, traffic on a mesh."""
    yield time_table(size)
    yield memory_table(size)
    yield traffic_table(size)


def time_table(size: Size) -> Table:
    """Alignments of k domains against one gradient over the same rows."""
    programs = _programs(size)
    timings = interleaved(
        {name: call for name, (call, _) in programs.items()}, size.rounds
    )
    bases = (PLAIN, TRAIN, VMAP_GRAD)
    rows = {
        name: (
            timings[name] * 1e3,
            *(timings.ratio(name, base) for base in bases),
            temporaries / 1e6,
        )
        for name, (_, temporaries) in programs.items()
    }
    model = size.model
    return Table(
        f"alignment: {size.domains} domains x {size.rows} rows x {size.seq_len} tokens,"
        f" {model.num_layers} layers x {model.d_model}, {model.dtype}",
        ("ms", *(f"/ {base}" for base in bases), "temporaries MB"),
        rows,
        _time_checks(timings) if size.goals else (),
    )


def _time_checks(timings: Timings) -> tuple[Check, ...]:
    bounds = {TRAIN: 0.9}
    if jax.default_backend() == "cpu":
        bounds = {PLAIN: 0.6, VMAP_GRAD: 0.5}
    return tuple(
        Check(f"{FORWARD} in at most {bound} of {base}", ratio, bound)
        for base, bound in bounds.items()
        for ratio in [timings.ratio(FORWARD, base)]
    )


def _programs(size: Size) -> dict[str, tuple[Callable, int]]:
    """(call, bytes of temporaries) by variant, compiled."""
    loss, plain = row_loss(size.model), plain_loss(size.model)
    params = train_state.create(size.model, optax.identity(), one_device(), 0).params
    probes = random_probes(size)
    same_rows = weighted_rows(probes["rows"].reshape(-1, size.seq_len + 1))
    probes, same_rows = jax.device_put((probes, same_rows))
    first = jax.tree.map(lambda x: x[0], probes)
    along = (jax.jit(gradient(plain))(params, first), probes)

    def compiled(function: Callable, *arguments: Any) -> tuple[Callable, int]:
        program = jax.jit(function).lower(params, *arguments).compile()
        temporaries = program.memory_analysis().temp_size_in_bytes
        return functools.partial(program, params, *arguments), temporaries

    return {
        FORWARD: compiled(alignments(loss), *along),
        CHUNKED: compiled(alignments(loss, chunk=size.chunk), *along),
        PLAIN: compiled(gradient(plain), same_rows),
        TRAIN: compiled(gradient(loss), same_rows),
        VMAP_GRAD: compiled(vmapped_gradients(loss), *along),
        REVERSE: compiled(alignments(loss, estimator="reverse", chunk=1), *along),
    }


def memory_table(size: Size) -> Table:
    """Temporaries as k grows, from programs that are compiled and not run."""
    loss, chunk = row_loss(size.model), min(size.many)
    chunked = f"{FORWARD}, {chunk} domains at a time"
    variants = {
        chunked: alignments(loss, chunk=chunk),
        FORWARD: alignments(loss),
        VMAP_GRAD: vmapped_gradients(loss),
    }
    rows = {
        name: tuple(_temporaries(function, size, k) for k in size.many)
        for name, function in variants.items()
    }
    base, top = size.many[1], size.many[-1]
    goal = f"{chunked}: k = {top:,} in at most 1.1 of k = {base:,}"
    return Table(
        f"alignment: MB of temporaries for k domains x {size.rows} rows x"
        f" {size.seq_len} tokens",
        tuple(f"k = {k:,}" for k in size.many),
        rows,
        (Check(goal, rows[chunked][-1] / rows[chunked][1], 1.1),),
    )


def _temporaries(function: Callable, size: Size, domains: int) -> float | None:
    """MB; None where an accelerator's compiler gives up for want of room."""
    arguments = shapes(dataclasses.replace(size, domains=domains), one_device())
    try:
        program = jax.jit(function).lower(*arguments).compile()
    except jax.errors.JaxRuntimeError:
        return None
    return program.memory_analysis().temp_size_in_bytes / 1e6
