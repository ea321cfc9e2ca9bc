"""Text that a model goes on with: what was computed of it is kept and not redone.

A cache holds the keys and values of all that was read. Rows may differ in length: each
stands where it stands, and what a row has been filled up with is overwritten by what is
read next, before anything sees it.

Shapes: B rows, T new tokens, C positions that a cache has room for, N layers, H query
heads of width K, G key and value heads, V vocabulary.
"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx
from jax.sharding import Mesh

from dga_jax.model.transformer import ModelConfig, Transformer, abstract
from dga_jax.sharding import constrain_rows, replicated

Pick = Callable[[jax.Array, jax.Array], jax.Array]  # (key, logits [B, V]) -> ids [B]
Constrain = Callable[[jax.Array], jax.Array]  # pins the sharding of an array


class Cache(NamedTuple):
    """What is kept of the tokens that were read.

    Attributes:
      keys: [N, B, C, G, K], rotated.
      values: [N, B, C, G, K].
      length: int32 [B], tokens that were read.
      start: int32 [B], where the document of the last one begins.
    """

    keys: jax.Array
    values: jax.Array
    length: jax.Array
    start: jax.Array


def empty_cache(config: ModelConfig, rows: int, room: int) -> Cache:
    """A cache of so many rows that nothing was read of.

    Args:
      config: of the model.
      rows: B.
      room: C.
    """
    heads = config.num_kv_heads, config.head_width
    shape = (config.num_layers, rows, room, *heads)
    zeros = jnp.zeros(shape, config.dtype)
    none = jnp.zeros(rows, jnp.int32)
    return Cache(zeros, zeros, none, none)


def read(
    model: Transformer,
    cache: Cache,
    tokens_BxT: jax.Array,
    counts_B: jax.Array | None = None,
    constrain: Constrain = lambda x: x,
) -> tuple[jax.Array, Cache]:
    """Reads tokens behind those that were read.

    Args:
      model: the decoder.
      cache: has room for them; what has none is lost.
      tokens_BxT: token ids.
      counts_B: how many of each row are tokens, at least one; the rest fills it up.
        None: all.
      constrain: pins down the sharding of activations.

    Returns:
      Activations [B, T, D] as `Transformer.hidden` gives them, and the new cache.
    """
    new = jnp.arange(tokens_BxT.shape[1], dtype=jnp.int32)
    index_BxT = cache.length[:, None] + new
    starts_BxT = jnp.zeros_like(index_BxT)
    if model.config.document_end is not None:
        ends = tokens_BxT == model.config.document_end
        starts_BxT = jax.lax.cummax(
            jnp.where(ends, index_BxT, cache.start[:, None]), axis=1
        )
    key_C = jnp.arange(cache.keys.shape[2], dtype=jnp.int32)
    seen_Bx1xTxC = ((key_C <= index_BxT[..., None]) & (key_C >= starts_BxT[..., None]))[
        :, None
    ]
    rows = jnp.arange(tokens_BxT.shape[0])[:, None]
    graph, layers = nnx.split(model.blocks)

    def layer(x_BxTxD: jax.Array, of_layer: tuple) -> tuple[jax.Array, tuple]:
        parameters, *kept = of_layer

        def attend(q: jax.Array, k: jax.Array, v: jax.Array, _: Any) -> jax.Array:
            kept[:] = (
                old.at[rows, index_BxT].set(x.astype(old.dtype))
                for old, x in zip(kept, (k, v), strict=True)
            )
            return jax.nn.dot_product_attention(
                q, *kept, mask=seen_Bx1xTxC, implementation="xla"
            )

        block = nnx.merge(graph, parameters)
        x_BxTxD = block(x_BxTxD, index_BxT - starts_BxT, attend)
        return constrain(x_BxTxD), tuple(kept)

    x_BxTxD = constrain(model.embed(tokens_BxT).astype(model.config.dtype))
    x_BxTxD, kept = jax.lax.scan(layer, x_BxTxD, (layers, cache.keys, cache.values))
    if counts_B is None:
        counts_B = jnp.full(tokens_BxT.shape[0], tokens_BxT.shape[1], jnp.int32)
    last = jnp.take_along_axis(starts_BxT, counts_B[:, None] - 1, axis=1)[:, 0]
    return model.final_norm(x_BxTxD), Cache(*kept, cache.length + counts_B, last)


def nucleus(logits_BxV: jax.Array, top_p: float) -> jax.Array:
    """Logits of the likeliest tokens that have `top_p` of the mass; -inf for others.

    The one that reaches it is among them, and so is always the first (Holtzman et al.
    2020, arXiv 1904.09751).
    """
    order = jnp.argsort(-logits_BxV, axis=-1)
    sorted_BxV = jnp.take_along_axis(logits_BxV, order, axis=-1)
    probabilities = jax.nn.softmax(sorted_BxV, axis=-1)
    before = jnp.cumsum(probabilities, axis=-1) - probabilities
    cut_BxV = jnp.where(before < top_p, sorted_BxV, -jnp.inf)
    back = jnp.argsort(order, axis=-1)
    return jnp.take_along_axis(cut_BxV, back, axis=-1)


def sampler(temperature: float, top_p: float = 1.0) -> Pick:
    """How the next token is drawn.

    Args:
      temperature: that logits are divided by; 0: the likeliest token, always.
      top_p: see `nucleus`, of what the temperature makes of them.
    """

    def pick(key: jax.Array, logits_BxV: jax.Array) -> jax.Array:
        if temperature == 0:
            return jnp.argmax(logits_BxV, axis=-1).astype(jnp.int32)
        scaled_BxV = logits_BxV / temperature
        if top_p < 1:
            scaled_BxV = nucleus(scaled_BxV, top_p)
        return jax.random.categorical(key, scaled_BxV).astype(jnp.int32)

    return pick


class Decode(NamedTuple):
    """Jitted functions that go on with prompts.

    Attributes:
      begin: (params, prompts [B, T], counts [B], key) -> (ids [B, 1], Cache).
      go_on: (params, cache, ids [B, 1], key) -> (ids [B, n], Cache); n tokens after
        those that the ids were; the old cache is donated.
    """

    begin: Callable
    go_on: Callable


def make_decode(
    config: ModelConfig,
    room: int,
    pick: Pick,
    *,
    steps: int = 1,
    mesh: Mesh | None = None,
) -> Decode:
    """The two functions; each is compiled once for a shape of its arguments.

    Args:
      config: of the model.
      room: C, of prompt and what follows.
      pick: the next token of each row.
      steps: n, tokens of one call.
      mesh: that the parameters lie on; None: one device.
    """
    graph, _ = abstract(config)
    constrain = constrain_rows(mesh) if mesh else lambda x: x

    def following(
        model: Transformer, hidden_BxD: jax.Array, key: jax.Array
    ) -> jax.Array:
        ids_B = pick(key, model.logits(hidden_BxD))
        if mesh:  # every process is to see them
            ids_B = jax.lax.with_sharding_constraint(ids_B, replicated(mesh))
        return ids_B

    @jax.jit
    def begin(
        params: Any, prompts_BxT: jax.Array, counts_B: jax.Array, key: jax.Array
    ) -> tuple[jax.Array, Cache]:
        model = nnx.merge(graph, params)
        cache = empty_cache(config, len(prompts_BxT), room)
        hidden_BxTxD, cache = read(model, cache, prompts_BxT, counts_B, constrain)
        last = counts_B[:, None, None] - 1
        hidden_BxD = jnp.take_along_axis(hidden_BxTxD, last, axis=1)[:, 0]
        return following(model, hidden_BxD, key)[:, None], cache

    @functools.partial(jax.jit, donate_argnums=1)
    def go_on(
        params: Any, cache: Cache, ids: jax.Array, key: jax.Array
    ) -> tuple[jax.Array, Cache]:
        model = nnx.merge(graph, params)

        def step(carry: tuple, key: jax.Array) -> tuple[tuple, jax.Array]:
            ids_Bx1, cache = carry
            hidden, cache = read(model, cache, ids_Bx1, constrain=constrain)
            ids_B = following(model, hidden[:, 0], key)
            return (ids_B[:, None], cache), ids_B

        (_, cache), ids_nxB = jax.lax.scan(
            step, (ids[:, -1:], cache), jax.random.split(key, steps)
        )
        return ids_nxB.T, cache

    return Decode(begin, go_on)
