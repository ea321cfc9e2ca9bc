"""The text that comes with the program, prepared once and kept in a cache."""

import contextlib
import hashlib
import os
import pathlib
import tempfile
from collections.abc import Iterable

from dga_jax.data.build import prepare_store
from dga_jax.data.cache import cache_directory
from dga_jax.data.corpus import Corpus
from dga_jax.data.sources import Shard, expand
from dga_jax.data.store import FORMAT_VERSION, Store
from dga_jax.data.tokenizer import load_tokenizer
from dga_jax.errors import UserError

SAMPLE = pathlib.Path(__file__).resolve().parents[2] / "sample"
CLUSTERS = (16, 16)  # of the sample, where it has clusters for domains
_RULES = 2  # by which a store is made; another where they change what is in it
# What a config says instead of a path: the sample with its kinds of text for domains,
# or with clusters.
_NAMES = {"sample": (), "sample-clusters": CLUSTERS}


def sample_store(
    seq_len: int,
    cache_dir: str | os.PathLike | None = None,
    branching: tuple[int, ...] = (),
) -> pathlib.Path:
    """The path of the sample as a store, prepared on the first call.

    Args:
      seq_len: L; rows have L + 1 tokens.
      cache_dir: where prepared samples are kept; see `cache_directory`.
      branching: of clusters that are to be the domains, as `CLUSTERS`; without it, the
        domains are the kinds of text by name.

    Raises:
      UserError: the sample is missing, or the cache cannot be written to.
    """
    generic = expand([str(SAMPLE / "generic" / "*.jsonl.xz")])
    target = SAMPLE / "target" / "python_docs.steer.jsonl.xz"
    target_eval = SAMPLE / "target" / "python_docs.eval.jsonl.xz"
    tokenizer = SAMPLE / "tokenizer.json"
    files = [pathlib.Path(path) for shard in generic for path in shard.paths]
    key = _digest(seq_len, branching, [*files, target, target_eval, tokenizer])
    cache = cache_directory(cache_dir or "")
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


def stored_sample(name: str, seq_len: int, cache_dir: str = "") -> pathlib.Path | None:
    """The sample's store by one of its two names in a config; None for another name."""
    if name not in _NAMES:
        return None
    return sample_store(seq_len, cache_dir, branching=_NAMES[name])


def _options(branching: tuple[int, ...]):
    # Imported here, for scikit-learn takes a second that few runs need.
    from dga_jax.data.build.clustering import ClusterOptions

    return ClusterOptions(branching)


def _digest(
    seq_len: int, branching: tuple[int, ...], files: Iterable[pathlib.Path]
) -> str:
    """What a prepared sample depends on, in 16 hex digits."""
    made = f"{FORMAT_VERSION} {_RULES} {seq_len} {branching}"
    digest = hashlib.sha256(made.encode())
    for path in files:
        try:
            digest.update(hashlib.sha256(path.read_bytes()).digest())
        except OSError as error:
            raise UserError(
                f"the sample lacks {path} ({error.strerror}); restore it, or run from a"
                " clone of the repository"
            ) from error
    return digest.hexdigest()[:16]
