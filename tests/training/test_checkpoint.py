"""Checkpoints: whole, of what was saved, and as many as are kept."""

import os
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp
import pytest
from checkpoints import ABSTRACT, abstract_of, assert_is, saved, snapshot_of

from dga_jax.errors import UserError
from dga_jax.training import checkpoint
from dga_jax.training.checkpoint import Checkpoints, fingerprint, size_on_disk


def test_round_trip(copy):
    checkpoints = Checkpoints(copy, 3)
    assert checkpoints.newest_step() == 10
    assert checkpoints.last_step is None
    assert_is(checkpoints.restore(ABSTRACT), 10)
    assert checkpoints.last_step == 10
    checkpoints.close()


def test_nothing_to_restore(tmp_path):
    checkpoints = Checkpoints(tmp_path, 3)
    assert checkpoints.newest_step() is None
    assert checkpoints.restore(ABSTRACT) is None
    checkpoints.close()


def test_onto_another_mesh(copy):
    checkpoints = Checkpoints(copy, 3)
    other = snapshot_of(10, (1, 8, 1))
    restored = checkpoints.restore(abstract_of(other)).snapshot
    for found, expected in zip(
        jax.tree.leaves(restored), jax.tree.leaves(other), strict=True
    ):
        np.testing.assert_array_equal(found, expected)
    assert restored.train.params["kernel"].sharding.mesh.shape["fsdp"] == 8
    checkpoints.close()


def test_a_save_that_orbax_passes_over(copy):
    """Before a step that is there already; it would be lost without a word."""
    checkpoints = Checkpoints(copy, 3)
    with pytest.raises(UserError, match=r"checkpoint 5 was not saved: .* step 10"):
        checkpoints.save(5, snapshot_of(5), {"clock": 5})
    checkpoints.close()


def test_what_run_they_are_of(tmp_path):
    """The newest that says it, and is whole."""
    checkpoints = Checkpoints(tmp_path, 5)
    assert checkpoints.newest_run() is None
    for step in (1, 2, 3):
        checkpoints.run = {"config": {"seed": step}} if step > 1 else None
        checkpoints.save(step, snapshot_of(step), {"clock": step})
    checkpoints.wait()
    assert checkpoints.newest_run() == (3, {"config": {"seed": 3}})
    (tmp_path / "checkpoints" / "3" / "record" / "metadata").write_text("{")
    assert checkpoints.newest_run() == (2, {"config": {"seed": 2}})
    shutil.rmtree(tmp_path / "checkpoints" / "2" / "record")
    assert checkpoints.newest_run() is None
    checkpoints.close()


def test_what_a_kill_left_is_no_checkpoint(copy):
    """Orbax writes aside; what it had not renamed is removed."""
    folder = copy / "checkpoints"
    shutil.copytree(folder / "10", folder / "11.orbax-checkpoint-tmp-123")
    checkpoints = Checkpoints(copy, 3)
    assert checkpoints.newest_step() == 10
    assert_is(checkpoints.restore(ABSTRACT), 10)
    checkpoints.save(11, snapshot_of(11), {"clock": 11})
    checkpoints.close()
    assert sorted(os.listdir(folder)) == ["10", "11", "9"]


@pytest.mark.parametrize("keep", [1, 2])
def test_the_newest_stay(keep, tmp_path):
    folder = saved(tmp_path, [1, 2, 4, 8], keep)
    assert sorted(os.listdir(folder)) == ["1", "2", "4", "8"][-keep:]


def test_a_step_is_saved_once(tmp_path, monkeypatch):
    checkpoints = Checkpoints(tmp_path, 3)
    checkpoints.save(3, snapshot_of(3), {"clock": 3})
    checkpoints.save(3, snapshot_of(4), {"clock": 4})
    checkpoints.close()
    assert_is(Checkpoints(tmp_path, 3).restore(ABSTRACT), 3)


@pytest.mark.parametrize("when", ["at once", "in the background"])
def test_full_disk(when, tmp_path, monkeypatch):
    def full(self, *_, **__):
        raise OSError(28, "No space left on device")

    if when == "at once":
        monkeypatch.setattr(ocp.CheckpointManager, "save", full)
    else:
        monkeypatch.setattr(ocp.CheckpointManager, "wait_until_finished", full)
    checkpoints = Checkpoints(tmp_path, 3)

    def save():
        checkpoints.save(1, snapshot_of(1), {})
        checkpoints.wait()

    with pytest.raises(UserError, match="the disk is full") as caught:
        save()
    assert str(tmp_path) in str(caught.value)


def test_fingerprint():
    plain = fingerprint(snapshot_of(3))
    assert plain == fingerprint(snapshot_of(3, (1, 8, 1)))
    assert plain == fingerprint(snapshot_of(3, (1, 1, 1)))
    assert len(plain) == len(jax.tree.leaves(snapshot_of(3)))
    changed = snapshot_of(3)._replace(cursors=snapshot_of(3).cursors + 2**33)
    assert sum(a != b for a, b in zip(plain, fingerprint(changed), strict=True)) == 1
    nudged = jax.tree.map(lambda x: x, snapshot_of(3))
    kernel = nudged.train.params["kernel"]
    nudged.train.params["kernel"] = kernel.at[3, 3].set(
        jnp.nextafter(kernel[3, 3], jnp.inf)
    )
    assert sum(a != b for a, b in zip(plain, fingerprint(nudged), strict=True)) == 1


def test_size():
    floats = 2 * 16 * 8 + 3
    assert size_on_disk(ABSTRACT) == 4 * (floats + 2) + 8 * 4


def test_nothing_is_compressed(tmp_path):
    """Or an export would take longer to decompress a checkpoint than to copy it."""
    arrays = {"zeros": jnp.zeros((256, 1024))}
    with checkpoint.manager(tmp_path) as manager:
        args = {"state": ocp.args.PyTreeSave(arrays), "record": ocp.args.JsonSave({})}
        manager.save(1, args=ocp.args.Composite(**args))
    sizes = [path.stat().st_size for path in tmp_path.rglob("*") if path.is_file()]
    assert sum(sizes) > arrays["zeros"].nbytes


@pytest.mark.parametrize(("rows", "whole"), [(8 * 13, True), (8 << 15, False)])
def test_small_arrays_are_not_cut_up_to_be_saved(tmp_path, rows, whole):
    """Of arrays that all devices hold: to cut one takes a program for each of them."""
    mesh = jax.make_mesh((8,), ("data",))
    alike = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec())
    arrays = {"alike": jax.device_put(np.ones((rows, 8), np.float32), alike)}
    lowered = []

    def listen(event, *_, **__):
        if event == "/jax/core/compile/jaxpr_to_mlir_module_duration":
            lowered.append(event)

    jax.monitoring.register_event_duration_secs_listener(listen)
    try:
        with checkpoint.manager(tmp_path) as manager:
            state = ocp.args.PyTreeSave(arrays)
            args = ocp.args.Composite(state=state, record=ocp.args.JsonSave({}))
            manager.save(1, args=args)
    finally:
        jax.monitoring.unregister_event_duration_listener(listen)
    assert (not lowered) == whole
