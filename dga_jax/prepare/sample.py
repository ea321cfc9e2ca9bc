"""The text that comes with the program, prepared once and kept in a cache."""

import contextlib
import hashlib
import os
import pathlib
import tempfile
from collections.abc import Iterable
from typing import TYPE_CHECKING

from dga_jax import files
from dga_jax.data.store import FORMAT_VERSION, Store
from dga_jax.errors import UserError
from dga_jax.prepare.assemble import prepare_store
from dga_jax.prepare.corpus import Corpus
from dga_jax.prepare.sources import Shard, expand
from dga_jax.tokenizer import load_tokenizer

if TYPE_CHECKING:
    from dga_jax.prepare.assemble.clustering import ClusterOptions

SAMPLE = files.shipped("sample")
_RULES = 2  # by which a store is made; another where they change what is in it


def sample_store(
    seq_len: int,
    cache_dir: str | os.PathLike | None = None,
    branching: tuple[int, ...] = (),
) -> pathlib.Path:
    """The path of the sample as a store, prepared on the first call.

    Args:
      seq_len: L; rows have L + 1 tokens.
      cache_dir: where prepared samples are kept; see `files.cache_directory`.
      branching: of clusters that are to be the domains; without it, the domains are
        the kinds of text by name.

    Raises:
      UserError: the sample is missing, or the cache cannot be written to.
    """
    generic = expand([str(SAMPLE / "generic" / "*.jsonl.xz")])
    target = SAMPLE / "target" / "python_docs.steer.jsonl.xz"
    target_eval = SAMPLE / "target" / "python_docs.eval.jsonl.xz"
    tokenizer = SAMPLE / "tokenizer.json"
    texts = [pathlib.Path(path) for shard in generic for path in shard.paths]
    key = _digest(seq_len, branching, [*texts, target, target_eval, tokenizer])
    cache = files.cache_directory(cache_dir or "")
    path = cache / f"sample-{seq_len}-{key}"
    if not path.exists():
        # Where a run beside this one is quicker, it has made the same.
        with (
            contextlib.suppress(FileExistsError),
            tempfile.TemporaryDirectory(dir=cache) as work,
        ):
            prepare_store(
                generic=Corpus(tuple(generic)),
                target=Corpus((Shard.of(target),)),
                target_eval=Corpus((Shard.of(target_eval),)),
                tokenizer=load_tokenizer(tokenizer),
                seq_len=seq_len,
                output=path,
                clusters=_options(branching) if branching else None,
                work=work,
            )
    try:
        Store.open(path)
    except UserError as error:
        raise UserError(f"{error}: remove {path} and run again") from error
    return path


def _options(branching: tuple[int, ...]) -> "ClusterOptions":
    # Imported here, for scikit-learn takes a second that few runs need.
    from dga_jax.prepare.assemble.clustering import ClusterOptions

    return ClusterOptions(branching)


def _digest(
    seq_len: int, branching: tuple[int, ...], paths: Iterable[pathlib.Path]
) -> str:
    """What a prepared sample depends on, in 16 hex digits."""
    made = f"{FORMAT_VERSION} {_RULES} {seq_len} {branching}"
    digest = hashlib.sha256(made.encode())
    for path in paths:
        try:
            digest.update(hashlib.sha256(path.read_bytes()).digest())
        except OSError as error:
            raise UserError(
                f"the sample lacks {path} ({error.strerror}); restore it, or install"
                " dga_jax again"
            ) from error
    return digest.hexdigest()[:16]
