"""Damaged checkpoints are moved aside, and only if damage is proven."""

import json
import os
import shutil

import numpy as np
import orbax.checkpoint as ocp
import pytest
from checkpoints import ABSTRACT, assert_is, snapshot_of
from runs import Killed, log_of, small_config, stopped, train_run

from dga_jax.errors import UserError
from dga_jax.training import checkpoint, integrity
from dga_jax.training.checkpoint import Checkpoints


def _parts(template):
    """Every file and directory of a checkpoint, and the checkpoint itself."""
    newest = template / "checkpoints" / "10"
    return [p.relative_to(newest) for p in [newest, *sorted(newest.rglob("*"))]]


def _flip(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 0x10
    path.write_bytes(content)


DAMAGES = {
    "deleted": lambda p: shutil.rmtree(p) if p.is_dir() else p.unlink(),
    "emptied": lambda p: (
        [DAMAGES["deleted"](x) for x in p.iterdir()]
        if p.is_dir()
        else p.write_bytes(b"")
    ),
    "halved": lambda p: None if p.is_dir() else os.truncate(p, p.stat().st_size // 2),
    "flipped": lambda p: None if p.is_dir() else _flip(p),
}


def _loop(path):
    """Makes it unreadable, for root too: a link that leads to itself."""
    if path.is_file():
        path.unlink()
        path.symlink_to(path.name)


def _bytes(folder):
    """All that a folder holds, as it is."""
    return {
        str(path.relative_to(folder)): path.read_bytes() if path.is_file() else None
        for path in folder.rglob("*")
    }


def _restore(checkpoints):
    """What comes of it: a checkpoint or an error."""
    try:
        return checkpoints.restore(ABSTRACT), ""
    except UserError as error:
        return None, str(error)


@pytest.mark.parametrize("damage", ["deleted", "emptied", "halved"])
def test_values_that_are_not_there(damage, tmp_path):
    """Of arrays that are large enough for files of their own."""
    arrays = {"values": np.ones((256, 1024), np.float32)}
    with checkpoint.manager(tmp_path / "of") as manager:
        args = {"state": ocp.args.PyTreeSave(arrays), "record": ocp.args.JsonSave({})}
        manager.save(1, args=ocp.args.Composite(**args))
    folder = tmp_path / "of" / "1"
    files = [path for path in (folder / "state").rglob("*") if path.is_file()]
    DAMAGES[damage](max(files, key=lambda path: path.stat().st_size))
    with checkpoint.manager(tmp_path / "of") as manager:
        args = ocp.args.Composite(state=ocp.args.StandardRestore(arrays))
        with pytest.raises(ValueError, match=r"Not enough|OUT_OF_RANGE") as caught:
            manager.restore(1, args=args)
    assert integrity.proves_damage(caught.value, folder)


# What restoring reads, and where damage is therefore proven, whatever it is.
_READ = ("record/metadata", "state/manifest.ocdbt", "state/d/*")


@pytest.mark.parametrize("damage", [*DAMAGES, "unreadable"])
def test_damage(damage, template, tmp_path, capfd):
    """To any part of the newest: never a wrong state, and moved only on proof."""
    outcomes = {}
    for number, part in enumerate(_parts(template)):
        if part.match("ocdbt.process_0/d/*") and damage != "unreadable":
            continue  # these are read by none
        folder = tmp_path / str(number)
        shutil.copytree(template / "checkpoints", folder / "checkpoints")
        {**DAMAGES, "unreadable": _loop}[damage](folder / "checkpoints" / "10" / part)
        before = _bytes(folder)
        capfd.readouterr()  # of saves before, which say when they have ended
        checkpoints = Checkpoints(folder, 3)
        restored, error = _restore(checkpoints)
        if error:
            assert "checkpoint 10 cannot be read, which does not prove" in error
            assert f"nothing was changed in {folder}" in error
            assert "or move it away to go on from checkpoint 9" in error
            assert capfd.readouterr().out == ""
            assert _bytes(folder) == before
            checkpoints.close()
            shutil.rmtree(folder / "checkpoints" / "10")  # what it says works
            checkpoints = Checkpoints(folder, 3)
            assert_is(checkpoints.restore(ABSTRACT), 9)
            checkpoints.close()
            outcomes[str(part)] = "error"
            continue
        said = capfd.readouterr().out
        assert_is(restored, restored.step)
        moved = (folder / "checkpoints" / "damaged-10").is_dir()
        gone = damage == "deleted" and part.name == ""
        assert restored.step == (9 if moved or gone else 10), part
        assert moved == ("checkpoint 10 is damaged" in said), part
        assert said.count("\n") == (1 if moved else 0)
        if moved:  # training goes on from there, over the step of the damaged one too
            for step in (10, 11):
                checkpoints.save(step, snapshot_of(step), {"clock": step})
            checkpoints.close()
            checkpoints = Checkpoints(folder, 3)
            assert_is(checkpoints.restore(ABSTRACT), 11)
        checkpoints.close()
        outcomes[str(part)] = "moved" if moved else "restored"
    newest = template / "checkpoints" / "10"
    if damage == "unreadable":
        files = {name for name in outcomes if (newest / name).is_file()}
        assert {name for name, found in outcomes.items() if found == "error"} == files
    else:
        read = [str(p.relative_to(newest)) for g in _READ for p in newest.glob(g)]
        assert len(read) >= len(_READ)
        assert {outcomes[name] for name in read} == {"moved"}, outcomes


_ODD = [
    PermissionError(13, "Permission denied"),
    OSError(5, "Input/output error"),
    MemoryError(),
    ValueError("PERMISSION_DENIED: Error opening FOLDER"),
    ValueError("pytree structure error: different types"),
    RuntimeError("RESOURCE_EXHAUSTED: Out of memory allocating 1 byte"),
    RuntimeError("NOT_FOUND: a library that JAX wanted"),
    ValueError("NOT_FOUND: something elsewhere"),
    FileNotFoundError(2, "No such file or directory", "/elsewhere"),
    KeyError("another version"),
]


@pytest.mark.parametrize("error", _ODD, ids=repr)
def test_what_proves_nothing_moves_nothing(error, copy, monkeypatch, capfd):
    """However orbax fails: by default that is no damage."""

    def fail(*_, **__):
        raise error

    monkeypatch.setattr(ocp.CheckpointManager, "restore", fail)
    before = _bytes(copy)
    checkpoints = Checkpoints(copy, 3)
    with pytest.raises(UserError, match="checkpoint 10 cannot be read") as caught:
        checkpoints.restore(ABSTRACT)
    assert type(error).__name__ in str(caught.value)
    assert _bytes(copy) == before
    assert capfd.readouterr().out == ""


def test_permissions(copy, monkeypatch, capfd):
    """Of all of them, as for a user who may not read what another has written."""

    def refuse(path, *_, **__):
        raise PermissionError(13, "Permission denied", path)

    monkeypatch.setattr(integrity, "open", refuse, raising=False)
    before = _bytes(copy)
    checkpoints = Checkpoints(copy, 3)
    with pytest.raises(UserError, match=r"checkpoint 10 .*Permission denied"):
        checkpoints.restore(ABSTRACT)
    with pytest.raises(UserError, match=r"checkpoint 10 .*Permission denied"):
        checkpoints.newest_run()
    assert _bytes(copy) == before
    assert capfd.readouterr().out == ""


def test_a_folder_that_may_not_be_listed(tmp_path, monkeypatch):
    (tmp_path / "checkpoints").write_text("a file")
    with pytest.raises(UserError, match="checkpoints cannot be read"):
        Checkpoints(tmp_path, 3).restore(ABSTRACT)


def test_one_of_another_version(copy):
    """Its arrays are not those that this program would have: said which."""
    other = ABSTRACT._replace(cursors=np.zeros(5, np.int64))
    before = _bytes(copy)
    with pytest.raises(UserError, match=r"holds cursors int64\[4\] where .*int64\[5\]"):
        Checkpoints(copy, 3).restore(other)
    assert _bytes(copy) == before


def test_a_record_that_was_changed(copy, capfd):
    """Its digest tells, where it is still JSON."""
    record = copy / "checkpoints" / "10" / "record" / "metadata"
    record.write_text(record.read_text().replace('"clock": 10', '"clock": 11'))
    checkpoints = Checkpoints(copy, 3)
    assert_is(checkpoints.restore(ABSTRACT), 9)
    assert "record/metadata is not what was written" in capfd.readouterr().out
    checkpoints.close()


def test_a_flipped_bit_of_the_data_is_noticed(copy, capfd):
    """Also where the format has no check sum of its own: the fingerprint tells."""
    newest = copy / "checkpoints" / "10" / "state"
    data = max(newest.rglob("d/*"), key=lambda path: path.stat().st_size)
    _flip(data)
    checkpoints = Checkpoints(copy, 3)
    assert_is(checkpoints.restore(ABSTRACT), 9)
    assert "checkpoint 10 is damaged" in capfd.readouterr().out
    checkpoints.close()


def test_arrays_that_are_not_those_that_were_saved(copy, capfd):
    """Whole files, of which some hold something else."""
    record = copy / "checkpoints" / "10" / "record" / "metadata"
    content = json.loads(record.read_text())
    content["fingerprint"][1] ^= 1
    del content["digest"]
    content["digest"] = integrity.digest(content)
    record.write_text(json.dumps(content))
    checkpoints = Checkpoints(copy, 3)
    assert_is(checkpoints.restore(ABSTRACT), 9)
    assert "its arrays are not those that were saved" in capfd.readouterr().out
    checkpoints.close()


def test_all_are_damaged(copy, capfd):
    """They are moved, and the next start does not go back to step 0 either."""
    for step in (9, 10):
        shutil.rmtree(copy / "checkpoints" / str(step) / "state")
    checkpoints = Checkpoints(copy, 3)
    with pytest.raises(UserError, match="holds damaged-10, damaged-9 only") as caught:
        checkpoints.restore(ABSTRACT)
    said = capfd.readouterr().out
    assert "checkpoint 10 is damaged" in said
    assert "checkpoint 9 is damaged" in said
    again = Checkpoints(copy, 3)
    with pytest.raises(UserError, match="no checkpoint of this run is good"):
        again.restore(ABSTRACT)
    # What it says works.
    assert f"remove {copy / 'checkpoints'}" in str(caught.value)
    shutil.rmtree(copy / "checkpoints")
    assert again.restore(ABSTRACT) is None
    again.save(5, snapshot_of(5), {"clock": 5})
    again.close()
    again = Checkpoints(copy, 3)
    assert_is(again.restore(ABSTRACT), 5)
    again.close()


def test_damaged_twice_at_the_same_step(copy, capfd):
    for name in ("damaged-10", "damaged-10-2"):
        checkpoints = Checkpoints(copy, 3)
        shutil.rmtree(copy / "checkpoints" / "10" / "state")
        assert checkpoints.restore(ABSTRACT).step == 9
        assert name in capfd.readouterr().out
        assert (copy / "checkpoints" / name).is_dir()
        checkpoints.save(10, snapshot_of(10), {"clock": 10})
        checkpoints.close()


@pytest.mark.slow
@pytest.mark.parametrize("lost", ["newest", "all"])
def test_a_run_goes_on_from_an_older_one(
    lost, byte_store, tmp_path, monkeypatch, capfd
):
    config = small_config(byte_store, checkpoint__every=3, checkpoint__keep=2)
    train_run(config, tmp_path / "whole")
    with stopped(monkeypatch, 8, by="kill"), pytest.raises(Killed):
        train_run(config, tmp_path / "damaged")
    folder = tmp_path / "damaged" / "checkpoints"
    assert sorted(os.listdir(folder)) == ["3", "6"]
    for step in (3, 6) if lost == "all" else (6,):
        shutil.rmtree(folder / str(step) / "state")
    capfd.readouterr()
    if lost == "all":
        with pytest.raises(UserError, match="no checkpoint of this run is good"):
            train_run(config, tmp_path / "damaged")
        shutil.rmtree(folder)
    assert train_run(config, tmp_path / "damaged")
    said = capfd.readouterr().out
    assert "checkpoint 6 is damaged" in said
    assert ("checkpoint 3 is damaged" in said) == (lost == "all")
    assert log_of(tmp_path / "damaged") == log_of(tmp_path / "whole")
