"""The train step of a config, alignments in its units, and the loop around both."""

import dataclasses
import pathlib
import runpy
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping

import jax
import numpy as np
from ml_collections import ConfigDict

from dga_jax import cli, sharding
from dga_jax.benchmark.loop import loop_table
from dga_jax.benchmark.synthetic import write_store
from dga_jax.benchmark.tables import Check, Table, interleaved
from dga_jax.errors import UserError
from dga_jax.logs import perf
from dga_jax.mixing.alignment import (
    Alignment,
    LossFn,
    PyTree,
    alignment_step,
    target_direction,
)
from dga_jax.model.transformer import ModelConfig
from dga_jax.training import config as configs
from dga_jax.training.probe import Updates
from dga_jax.training.programs import batch_shapes
from dga_jax.training.setup import Run, check, open_run
from dga_jax.training.steps import (
    StepMetrics,
    make_alignment_losses,
    make_steps,
    weighted_rows,
)
from dga_jax.training.train_state import TrainState

TRAIN = "train step"
GRADIENT = "its gradient"
FORWARD = "alignments, forward mode"
TARGET = "target gradient"
MASKED, NOT_MASKED = "document mask", "no document mask"
# Per cent: what rows of equal cost make of it, 576 in an update and 51,200 between two.
_GOAL_SHARE = 1.1
# A run for which the share of alignments is worked out.
_DOMAINS, _INTERVAL, _PROBE_ROWS, _BATCH_SIZE = 64, 100, 8, 512


@dataclasses.dataclass(frozen=True)
class Size:
    """What is measured.

    Attributes:
      rounds: in which the programs take turns.
      steps: of the loop.
    """

    rounds: int = 5
    steps: int = 40


QUICK = Size(rounds=3, steps=20)


def run(size: Size, config_files: Iterable[str]) -> Iterator[Table]:
    """Tables of each config, named as `--config` of `dga_jax.main` names it.

    A config without a store gets one of random tokens.

    Raises:
      UserError: a config that does not exist or cannot be run.
    """
    for text in config_files:
        yield from _tables(text, size)


