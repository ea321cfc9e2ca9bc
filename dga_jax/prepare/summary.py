"""What `prepare` says when it is done."""

from collections.abc import Sequence

from dga_jax.console import columns
from dga_jax.data.build import Part, Prepared
from dga_jax.data.build.imbalance import imbalance

_SHOWN = 64
_HEADER = (
    "domain",
    "documents",
    "train tokens",
    "train rows",
    "held-out rows",
    "bytes/token",
    "padding",
)


def table(parts: Sequence[Part]) -> str:
    """A table with a line for each domain, their sum, and the target.

    Args:
      parts: the domains, then the target. Of many domains the largest are shown.
    """
    *domains, target = parts
    shown = domains
    if len(domains) > _SHOWN:
        shown = sorted(domains, key=lambda part: -part.tokens)[:_SHOWN]
    lines = [_HEADER, *map(_line, shown)]
    if len(domains) > len(shown):
        rest = len(domains) - len(shown)
        lines.append((f"... and {rest:,} smaller domains", *[""] * (len(_HEADER) - 1)))
    lines += [_line(_total(domains)), _line(target)]
    return columns(lines)


def _line(part: Part) -> tuple[str, ...]:
    return (
        part.name,
        f"{part.documents:,}",
        f"{part.tokens:,}",
        f"{part.rows:,}",
        f"{part.heldout_rows:,}",
        f"{part.text_bytes / max(part.text_tokens, 1):.2f}",
        f"{part.padding:.1%}",
    )


def _total(parts: Sequence[Part]) -> Part:
    def total(field: str):
        return sum(getattr(part, field) for part in parts)

    rows = total("rows")
    return Part(
        name=f"all {len(parts):,} domains",
        documents=total("documents"),
        blank=total("blank"),
        text_bytes=total("text_bytes"),
        text_tokens=total("text_tokens"),
        tokens=total("tokens"),
        rows=rows,
        heldout_rows=total("heldout_rows"),
        padding=sum(part.padding * part.rows for part in parts) / rows,
    )


def clusters(prepared: Prepared, seq_len: int, max_imbalance: float) -> str:
    """What the levels are, and what it costs that rows never mix finest clusters.

    Args:
      prepared: what became of the corpus.
      seq_len: L.
      max_imbalance: the bound that was asked for, or 0. It is kept to on the sample
        that k-means is trained on, so what came of it is said.
    """
    lines = []
    for level, rows in enumerate(prepared.levels):
        count = f"{len(rows):,} clusters"
        if empty := int((rows == 0).sum()):
            count += f", {empty:,} of them empty"
        lines.append(f"level {level}: {count}")
    *domains, _ = prepared.parts
    predicted = sum(part.rows for part in domains) * seq_len
    padding = predicted - sum(part.tokens for part in domains)
    lines.append(
        f"No row mixes clusters of level {len(prepared.levels) - 1}: {padding:,} of"
        f" {predicted:,} places for tokens ({padding / predicted:.1%}) are padding."
    )
    if max_imbalance:
        found = imbalance(prepared.documents, prepared.branching)
        levels = ", ".join(f"{ratio:.2f} at level {i}" for i, ratio in enumerate(found))
        lines.append(
            "Largest cluster over the mean of its siblings, of all documents:"
            f" {levels}; asked for {max_imbalance:g}."
        )
    return "\n".join(lines)
