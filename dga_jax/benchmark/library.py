"""What the `tokenizers` library alone takes for the texts that `prepare` reads.

    python -m dga_jax.benchmark.library TOKENIZER PATTERN...

reads the documents into memory, encodes them with as many threads as the library
chooses, and prints what encoding took, seconds and those of all threads, as a line of
JSON. It is a process of its own, so that the library's threads and what it holds are
nobody else's.
"""

import functools
import itertools
import json
import os
import pathlib
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import NamedTuple

import tokenizers

from dga_jax.benchmark.measured import printed
from dga_jax.benchmark.tables import Check, Table, Timings
from dga_jax.prepare.corpus import Corpus
from dga_jax.prepare.sources import expand

WORDS, ITS_OWN = "byte-level BPE", "the same behind Digits"
_LIMIT = 1.2  # of the library's time
_BATCH = 4096  # documents: enough for all threads, in memory that is bounded
_PARALLEL = "TOKENIZERS_PARALLELISM"


class Took(NamedTuple):
    """Seconds, and CPU seconds of all threads."""

    seconds: float
    cpu_seconds: float


def behind_digits(bpe: pathlib.Path, output: pathlib.Path) -> pathlib.Path:
    """A tokenizer of which `prepare` leaves all texts to the library.

    Digits are cut off one by one, as StarCoder's tokenizer does, before a byte-level
    BPE cuts words.
    """
    spec = json.loads(bpe.read_text(encoding="utf-8"))
    digits = {"type": "Digits", "individual_digits": True}
    spec["pre_tokenizer"] = {
        "type": "Sequence",
        "pretokenizers": [digits, spec["pre_tokenizer"]],
    }
    output.write_text(json.dumps(spec), encoding="utf-8")
    return output


def library_table(
    prepare: Callable[[Sequence[str]], Took],
    files: Mapping[str, pathlib.Path],
    patterns: Sequence[str],
    megabytes: float,
    workers: Sequence[int],
    rounds: int,
    goals: bool,
) -> Table:
    """All of `prepare` against encoding alone, in turns.

    Args:
      prepare: makes a store with these flags, and says what it took.
      files: tokenizers by name.
      patterns: of the corpora that it reads, which the library is given too.
      megabytes: of text in them.
      workers: numbers of processes of `prepare`.
      rounds: how often.
      goals: whether the times are held against the goal.
    """
    calls, bases = {}, {}
    for name, file in files.items():
        base = f"{name}, the library alone"
        calls[base] = functools.partial(alone, file, patterns)
        bases[base] = base
        for count in workers:
            flags = [f"--tokenizer={file}", f"--workers={count}"]
            calls[f"{name}, --workers={count}"] = functools.partial(prepare, flags)
            bases[f"{name}, --workers={count}"] = base
    found = {name: [] for name in calls}
    for _ in range(rounds):
        for name, call in calls.items():
            found[name].append(call())

    def timings(field: int) -> Timings:
        return Timings({name: [one[field] for one in found[name]] for name in found})

    wall, cpu = map(timings, range(len(Took._fields)))
    rows = {
        name: (
            megabytes / wall[name],
            wall[name],
            wall.ratio(name, base),
            cpu[name],
            cpu.ratio(name, base),
        )
        for name, base in bases.items()
    }
    checks = [
        Check(f"{name} in at most {_LIMIT} of the library's time", row[2], _LIMIT)
        for name, row in rows.items()
        if goals and bases[name] != name
    ]
    return Table(
        f"prepare: {megabytes:,.3g} MB from text to store, and the tokenizers library"
        " alone on the same documents in memory",
        ("MB/s", "s", "s / the library's", "CPU s", "CPU s / the library's"),
        rows,
        tuple(checks),
    )


def alone(tokenizer: pathlib.Path, patterns: Sequence[str]) -> Took:
    """What encoding takes, in a process of its own.

    Raises:
      UserError: it failed; with the last line it said.
    """
    environment = {key: value for key, value in os.environ.items() if key != _PARALLEL}
    return Took(*printed(["-m", __name__, tokenizer, *patterns], env=environment))


def _encode(file: str, patterns: Iterable[str]) -> Took:
    tokenizer = tokenizers.Tokenizer.from_file(file)
    tokenizer.encode_special_tokens = True  # as text, which is how `prepare` has them
    corpora = [Corpus(tuple(expand([pattern]))) for pattern in patterns]
    documents = itertools.chain.from_iterable(one.documents() for one in corpora)
    texts = [document.text for document in documents]
    batches = [texts[i : i + _BATCH] for i in range(0, len(texts), _BATCH)]
    began, cpu_began = time.perf_counter(), time.process_time()
    for batch in batches:
        tokenizer.encode_batch_fast(batch, add_special_tokens=False)
    return Took(time.perf_counter() - began, time.process_time() - cpu_began)


if __name__ == "__main__":
    print(json.dumps(_encode(sys.argv[1], sys.argv[2:])))