def _tables(text: str, size: Size) -> Iterator[Table]:
    config = load_config(text)
    config.mixer.name = "dga"
    config.mixer.update(interval=max(size.steps // 4, 2), start=0)
    config.eval.every = config.checkpoint.every = 0
    config.train.steps = max(config.train.steps, size.steps + size.rounds + 2)
    config.log.console = config.train.steps  # no lines among the tables
    config.checkpoint.keep = 1  # nor will one be made: room for it is checked
    with tempfile.TemporaryDirectory() as directory:
        if not config.data.store:
            config.data.store = str(_write_store(directory, config))
        workdir = pathlib.Path(directory, "run")
        workdir.mkdir()
        opened = open_run(check(config, config.explicit), workdir)
        table, state = program_table(opened, text, size.rounds)
        yield table
        snapshot = opened.snapshot._replace(train=state)
        moved = dataclasses.replace(opened, snapshot=snapshot)
        yield loop_table(moved, text, size.steps)


def load_config(text: str) -> ConfigDict:
    """The config of `PATH[:ARGUMENT]`.

    Raises:
      UserError: no such file, or not a config.
    """
    path, _, argument = cli.shipped_config(text).partition(":")
    try:
        return runpy.run_path(path)["get_config"](argument or None)
    except FileNotFoundError:
        there = cli.shipped_configs()
        raise UserError(f"--config={path}: no such file; {there}") from None
    except (KeyError, SyntaxError) as error:
        raise UserError(f"--config={path} is not a config: {error!r}") from None


def _write_store(directory: str, config: ConfigDict) -> pathlib.Path:
    path = pathlib.Path(directory, "store")
    path.mkdir()
    write_store(
        path,
        domains=_DOMAINS,
        rows=max(_DOMAINS * _PROBE_ROWS, 2 * config.train.batch_size),
        seq_len=config.train.seq_len,
        vocab_size=config.model.vocab_size,
    )
    return path


def program_table(opened: Run, name: str, rounds: int) -> tuple[Table, TrainState]:
    """Train step, alignment and gradients of a run, by row.

    Train step and alignments are there twice, with `model.document_mask` and without:
    first as the config has it.

    Returns:
      The table, and where the train steps led: they use up the run's state.
    """
    programs = Programs(opened)
    other = NOT_MASKED if opened.config.model.document_mask else MASKED
    variants = {
        TRAIN: programs.train,
        f"{TRAIN}, {other}": programs.other_train,
        GRADIENT: programs.gradient,
        FORWARD: programs.forward,
        f"{FORWARD}, {other}": programs.other_forward,
        TARGET: programs.target_gradient,
    }
    for call in variants.values():
        jax.block_until_ready(call())  # compiles
    timings = interleaved(variants, rounds)
    rows = {key: programs.rows(call) for key, call in variants.items()}
    seq_len = opened.config.train.seq_len
    flops = configs.flops_per_token(opened.config)
    peak = perf.peak_flops(jax.devices()[0].device_kind)

    def line(key: str) -> tuple[float | None, ...]:
        rate = rows[key] * seq_len / timings[key]
        share = perf.mfu(rate, flops, jax.device_count(), peak)
        relative = timings.ratio(key, TRAIN) * rows[TRAIN] / rows[key]
        return rows[key], timings[key] * 1e3, rate, share, relative

    table = Table(
        f"step: {name}, rows of {seq_len:,} tokens, vocabulary "
        f"{opened.config.model.vocab_size:,}",
        ("rows", "ms", "tokens/s", "MFU", "a row / train step's"),
        {key: line(key) for key in variants},
        program_checks(
            {key: timings[key] / rows[key] for key in variants},
            opened.config.mixer.target_rows,
        ),
    )
    return table, programs.state


def program_checks(per_row: Mapping[str, float], target_rows: int) -> tuple[Check, ...]:
    """The share of alignments in a large run, worked out from seconds by row."""
    probes = _DOMAINS * _PROBE_ROWS * per_row[FORWARD]
    update = probes + target_rows * per_row[TARGET]
    share = 100 * update / (update + _INTERVAL * _BATCH_SIZE * per_row[TRAIN])
    goal = (
        f"by these times, with k = {_DOMAINS}, T_r = {_INTERVAL}, {_PROBE_ROWS} probe"
        f" rows, {target_rows} target rows and {_BATCH_SIZE} rows a step, alignments"
        f" take at most {_GOAL_SHARE}% of a run (in %)"
    )
    checks = [Check(goal, share, _GOAL_SHARE)]
    if jax.default_backend() != "cpu":
        goal = "forward mode, by row, in at most 0.9 of the train step's gradient"
        checks.append(Check(goal, per_row[FORWARD] / per_row[GRADIENT], 0.9))
    return tuple(checks)


class Programs:
    """What a run computes, on rows of its store.

    Attributes:
      state: of the run; `train` and `other_train` move it on.
    """

    def __init__(self, opened: Run):
        config, mesh = opened.config, opened.mesh
        self.state = opened.snapshot.train
        self._step = opened.steps.train
        self._options = configs.step_options(config, mesh, opened.mixture.num_probes)
        model = configs.model_config(config, mesh)
        end = opened.store.end_of_text if model.document_end is None else None
        other = dataclasses.replace(model, document_end=end, attention="xla")
        adam = configs.optimizer_config(config)
        self._other_step = make_steps(other, adam, self._options, mesh).train
        _, probes = batch_shapes(config, mesh, opened.mixture.num_probes)

        def losses(model: ModelConfig) -> tuple[LossFn, LossFn]:
            shape = probes["tokens"].shape
            return make_alignment_losses(model, self._options, mesh, shape)

        self._target_loss, self._probe_loss = losses(
            dataclasses.replace(model, attention="xla")
        )
        self._train_loss, _ = losses(model)
        _, self._other_probe_loss = losses(other)
        self._place_batches(opened)

    def rows(self, program: Callable) -> int:
        """Rows that one of the methods below works on."""
        if program in (self.forward, self.other_forward):
            return self._probes["scale"].size
        whose = self._target if program == self.target_gradient else self._batch
        return len(whose["rows"])

    def _place_batches(self, opened: Run) -> None:
        """Keeps the batches on the device, those of an update as they are for it."""
        placed = sharding.batch_sharding(opened.mesh)
        ids = np.arange(opened.config.train.batch_size)
        ids %= opened.store.num_rows("train")
        batch = weighted_rows(opened.store.read("train", ids))
        self._batch = {
            key: sharding.place(value, placed) for key, value in batch.items()
        }

        def align(
            _: TrainState, target: PyTree, probes: PyTree
        ) -> tuple[Alignment, jax.Array]:
            self._target, self._probes = target, probes
            self._direction, norm = self.target_gradient()
            return self.forward(), norm

        updates = Updates(opened, opened.steps._replace(align=align))
        updates.measure(self.state, 1)
        updates.close()

    def train(self) -> StepMetrics:
        """One train step."""
        self.state, metrics = self._step(self.state, self._batch["rows"])
        return metrics

    def other_train(self) -> StepMetrics:
        """The same with the document mask the other way round."""
        self.state, metrics = self._other_step(self.state, self._batch["rows"])
        return metrics

    def gradient(self) -> tuple[PyTree, jax.Array]:
        """The gradient of the same batch, by the same microbatches."""
        chunk = len(self._batch["rows"]) // self._options.microbatches
        return target_direction(
            self._train_loss, self.state.params, self._batch, chunk=chunk
        )

    def target_gradient(self) -> tuple[PyTree, jax.Array]:
        """The gradient of the target batch."""
        return target_direction(
            self._target_loss,
            self.state.params,
            self._target,
            chunk=self._options.target_chunk,
        )

    def forward(self) -> Alignment:
        """Alignments of the probe batches."""
        return self._alignments(self._probe_loss)

    def other_forward(self) -> Alignment:
        """The same with the document mask the other way round."""
        return self._alignments(self._other_probe_loss)

    def _alignments(self, loss: LossFn) -> Alignment:
        return alignment_step(
            loss,
            self.state.params,
            self._direction,
            self._probes,
            chunk=self._options.chunk,
            row_weights=self._probes["tokens"],
            row_ids=self._probes["ids"],
            owners=self._probes.get("owners"),
        )
