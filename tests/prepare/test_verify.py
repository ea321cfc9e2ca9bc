import shutil

from test_prepare import fails, run

from dga_jax.data.store import Store


def test_a_sound_store(byte_store):
    result = run("verify", str(byte_store.path))
    assert result.returncode == 0, result.stderr
    (line,) = result.stdout.splitlines()
    rows = sum(entry["rows"] for entry in byte_store.manifest["splits"].values())
    tokens = sum(entry["tokens"] for entry in byte_store.manifest["splits"].values())
    assert line.startswith("verified: ")
    assert f"{rows:,} rows that predict {tokens:,} tokens" in line
    assert "100%" in result.stderr


def test_a_file_too_many_and_one_that_is_damaged(byte_store, tmp_path):
    path = tmp_path / "store"
    shutil.copytree(byte_store.path, path)
    (path / "notes.txt").touch()
    result = run("verify", str(path))
    assert result.returncode == 0
    assert "not part of the store: notes.txt" in result.stdout
    name = next(name for name in Store.open(path).manifest["files"] if "train" in name)
    data = bytearray((path / name).read_bytes())
    data[len(data) // 2] ^= 1
    (path / name).write_bytes(data)
    assert f"{name}: its SHA-256 is" in fails("verify", str(path))


def test_errors_are_one_line(tmp_path):
    assert "verify takes one store" in fails("verify")
    assert "no store at" in fails("verify", str(tmp_path / "gone"))
