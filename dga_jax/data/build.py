"""Builds a store from files of text: tokenize, split, cut into rows, write."""

import collections
import dataclasses
import itertools
import os
import pathlib
import shutil
from collections.abc import Callable, Iterable, Iterator, Sequence

import numpy as np

from dga_jax.data.sources import Document, read_documents
from dga_jax.data.staging import staged
from dga_jax.data.store import Domains
from dga_jax.data.store_writer import StoreWriter
from dga_jax.data.token_log import TokenLog, count_rows, cut_rows
from dga_jax.data.tokenizer import Tokenizer
from dga_jax.errors import UserError

HELDOUT_EVERY = 20  # of a domain's documents, one in so many is held out
TARGET_EVAL_EVERY = 5  # of the target's, unless it comes with an eval part of its own
_TARGET = "target"
# Tokenizing keeps some 120 bytes a token for a moment; and all cores want documents.
_BATCH_BYTES = 1 << 21
_BATCH_DOCUMENTS = 4096


@dataclasses.dataclass(frozen=True)
class Part:
    """What became of one domain, or of the target.

    Attributes:
      name: the domain.
      documents: documents with text.
      blank: documents without, which are left out.
      text_bytes: UTF-8 bytes of the documents.
      text_tokens: tokens of the documents, end of text not counted.
      tokens: tokens that its training rows predict.
      rows: training rows (of the target, those it steers by).
      heldout_rows: held-out rows (of the target, those it is evaluated on).
      padding: share of the training rows that is padding.
    """

    name: str
    documents: int
    blank: int
    text_bytes: int
    text_tokens: int
    tokens: int
    rows: int
    heldout_rows: int
    padding: float


@dataclasses.dataclass
class _Tally:
    documents: int = 0
    blank: int = 0
    text_bytes: int = 0
    text_tokens: int = 0


@dataclasses.dataclass(frozen=True)
class _Span:
    """Tokens start:stop of a stream of the log: those of one domain in one split."""

    stream: tuple[str, str]
    start: int
    stop: int

    @property
    def num_tokens(self) -> int:
        return self.stop - self.start


def prepare_store(
    *,
    generic: Sequence[pathlib.Path],
    target: Sequence[pathlib.Path],
    target_eval: Sequence[pathlib.Path] = (),
    tokenizer: Tokenizer,
    seq_len: int,
    output: pathlib.Path,
    on_bytes: Callable[[int], object] = lambda count: None,
) -> list[Part]:
    """Turns files of documents into a store, whole or not at all.

    The same documents in the same order give the same bytes.

    Args:
      generic: files of the domains to train on.
      target: files of the target to steer by.
      target_eval: files to evaluate the target on; without them, every fifth document
        of the target.
      tokenizer: makes tokens of text.
      seq_len: L; rows have L + 1 tokens.
      output: where the store will be; must not exist.
      on_bytes: called with the number of bytes read from the files, as they are read.

    Returns:
      Each domain, sorted by name, then the target.

    Raises:
      UserError: a file that cannot be used, a domain or target without enough text, too
        little space.
      FileExistsError: `output` exists.
    """
    files = [*generic, *target, *target_eval]
    if seq_len < 1:
        raise UserError(f"seq_len must be at least 1, not {seq_len}")
    _check_distinct(generic, target, target_eval)
    with staged(output) as staging:
        _check_space(staging, sum(path.stat().st_size for path in files), "the text")
        writer = StoreWriter(staging, tokenizer, seq_len)
        log = TokenLog(staging / "tokens.log", writer.dtype)
        build = _Build(log, tokenizer, seq_len, on_bytes)
        build.tokenize(generic, "train", "heldout", HELDOUT_EVERY)
        if target_eval:
            build.tokenize(target, "target")
            build.tokenize(target_eval, "target_eval")
        else:
            build.tokenize(target, "target", "target_eval", TARGET_EVAL_EVERY)
        parts = build.write(writer)
        (staging / "tokens.log").unlink()
    return parts


def _check_distinct(generic, target, target_eval) -> None:
    """No file may be trained on and steered by, or steered by and evaluated on."""
    seen = {}
    for flag, paths in [
        ("generic", generic),
        ("target", target),
        ("target_eval", target_eval),
    ]:
        if not paths and flag != "target_eval":
            raise UserError(f"no file given for {flag}")
        for path in paths:
            if seen.setdefault(os.path.realpath(path), flag) != flag:
                raise UserError(
                    f"{path} is in both {seen[os.path.realpath(path)]} and {flag}; a"
                    " text can be only one of them"
                )


def _check_space(directory: pathlib.Path, needed: int, what: str) -> None:
    free = shutil.disk_usage(directory).free
    if free < needed:
        raise UserError(
            f"not enough disk in {directory.parent}: {what} takes {needed / 1e6:,.0f}"
            f" MB, {free / 1e6:,.0f} MB are free; free some or choose another disk"
        )


