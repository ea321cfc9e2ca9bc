"""Making stores of text: megabytes a second, start-up included, and peak memory.

Each run is a process of its own, `python -m dga_jax.prepare ...`, over the text of the
sample made longer, see `corpora`. It takes some 15 minutes on two cores, and up to 4 GB
of disk where temporary files go (TMPDIR chooses another place), removed at the end.
"""

import dataclasses
import gzip
import importlib.util
import json
import pathlib
import shutil
import statistics
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence

from dga_jax.benchmark import corpora, library
from dga_jax.benchmark.measured import Measured, measure
from dga_jax.benchmark.tables import Check, Table, Timings, number

BASE = "gz JSON lines"
PARQUET = "Parquet"
SENTENCE_PIECE = "gz, SentencePiece"
LOCAL = "local"
_SEQ_LEN = 1024
_COLUMNS = ("MB/s", "s", f"time / {BASE}", "peak memory MB")
_RATE = 5.0  # MB/s on two cores, of gz JSON lines
_PARQUET = 1.0  # times as long
_SENTENCE_PIECE = 2.0  # times as long
_MEMORY_MB = 2000.0
_GROWTH = 1.2  # times the memory, of the large corpus over the small one


@dataclasses.dataclass(frozen=True)
class Size:
    """What is measured.

    Attributes:
      mb: of text, in megabytes, that all variants read.
      large_mb: that the one is given whose memory is looked at.
      beam_mb: for Apache Beam.
      beam_workers: its numbers of worker processes.
      vocab_size: V of both tokenizers.
      learnt_mb: of text that they are trained on.
      rounds: in which variants take turns.
      workers: processes, where all of it is held against the tokenizer alone.
    """

    mb: float = 100.0
    large_mb: float = 2000.0
    beam_mb: float = 32.0
    beam_workers: tuple[int, ...] = (1, 2)
    vocab_size: int = 8192
    learnt_mb: float = 10.0
    rounds: int = 3
    workers: tuple[int, ...] = (1, 2)


QUICK = Size(
    mb=2.0,
    large_mb=16.0,
    beam_mb=0.5,
    beam_workers=(1,),
    vocab_size=1000,
    learnt_mb=0.5,
    rounds=1,
)


class Bench:
    """Runs `prepare` in a directory.

    Args:
      directory: for all files.
      rounds: in which variants take turns.
    """

    def __init__(self, directory: pathlib.Path, rounds: int):
        self._directory, self._rounds = directory, rounds

    def store(self, flags: Sequence[str]) -> Measured:
        """Makes a store, and removes it."""
        output = self._directory / "store"
        command = [sys.executable, "-m", "dga_jax.prepare", f"--output={output}"]
        command += [f"--target={corpora.TARGET}", f"--seq_len={_SEQ_LEN}", *flags]
        try:
            return measure(command, self._directory)
        finally:
            for path in (output, output.with_name("store.work")):
                shutil.rmtree(path, ignore_errors=True)

    def in_turn(
        self, variants: Mapping[str, Sequence[str]]
    ) -> Mapping[str, list[Measured]]:
        """Makes each store once a round."""
        found = {name: [] for name in variants}
        for _ in range(self._rounds):
            for name, flags in variants.items():
                found[name].append(self.store(flags))
        return found


def run(size: Size) -> Iterator[Table]:
    """Formats and tokenizers; the library alone; memory; Apache Beam."""
    with tempfile.TemporaryDirectory() as folder:
        directory = pathlib.Path(folder)
        bench = Bench(directory, size.rounds)
        globs, num_bytes = corpora.write_corpus(directory / "small", int(size.mb * 1e6))
        bpe = _train_bpe(globs[corpora.GZ], size, directory / "tokenizer.json")
        model = _train_sentence_piece(directory, size)
        found = bench.in_turn(_variants(globs, bpe, model))
        yield _formats_table(size, num_bytes, found)
        yield _library_table(size, bench, globs[corpora.GZ], num_bytes, bpe)
        shutil.rmtree(directory / "small")
        large, large_bytes = _gz_corpus(directory / "large", size.large_mb)
        measured = {num_bytes: _median(found[BASE])}
        measured[large_bytes] = bench.store([large, f"--tokenizer={bpe}"])
        yield _memory_table(size, measured)
        shutil.rmtree(directory / "large")
        yield _beam_table(size, bench, directory, bpe)


def _gz_corpus(directory: pathlib.Path, mb: float) -> tuple[str, int]:
    """The flag that names it, and its bytes of text."""
    globs, num_bytes = corpora.write_corpus(directory, int(mb * 1e6), (corpora.GZ,))
    return f"--generic={globs[corpora.GZ]}", num_bytes


def _variants(
    globs: Mapping[str, str], bpe: pathlib.Path, model: pathlib.Path
) -> dict[str, list[str]]:
    generic = {name: f"--generic={glob}" for name, glob in globs.items()}
    gz, tokenizer = generic[corpora.GZ], f"--tokenizer={bpe}"
    return {
        BASE: [gz, tokenizer],
        "JSON lines": [generic[corpora.PLAIN], tokenizer],
        PARQUET: [generic[corpora.PARQUET], tokenizer],
        "folder of text": [generic[corpora.FOLDER], tokenizer],
        SENTENCE_PIECE: [gz, f"--tokenizer={model}"],
        "gz, bytes": [gz, "--tokenizer=bytes"],
        "gz, --dedup": [gz, tokenizer, "--dedup"],
    }


