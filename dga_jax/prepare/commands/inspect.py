"""What a store holds, and some of its rows: dga_jax.prepare inspect STORE."""

from collections.abc import Sequence

import numpy as np
from absl import flags

from dga_jax.data.remote_store import local_store
from dga_jax.data.row_text import row_lines, visible
from dga_jax.data.store import BASES, SPLITS, Domains, Store
from dga_jax.errors import UserError
from dga_jax.logs.console import columns
from dga_jax.logs.series import leading

_ROWS = flags.DEFINE_integer("rows", 3, "Rows to show.", lower_bound=0)
_SPLIT = flags.DEFINE_enum("split", "train", SPLITS, "The split they are of.")
_DOMAIN = flags.DEFINE_string("domain", None, "The one domain they are of.")
_LEVEL = flags.DEFINE_integer(
    "level", 0, "Of the domains that are listed; 0 is the coarsest.", lower_bound=0
)
_SHOWN_DOMAINS = 64
_HEAD, _TAIL = 16, 6  # lines of a row that are shown
_OFFSETS_OF = {"train": "offsets", "heldout": "heldout_offsets"}
_TARGETS_OF = {"target": "offsets", "target_eval": "eval_offsets"}


def main(argv: Sequence[str]) -> None:
    """Prints a summary of the store, its domains, and the rows asked for."""
    if len(argv) != 2:
        raise UserError("inspect takes one store: dga_jax.prepare inspect STORE")
    store = Store.open(local_store(argv[1]))
    if _LEVEL.value >= store.num_levels:
        raise UserError(
            f"--level={_LEVEL.value}: store {store.path} has levels 0 to"
            f" {store.num_levels - 1}"
        )
    domains = store.domains(_LEVEL.value)
    ids = _chosen(store, domains)
    print(
        summary(store), splits_table(store), domains_table(store, domains), sep="\n\n"
    )
    tokenizer = store.tokenizer()
    for i, row in zip(ids, store.read(_SPLIT.value, ids), strict=True):
        print(f"\n{_title(store, domains, int(i))}")
        lines = row_lines(tokenizer, row, _HEAD, _TAIL)
        print("\n".join(f"  | {line}".rstrip() for line in lines))


def summary(store: Store) -> str:
    """A line for each thing that is true of the whole store."""
    manifest = store.manifest
    tokenizer = manifest["tokenizer"]
    name = visible(manifest.get("end_of_text", ""))
    name = f" ({name})" if name else ""
    levels = []
    for level, entry in enumerate(manifest["levels"]):
        empty = int((store.domains(level).num_rows == 0).sum())
        also = f", {empty:,} of them empty" if empty else ""
        levels.append(f"{level}: {entry['domains']:,}{also}")
    facts = {
        "store": str(store.path),
        "format": f"version {manifest['format_version']}, rows of {store.seq_len:,} + 1"
        f" tokens in {store.dtype.itemsize} bytes each ({store.dtype.name})",
        "a row": "documents of one domain, one behind the other, cut where it ends",
        "tokenizer": f"{tokenizer['kind']}, {store.vocab_size:,} tokens, end of text"
        f" {tokenizer['end_of_text']}{name}, sha256 {tokenizer['sha256'][:16]}",
        "domains by level": "; ".join(levels),
        "content": store.content_hash,
    }
    for part, counts in store.counts.items():
        unknown = counts["unknown"] / max(counts["text_tokens"], 1)
        facts[f"text of {part}"] = (
            f"{counts['documents']:,} documents, {counts['blank']:,} without a token,"
            f" {counts['text_bytes']:,} bytes, {counts['text_tokens']:,} tokens,"
            f" {unknown:.2%} of them unknown"
        )
    if store.targets.names:
        names, offsets, eval_offsets = store.targets
        rows = zip(names, np.diff(offsets), np.diff(eval_offsets), strict=True)
        facts["targets"] = "; ".join(
            f"{visible(name)}: {steer:,} rows, {aside:,} to evaluate on"
            for name, steer, aside in rows
        )
    if clusters := manifest.get("clusters"):
        branching = " x ".join(map(str, clusters["branching"]))
        facts["clusters"] = (
            f"{branching}, of {clusters['embedding']}, embedder sha256"
            f" {clusters['embedder_sha256'][:16]}"
        )
    if bases := sorted((store.path / BASES).glob("*.npz")):
        facts["bases"] = ", ".join(path.stem for path in bases)
    sizes = [p.stat().st_size for p in store.path.rglob("*") if p.is_file()]
    facts["on disk"] = f"{sum(sizes) / 1e6:,.1f} MB in {len(sizes):,} files"
    width = max(map(len, facts))
    return "\n".join(f"{key.ljust(width)}  {value}" for key, value in facts.items())


