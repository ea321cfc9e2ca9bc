"""Trains a tokenizer on your text: dga_jax.prepare tokenizer --help."""

import itertools
import os
import pathlib
import shlex
import time
from collections.abc import Iterable, Iterator, Sequence

from absl import flags

from dga_jax.errors import UserError
from dga_jax.files import local_path, written
from dga_jax.logs.console import columns, duration, progress
from dga_jax.prepare.bpe import train_bpe
from dga_jax.prepare.commands import reading
from dga_jax.prepare.corpus import Corpus
from dga_jax.prepare.excerpts import Excerpt, Excerpts
from dga_jax.prepare.sources import Document, expand
from dga_jax.tokenizer import HuggingFaceTokenizer, Tokenizer

_SMALLEST = 257  # the bytes, and the end of text

flags.adopt_module_key_flags(reading)
_GENERIC = flags.DEFINE_multi_string(
    "generic", [], "Quoted globs of the corpus, as for making a store."
)
_VOCAB_SIZE = flags.DEFINE_integer(
    "vocab_size",
    8192,
    "Tokens, the 256 bytes and the end of text among them.",
    upper_bound=1 << 22,
)
_OUTPUT = flags.DEFINE_string(
    "output", None, "The tokenizer.json to write; must not exist.", required=True
)
_SAMPLE_MB = flags.DEFINE_float(
    "sample_mb",
    100.0,
    "Megabytes of text to learn from, drawn from all of the corpus; memory is up to ten"
    " times as much.",
    lower_bound=0.001,
    upper_bound=1e6,
)
_DOMAINS = flags.DEFINE_enum(
    "domains",
    "natural",
    ["natural", "even"],
    "How many of them each domain has: as the corpus has, or all the same, as far as"
    " their text goes.",
)
_SEED = flags.DEFINE_integer("seed", 0, "Of the draw.")
_SHOWN = 64
_BATCH = 1024  # excerpts that are tokenized at a time


def main(argv: Sequence[str]) -> None:
    """Draws excerpts, trains, writes, and says what came of it."""
    if len(argv) > 1:
        raise UserError(f"unexpected {shlex.join(argv[1:])}; put globs into quotes")
    if not _GENERIC.value:
        raise UserError("--generic is missing. Run with --help for the flags")
    if _VOCAB_SIZE.value < _SMALLEST:
        raise UserError(
            f"--vocab_size={_VOCAB_SIZE.value}: at least {_SMALLEST}, for the 256 bytes"
            " and the end of text"
        )
    output = local_path("--output", _OUTPUT.value, "write it here, and copy it there")
    _check_output(output)
    began = time.monotonic()
    excerpts = Excerpts(
        _documents(),
        max_bytes=int(_SAMPLE_MB.value * 1e6),
        seed=_SEED.value,
        even=_DOMAINS.value == "even",
    )
    if not excerpts.sizes:
        raise UserError(
            f"{', '.join(_GENERIC.value)}: no document has text and meets --filter; add"
            " some, or relax it"
        )
    if not any(excerpts.learnt()):
        raise UserError(
            f"--sample_mb={_SAMPLE_MB.value:g} is less than a piece of text; raise it"
        )
    learnt = (excerpt.text for excerpt in excerpts.learnt())
    content = train_bpe(learnt, _VOCAB_SIZE.value, min_frequency=2)
    with written(output, "choose another --output") as file:
        file.write(content)
    tokenizer = HuggingFaceTokenizer(content, output)
    _report(excerpts, tokenizer, output, time.monotonic() - began)


def bytes_per_token(
    excerpts: Iterable[Excerpt], tokenizer: Tokenizer
) -> dict[str, float]:
    """UTF-8 bytes of text per token, by domain."""
    sizes, tokens = {}, {}
    excerpts = iter(excerpts)
    while batch := list(itertools.islice(excerpts, _BATCH)):
        encoded = tokenizer.encode_batch([excerpt.text for excerpt in batch])
        for excerpt, ids in zip(batch, encoded, strict=True):
            sizes[excerpt.domain] = sizes.get(excerpt.domain, 0) + excerpt.num_bytes
            tokens[excerpt.domain] = tokens.get(excerpt.domain, 0) + len(ids)
    return {name: sizes[name] / tokens[name] for name in sizes}


