"""What `prepare` says when it is done."""

from collections.abc import Sequence

from dga_jax.data.build import Part

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
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    text = [
        "  ".join([line[0].ljust(widths[0]), *map(str.rjust, line[1:], widths[1:])])
        for line in lines
    ]
    return "\n".join(line.rstrip() for line in text)


def _line(part: Part) -> tuple[str, ...]:
    return (
        part.name,
        f"{part.documents:,}",
        f"{part.tokens:,}",
        f"{part.rows:,}",
        f"{part.heldout_rows:,}",
        f"{part.text_bytes / part.text_tokens:.2f}",
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