def splits_table(store: Store) -> str:
    """A table with a line for each split."""
    lines = [("split", "rows", "tokens", "padding", "sha256")]
    for split, entry in store.manifest["splits"].items():
        rows, tokens = entry["rows"], entry["tokens"]
        padding = _padding(store, rows, tokens)
        digest = entry["sha256"][:16]
        lines.append((split, f"{rows:,}", f"{tokens:,}", padding, digest))
    return columns(lines)


def domains_table(store: Store, domains: Domains) -> str:
    """A table with a line for each domain; of many, the largest."""
    order = np.arange(len(domains))
    if len(order) > _SHOWN_DOMAINS:
        order = np.sort(leading(domains.tokens, _SHOWN_DOMAINS))
    lines = [("domain", "rows", "held-out rows", "tokens", "share", "padding")]
    total = max(int(domains.tokens.sum()), 1)
    for i in order.tolist():
        rows, tokens = int(domains.num_rows[i]), int(domains.tokens[i])
        heldout = int(domains.num_heldout[i])
        lines.append(
            (
                visible(domains.names[i]),
                f"{rows:,}",
                f"{heldout:,}",
                f"{tokens:,}",
                f"{tokens / total:.1%}",
                _padding(store, rows, tokens),
            )
        )
    if rest := len(domains) - len(order):
        lines.append((f"... and {rest:,} smaller ones", *[""] * 5))
    return columns(lines)


def _padding(store: Store, rows: int, tokens: int) -> str:
    return f"{1 - tokens / (rows * store.seq_len):.1%}" if rows else "-"


def _chosen(store: Store, domains: Domains) -> np.ndarray:
    """Ids of the rows to show, int64 [n], spread evenly over the split or domain."""
    first, stop = 0, store.num_rows(_SPLIT.value)
    if _DOMAIN.value is not None:
        if _SPLIT.value not in _OFFSETS_OF:
            raise UserError(f"--domain: the rows of {_SPLIT.value} have no domain")
        if _DOMAIN.value not in domains.names:
            raise UserError(
                f"--domain={_DOMAIN.value}: level {_LEVEL.value} of store {store.path}"
                f" has no such domain; it begins with {', '.join(domains.names[:8])}"
            )
        i = domains.names.index(_DOMAIN.value)
        offsets = getattr(domains, _OFFSETS_OF[_SPLIT.value])
        first, stop = int(offsets[i]), int(offsets[i + 1])
    count = min(_ROWS.value, stop - first)
    return first + (np.arange(count) * 2 + 1) * (stop - first) // max(2 * count, 1)


def _title(store: Store, domains: Domains, i: int) -> str:
    split = _SPLIT.value
    title = f"{split} row {i:,} of {store.num_rows(split):,}"
    owners = domains if split in _OFFSETS_OF else store.targets
    if not owners.names:  # there is one target
        return title
    offsets = getattr(owners, (_OFFSETS_OF | _TARGETS_OF)[split])
    owner = int(np.searchsorted(offsets, i, side="right")) - 1
    return f"{title}, {visible(owners.names[owner])}"
