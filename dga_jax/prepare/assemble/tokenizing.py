"""First step: the tokens of every document, a file for each few megabytes of text.

Under the folder of a tokenizer, each shard of the corpus has a folder by its digest:

    000000.tokens      the documents' tokens, one after another
    000000.npz         what is known of each document; written when its tokens are
    ...                a piece a number
    shard.json         counts, and the domains that documents name; the shard is done
"""

import dataclasses
import hashlib
import json
from collections.abc import Iterator, Sequence
from typing import ClassVar, NamedTuple

import numpy as np

from dga_jax.errors import UserError
from dga_jax.files import OnBytes
from dga_jax.prepare.assemble import bad
from dga_jax.prepare.assemble.folder import Folder, side_by_side
from dga_jax.prepare.corpus import PIECES, in_batches, read_pieces
from dga_jax.prepare.sources import Document, DomainSources, Shard
from dga_jax.prepare.store_writer import row_dtype
from dga_jax.tokenizer import Tokenizer

_SUMMARY = "shard.json"
HASH_BYTES = 16  # the chance that two of 10^10 texts share one is 10^-19


class DocumentTable(NamedTuple):
    """What is known of the documents of a piece of a shard, in order.

    Attributes:
      number: of the piece in its shard.
      first: place of its first document in the shard.
      sizes: int64 [n], tokens of each in the file of the piece, end of text included,
        and what stands before a text; 0 for a blank text.
      lengths: int64 [n], tokens of each that are used: 0 for those left out.
      text_bytes: int64 [n], UTF-8 bytes; 0 likewise.
      unknown: int64 [n], tokens of what cannot be spelled; 0 likewise.
      names: the domains that the documents name.
      domains: int64 [n], which of `names`; once documents are grouped, of all domains
        of the finest level.
      hashes: uint8 [n, 16], of the texts.
      identifiers: n identifiers, or none.
      bad: the documents that cannot be used, by their places in the piece; they are
        blank, and of any domain.
    """

    number: int
    first: int
    sizes: np.ndarray
    lengths: np.ndarray
    text_bytes: np.ndarray
    unknown: np.ndarray
    names: list[str]
    domains: np.ndarray
    hashes: np.ndarray
    identifiers: list[str]
    bad: list[bad.Bad]

    @property
    def blank(self) -> np.ndarray:
        """Bool [n], documents without text that are not bad."""
        blank = self.sizes == 0
        blank[[one.place for one in self.bad]] = False
        return blank


@dataclasses.dataclass(frozen=True)
class Tokenized:
    """The shards that a tokenizer has read.

    Attributes:
      folder: holds a folder a shard.
      dtype: of tokens.
      around: tokens of each document that are not of its text.
    """

    folder: Folder
    dtype: np.dtype
    around: int = 1

    def of(self, shard: Shard) -> Folder:
        """Where the pieces of a shard are."""
        return self.folder / shard.stem

    def is_done(self, shard: Shard) -> bool:
        """Whether all of a shard is tokenized, under the limits that hold now."""
        if not self.of(shard).has(_SUMMARY):
            return False
        return bad.is_of(self.summary(shard), shard)

    def summary(self, shard: Shard) -> dict:
        """What is known of a shard.

        Its `name`, the number of its `pieces`, of its `documents`, and of those
        `with_text`; `domains`, {name: what lent the domain its name}; and of the
        documents that cannot be used what `bad.Counted` says.
        """
        return self.of(shard).read_json(_SUMMARY)

    def summaries(self, shards: Sequence[Shard]) -> list[dict]:
        """Those of some shards."""
        return side_by_side(self.summary, shards)

    def with_text(self, shard: Shard) -> int:
        """Documents of a shard that have text."""
        return self.summary(shard)["with_text"]

    def pieces(self, shard: Shard) -> Iterator[DocumentTable]:
        """The documents of a shard in order, piece by piece; none is left out yet."""
        folder = self.of(shard)
        first = 0
        for number in range(self.summary(shard)["pieces"]):
            arrays = folder.load(f"{number:06d}.npz")
            sizes = arrays["lengths"].astype(np.int64)
            yield DocumentTable(
                number,
                first,
                sizes,
                sizes,
                arrays["text_bytes"].astype(np.int64),
                arrays["unknown"].astype(np.int64),
                arrays["names"].tolist(),
                arrays["domains"].astype(np.int64),
                arrays["hashes"],
                json.loads(arrays["identifiers"].tobytes()),
                bad.from_array(arrays["bad"]),
            )
            first += len(sizes)

    def tokens(self, shard: Shard, piece: int, count: int) -> np.ndarray:
        """The tokens of a piece, [sum of lengths].

        Raises:
          UserError: it does not have so many.
        """
        name = f"{piece:06d}.tokens"
        data = self.of(shard).read(name)
        if len(data) != count * self.dtype.itemsize:
            folder = self.of(shard)
            raise UserError(f"{folder}/{name} is damaged; remove {folder}, run again")
        return np.frombuffer(data, self.dtype)


