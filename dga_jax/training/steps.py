"""What runs on the device: train step, evaluation, alignment. Pure and jitted."""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx
from jax.sharding import Mesh

from dga_jax import sharding
from dga_jax.mixing import alignment
from dga_jax.model.loss import RowLosses, make_row_losses
from dga_jax.model.transformer import ModelConfig
from dga_jax.training import optimizer as optim
from dga_jax.training import train_state
from dga_jax.training.train_state import TrainState


class StepMetrics(NamedTuple):
    """Of one train step, float32 [].

    Attributes:
      loss: nats per token.
      gradient_norm: before clipping.
      learning_rate: that the step was made with.
      tokens: that it predicted.
    """

    loss: jax.Array
    gradient_norm: jax.Array
    learning_rate: jax.Array
    tokens: jax.Array


@dataclasses.dataclass(frozen=True)
class StepOptions:
    """How steps are computed.

    Attributes:
      microbatches: parts of the batch whose gradients are added up in turn.
      z_loss: coefficient of mean log²Z (PaLM, arXiv 2204.02311, section 5); 0 is off.
      loss_chunk: positions whose logits are held at a time.
      estimator: of alignments, "forward" or "reverse".
      chunk: domains probed at a time; None for all.
      target_chunk: target rows differentiated at a time.
      normalise: divide alignments by the norm of the target gradient.
      precondition: align with Adam's preconditioned target gradient.
      skip_nonfinite: a step whose loss or gradient is not finite changes neither
        parameters nor optimizer state.
    """

    microbatches: int
    z_loss: float
    loss_chunk: int
    estimator: str
    chunk: int | None
    target_chunk: int | None
    normalise: bool
    precondition: bool
    skip_nonfinite: bool = False


class Steps(NamedTuple):
    """The jitted functions of a run.

    Attributes:
      train: (state, rows [B, L+1]) -> (state, StepMetrics); the old state is donated.
      evaluate: (params, rows [B, L+1]) -> RowLosses.
      align: (state, target batch [b], probe batches [k, b]) -> (Alignment, ‖g‖);
        batches are those of `weighted_rows`, the probes' may have `ids`, see
        `alignment_step`.
    """

    train: Callable
    evaluate: Callable
    align: Callable


def make_steps(
    config: ModelConfig,
    optimizer_config: optim.OptimizerConfig,
    options: StepOptions,
    mesh: Mesh,
) -> Steps:
    """The steps of a run, compiled when first called."""
    graph = train_state.graph(config)
    losses = make_row_losses(
        graph, chunk=options.loss_chunk, constrain=sharding.constrain_rows(mesh)
    )
    # cuDNN's attention has no forward-mode derivative: alignment takes XLA's.
    plain = train_state.graph(dataclasses.replace(config, attention="xla"))
    optimizer = optim.make_optimizer(optimizer_config)
    learning_rate = optim.learning_rate(optimizer_config)
    state = train_state.abstract_state(config, optimizer, mesh)
    return Steps(
        _make_train_step(losses, optimizer, learning_rate, options, state, mesh),
        jax.jit(losses, out_shardings=sharding.replicated(mesh)),
        _make_align(plain, optimizer_config, options, mesh),
    )


def _make_train_step(
    losses: Callable[[Any, jax.Array], RowLosses],
    optimizer: optax.GradientTransformation,
    learning_rate: Callable[[Any], Any],
    options: StepOptions,
    abstract: TrainState,
    mesh: Mesh,
) -> Callable:
    def part_loss(
        params: Any, rows: jax.Array, tokens: jax.Array
    ) -> tuple[jax.Array, jax.Array]:
        sums = losses(params, rows)
        nll = jnp.sum(sums.nll) / tokens
        return nll + options.z_loss * jnp.sum(sums.z) / tokens, nll

    shardings = jax.tree.map(lambda x: x.sharding, abstract)

    @functools.partial(
        jax.jit,
        donate_argnums=0,
        out_shardings=(shardings, sharding.replicated(mesh)),
    )
    def train_step(
        state: TrainState, rows: jax.Array
    ) -> tuple[TrainState, StepMetrics]:
        # The whole batch's token count weights every microbatch as it should be.
        tokens = jnp.sum(rows[:, 1:] >= 0, dtype=jnp.float32)
        part = jax.value_and_grad(part_loss, has_aux=True)
        if options.microbatches == 1:
            (_, loss), gradient = part(state.params, rows, jnp.maximum(tokens, 1))
        else:
            gradient, loss = _accumulate(
                part, state.params, rows, jnp.maximum(tokens, 1), options.microbatches
            )
        norm = optax.tree.norm(gradient)
        updates, opt_state = optimizer.update(gradient, state.opt_state, state.params)
        params = optax.apply_updates(state.params, updates)
        made = state.step  # updates, by which the schedule goes
        if options.skip_nonfinite:
            finite = jnp.isfinite(loss) & jnp.isfinite(norm)
            params, opt_state = jax.tree.map(
                functools.partial(jnp.where, finite),
                (params, opt_state),
                (state.params, state.opt_state),
            )
            made = optim.updates_made(state.opt_state)
        new = TrainState(params, opt_state, state.step + 1)
        return new, StepMetrics(
            loss, norm, jnp.asarray(learning_rate(made), jnp.float32), tokens
        )

    return train_step


