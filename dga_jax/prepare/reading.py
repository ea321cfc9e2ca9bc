"""Flags on what is read of a corpus, for all commands that read one."""

import math

from absl import flags

from dga_jax.data.sources import Fields, parse_filter
from dga_jax.errors import UserError

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
    "Longer documents are an error. Memory is up to forty times the longest one.",
    lower_bound=0.001,
    upper_bound=_MOST_MB,
)


def fields_of_corpus(identifier: str | None = None) -> Fields:
    """Which fields of a corpus the flags say are read.

    Args:
      identifier: the field that identifies a document.

    Raises:
      UserError: a flag is not as it should be.
    """
    if math.isnan(_MAX_DOCUMENT_MB.value):
        raise UserError("--max_document_mb=nan: give a number of megabytes")
    return Fields(
        text=TEXT_FIELD.value,
        domain=_DOMAIN_FIELD.value,
        identifier=identifier,
        filters=tuple(parse_filter(text) for text in _FILTER.value),
        max_document_bytes=int(_MAX_DOCUMENT_MB.value * 1e6),
    )
