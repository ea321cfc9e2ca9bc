"""Stores a basis of reference sets with a store: dga_jax.prepare basis STORE ..."""

import dataclasses
from collections.abc import Sequence

import numpy as np
from absl import flags

from dga_jax.data import bases
from dga_jax.data.bases import StoredBasis, write_basis
from dga_jax.data.domains import entropy
from dga_jax.data.histograms import SMOOTHING, Histograms
from dga_jax.data.store import TREE, Store
from dga_jax.errors import UserError
from dga_jax.files import local_path
from dga_jax.logs.series import leading
from dga_jax.prepare.clusters.counting import count_documents
from dga_jax.prepare.clusters.embedders import load_embedder
from dga_jax.prepare.clusters.tree import Tree
from dga_jax.prepare.commands import reading
from dga_jax.prepare.corpus import Corpus, in_batches
from dga_jax.prepare.sources import Shard, expand
from dga_jax.prepare.sources.shard import Format

flags.adopt_module_key_flags(reading)
_NAME = flags.DEFINE_string(
    "name", None, "Of the basis, for --config.mixer.basis.", required=True
)
_REFERENCES = flags.DEFINE_multi_string(
    "references",
    [],
    "What to read, written as --generic is for making a store: globs of JSON lines,"
    " Parquet or text, tfds:..., NAME=PATTERN. What would be a domain there is one"
    " reference set, unless --group_by says otherwise.",
)
_GROUP_BY = flags.DEFINE_string(
    "group_by",
    None,
    "A field that all references have: documents with the same value are one reference"
    " set. 'supercategory' groups the subjects of MMLU.",
)
_NATURAL = flags.DEFINE_bool(
    "natural", True, "The corpus's own distribution is one of the basis."
)
_TARGET = flags.DEFINE_bool("target", True, "The target's histogram is one of it.")
_EMBEDDING_MODEL = flags.DEFINE_string(
    "embedding_model", None, "Where MiniLM's files are, if not where they were."
)
_OVERWRITE = flags.DEFINE_bool("overwrite", False, "Replace a basis of that name.")
_SHOWN_SETS, _SHOWN_CLUSTERS = 64, 4


def main(argv: Sequence[str]) -> None:
    """Counts the reference sets, stores the basis, prints its histograms."""
    if len(argv) != 2:
        raise UserError("basis takes one store: dga_jax.prepare basis STORE --name=...")
    remedy = "a basis is stored with its store: make it here, and copy both there"
    store = Store.open(local_path("store", argv[1], remedy))
    bases.check_clusters(store)
    path = bases.basis_path(store, _NAME.value)
    if path.exists() and not _OVERWRITE.value:
        raise UserError(f"{path} exists; choose another --name, or give --overwrite")
    if not _REFERENCES.value:
        raise UserError("--references is missing. Run with --help for the flags")
    bases.check_writable(store)
    shards = _shards()
    histograms = _count(store, Corpus(tuple(shards), ",".join(_REFERENCES.value)))
    basis = StoredBasis(histograms, _NATURAL.value, _TARGET.value)
    bases.check_names(basis)
    path = write_basis(store, _NAME.value, basis)
    print("\n".join(_describe(store, basis)))
    print(f"\nThe basis is {path}: --config.mixer.basis={_NAME.value}")


def _shards() -> list[Shard]:
    """What the flags say is to be read; all of it can be grouped, if it shall be."""
    fields, field = reading.fields_of_corpus(), _GROUP_BY.value
    if not field:
        return expand(_REFERENCES.value, fields)
    if fields.domain:
        raise UserError(
            f"--group_by={field} and --domain_field={fields.domain} both name what"
            " makes a set; give one of them"
        )
    shards = expand(_REFERENCES.value, dataclasses.replace(fields, domain=field))
    for shard in shards:
        if shard.named:
            raise UserError(
                f"{shard.source}: --group_by={field} cannot group what has a name;"
                " leave out one of the two, or make another basis of these"
            )
        if shard.format is Format.TEXT:
            raise UserError(
                f"{shard.paths[0]}: files of text have no field to group by; leave out"
                f" --group_by={field}, or make another basis of these"
            )
    return shards


def _count(store: Store, corpus: Corpus) -> Histograms:
    finest = store.domains(store.num_levels - 1)
    documents = in_batches(reading.usable(corpus.documents(by_domain=True)))
    batches = (
        [(d.domain, d.text) for d in batch if d.num_bytes] for batch in documents
    )
    return count_documents(
        load_embedder(store.path, _EMBEDDING_MODEL.value),
        Tree.load(store.path / TREE),
        filter(None, batches),
        allowed=finest.num_rows > 0,
    )


def _describe(store: Store, stored: StoredBasis) -> list[str]:
    """A line for each set: its effective clusters by level, its largest at level 0."""
    sets = [stored.histograms]
    if stored.target:
        sets.append(bases.target_histograms(store))
    lines = [
        f"P(cluster | set) = (documents in the cluster + {SMOOTHING:g} x the cluster's"
        f" share of the corpus) / (documents + {SMOOTHING:g})"
    ]
    levels = [store.domains(level) for level in range(store.num_levels)]
    rows = [(one, i) for one in sets for i in range(len(one.names))]
    width = max(len(one.names[i]) for one, i in rows)
    for one, i in rows[:_SHOWN_SETS]:
        effective = []
        for domains in levels:
            basis = bases.smoothed(one.select(i), domains, SMOOTHING)
            weights = basis.mix(np.ones(1))
            effective.append(np.exp(entropy(weights)))
            if domains is levels[0]:
                largest = ", ".join(
                    f"{domains.names[c]} {weights[c]:.2f}"
                    for c in leading(weights, _SHOWN_CLUSTERS)
                )
        spread = " / ".join(f"{x:.1f}" for x in effective)
        lines.append(
            f"{one.names[i].ljust(width)}  {one.documents[i]:,.0f} documents, effective"
            f" clusters by level {spread}; level 0: {largest}"
        )
    if len(rows) > _SHOWN_SETS:
        lines.append(f"... and {len(rows) - _SHOWN_SETS} more")
    return lines
