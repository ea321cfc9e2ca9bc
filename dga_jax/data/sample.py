"""The text that comes with the program: its files, and where the store of it lies."""

import hashlib
import os
import pathlib

from dga_jax import files
from dga_jax.data.store import FORMAT_VERSION
from dga_jax.errors import UserError

SAMPLE = files.shipped("sample")
GENERIC = "generic/*.jsonl.xz"
TARGET = "target/python_docs.steer.jsonl.xz"
TARGET_EVAL = "target/python_docs.eval.jsonl.xz"
TOKENIZER = "tokenizer.json"
_RULES = 2  # by which a store is made; another where they change what is in it


def sample_path(
    seq_len: int, branching: tuple[int, ...], cache: str | os.PathLike
) -> pathlib.Path:
    """The path in the cache of the sample as a store, be it there or not.

    Args:
      seq_len: L; rows have L + 1 tokens.
      branching: of clusters that are to be the domains; without it, the domains are
        the kinds of text by name.
      cache: see `files.cache_directory`.

    Raises:
      UserError: the sample is missing, or the cache cannot be written to.
    """
    made = f"{FORMAT_VERSION} {_RULES} {seq_len} {branching}"
    digest = hashlib.sha256(made.encode())
    generic = sorted(SAMPLE.glob(GENERIC))
    for path in [*generic, *(SAMPLE / x for x in (TARGET, TARGET_EVAL, TOKENIZER))]:
        try:
            digest.update(hashlib.sha256(path.read_bytes()).digest())
        except OSError as error:
            raise UserError(
                f"the sample lacks {path} ({error.strerror}); restore it, or install"
                " dga_jax again"
            ) from error
    name = f"sample-{seq_len}-{digest.hexdigest()[:16]}"
    return files.cache_directory(cache) / name
