"""Flags on what is read of a corpus, for all commands that read one."""

import collections
from collections.abc import Iterable, Iterator

from absl import flags

from dga_jax.prepare.assemble.bad import check_limit, described
from dga_jax.prepare.sources import BadDocument, Document, Fields, parse_filter

_MOST_MB = 4000  # counts of a document's bytes and tokens are of 32 bits
TEXT_FIELD = flags.DEFINE_string(
    "text_field", None, "Holds a document's text; 'text', or the format's own."
)
_DOMAIN_FIELD = flags.DEFINE_string(
    "domain_field",
    None,
    "Names a document's domain; without it, 'domain' where there is one, else the name"
    " of the file or source.",
)
_FILTER = flags.DEFINE_multi_string(
    "filter",
    [],
    "Use only documents (never of the target) for which this holds, as in"
    " 'rps_doc_word_count>=50'; may be repeated.",
)
_MAX_DOCUMENT_MB = flags.DEFINE_float(
    "max_document_mb",
    16.0,
    "Longer documents cannot be used. Memory is up to forty times the longest one.",
    lower_bound=0.001,
    upper_bound=_MOST_MB,
)


_ANY = -1  # documents, for absl knows no flag whose value is None


class _Limit(flags.ArgumentParser):
    """Of `--skip_bad` and `--skip_bad=LIMIT`: a number, or _ANY for no limit."""

    syntactic_help = "a whole number of documents, or nothing for no limit"

    def parse(self, argument: str) -> int:
        """A flag without a value comes as "true", with "no" before it as "false"."""
        if argument == "true":
            return _ANY
        try:
            limit = 0 if argument == "false" else int(argument)
        except (ValueError, TypeError):
            limit = -1
        if limit < 0:
            raise ValueError(f"is not {self.syntactic_help}")
        return limit


_SKIP_BAD = flags.DEFINE_flag(
    flags.Flag(
        _Limit(),
        None,
        "skip_bad",
        "false",
        "Leave out documents that cannot be used (null or no text, broken JSON, not"
        " UTF-8, too long ...), of all texts together at most so many, or with"
        " --skip_bad alone any number; without it, one is an error.",
        boolean=True,
    )
)


def max_bad() -> int | None:
    """How many documents that cannot be used may be left out; None: any number."""
    return None if _SKIP_BAD.value == _ANY else _SKIP_BAD.value


def usable(documents: Iterable[Document | BadDocument]) -> Iterator[Document]:
    """Those documents that can be used; at the end it prints how many cannot.

    Raises:
      UserError: there are more of those than the flag allows.
    """
    reasons: collections.Counter[str] = collections.Counter()
    first = ""
    for document in documents:
        if isinstance(document, BadDocument):
            reasons[document.reason] += 1
            first = first or document.said
            check_limit(reasons, first, max_bad())
        else:
            yield document
    if reasons:
        print(left_out(reasons))


def left_out(reasons: dict[str, int]) -> str:
    """Says how many documents could not be used, by reason."""
    total = sum(reasons.values())
    return f"{total:,} bad documents were left out: {described(reasons)}."


def fields_of_corpus(identifier: str | None = None) -> Fields:
    """Which fields of a corpus the flags say are read.

    Args:
      identifier: the field that identifies a document.

    Raises:
      UserError: a flag is not as it should be.
    """
    return Fields(
        text=TEXT_FIELD.value,
        domain=_DOMAIN_FIELD.value,
        identifier=identifier,
        filters=tuple(parse_filter(text) for text in _FILTER.value),
        max_document_bytes=int(_MAX_DOCUMENT_MB.value * 1e6),
        skip_bad=max_bad() != 0,
    )
