"""The text that comes with the program, prepared once and kept in a cache."""

import contextlib
import hashlib
import os
import pathlib

from dga_jax.data.build import prepare_store
from dga_jax.data.sources import expand
from dga_jax.data.store import FORMAT_VERSION
from dga_jax.data.tokenizer import load_tokenizer
from dga_jax.errors import UserError

SAMPLE = pathlib.Path(__file__).resolve().parents[2] / "sample"
CACHE_VARIABLE = "DGA_JAX_CACHE"


def sample_store(seq_len: int, cache_dir: str | os.PathLike | None = None):
    """The path of the sample as a store, prepared on the first call.

    Args:
      seq_len: L; rows have L + 1 tokens.
      cache_dir: where prepared samples are kept; by default $DGA_JAX_CACHE, else
        dga_jax in $XDG_CACHE_HOME, else ~/.cache/dga_jax.

    Raises:
      UserError: the sample is missing, or the cache cannot be written to.
    """
    files = [
        *expand([str(SAMPLE / "generic" / "*.jsonl.xz")]),
        *expand([str(SAMPLE / "target" / "*.jsonl.xz")]),
        SAMPLE / "tokenizer.json",
    ]
    digest = hashlib.sha256(f"{FORMAT_VERSION} {seq_len}".encode())
    for path in files:
        digest.update(hashlib.sha256(path.read_bytes()).digest())
    cache = pathlib.Path(cache_dir or _default_cache())
    path = cache / f"sample-{seq_len}-{digest.hexdigest()[:16]}"
    if not path.is_dir():
        # A run beside this one that is quicker has made the same.
        with contextlib.suppress(FileExistsError):
            prepare_store(
                generic=expand([str(SAMPLE / "generic" / "*.jsonl.xz")]),
                target=[SAMPLE / "target" / "python_docs.steer.jsonl.xz"],
                target_eval=[SAMPLE / "target" / "python_docs.eval.jsonl.xz"],
                tokenizer=load_tokenizer(SAMPLE / "tokenizer.json"),
                seq_len=seq_len,
                output=path,
            )
    return path


def _default_cache() -> pathlib.Path:
    if CACHE_VARIABLE in os.environ:
        return pathlib.Path(os.environ[CACHE_VARIABLE])
    base = os.environ.get("XDG_CACHE_HOME") or pathlib.Path.home() / ".cache"
    return pathlib.Path(base) / "dga_jax"
