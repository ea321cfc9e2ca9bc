"""The programs of a run, compiled for a mesh that need not be there, and their figures.

They are those of training (`steps.make_steps`), lowered for the shapes and shardings
that training gives them.
"""

import collections
import math
import re
import time
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.sharding import Mesh
from ml_collections import ConfigDict

from dga_jax import sharding
from dga_jax.benchmark import memory
from dga_jax.benchmark.collectives import Collective, of_program, sent_bytes
from dga_jax.benchmark.flops import matmul_flops
from dga_jax.benchmark.program import Program
from dga_jax.training import config as configs
from dga_jax.training import train_state
from dga_jax.training.optimizer import make_optimizer
from dga_jax.training.programs import batch_shapes
from dga_jax.training.steps import make_steps

TRAIN, ALIGN, EVALUATE = "train", "alignment", "evaluation"
PROGRAMS = (TRAIN, ALIGN, EVALUATE)
PARAMETERS, OPTIMIZER, BATCH = "parameters", "optimizer state", "batch"
PADDING, TEMPORARIES = "padding of layouts", "temporaries"
OUTPUTS, CODE, HELD = "outputs", "code of the program", "optimizer state, only held"
_OF_PARAMETERS = re.compile(r"(state\.)?params\b")
_LARGE = 5


class Fit(NamedTuple):
    """What a compiled program says of itself, on one device unless said otherwise.

    Attributes:
      parts: bytes by what they are for; they add up to `total`.
      xla: XLA's own `memory_analysis()`.
      xla_flops: XLA's own count, loops once; None where it gives none.
      flops: of matrix products, over all devices.
      traffic: with the device's memory.
      collectives: of the program.
      unknown_loops: whose contents count once.
      largest: arrays that it makes.
      seconds: that compiling took.
    """

    parts: Mapping[str, int]
    xla: Any
    xla_flops: float | None
    flops: float
    traffic: memory.Traffic
    collectives: list[Collective]
    unknown_loops: int
    largest: list[memory.Large]
    seconds: float

    @property
    def total(self) -> int:
        """Bytes while it runs, with the state that it does not take as input."""
        return sum(self.parts.values())

    @property
    def sent(self) -> int:
        """Bytes that the device sends to others."""
        return sent_bytes(self.collectives)


class DoesNotFit(NamedTuple):
    """The compiler gave a program up.

    Attributes:
      reason: in its words, on a line.
    """

    reason: str


class Programs:
    """The programs of a config on a mesh.

    Args:
      config: complete and valid.
      mesh: of any devices.
      num_probes: domains, or basis distributions, probed in an update.
    """

    def __init__(self, config: ConfigDict, mesh: Mesh, num_probes: int):
        self._config, self._mesh, self._probes = config, mesh, num_probes
        model = configs.model_config(config, mesh)
        optimizer = configs.optimizer_config(config)
        options = configs.step_options(config, mesh, num_probes)
        self._steps = make_steps(model, optimizer, options, mesh)
        self._state = train_state.abstract_state(model, make_optimizer(optimizer), mesh)

    def compile(self, name: str) -> Fit | DoesNotFit:
        """One of `PROGRAMS`."""
        config, state = self._config, self._state
        rows = config.train.batch_size
        if name == TRAIN:
            return self._compiled(self._steps.train, state, self._rows(rows))
        if name == ALIGN:
            batches = batch_shapes(config, self._mesh, self._probes)
            return self._compiled(self._steps.align, state, *batches)
        rows //= config.train.microbatches  # as the loop evaluates
        return self._compiled(self._steps.evaluate, state.params, self._rows(rows))

    def _compiled(self, step: Callable, *arguments: Any) -> Fit | DoesNotFit:
        start = time.perf_counter()
        traced = step.trace(*arguments)
        try:
            compiled = traced.lower().compile()
        except jax.errors.JaxRuntimeError as error:
            if "RESOURCE_EXHAUSTED" not in str(error):
                raise
            reason = str(error).splitlines()[0]
            return DoesNotFit(reason.removeprefix("RESOURCE_EXHAUSTED: "))
        seconds = time.perf_counter() - start
        program, xla = Program(compiled.as_text()), compiled.memory_analysis()
        cost = compiled.cost_analysis() or {}
        return Fit(
            parts(program, xla, bytes_a_device(self._state.opt_state)),
            xla,
            cost.get("flops"),
            matmul_flops(traced.jaxpr),
            memory.traffic(program),
            of_program(program),
            program.unknown_loops,
            memory.largest(program, _LARGE),
            seconds,
        )

    def _rows(self, count: int) -> jax.ShapeDtypeStruct:
        shape = (count, self._config.train.seq_len + 1)
        where = sharding.batch_sharding(self._mesh)
        return jax.ShapeDtypeStruct(shape, jnp.int32, sharding=where)


def parts(program: Program, xla: Any, optimizer_bytes: int) -> dict[str, int]:
    """Bytes of one device by what they are for.

    Of a program's inputs these are the bytes of their values; what their layouts add is
    a part of its own, so that inputs, temporaries, outputs and code add up to what
    XLA's `memory_analysis()` says.

    Args:
      program: compiled.
      xla: its `memory_analysis()`.
      optimizer_bytes: of the optimizer's state, which stays on the device while a
        program runs that does not take it.
    """
    inputs = collections.Counter(dict.fromkeys((PARAMETERS, OPTIMIZER, BATCH), 0))
    for name, size in program.inputs():
        if _OF_PARAMETERS.match(name):
            inputs[PARAMETERS] += size
        else:
            inputs[OPTIMIZER if name.startswith("state.") else BATCH] += size
    return {
        **inputs,
        PADDING: xla.argument_size_in_bytes - sum(inputs.values()),
        TEMPORARIES: xla.temp_size_in_bytes,
        OUTPUTS: xla.output_size_in_bytes - xla.alias_size_in_bytes,
        CODE: xla.generated_code_size_in_bytes,
        HELD: max(optimizer_bytes - inputs[OPTIMIZER], 0),
    }


def bytes_a_device(tree: Any) -> int:
    """Of a pytree of shapes with shardings."""
    return sum(
        math.prod(leaf.sharding.shard_shape(leaf.shape)) * leaf.dtype.itemsize
        for leaf in jax.tree.leaves(tree)
    )