def _accumulate(
    part: Callable, params: Any, rows: jax.Array, tokens: jax.Array, microbatches: int
) -> tuple[Any, jax.Array]:
    """Sum of gradients and losses over microbatches.

    Microbatch j holds rows j, j + m, j + 2m, ...: cut so, the sharded major part of
    the row axis stays in front and no row changes device.
    """
    strided = jnp.moveaxis(rows.reshape(-1, microbatches, rows.shape[1]), 1, 0)

    def add(total: Any, microbatch: jax.Array) -> tuple[Any, None]:
        (_, loss), gradient = part(params, microbatch, tokens)
        return jax.tree.map(jnp.add, total, (gradient, loss)), None

    zero = (jax.tree.map(jnp.zeros_like, params), jnp.zeros((), jnp.float32))
    return jax.lax.scan(add, zero, strided)[0]


def make_alignment_loss(
    graph: Any, options: StepOptions, constrain: Callable[[jax.Array], jax.Array]
) -> alignment.LossFn:
    """Per-row losses whose mean is nats per token; batches from `weighted_rows`."""
    losses = make_row_losses(graph, chunk=options.loss_chunk, constrain=constrain)
    return lambda params, batch: losses(params, batch["rows"]).nll * batch["scale"]


def _make_align(
    graph: nnx.GraphDef,
    optimizer_config: optim.OptimizerConfig,
    options: StepOptions,
    mesh: Mesh,
) -> Callable:
    target_loss = make_alignment_loss(graph, options, sharding.constrain_rows(mesh))
    probe_loss = make_alignment_loss(
        graph, options, sharding.constrain_probe_rows(mesh)
    )

    @functools.partial(jax.jit, out_shardings=sharding.replicated(mesh))
    def align(
        state: TrainState, target: Any, probes: Any
    ) -> tuple[alignment.Alignment, jax.Array]:
        gradient, norm = alignment.target_direction(
            target_loss, state.params, target, chunk=options.target_chunk
        )
        direction = gradient
        if options.precondition:
            direction = optim.precondition(optimizer_config, state.opt_state, gradient)
            norm = jnp.sqrt(alignment.tree_dot(gradient, direction))
        result = alignment.alignment_step(
            probe_loss,
            state.params,
            direction,
            probes,
            estimator=options.estimator,
            chunk=options.chunk,
            row_weights=probes["tokens"],
            row_ids=probes.get("ids"),
        )
        scale = 1.0 / norm if options.normalise else 1.0
        return result._replace(
            alignments=result.alignments * scale,
            standard_errors=result.standard_errors * scale,
        ), norm

    return align


def weighted_rows(rows: np.ndarray) -> dict[str, np.ndarray]:
    """A batch whose per-row losses average to nats per token.

    Rows differ in how many tokens they predict. Row r's loss is its summed nats times
    scale_r = B / (tokens of its batch): the mean over the B rows is then exactly the
    loss per token, and still each row's loss depends on that row alone.

    Args:
      rows: int32 [..., B, L+1]; leading axes are separate batches.

    Returns:
      {"rows": as given, "scale": float32 [..., B], "tokens": float32 [..., B]}, the
      tokens that each row predicts.
    """
    tokens = np.sum(rows[..., 1:] >= 0, axis=-1)
    scale = rows.shape[-2] / np.maximum(tokens.sum(axis=-1, keepdims=True), 1)
    scale = np.broadcast_to(scale, tokens.shape).astype(np.float32)
    return {"rows": rows, "scale": scale, "tokens": tokens.astype(np.float32)}
