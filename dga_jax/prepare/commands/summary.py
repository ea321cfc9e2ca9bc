"""What `prepare` says when it is done."""

import collections
import os
from collections.abc import Iterator, Sequence

from dga_jax.errors import listed
from dga_jax.logs.console import columns
from dga_jax.prepare.assemble import Part, Prepared
from dga_jax.prepare.assemble.imbalance import imbalance
from dga_jax.prepare.commands import reading

_SHOWN, _NAMED = 64, 3  # lines of a table, names in a line
_MANY_SINGLE = 100  # domains of one file each, which a corpus in shards looks like
# A model cannot learn what it never sees. Real text has some characters in a million
# that a vocabulary of its language lacks; a hundredth is another language or script.
_MOST_UNKNOWN = 0.01
# Crawls have blank documents, one in thousands; more is a field of another name.
_MOST_EMPTY = 0.01
# Padding is computed as any token is: a tenth of the time of training.
_MOST_PADDING = 0.1
_HEADER = (
    "domain",
    "documents",
    "train tokens",
    "train rows",
    "held-out rows",
    "bytes/token",
    "padding",
)


def table(parts: Sequence[Part], targets: Sequence[Part] = ()) -> str:
    """A table with a line for each domain, their sum, and the target.

    Args:
      parts: the domains, then the target. Of many domains the largest are shown.
      targets: each by itself, where there are several.
    """
    *domains, target = parts
    shown = domains
    if len(domains) > _SHOWN:
        shown = sorted(domains, key=lambda part: -part.tokens)[:_SHOWN]
    lines = [_HEADER, *map(_line, shown)]
    if len(domains) > len(shown):
        rest = len(domains) - len(shown)
        lines.append((f"... and {rest:,} smaller domains", *[""] * (len(_HEADER) - 1)))
    lines += [_line(_total(domains)), *map(_line, targets), _line(target)]
    return columns(lines)


def shares(parts: Sequence[Part]) -> str:
    """What of the text the tokenizer lost, and what of the rows is padding."""
    *domains, target = parts
    every = _total(domains)
    return (
        f"Unknown tokens: {_unknown(every):.2%}, of the target {_unknown(target):.2%}."
        f" Documents without a token: {_empty(every):.2%}, {_empty(target):.2%}."
        f" Padding: {every.padding:.1%}."
    )


def warnings(parts: Sequence[Part], clustered: bool) -> Iterator[str]:
    """A line for each of these shares that is larger than it should be.

    Args:
      parts: the domains, then the target. A part alone may be the one that is wrong.
      clustered: whether the domains are clusters.
    """
    every = _total(parts[:-1])
    worst = max(parts, key=_unknown)
    if _unknown(worst) > _MOST_UNKNOWN:
        yield (
            f"{_unknown(worst):.1%} of the tokens of {worst.name} are unknown, and"
            f" {_unknown(every):.1%} of the corpus: the tokenizer cannot spell the"
            " text; give one that can spell any, as python -m dga_jax.prepare tokenizer"
            " trains, or SentencePiece with byte_fallback=true"
        )
    worst = max(parts, key=_empty)
    if _empty(worst) > _MOST_EMPTY:
        yield (
            f"{_empty(worst):.1%} of the documents of {worst.name} have no token, and"
            f" {_empty(every):.1%} of the corpus: their text is blank, or the tokenizer"
            " drops it; look at the field that --text_field names, or give another"
            " --tokenizer"
        )
    if every.padding > _MOST_PADDING:
        worst = max(parts[:-1], key=lambda part: part.padding)
        joined = (
            "ask for fewer clusters with --cluster"
            if clustered
            else "join small domains with --generic=NAME=PATTERN"
        )
        yield (
            f"{every.padding:.1%} of the training rows is padding, of {worst.name}"
            f" {worst.padding:.1%}: rows never mix domains, and the text of some does"
            f" not fill theirs; give a smaller --seq_len, or {joined}"
        )


def _unknown(part: Part) -> float:
    """Share of the tokens."""
    return part.unknown / max(part.text_tokens, 1)


def _empty(part: Part) -> float:
    """Share of the documents, as they were read."""
    return part.blank / max(part.documents + part.blank, 1)


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
    def total(field: str) -> int:
        return sum(getattr(part, field) for part in parts)

    rows = total("rows")
    return Part(
        name=f"all {len(parts):,} domains",
        documents=total("documents"),
        blank=total("blank"),
        text_bytes=total("text_bytes"),
        text_tokens=total("text_tokens"),
        unknown=total("unknown"),
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


def passed_over(
    prepared: Prepared, markers: Sequence[str], patterns: Sequence[str]
) -> list[str]:
    """A line for each kind of what gave the store nothing, or other than it may seem.

    Args:
      prepared: what became of the corpus.
      markers: files that patterns match and that are no data.
      patterns: of the corpus, as they were written.
    """
    found, said = prepared.passed_over, []
    if found.bad:
        said.append(reading.left_out(found.bad))
    if found.files:
        said.append(
            f"{len(found.files):,} of {found.read:,} files hold no text, or none that"
            f" is used: {listed(found.files, _NAMED)}."
        )
    if markers:
        names = collections.Counter(map(os.path.basename, markers))
        common = [name for name, _ in names.most_common()]
        said.append(
            f"{len(markers):,} files are no data by name: {listed(common, _NAMED)}."
        )
    if found.domains:
        said.append(
            f"warning: domains without text, or none that is left, are not in the"
            f" store: {_quoted(found.domains)}."
        )
    *domains, _ = prepared.parts
    if whole := [part.name for part in domains if part.rows and not part.heldout_rows]:
        said.append(
            "Domains too small for a part to be held out are trained on as a whole and"
            f" not evaluated: {_quoted(whole)}."
        )
    if len(prepared.single) >= _MANY_SINGLE:
        one = len(patterns) == 1 and not any(sign in patterns[0] for sign in ",=:")
        said.append(
            f"warning: {len(prepared.single):,} domains are one file each, such as"
            f" {_quoted(prepared.single)}; where they are parts of one, join them:"
            f" --generic='NAME={patterns[0] if one else 'PATTERN'}'."
        )
    return said


def _quoted(names: Sequence[str]) -> str:
    return listed([repr(name) for name in names], _NAMED)
