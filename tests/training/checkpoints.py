"""Checkpoints of a little state, for the tests of them."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P
from runs import mesh_of

from dga_jax.mixing.mixers import MixerState
from dga_jax.training.checkpoint import Checkpoints, Snapshot
from dga_jax.training.train_state import TrainState


@functools.cache
def snapshot_of(step, mesh=(2, 2, 2)):
    """A little of everything: sharded and replicated, floats and integers."""
    mesh = mesh_of(*mesh)
    sharded, everywhere = (
        NamedSharding(mesh, P("fsdp", "tensor")),
        NamedSharding(mesh, P()),
    )
    key = jax.random.key(step)
    kernel = jax.device_put(jax.random.normal(key, (16, 8)), sharded)
    whole = functools.partial(jax.device_put, device=everywhere)
    return Snapshot(
        TrainState({"kernel": kernel}, {"nu": kernel**2}, whole(jnp.int32(step))),
        MixerState(whole(jnp.log(jnp.arange(3.0))), whole(jnp.int32(7))),
        np.arange(4) + step * 2**40,
    )


def abstract_of(snapshot):
    return jax.tree.map(
        lambda x: (
            x
            if isinstance(x, np.ndarray)
            else jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=x.sharding)
        ),
        snapshot,
    )


ABSTRACT = abstract_of(snapshot_of(0))


def assert_is(restored, step):
    assert restored.step == step
    assert restored.extra == {"clock": step}
    for found, saved in zip(
        jax.tree.leaves(restored.snapshot),
        jax.tree.leaves(snapshot_of(step)),
        strict=True,
    ):
        np.testing.assert_array_equal(found, saved)
        assert found.dtype == saved.dtype
        assert isinstance(found, np.ndarray) == isinstance(saved, np.ndarray)
        assert getattr(found, "sharding", None) == getattr(saved, "sharding", None)


def saved(folder, steps, keep=3):
    checkpoints = Checkpoints(folder, keep)
    for step in steps:
        checkpoints.save(step, snapshot_of(step), {"clock": step})
    checkpoints.close()
    return folder / "checkpoints"
