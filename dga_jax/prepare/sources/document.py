"""What a document is, and how it is taken from a record with fields."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from dga_jax.data import mmlu
from dga_jax.prepare.sources.filters import MISSING, Filter, look_up

DOMAIN = "domain"
TEXT = "text"
MAX_DOCUMENT_BYTES = 16 << 20
MAX_NAME = 200  # characters of a domain's name: tables and plots are full of them
TOO_LONG, NOT_UTF8, BROKEN_JSON = "too long", "not UTF-8", "broken JSON"  # reasons
FLAGS = (
    "name those to read with --text_field (of the target, --target_text_field),"
    " --domain_field, --id_field and --filter"
)


class DocumentError(ValueError):
    """One document cannot be used.

    Attributes:
      reason: a few words, the same for all of a kind.
    """

    def __init__(self, reason: str, said: str):
        """`said` is the whole matter in words for the user, but for the place."""
        super().__init__(said)
        self.reason = reason


class Document(NamedTuple):
    """A text and where it comes from.

    Attributes:
      text: as it was found.
      domain: what part of the corpus it belongs to.
      num_bytes: its length in bytes of UTF-8; 0 for a blank text.
      identifier: the value of the identifier field, "" if there is none.
      source: what lent its name as the domain, "" if the document names it itself. One
        domain from two sources is an error; see `shard.DomainSources`.
    """

    text: str
    domain: str
    num_bytes: int
    identifier: str = ""
    source: str = ""


class BadDocument(NamedTuple):
    """Stands in the place of a document that cannot be used, where those are skipped.

    Attributes:
      reason: that of the `DocumentError`.
      said: file, place and matter, as in the message of an error.
      unit: "line", "row" or "example"; "" where the file is the document.
      number: of the line and the like, as messages give it.
    """

    reason: str
    said: str
    unit: str = ""
    number: int = 0
    # What a document without text has, so that nothing is made of it.
    text: str = ""
    num_bytes: int = 0
    domain: str = ""
    identifier: str = ""
    source: str = ""


@dataclasses.dataclass(frozen=True)
class Fields:
    """Which fields of a record are read; in a name, dots lead into objects.

    Attributes:
      text: None is the format's own, `text` nearly everywhere.
      domain: None is `domain` where a record has it, else the source's name. A field
        that is named here must be there.
      identifier: None is the format's own, or nothing.
      filters: what a record must meet to be read at all.
      max_document_bytes: a longer text is an error.
      skip_bad: documents that cannot be used are skipped, not an error.
    """

    text: str | None = None
    domain: str | None = None
    identifier: str | None = None
    filters: tuple[Filter, ...] = ()
    max_document_bytes: int = MAX_DOCUMENT_BYTES
    skip_bad: bool = False

    def __post_init__(self):
        object.__setattr__(self, "filters", tuple(self.filters))


DEFAULTS = Fields()


class Picker:
    """Takes documents from the records of one source."""

    def __init__(self, fields: Fields, domain: str, source: str, named: bool):
        """A picker.

        Args:
          fields: what to read.
          domain: of records that do not name theirs.
          source: label of what lent that name.
          named: the domain is this one, whatever a record says.
        """
        self._fields, self._domain, self._source = fields, domain, source
        self._named = named
        self._unseen = {one.field for one in fields.filters}
        self._example: Mapping[str, Any] | None = None

    def pick(
        self,
        item: Mapping[str, Any],
        identifier: str = "",
        signals: Mapping[str, Any] | None = None,
    ) -> Document | None:
        """The document of a record, or None if it does not meet the filters.

        Args:
          item: the record.
          identifier: unless a field is named for it.
          signals: where filters look first.

        Raises:
          DocumentError: a field is missing, or not as it should be.
        """
        fields = self._fields
        if fields.filters and not self._passes(item, signals):
            return None
        text = self._text(item)
        domain, source = self._domain_of(item)
        if fields.identifier is not None:
            identifier = _identifier(item, fields.identifier)
        return self._document(text, domain, source, identifier)

    def pick_text(self, text: str, identifier: str) -> Document:
        """The document of a text that is a whole file and has no fields."""
        return self._document(text, self._domain, self._source, identifier)

    def check_filters(self) -> None:
        """Raises ValueError if a filter names a field that no record had."""
        if self._unseen and self._example is not None:
            raise ValueError(
                f"no document has the field {min(self._unseen)!r} of a filter, only"
                f" {names_of(self._example)}"
            )

    def _document(
        self, text: str, domain: str, source: str, identifier: str
    ) -> Document:
        size = utf8_bytes(text)
        if size > self._fields.max_document_bytes:
            raise DocumentError(
                TOO_LONG, too_long(size, self._fields.max_document_bytes)
            )
        if not text or text.isspace():
            size = 0
        return Document(text, domain, size, identifier, source)

    def _passes(
        self, item: Mapping[str, Any], signals: Mapping[str, Any] | None
    ) -> bool:
        passed = True
        if self._unseen:
            self._example = {**item, **(signals or {})}
        for one in self._fields.filters:
            found = MISSING if signals is None else look_up(signals, one.field)
            if found is MISSING:
                found = look_up(item, one.field)
            if found is not MISSING:
                self._unseen.discard(one.field)
            try:
                passed = passed and one.passes(found)
            except ValueError as error:
                raise DocumentError("cannot be filtered", str(error)) from error
        return passed

    def _text(self, item: Mapping[str, Any]) -> str:
        """The text of a record, or the prompt of a multiple-choice question."""
        name = self._fields.text or TEXT
        text = _decoded(look_up(item, name), name)
        if isinstance(text, str):
            return text
        if text is not MISSING:
            kind = "null" if text is None else type(text).__name__
            raise DocumentError(
                "null text" if text is None else "text is no string",
                f"field {name!r} is not a string but {kind}; leave it out, convert it,"
                " or name another with --text_field",
            )
        if self._fields.text is None and mmlu.is_question(item):
            return _question(mmlu.render, item)
        raise DocumentError("no text field", lacks(item, name))

    def _domain_of(self, item: Mapping[str, Any]) -> tuple[str, str]:
        if self._named:
            return self._domain, self._source
        name = self._fields.domain or DOMAIN
        if name == mmlu.SUPERCATEGORY and "subject" in item:
            return _question(mmlu.supercategory, item["subject"]), ""
        domain = _decoded(look_up(item, name), name)
        if domain is MISSING or domain is None:
            if self._fields.domain is None:
                return self._domain, self._source
            raise DocumentError("no domain", lacks(item, name))
        if not isinstance(domain, str) or not is_name(domain):
            raise DocumentError(
                "unusable domain",
                f"field {name!r}: {not_a_name(domain)}; convert it, name another field"
                " with --domain_field, or give all a name with NAME=PATTERN",
            )
        return domain, ""


def columns(fields: Fields, named: bool, has: Callable[[str], bool]) -> list[str]:
    """The fields to ask for, of a source that knows which ones it has.

    Args:
      fields: what is to be read.
      named: the domain is known.
      has: whether the source has a field of a name.

    Raises:
      KeyError: it lacks this one.
    """
    if fields.text is None and not has(TEXT) and all(map(has, mmlu.FIELDS)):
        found = list(mmlu.FIELDS)
    else:
        found = [fields.text or TEXT]
    if fields.domain == mmlu.SUPERCATEGORY and has("subject"):
        found.append("subject")
    elif not named and (fields.domain or has(DOMAIN)):
        found.append(fields.domain or DOMAIN)
    if fields.identifier is not None:
        found.append(fields.identifier)
    found += [one.field for one in fields.filters]
    for name in found:
        if not has(name):
            raise KeyError(name)
    return list(dict.fromkeys(found))


def is_name(text: str) -> bool:
    """Whether a text can be the name of a domain."""
    return text.isprintable() and bool(text.strip()) and len(text) <= MAX_NAME


def not_a_name(found: object) -> str:
    """Says that something is not the name of a domain."""
    return (
        f"a domain must have a name that can be printed, of at most {MAX_NAME}"
        f" characters, not {repr(found)[:80]}"
    )


def lacks(item: Mapping[str, Any], name: str) -> str:
    """Says that a record has nothing in the field of a name."""
    if look_up(item, name) is None:
        return f"field {name!r} is null; leave the record out, or name another field"
    return f"no field {name!r}, only {names_of(item)}; {FLAGS}"


def utf8_bytes(text: str) -> int:
    """Length of a text in bytes of UTF-8.

    Raises:
      DocumentError: it has lone surrogates.
    """
    if text.isascii():
        return len(text)
    try:
        return len(text.encode())
    except UnicodeEncodeError as error:
        raise DocumentError(
            "lone surrogate",
            f"its text is not valid Unicode ({error.reason}); repair it or leave it"
            " out",
        ) from error


def too_long(size: int, limit: int, what: str = "the document is") -> str:
    """Says that a document is longer than allowed; both in bytes."""
    return (
        f"{what} {_amount(size)} long, above the limit of {_amount(limit)}; split it,"
        " raise --max_document_mb, or give --skip_bad"
    )


def _amount(size: int) -> str:
    return f"{size / 1e6:,.1f} MB" if size >= 1e5 else f"{size:,} bytes"


def names_of(item: Mapping[str, Any]) -> str:
    """The names of a record's fields, for a message."""
    names = ", ".join(map(repr, item)) or "nothing"
    return names if len(names) <= MAX_NAME else f"{names[:MAX_NAME]}..."


def _decoded(value: Any, name: str) -> Any:
    """Bytes as text; anything else as it is."""
    if not isinstance(value, bytes):
        return value
    try:
        return value.decode()
    except UnicodeDecodeError as error:
        raise DocumentError(
            NOT_UTF8,
            f"field {name!r} is not UTF-8 ({error.reason} at byte {error.start});"
            " convert it",
        ) from error


def _question(read: Callable[[Any], str], item: Any) -> str:
    try:
        return read(item)
    except ValueError as error:
        raise DocumentError("unusable question", str(error)) from error


def _identifier(item: Mapping[str, Any], name: str) -> str:
    found = _decoded(look_up(item, name), name)
    if found is MISSING or found is None:
        raise DocumentError("no identifier", lacks(item, name))
    if isinstance(found, bool) or not isinstance(found, str | int):
        kind = type(found).__name__
        raise DocumentError(
            "unusable identifier",
            f"field {name!r} is not a string or a whole number but {kind}; name another"
            " with --id_field",
        )
    return str(found)