def _train_bpe(glob: str, size: Size, output: pathlib.Path) -> pathlib.Path:
    command = [sys.executable, "-m", "dga_jax.prepare", "tokenizer"]
    command += [f"--generic={glob}", f"--vocab_size={size.vocab_size}"]
    command += [f"--sample_mb={size.learnt_mb}", f"--output={output}"]
    measure(command, output.parent)
    return output


def _train_sentence_piece(directory: pathlib.Path, size: Size) -> pathlib.Path:
    """A unigram model, as the library makes it unless told otherwise."""
    import sentencepiece

    num_bytes = int(size.learnt_mb * 1e6)
    corpora.write_corpus(directory / "learnt", num_bytes, (corpora.GZ,))
    prefix = directory / "sentencepiece"
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=_lines(directory / "learnt"),
        model_prefix=str(prefix),
        vocab_size=size.vocab_size,
        byte_fallback=True,
        hard_vocab_limit=False,
        minloglevel=2,
    )
    return prefix.with_suffix(".model")


def _lines(directory: pathlib.Path) -> Iterator[str]:
    for path in sorted(directory.rglob("*.gz")):
        with gzip.open(path, "rt", encoding="utf-8") as file:
            for line in file:
                yield from json.loads(line)["text"].splitlines()


def _formats_table(
    size: Size, num_bytes: int, found: Mapping[str, list[Measured]]
) -> Table:
    timings = _timings(found)
    rows = {
        name: (
            _megabytes(num_bytes) / timings[name],
            timings[name],
            timings.ratio(name, BASE),
            _median(runs).peak_mb,
        )
        for name, runs in found.items()
    }
    checks = ()
    if size == Size():
        checks = (
            Check(f"at least {_RATE:.0f} MB/s from {BASE}", rows[BASE][0], _RATE, True),
            _ratio_check(PARQUET, _PARQUET, rows),
            _ratio_check(SENTENCE_PIECE, _SENTENCE_PIECE, rows),
        )
    title = (
        f"prepare: {number(num_bytes / 1e6)} MB of text, vocabulary {size.vocab_size:,}"
    )
    return Table(title, _COLUMNS, rows, checks)


def _ratio_check(
    name: str, limit: float, rows: Mapping[str, tuple[float, ...]]
) -> Check:
    return Check(f"{name} in at most {limit:.1f} x the time", rows[name][2], limit)


def _library_table(
    size: Size, bench: Bench, glob: str, num_bytes: int, bpe: pathlib.Path
) -> Table:
    digits = library.behind_digits(bpe, bpe.with_name("digits.json"))

    def made(flags: Sequence[str]) -> library.Took:
        measured = bench.store([f"--generic={glob}", *flags])
        return library.Took(measured.seconds, measured.cpu_seconds)

    return library.library_table(
        made,
        {library.WORDS: bpe, library.ITS_OWN: digits},
        [glob, str(corpora.TARGET)],
        _megabytes(num_bytes),
        size.workers,
        size.rounds,
        goals=size == Size(),
    )


def _memory_table(size: Size, measured: Mapping[int, Measured]) -> Table:
    rows = {
        f"{number(num_bytes / 1e6)} MB of text": (
            _megabytes(num_bytes) / one.seconds,
            one.seconds,
            one.peak_mb,
        )
        for num_bytes, one in measured.items()
    }
    checks = ()
    if size == Size():
        small, large = (one.peak_mb for one in measured.values())
        checks = (
            Check(f"at most {_MEMORY_MB:,.0f} MB", max(small, large), _MEMORY_MB),
            Check(f"at most {_GROWTH} x the memory", large / small, _GROWTH),
        )
    columns = tuple(name for name in _COLUMNS if name != _COLUMNS[2])
    return Table(f"prepare: {BASE}, by size", columns, rows, checks)


def _beam_table(
    size: Size, bench: Bench, directory: pathlib.Path, bpe: pathlib.Path
) -> Table:
    variants, title = {LOCAL: []}, "prepare: Apache Beam"
    for workers in size.beam_workers:
        mode = "in_memory" if workers == 1 else "multi_processing"
        options = f"--direct_num_workers={workers} --direct_running_mode={mode}"
        variants[f"Beam, workers: {workers}"] = [
            "--engine=beam",
            f"--beam_options=--runner=DirectRunner {options}",
        ]
    columns = ("MB/s", "s", f"time / {LOCAL}")
    if not importlib.util.find_spec("apache_beam"):
        title = f"{title} is not installed: nothing to measure"
        return Table(title, columns, dict.fromkeys(variants, (None,) * len(columns)))
    generic, num_bytes = _gz_corpus(directory / "beam", size.beam_mb)
    given = [generic, f"--tokenizer={bpe}"]
    found = bench.in_turn({name: [*given, *more] for name, more in variants.items()})
    timings = _timings(found)
    rows = {
        name: (
            _megabytes(num_bytes) / timings[name],
            timings[name],
            timings.ratio(name, LOCAL),
        )
        for name in found
    }
    return Table(
        f"{title}, {number(num_bytes / 1e6)} MB of text, {BASE}", columns, rows
    )


def _timings(found: Mapping[str, list[Measured]]) -> Timings:
    return Timings(
        {name: [one.seconds for one in runs] for name, runs in found.items()}
    )


def _median(runs: Sequence[Measured]) -> Measured:
    return Measured(*map(statistics.median, zip(*runs, strict=True)))


def _megabytes(num_bytes: int) -> float:
    """Of all text that a run reads."""
    return (num_bytes + corpora.target_bytes()) / 1e6
