"""The text that comes with the program, prepared once and kept in a cache."""

import contextlib
import hashlib
import os
import pathlib
import tempfile
from collections.abc import Iterable

from dga_jax.data.build import prepare_store
from dga_jax.data.corpus import Corpus
from dga_jax.data.sources import Shard, expand
from dga_jax.data.store import FORMAT_VERSION, Store
from dga_jax.data.tokenizer import load_tokenizer
from dga_jax.errors import UserError

SAMPLE = pathlib.Path(__file__).resolve().parents[2] / "sample"
CLUSTERS = (16, 16)  # of the sample, where it has clusters for domains
CACHE_VARIABLE = "DGA_JAX_CACHE"


def sample_store(
    seq_len: int,
    cache_dir: str | os.PathLike | None = None,
    branching: tuple[int, ...] = (),
) -> pathlib.Path:
    """The path of the sample as a store, prepared on the first call.

    Args:
      seq_len: L; rows have L + 1 tokens.
      cache_dir: where prepared samples are kept; by default $DGA_JAX_CACHE, else
        dga_jax in $XDG_CACHE_HOME, else ~/.cache/dga_jax.
      branching: of clusters that are to be the domains, as `CLUSTERS`; without it, the
        domains are the kinds of text by name.

    Raises:
      UserError: the sample is missing, or the cache cannot be written to.
    """
    generic = expand([str(SAMPLE / "generic" / "*.jsonl.xz")])
    target = SAMPLE / "target" / "python_docs.steer.jsonl.xz"
    target_eval = SAMPLE / "target" / "python_docs.eval.jsonl.xz"
    tokenizer = SAMPLE / "tokenizer.json"
    paths = [pathlib.Path(shard.paths[0]) for shard in generic]
    key = _digest(seq_len, branching, [*paths, target, target_eval, tokenizer])
    cache = _writable(cache_dir or _default_cache())
    path = cache / f"sample-{seq_len}-{key}"
    if not path.exists():
        corpus = Corpus(tuple(generic))
        # Where a run beside this one is quicker, it has made the same.
        with contextlib.suppress(FileExistsError):
            prepare_store(
                generic=corpus,
                target=Corpus((Shard.of(target),)),
                target_eval=Corpus((Shard.of(target_eval),)),
                tokenizer=load_tokenizer(tokenizer),
                seq_len=seq_len,
                output=path,
                clustered=_clustered(corpus, branching, cache) if branching else None,
            )
    try:
        Store.open(path)
    except UserError as error:
        raise UserError(f"{error}: remove {path} and run again") from error
    return path


def _clustered(corpus: Corpus, branching: tuple[int, ...], cache: pathlib.Path):
    # Imported here, for scikit-learn takes a second that few runs need.
    from dga_jax.data.clustering import ClusterOptions, cluster_documents

    with tempfile.TemporaryDirectory(dir=cache) as work:
        options = ClusterOptions(branching)
        return cluster_documents(corpus, options, pathlib.Path(work))


def _digest(
    seq_len: int, branching: tuple[int, ...], files: Iterable[pathlib.Path]
) -> str:
    """What a prepared sample depends on, in 16 hex digits."""
    digest = hashlib.sha256(f"{FORMAT_VERSION} {seq_len} {branching}".encode())
    for path in files:
        try:
            digest.update(hashlib.sha256(path.read_bytes()).digest())
        except OSError as error:
            raise UserError(
                f"the sample lacks {path} ({error.strerror}); restore it, or run from a"
                " clone of the repository"
            ) from error
    return digest.hexdigest()[:16]


def _writable(cache_dir: str | os.PathLike) -> pathlib.Path:
    cache = pathlib.Path(cache_dir).expanduser().absolute()
    try:
        cache.mkdir(parents=True, exist_ok=True)
        usable = os.access(cache, os.W_OK)
    except OSError:
        usable = False
    if not usable:
        raise UserError(
            f"cannot write to the cache {cache}; set {CACHE_VARIABLE} to a directory"
            " that can be written to"
        )
    return cache


def _default_cache() -> pathlib.Path:
    if cache := os.environ.get(CACHE_VARIABLE):
        return pathlib.Path(cache)
    return pathlib.Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache") / "dga_jax"
