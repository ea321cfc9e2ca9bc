"""Whether a checkpoint is what was saved, by evidence.

Orbax and TensorStore raise much the same for a disk that cannot be read, for a program
of another version and for a file that lost its end. Only what proves damage counts as
that here; see `DamagedError`.
"""

import hashlib
import itertools
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NoReturn

import jax
import jax.numpy as jnp
import numpy as np

from dga_jax.errors import UserError

_RECORD = "record/metadata"
_NEEDED = ("state", "state/_METADATA")  # orbax says no more than that trees differ
# How TensorStore begins: bytes that do not decode; fewer than there were; no file.
_DAMAGES = ("DATA_LOSS:", "OUT_OF_RANGE:", "NOT_FOUND:")
_TOO_SHORT = "Not enough data"  # how it ends where an array's values are not there


class DamagedError(Exception):
    """Raised on proof that a checkpoint is not what was saved."""


def check_readable(folder: Path) -> None:
    """Raises UserError if something in a checkpoint is there and cannot be opened.

    What may not be read, or lies behind a link or a disk that is not there, is not
    damaged.
    """

    def fail(error: OSError, path: str | None = None) -> NoReturn:
        raise UserError(f"{path or error.filename}: {error.strerror}") from None

    for parent, _, names in os.walk(folder, onerror=fail):
        for path in (os.path.join(parent, name) for name in names):
            try:
                with open(path, "rb") as file:
                    file.read(1)
            except OSError as error:
                fail(error, path)


def check_files(folder: Path) -> None:
    """Raises DamagedError if a file is missing whose absence orbax does not name."""
    for part in _NEEDED:
        if not (folder / part).exists():
            raise DamagedError(f"{part} is missing")


def read_record(folder: Path) -> dict[str, Any]:
    """What was written beside the arrays of a checkpoint.

    Raises:
      DamagedError: it is missing, or is not what was written.
    """
    path = folder / _RECORD
    if not path.is_file():
        raise DamagedError(f"{_RECORD} is missing")
    content = path.read_bytes()
    try:
        record = json.loads(content)
        whole = isinstance(record["extra"], dict) and "fingerprint" in record
    except (ValueError, TypeError, KeyError):
        whole = False
    if whole and "run" in record:  # those of older versions have no digest
        given = record.pop("digest", None)
        whole = given == digest(record)
    if not whole:
        raise DamagedError(f"{_RECORD} is not what was written")
    return record


def digest(record: dict[str, Any]) -> str:
    """Hex SHA-256 of a JSON object, whatever the order of its keys."""
    as_read = json.loads(json.dumps(record))
    return hashlib.sha256(json.dumps(as_read, sort_keys=True).encode()).hexdigest()


def describe(snapshot: Any) -> list[list]:
    """Names, shapes and dtypes of the arrays, ready for JSON."""
    return [
        [".".join(map(_name, path)), list(leaf.shape), str(leaf.dtype)]
        for path, leaf in jax.tree_util.tree_leaves_with_path(snapshot)
    ]


def _name(key: Any) -> str:
    """Of an entry of a path, in words that do not depend on JAX's version."""
    named = (getattr(key, kind, None) for kind in ("name", "key", "idx"))
    return str(next(name for name in named if name is not None))


def check_arrays(record: dict[str, Any], abstract: Any) -> None:
    """Raises UserError unless a checkpoint holds the arrays that are asked for."""
    asked = describe(abstract)
    saved = record.get("arrays", asked)  # an older version did not say
    if saved == asked:
        return
    pairs = itertools.zip_longest(saved, asked)
    there, here = next((old, new) for old, new in pairs if old != new)
    raise UserError(
        f"it is of another version of this program: it holds {_array(there)} where "
        f"this one has {_array(here)}"
    )


def as_saved(record: Mapping[str, Any], abstract: Any) -> Any:
    """What is asked for with the shapes and dtypes that a checkpoint's record says.

    None if it holds no arrays of these names.
    """
    saved = {name: (tuple(shape), dtype) for name, shape, dtype in record["arrays"]}
    names = [name for name, *_ in describe(abstract)]
    if not saved.keys() >= set(names):
        return None
    shapes = [jax.ShapeDtypeStruct(*saved[name]) for name in names]
    return jax.tree.unflatten(jax.tree.structure(abstract), shapes)


def is_part(arrays: Any, record: Mapping[str, Any]) -> bool:
    """Whether arrays that were read of a checkpoint are those that were saved.

    By their names; in an older version's, which has none, they are those in front.
    """
    sums, saved = fingerprint(arrays), record["fingerprint"]
    if "arrays" not in record:
        return sums == saved[: len(sums)]
    by_name = dict(zip((name for name, *_ in record["arrays"]), saved, strict=True))
    names = (name for name, *_ in describe(arrays))
    return all(by_name.get(n) == x for n, x in zip(names, sums, strict=True))


def _array(described: list | None) -> str:
    if described is None:
        return "nothing"
    name, shape, dtype = described
    return f"{name} {dtype}{shape}"


def proves_damage(error: Exception, folder: Path) -> bool:
    """Whether what orbax or TensorStore raised can only come of a checkpoint's files.

    That is: a file is not there, is shorter than it was, or does not decode. They give
    the same for it on all versions tested; what is not known is no proof.
    """
    if isinstance(error, json.JSONDecodeError | UnicodeDecodeError):
        return True
    if str(folder) not in str(error):
        return False
    if isinstance(error, FileNotFoundError):
        return folder.is_dir()
    said = str(error)
    told = said.startswith(_DAMAGES) or _TOO_SHORT in said
    return isinstance(error, ValueError) and told


def fingerprint(snapshot: Any) -> list[int]:
    """One uint32 a leaf: the wrapping sum of its bits, taken 32 at a time.

    Integer sums do not depend on the order of summation, hence not on the mesh.
    """
    leaves = jax.tree.leaves(snapshot)
    on_host = [isinstance(leaf, np.ndarray) for leaf in leaves]
    arrays = [x for x in leaves if isinstance(x, jax.Array)]
    sums = iter(np.asarray(_bit_sums(arrays)) if arrays else ())
    return [
        int(np.sum(np.ascontiguousarray(leaf).view(np.uint32), dtype=np.uint32))
        if host
        else int(next(sums))
        for leaf, host in zip(leaves, on_host, strict=True)
    ]


@jax.jit
def _bit_sums(leaves: list[jax.Array]) -> jax.Array:
    def bits(leaf: jax.Array) -> jax.Array:
        words = jax.lax.bitcast_convert_type(leaf, jnp.uint32)
        return jnp.sum(words, dtype=jnp.uint32)

    return jnp.stack([bits(leaf) for leaf in leaves])