def _documents() -> Iterator[Document]:
    """All documents of the corpus, with a progress bar."""
    shards = expand(_GENERIC.value, reading.fields_of_corpus())
    corpus = Corpus(tuple(shards), ",".join(_GENERIC.value))
    documents = reading.usable(corpus.documents(by_domain=True))
    return iter(progress(iterable=documents, desc="reading", unit=" texts"))


def _check_output(output: pathlib.Path) -> None:
    """Better now than after the corpus has been read."""
    if output.exists() or output.is_symlink():
        raise UserError(f"{output} exists; remove it or choose another --output")
    folder = output.absolute().parent
    if not folder.is_dir() or not os.access(folder, os.W_OK):
        raise UserError(
            f"--output={output}: cannot write to {folder}; choose a directory that"
            " exists and can be written to"
        )


def _report(
    excerpts: Excerpts, tokenizer: Tokenizer, output: pathlib.Path, seconds: float
) -> None:
    learnt: dict[str, int] = {}
    for excerpt in excerpts.learnt():
        learnt[excerpt.domain] = learnt.get(excerpt.domain, 0) + excerpt.num_bytes
    measured = bytes_per_token(excerpts.measured(), tokenizer)
    missing = excerpts.sizes.keys() - measured.keys()
    seen = (excerpt for excerpt in excerpts.learnt() if excerpt.domain in missing)
    ratios = bytes_per_token(seen, tokenizer) | measured
    lines = [("domain", "documents", "MB", "learnt from, MB", "bytes/token")]
    order = sorted(excerpts.sizes)
    if len(order) > _SHOWN:
        largest = sorted(order, key=lambda name: -excerpts.sizes[name])[:_SHOWN]
        order = sorted(largest)
    for name in order:
        ratio = f"{ratios[name]:.2f}" if name in ratios else "-"
        lines.append(
            (
                name,
                f"{excerpts.documents[name]:,}",
                f"{excerpts.sizes[name] / 1e6:,.2f}",
                f"{learnt.get(name, 0) / 1e6:,.2f}",
                ratio + "*" * (name in missing and name in ratios),
            )
        )
    if rest := len(excerpts.sizes) - len(order):
        lines.append((f"... and {rest:,} smaller domains", *[""] * 4))
    known = [name for name in excerpts.sizes if name in ratios]
    tokens = sum(excerpts.sizes[name] / ratios[name] for name in known)
    lines.append(
        (
            f"all {len(excerpts.sizes):,} domains",
            f"{sum(excerpts.documents.values()):,}",
            f"{sum(excerpts.sizes.values()) / 1e6:,.2f}",
            f"{sum(learnt.values()) / 1e6:,.2f}",
            f"{sum(excerpts.sizes[name] for name in known) / max(tokens, 1):.2f}",
        )
    )
    print(columns(lines))
    print("bytes/token is measured on documents that were not learnt from.")
    if missing & set(order):
        print("* on those that were: the domain has too few others.")
    if tokenizer.vocab_size < _VOCAB_SIZE.value:
        print(
            f"The text has no more pairs that occur twice: {tokenizer.vocab_size:,}"
            f" tokens, not {_VOCAB_SIZE.value:,}."
        )
    generic = " ".join(f"--generic={shlex.quote(glob)}" for glob in _GENERIC.value)
    print(
        f"\n{tokenizer.vocab_size:,} tokens in {duration(seconds)}. The tokenizer is"
        f" {output}. To make a store with it:\n\n"
        f"  python -m dga_jax.prepare {generic} --target=target.jsonl"
        f" --tokenizer={shlex.quote(str(output))} --seq_len=1024 --output=store"
    )
