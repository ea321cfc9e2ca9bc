"""What runs on the device: train step, evaluation, alignment. Pure and jitted."""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import Mesh

from dga_jax import sharding
from dga_jax.mixing import alignment
from dga_jax.model.loss import (
    LOGITS_BUDGET,
    Constrain,
    Head,
    RowLosses,
    make_row_losses,
)
from dga_jax.model.transformer import ModelConfig
from dga_jax.training import optimizer as optim
from dga_jax.training import train_state
from dga_jax.training.suited import loss_head, suited_model
from dga_jax.training.train_state import TrainState


class StepMetrics(NamedTuple):
    """Of one train step, float32 [].

    Attributes:
      loss: nats per token.
      gradient_norm: before clipping.
      learning_rate: that the step was made with.
      tokens: that it predicted.
      rows: float32 [2, B], nats and tokens of each row; fetched only where it is asked
        for.
    """

    loss: jax.Array
    gradient_norm: jax.Array
    learning_rate: jax.Array
    tokens: jax.Array
    rows: jax.Array | None = None


@dataclasses.dataclass(frozen=True)
class StepOptions:
    """How steps are computed.

    Attributes:
      microbatches: parts of the batch whose gradients are added up in turn.
      z_loss: coefficient of mean log²Z (PaLM, arXiv 2204.02311, section 5); 0 is off.
      loss_chunk: positions whose logits are held at a time; 0: what a budget allows.
      estimator: of alignments, "forward" or "reverse".
      chunk: domains probed at a time; None for all.
      target_chunk: target rows differentiated at a time.
      normalise: divide alignments by the norm of the target gradient.
      precondition: align with Adam's preconditioned target gradient.
      head: align along the gradient of the output head's parameters alone.
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
    head: bool = False
    skip_nonfinite: bool = False


class Steps(NamedTuple):
    """The jitted functions of a run.

    Attributes:
      train: (state, rows [B, L+1]) -> (state, StepMetrics); the old state is donated.
        With weights [B] behind the rows, each row's loss counts so much.
      evaluate: (params, rows [B, L+1]) -> RowLosses.
      align: (state, target batch [b], probe batches [k, b]) -> (Alignment, ‖g‖);
        batches are those of `weighted_rows`, the probes' may have `ids` and `owners`,
        see `alignment_step`.
      gradients: (params, probe batches [k, b], counts [k]) -> `Gradients`; a count is 0
        for a batch that only fills the mesh up, else 1.
    """

    train: Callable
    evaluate: Callable
    align: Callable
    gradients: Callable


class Gradients(NamedTuple):
    """What reverse mode says of k domains, each float32 [k].

    Attributes:
      norms: of their mean gradients.
      variances: of their rows' gradients, see `alignment.gradient_moments`.
      alignments: with the sum of the mean gradients of all of them.
    """

    norms: jax.Array
    variances: jax.Array
    alignments: jax.Array


@functools.lru_cache(maxsize=8)
def make_steps(
    config: ModelConfig,
    optimizer_config: optim.OptimizerConfig,
    options: StepOptions,
    mesh: Mesh,
) -> Steps:
    """The steps of a run, compiled when first called; the same for an equal run."""
    model = suited_model(config, mesh)
    losses = make_row_losses(
        train_state.graph(model),
        chunk=options.loss_chunk,
        constrain=sharding.constrain_rows(mesh),
        head=loss_head(mesh),
    )
    # The kernels of attention have no forward-mode derivative: alignment takes XLA's.
    plain = dataclasses.replace(config, attention="xla")
    optimizer = optim.make_optimizer(optimizer_config)
    learning_rate = optim.learning_rate(optimizer_config)
    state = train_state.abstract_state(model, optimizer, mesh)
    return Steps(
        _make_train_step(losses, optimizer, learning_rate, options, state, mesh),
        jax.jit(losses, out_shardings=sharding.replicated(mesh)),
        _make_align(plain, optimizer_config, options, state.params, mesh),
        _make_gradients(plain, options, state.params, mesh),
    )


def _make_train_step(
    losses: Callable[[Any, jax.Array], RowLosses],
    optimizer: optax.GradientTransformation,
    learning_rate: Callable[[Any], Any],
    options: StepOptions,
    abstract: TrainState,
    mesh: Mesh,
) -> Callable:
    shardings = jax.tree.map(lambda x: x.sharding, abstract)
    pin = sharding.constrain_as(abstract.params)
    part = _make_part(losses, options.z_loss, pin)

    @functools.partial(
        jax.jit,
        donate_argnums=0,
        out_shardings=(shardings, sharding.replicated(mesh)),
    )
    def train_step(
        state: TrainState, rows: jax.Array, weights: jax.Array | None = None
    ) -> tuple[TrainState, StepMetrics]:
        # The whole batch's token count weights every microbatch as it should be.
        tokens = jnp.sum(rows[:, 1:] >= 0, dtype=jnp.float32)
        batch, counted = (rows, weights), jnp.maximum(tokens, 1)
        if options.microbatches == 1:
            (_, of_rows), gradient = part(state.params, batch, counted)
        else:
            zero = pin(jax.tree.map(jnp.zeros_like, state.params))
            of_batch = functools.partial(part, state.params, tokens=counted)
            gradient, of_rows = _accumulate(of_batch, zero, batch, options.microbatches)
        loss = jnp.sum(of_rows[0]) / counted
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
            loss, norm, jnp.asarray(learning_rate(made), jnp.float32), tokens, of_rows
        )

    return train_step


def _make_part(
    losses: Callable[[Any, jax.Array], RowLosses], z_loss: float, pin: Callable
) -> Callable:
    """What a part of a batch adds to its loss, what is by row, and the gradient."""

    def loss(params: Any, batch: Any, tokens: jax.Array) -> tuple[jax.Array, jax.Array]:
        rows, weights = batch
        sums = losses(params, rows)
        nll, z = sums.nll, sums.z
        if weights is not None:
            nll, z = nll * weights, z * weights
        total = jnp.sum(nll) / tokens + z_loss * jnp.sum(z) / tokens
        return total, jnp.stack([sums.nll, sums.count])

    value_and_gradient = jax.value_and_grad(loss, has_aux=True)

    def part(params: Any, batch: Any, tokens: jax.Array) -> tuple[Any, Any]:
        found, gradient = value_and_gradient(params, batch, tokens)
        return found, pin(gradient)

    return part


def _accumulate(
    part: Callable, zero: Any, batch: Any, microbatches: int
) -> tuple[Any, jax.Array]:
    """Sum of gradients over microbatches, from `zero` on, and what is by row [2, B]."""

    def add(total: Any, microbatch: Any) -> tuple[Any, jax.Array]:
        (_, of_rows), gradient = part(microbatch)
        return jax.tree.map(jnp.add, total, gradient), of_rows

    gradient, of_rows = jax.lax.scan(add, zero, alignment.strided(batch, microbatches))
    return gradient, jnp.moveaxis(of_rows, 0, 2).reshape(2, -1)


def make_alignment_losses(
    config: ModelConfig, options: StepOptions, mesh: Mesh, probes: tuple[int, int]
) -> tuple[alignment.LossFn, alignment.LossFn]:
    """Per-row losses of a target batch and of one domain's rows, from `weighted_rows`.

    Their mean is nats per token.

    Args:
      config: the architecture, with a kernel of attention that has a forward mode.
      options: of the run.
      mesh: of the run.
      probes: k and b of the probe batches, to which memory is shared out.
    """
    graph = train_state.graph(suited_model(config, mesh))
    count, rows = probes
    # Domains are computed side by side, each with its logits and their tangents.
    chunk = min(options.chunk or count, count)
    together = -(-chunk // sharding.probe_shards(mesh, rows))
    axes = sharding.probe_row_axes(mesh, rows)
    probe_head = loss_head(mesh, axes, LOGITS_BUDGET // (2 * together), together)

    def weighted(constrain: Constrain, head: Head) -> alignment.LossFn:
        losses = make_row_losses(
            graph, chunk=options.loss_chunk, constrain=constrain, head=head
        )
        return lambda params, batch: losses(params, batch["rows"]).nll * batch["scale"]

    return (
        weighted(sharding.constrain_rows(mesh), loss_head(mesh)),
        weighted(sharding.constrain_probe_rows(mesh, rows), probe_head),
    )


def _make_align(
    config: ModelConfig,
    optimizer_config: optim.OptimizerConfig,
    options: StepOptions,
    params: Any,
    mesh: Mesh,
) -> Callable:
    pin = sharding.constrain_as(params)

    @functools.partial(jax.jit, out_shardings=sharding.replicated(mesh))
    def align(
        state: TrainState, target: Any, probes: Any
    ) -> tuple[alignment.Alignment, jax.Array]:
        shape = probes["tokens"].shape
        target_loss, probe_loss = make_alignment_losses(config, options, mesh, shape)
        gradient, norm = alignment.target_direction(
            target_loss,
            state.params,
            target,
            chunk=options.target_chunk,
            constrain=pin,
        )
        if options.head:
            gradient = _of_head(gradient)
            norm = jnp.sqrt(alignment.tree_dot(gradient, gradient))
        direction = gradient
        if options.precondition:
            scaled = optim.precondition(optimizer_config, state.opt_state, gradient)
            direction = pin(scaled)
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
            owners=probes.get("owners"),
            domain_axes=sharding.pinned_domain_axes(mesh, shape[1]),
        )
        scale = 1.0 / norm if options.normalise else 1.0
        return result._replace(
            alignments=result.alignments * scale,
            standard_errors=result.standard_errors * scale,
        ), norm

    return align


def _of_head(gradient: Any) -> Any:
    """The gradient with zeros for all but the output projection's parameters.

    Where embeddings are tied, that is the embedding.
    """
    head = "unembed" if "unembed" in gradient else "embed"
    return {
        name: part if name == head else jax.tree.map(jnp.zeros_like, part)
        for name, part in gradient.items()
    }


def _make_gradients(
    config: ModelConfig, options: StepOptions, params: Any, mesh: Mesh
) -> Callable:
    pin = sharding.constrain_as(params)

    @functools.partial(jax.jit, out_shardings=sharding.replicated(mesh))
    def gradients(params: Any, probes: Any, counts: jax.Array) -> Gradients:
        k, b = shape = probes["scale"].shape
        rows_loss, probe_loss = make_alignment_losses(config, options, mesh, shape)
        norms, variances = alignment.gradient_moments(rows_loss, params, probes)
        flat = {
            "rows": probes["rows"].reshape(k * b, -1),
            "scale": (probes["scale"] * counts[:, None] * k).reshape(-1),
        }
        along, _ = alignment.target_direction(
            rows_loss, params, flat, chunk=b, constrain=pin
        )
        found = alignment.alignment_step(
            probe_loss,
            params,
            along,
            probes,
            chunk=options.chunk,
            domain_axes=sharding.pinned_domain_axes(mesh, b),
        )
        return Gradients(norms, variances, found.alignments)

    return gradients


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


def target_scales(
    rows: np.ndarray, owners: np.ndarray, weights: np.ndarray
) -> np.ndarray:
    """What makes the mean of a batch's losses Σ_n w_n ℓ_n, each ℓ_n in nats per token.

    Args:
      rows: int32 [B, L+1] of several targets.
      owners: int64 [B], the target of each row.
      weights: float64 [n] of the targets; those above 0 have rows.

    Returns:
      float32 [B], in the place of the scale of `weighted_rows`.
    """
    tokens = np.sum(rows[:, 1:] >= 0, axis=1)
    sums = np.bincount(owners, tokens, len(weights))
    each = len(rows) * weights / np.maximum(sums, 1)
    return each[owners].astype(np.float32)
