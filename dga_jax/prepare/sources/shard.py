"""A shard: what is read as a whole, and named before it is read."""

import dataclasses
import enum
import functools
import hashlib
import json
import os

from dga_jax.errors import UserError
from dga_jax.prepare.sources import files, names, redpajama, text_files
from dga_jax.prepare.sources.document import DEFAULTS, Fields
from dga_jax.remote import is_local_url, is_remote, local_path

_READING = 3  # raise it where the same files come to give other documents
COMPRESSED = (".gz", ".gzip", ".xz", ".lzma", ".zst", ".zstd", ".bz2")


class Format(enum.StrEnum):
    """How a shard is read; REDPAJAMA is JSON lines or Parquet with quality signals."""

    JSON = "JSON lines"
    PARQUET = "Parquet"
    TEXT = "text"
    TFDS = "TFDS"
    REDPAJAMA = "RedPajama-V2"
    LEGO = "LEGO"


@dataclasses.dataclass(frozen=True)
class Shard:
    """Documents that are read as a whole; small, and can be pickled.

    Attributes:
      paths: local files or URLs. Several are of text, in order; or one of RedPajama's
        documents and that of their signals.
      format: how they are read.
      domain: of documents that do not name theirs.
      source: label of what lends that name.
      named: the domain is this one, whatever a document says.
      fields: what is read.
      versions: of the files, what changes when one does.
      num_bytes: on disk, for progress; 0 if not known.
      root: identifiers of text files are relative to it.
      examples: the first, and one past the last, of a TFDS split or of a LEGO skill.
    """

    paths: tuple[str, ...]
    format: Format
    domain: str
    source: str
    named: bool = False
    fields: Fields = DEFAULTS
    versions: tuple[str, ...] = ()
    num_bytes: int = 0
    root: str = ""
    examples: tuple[int, int] = (0, 0)

    @classmethod
    def of(cls, path: str | os.PathLike, fields: Fields = DEFAULTS) -> "Shard":
        """The shard of one local file, as if its path were a pattern.

        Raises:
          UserError: it cannot be read.
        """
        file = files.local_file(os.fspath(path))
        return cls.of_file(file, os.path.dirname(file.path), fields)

    @classmethod
    def of_file(
        cls,
        file: files.File,
        root: str,
        fields: Fields = DEFAULTS,
        form: Format | None = None,
    ) -> "Shard":
        """The shard of one file.

        Args:
          file: the file; its name gives the domain, see `names` and `renamed`.
          root: the directory that a pattern names without a wildcard.
          fields: what is read.
          form: how it is read; as its suffix says, unless given.
        """
        form = form or _format(file.path)
        if form is Format.TEXT:
            domain, source = _place(file.path, root)
        else:
            place = _absolute(file.path)
            domain, source = names.domains_of([place])[place]
        return cls(
            paths=(file.path,),
            format=form,
            domain=domain,
            source=source,
            fields=fields,
            versions=(file.version,),
            num_bytes=file.num_bytes,
            root=root,
        )

    @property
    def name(self) -> str:
        """How messages call it."""
        first = self.paths[0]
        if self.format in (Format.TFDS, Format.LEGO):
            return "{}[{}:{}]".format(first, *self.examples)
        if self.format is Format.TEXT and len(self.paths) > 1:
            return f"{first} and {len(self.paths) - 1} more"
        return first

    def place_of(self, document: int) -> tuple[str, int]:
        """The file of a document, counted from 0, and its place in it."""
        if self.format is Format.TEXT:
            return self.paths[document], 0
        return self.name, document

    @functools.cached_property  # a shard of text may have a thousand files to look up
    def digest(self) -> str:
        """Hex SHA-256 of all that decides its documents, without reading them."""
        known = dataclasses.asdict(self)
        # None changes a document: one is for progress, the others say what is an error.
        del known["num_bytes"], known["fields"]["max_document_bytes"]
        del known["fields"]["skip_bad"]
        known["paths"] = [real(path) for path in self.paths]
        known["root"] = real(self.root)
        text = json.dumps([_READING, known], sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()

    @property
    def stem(self) -> str:
        """What files and folders about it are called, but for a suffix."""
        return self.digest[:32]

    @property
    def identity(self) -> list:
        """Of all that decides its documents and which are skipped; ready for JSON."""
        if self.fields.skip_bad:  # those that are too long are
            return [self.digest, self.fields.max_document_bytes]
        return [self.digest]

    def identifier_of(self, path: str) -> str:
        """The identifier of a text file: its path below the root of the pattern."""
        return _relative(path, self.root)


def renamed(shards: list[Shard]) -> list[Shard]:
    """Shards with the domains that the names of all their files together give them."""

    def by_name(shard: Shard) -> bool:
        form = shard.format
        unplaced = form is Format.REDPAJAMA and not redpajama.locate(shard.paths[0])
        return not shard.named and (form in (Format.JSON, Format.PARQUET) or unplaced)

    found = names.domains_of(_absolute(s.paths[0]) for s in shards if by_name(s))
    return [
        dataclasses.replace(shard, **found[_absolute(shard.paths[0])]._asdict())
        if by_name(shard)
        else shard
        for shard in shards
    ]


class DomainSources:
    """The domains of a corpus, as they are met: each has its name from one source.

    Two that lend their name to one domain, or one that does and documents of another
    that name it so, are most likely an accident.
    """

    def __init__(self):
        """None yet."""
        self._sources: dict[str, tuple[str, str]] = {}

    def add(self, name: str, source: str, shard: Shard) -> None:
        """A domain of a shard, and the label of what lent its name, "" if nothing did.

        Raises:
          UserError: another source did before.
        """
        here = (source, source or f"the documents of {shard.name}")
        before = self._sources.setdefault(name, here)
        if before[0] != source:
            raise UserError(
                f"domain {name!r} comes from two sources, {before[1]} and {here[1]};"
                " tell them apart with names of your own, NAME=PATTERN"
            )

    @property
    def names(self) -> list[str]:
        """Of all domains, sorted."""
        return sorted(self._sources)


def real(path: str) -> str:
    """The one way to write where a file is; of what is no local file, the same."""
    if is_local_url(path):
        path = local_path(path)
    is_local = not is_remote(path) and not path.startswith(("tfds:", "lego:"))
    return os.path.realpath(path) if is_local else path


def is_parquet(path: str) -> bool:
    """Whether a suffix is that of Parquet."""
    return path.lower().endswith((".parquet", ".pq"))


def is_text(path: str) -> bool:
    """Whether a suffix is that of plain text, compressed or not."""
    return _uncompressed(path).endswith(text_files.SUFFIXES)


def _format(path: str) -> Format:
    if is_parquet(path):
        return Format.PARQUET
    return Format.TEXT if is_text(path) else Format.JSON


def _uncompressed(path: str) -> str:
    path = path.lower()
    for suffix in COMPRESSED:
        path = path.removesuffix(suffix)
    return path


def _absolute(path: str) -> str:
    return path if is_remote(path) else os.path.abspath(path)


def _relative(path: str, root: str) -> str:
    if is_remote(path):
        return path.removeprefix(root).lstrip("/")
    return os.path.relpath(path, root or ".")


def _place(path: str, root: str) -> tuple[str, str]:
    """Domain and source of a text: the first directory below the root, or the root."""
    below, slash, _ = _relative(path, root).partition("/")
    top = _absolute(root).rstrip("/")
    if slash:
        return below, f"{top}/{below}"
    return os.path.basename(top) or "text", top