@dataclasses.dataclass(frozen=True)
class Tokenize:
    """The step: tokenizes what is not yet tokenized of a shard.

    Attributes:
      folder: gets a folder a shard.
      tokenizer: makes the tokens.
      max_bad: documents of a shard that may be skipped; None: any number. Of all shards
        together, whoever runs the step must count them.
    """

    divided: ClassVar = True  # may run in several processes
    # How pieces are cut and written down; another way goes to another folder.
    written: ClassVar = f"{PIECES} 2"

    folder: Folder
    tokenizer: Tokenizer
    max_bad: int | None = None

    @property
    def result(self) -> Tokenized:
        """What the step makes, once it has run for all shards."""
        around = 1 + (self.tokenizer.begin_of_text is not None)
        return Tokenized(self.folder, row_dtype(self.tokenizer.vocab_size), around)

    def __call__(self, shard: Shard, on_bytes: OnBytes) -> None:
        """Reads a shard; raises UserError if it cannot be used."""
        made = self.result
        if made.is_done(shard):
            on_bytes(shard.num_bytes)
            return
        folder = made.of(shard)
        bad.remove_others(folder, shard)
        sources: dict[str, set[str]] = {}
        counted = bad.Counted(shard, self.max_bad)
        pieces = documents = 0
        for number, piece in enumerate(read_pieces(shard, on_bytes)):
            for document in piece:
                counted.add(document)
                if document.domain:
                    sources.setdefault(document.domain, set()).add(document.source)
            counted.cuts(folder)
            if not folder.has(f"{number:06d}.npz"):
                self._write(folder, number, piece, made.dtype, shard.name)
            pieces, documents = pieces + 1, documents + len(piece)
        with_text = sum(
            np.count_nonzero(folder.load(f"{number:06d}.npz")["lengths"])
            for number in range(pieces)
        )
        folder.write_json(
            _SUMMARY,
            {
                "name": shard.name,
                "pieces": pieces,
                "documents": documents,
                "with_text": int(with_text),
                "domains": {name: sorted(given) for name, given in sources.items()},
                **counted.summary,
            },
        )

    def _write(
        self,
        folder: Folder,
        number: int,
        piece: Sequence[Document],
        dtype: np.dtype,
        origin: str,
    ) -> None:
        tokens, lengths, unknown = [], [], []
        end = np.array([self.tokenizer.end_of_text], dtype)
        begin = np.array(
            [n for n in [self.tokenizer.begin_of_text] if n is not None], dtype
        )
        around = len(begin) + len(end)
        for batch in in_batches(piece):
            texts = [document.text if document.num_bytes else "" for document in batch]
            for text, encoded in zip(
                texts, self.tokenizer.encode_batch(texts), strict=True
            ):
                if (encoded == end[0]).any():
                    raise self._ends_inside(origin, text)
                unknown.append(self._unknown(encoded))
                lengths.append(len(encoded) + around if len(encoded) else 0)
                if len(encoded):
                    tokens += [begin, encoded.astype(dtype, copy=False), end]
        parts = (part.view(np.uint8).data for part in tokens)
        folder.write(f"{number:06d}.tokens", *parts)
        distinct = dict.fromkeys(d.domain for d in piece if d.domain)
        names = {name: i for i, name in enumerate(distinct)}
        identified = any(document.identifier for document in piece)
        identifiers = [document.identifier for document in piece] if identified else []
        folder.save(
            f"{number:06d}.npz",
            lengths=np.array(lengths, np.uint32),
            text_bytes=np.array([d.num_bytes for d in piece], np.uint32),
            unknown=np.array(unknown, np.uint32),
            names=np.array(list(names), np.str_),
            domains=np.array([names.get(d.domain, 0) for d in piece], np.uint32),
            hashes=_hashes(piece),
            # As an array of strings, each would take what the longest does.
            identifiers=np.frombuffer(json.dumps(identifiers).encode(), np.uint8),
            bad=bad.to_array(piece),
        )

    def _unknown(self, encoded: np.ndarray) -> int:
        unknown = self.tokenizer.unknown
        return 0 if unknown is None else np.count_nonzero(encoded == unknown)

    def _ends_inside(self, origin: str, text: str) -> UserError:
        return UserError(
            f"{origin}: the tokenizer makes its end of text,"
            f" {self.tokenizer.end_of_text_name}, of a part of the document that begins"
            f" {text[:40]!r}; choose another with --eos_token=TEXT, or leave the"
            " document out"
        )


def domain_names(tokenized: Tokenized, shards: Sequence[Shard]) -> list[str]:
    """The domains of some shards, sorted.

    Raises:
      UserError: two sources lend their name to one domain, or one source does and
        documents of another name it so.
    """
    domains = DomainSources()
    for shard, summary in zip(shards, tokenized.summaries(shards), strict=True):
        for name, given in summary["domains"].items():
            for source in given:
                domains.add(name, source, shard)
    return domains.names


def _hashes(piece: Sequence[Document]) -> np.ndarray:
    digests = b"".join(
        hashlib.blake2b(document.text.encode(), digest_size=HASH_BYTES).digest()
        for document in piece
    )
    return np.frombuffer(digests, np.uint8).reshape(len(piece), HASH_BYTES)
