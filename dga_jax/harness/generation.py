"""Greedy continuations of many prompts, in batches of a few shapes."""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np

from dga_jax import sharding
from dga_jax.harness.batching import Batch
from dga_jax.harness.scoring import Place, Work
from dga_jax.logs.console import progress
from dga_jax.model.decode import Decode, make_decode, sampler

_STEPS = 16  # tokens between two looks at what has come

Finished = Callable[[Sequence[int]], bool]  # asked of the ids that a row has so far


class Generator:
    """Goes on with prompts; what is compiled for a shape serves later calls.

    Args:
      place: what model, and where.
      bar: show how far it is.

    Attributes:
      work: what was computed so far.
    """

    def __init__(self, place: Place, bar: bool = False):
        self._place, self._bar = place, bar
        self._programs: dict[int, Decode] = {}
        self.work = Work()

    def __call__(
        self,
        params: Any,
        prompts: Sequence[Sequence[int]],
        count: int,
        finished: Finished,
    ) -> list[list[int]]:
        """The likeliest tokens behind each prompt, in the prompts' order.

        Args:
          params: of the model.
          prompts: ids, at least one each; with `count` more they fit into a row.
          count: tokens to add, at most.
          finished: whether a row needs no more; it may be asked late.
        """
        rows: dict[int, list[int]] = {}
        lengths = [len(prompt) + count for prompt in prompts]
        found = self._place.in_batches(lengths, most=1)
        self.work.add(self._place, lengths, found)
        bar = progress(
            iterable=found, desc="generated", unit="batch", disable=not self._bar
        )
        for batch in bar:
            ids = [i for row in batch.members for i in row]
            of_batch = [prompts[i] for i in ids]
            following = self._batch(params, batch, of_batch, count, finished)
            rows |= dict(zip(ids, following, strict=True))
        return [rows[i] for i in range(len(prompts))]

    def _batch(
        self,
        params: Any,
        batch: Batch,
        prompts: Sequence[Sequence[int]],
        count: int,
        finished: Finished,
    ) -> list[list[int]]:
        tokens = np.zeros((batch.rows, batch.length - count), np.int32)
        counts = np.ones(batch.rows, np.int32)
        for row, prompt in enumerate(prompts):
            tokens[row, : len(prompt)] = prompt
            counts[row] = len(prompt)
        where = self._place.rows
        placed = sharding.place(tokens, where), sharding.place(counts, where)
        decode, key = self._program(batch.length), jax.random.key(0)
        ids, cache = decode.begin(params, *placed, key)
        rows = [[] for _ in prompts]
        while True:
            for row, new in zip(rows, np.asarray(ids).tolist(), strict=False):
                row += new
            if len(rows[0]) >= count or all(map(finished, rows)):
                return [row[:count] for row in rows]
            ids, cache = decode.go_on(params, cache, ids, key)

    def _program(self, room: int) -> Decode:
        if room not in self._programs:
            self._programs[room] = make_decode(
                self._place.config,
                room,
                sampler(0),
                steps=_STEPS,
                mesh=self._place.mesh,
            )
        return self._programs[room]