def _batches(documents: Iterable[Document]) -> Iterator[list[Document]]:
    batch, size = [], 0
    for document in documents:
        batch.append(document)
        size += document.num_bytes
        if size >= _BATCH_BYTES or len(batch) >= _BATCH_DOCUMENTS:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch


class _Build:
    """Tokens by domain and split, and what they came from."""

    def __init__(self, log, tokenizer, seq_len, on_bytes):
        self._log, self._tokenizer = log, tokenizer
        self._seq_len, self._on_bytes = seq_len, on_bytes
        self._tallies = collections.defaultdict(_Tally)

    def tokenize(self, paths, split, other=None, every=None):
        """Appends documents to a split, one in `every` of a domain to the other."""
        for batch in _batches(self._documents(paths)):
            if split.startswith(_TARGET):
                batch = [document._replace(domain=_TARGET) for document in batch]
            for document, tokens in zip(batch, self._encode(batch), strict=True):
                tally = self._tallies[split, document.domain]
                if not len(tokens):
                    tally.blank += 1
                    continue
                tally.documents += 1
                tally.text_bytes += document.num_bytes
                tally.text_tokens += len(tokens)
                aside = every and tally.documents % every == 0
                stream = (other if aside else split, document.domain)
                self._log.append(stream, np.append(tokens, self._tokenizer.end_of_text))

    def _documents(self, paths):
        for path in paths:
            empty = True
            for document in read_documents(path, self._on_bytes):
                empty = empty and not document.num_bytes
                yield document
            if empty:
                raise UserError(f"{path} holds no text; add some or leave it out")

    def _encode(self, batch: list[Document]) -> list[np.ndarray]:
        texts = [document.text if document.num_bytes else "" for document in batch]
        return self._tokenizer.encode_batch(texts)

    def write(self, writer: StoreWriter) -> list[Part]:
        """Cuts what was tokenized into rows and writes the store."""
        names = sorted(name for split, name in self._tallies if split == "train")
        shares = [self._share("train", "heldout", n, HELDOUT_EVERY) for n in names]
        train, heldout = zip(*shares, strict=True)
        target = self._share("target", "target_eval", _TARGET, TARGET_EVAL_EVERY)
        spans = {
            "train": train,
            "heldout": heldout,
            "target": target[:1],
            "target_eval": target[1:],
        }
        rows = {split: [self._rows(s) for s in spans[split]] for split in spans}
        self._log.flush()
        record_bytes = (self._seq_len + 1) * writer.dtype.itemsize
        total = sum(itertools.chain(*rows.values()))
        _check_space(self._log.path.parent, total * record_bytes, "the store")
        for split in spans:
            blocks = map(self._cut, spans[split], itertools.repeat(writer.pad))
            blocks = itertools.chain.from_iterable(blocks)
            writer.write_split(split, sum(rows[split]), blocks)
        writer.write_level(
            Domains(
                names=names,
                offsets=np.cumsum([0, *rows["train"]]),
                heldout_offsets=np.cumsum([0, *rows["heldout"]]),
                tokens=np.array([span.num_tokens - 1 for span in train]),
            )
        )
        writer.finish()
        parts = map(self._part, itertools.repeat("train"), names, train, heldout)
        return [*parts, self._part("target", _TARGET, *target)]

    def _cut(self, span: _Span, pad: int) -> Iterator[np.ndarray]:
        pieces = self._log.read(span.stream, span.start, span.stop)
        return cut_rows(pieces, self._seq_len, pad)

    def _rows(self, span: _Span) -> int:
        return count_rows(span.num_tokens, self._seq_len)

    def _share(self, split, other, name, every) -> tuple[_Span, _Span]:
        """The spans of a domain in two splits, neither of them empty."""
        kept, aside = (self._log.length((s, name)) for s in (split, other))
        if kept > 1 and aside > 1:
            return _Span((split, name), 0, kept), _Span((other, name), 0, aside)
        # Too few documents to set one aside: the end of the stream is, in whole rows
        # where it has several. The token at the border is in both, predicted in one.
        predicted = kept - 1
        rows = count_rows(kept, self._seq_len)
        if rows > 1:
            border = (rows - max(1, rows // every)) * self._seq_len
        else:
            border = predicted - max(1, predicted // every)
        if aside or border < 1:
            what = "the target" if split == _TARGET else f"domain {name!r}"
            raise UserError(
                f"{what} has too little text: {kept} tokens, of which a part must be"
                " held out for evaluation; add text or leave it out"
            )
        return _Span((split, name), 0, border + 1), _Span((split, name), border, kept)

    def _part(self, split, name, span, heldout) -> Part:
        rows = self._rows(span)
        return Part(
            name=name,
            **dataclasses.asdict(self._tallies[split, name]),
            tokens=span.num_tokens - 1,
            rows=rows,
            heldout_rows=self._rows(heldout),
            padding=1 - (span.num_tokens - 1) / (rows * self._seq_len),
        )
