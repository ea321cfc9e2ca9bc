"""A shard: what is read as one stream, and named before it is read."""

import dataclasses
import hashlib
import json
import os
from typing import Any

from dga_jax.data.sources.document import DEFAULTS, Fields
from dga_jax.errors import UserError

JSON, PARQUET, PLAIN_TEXT = "json", "parquet", "text"
_READING = 1  # raise it where the same files come to give other documents


@dataclasses.dataclass(frozen=True)
class Shard:
    """Documents that are read as one stream; small, and can be pickled.

    Attributes:
      paths: local files or URLs, in order.
      format: how they are read.
      domain: of documents that do not name theirs.
      source: label of what lends that name.
      named: the domain is this one, whatever a document says.
      fields: what is read.
      versions: for each path, what changes when the file does.
      num_bytes: on disk, for progress; 0 if not known.
    """

    paths: tuple[str, ...]
    format: str
    domain: str
    source: str
    named: bool = False
    fields: Fields = DEFAULTS
    versions: tuple[str, ...] = ()
    num_bytes: int = 0

    @classmethod
    def of(cls, path: str | os.PathLike, fields: Fields = DEFAULTS) -> "Shard":
        """The shard of one local file, as if its path were a pattern.

        Raises:
          UserError: it cannot be read.
        """
        path = os.fspath(path)
        try:
            status = os.stat(path)
        except OSError as error:
            raise UserError(f"cannot read {path}: {error.strerror}") from error
        directory, file = os.path.split(os.path.abspath(path))
        domain = file.split(".")[0]
        return cls(
            paths=(path,),
            format=JSON,
            domain=domain,
            source=os.path.join(directory, domain),
            fields=fields,
            versions=(f"{status.st_size} {status.st_mtime_ns}",),
            num_bytes=status.st_size,
        )

    @property
    def name(self) -> str:
        """How messages call it."""
        if len(self.paths) == 1:
            return self.paths[0]
        return f"{self.paths[0]} and {len(self.paths) - 1} more"

    @property
    def digest(self) -> str:
        """Hex SHA-256 of all that decides its documents, without reading them."""
        known = dataclasses.asdict(self)
        # Neither changes a document: one is for progress, the other only forbids.
        del known["num_bytes"], known["fields"]["max_document_bytes"]
        known["paths"] = [_real(path) for path in self.paths]
        return _sha256([_READING, known])


def clash(domain: str, one: str, other: str) -> UserError:
    """The error of a domain that two sources lend their name to."""
    return UserError(
        f"domain {domain!r} comes from two sources, {one} and {other}; tell them apart"
        " with names of your own, as in --generic=NAME=PATTERN"
    )


def _real(path: str) -> str:
    return path if "://" in path else os.path.realpath(path)


def _sha256(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()
