"""Documents of a corpus, from files and data sets of many formats.

`expand` turns what a user writes into shards, `read_documents` reads one.
"""

from dga_jax.prepare.sources.document import DOMAIN, BadDocument, Document, Fields
from dga_jax.prepare.sources.filters import Filter, parse_filter
from dga_jax.prepare.sources.patterns import expand
from dga_jax.prepare.sources.read import read_documents
from dga_jax.prepare.sources.shard import DomainSources, Shard

__all__ = [
    "DOMAIN",
    "BadDocument",
    "Document",
    "DomainSources",
    "Fields",
    "Filter",
    "Shard",
    "expand",
    "parse_filter",
    "read_documents",
]
