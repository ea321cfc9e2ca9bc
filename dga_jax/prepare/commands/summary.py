"""What `prepare` says when it is done."""

import collections
import os
from collections.abc import Iterator, Sequence

from dga_jax.errors import listed
from dga_jax.logs.console import columns
from dga_jax.prepare.assemble import Outcome, Prepared
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


def table(outcomes: Sequence[Outcome], targets: Sequence[Outcome] = ()) -> str:
    """A table with a line for each domain, their sum, and the target.

    Args:
      outcomes: the domains, then the target. Of many domains the largest are shown.
      targets: each by itself, where there are several.
    """
    *domains, target = outcomes
    shown = domains
    if len(domains) > _SHOWN:
        shown = sorted(domains, key=lambda outcome: -outcome.tokens)[:_SHOWN]
    lines = [_HEADER, *map(_line, shown)]
    if len(domains) > len(shown):
        rest = len(domains) - len(shown)
        lines.append((f"... and {rest:,} smaller domains", *[""] * (len(_HEADER) - 1)))
    lines += [_line(_total(domains)), *map(_line, targets), _line(target)]
    return columns(lines)


def shares(outcomes: Sequence[Outcome]) -> str:
    """What of the text the tokenizer lost, and what of the rows is padding."""
    *domains, target = outcomes
    every = _total(domains)
    return (
        f"Unknown tokens: {_unknown(every):.2%}, of the target {_unknown(target):.2%}."
        f" Documents without a token: {_empty(every):.2%}, {_empty(target):.2%}."
        f" Padding: {every.padding:.1%}."
    )


def warnings(outcomes: Sequence[Outcome], clustered: bool) -> Iterator[str]:
    """A line for each of these shares that is larger than it should be.

    Args:
      outcomes: of the domains, then of the target. One alone may be what is wrong.
      clustered: whether the domains are clusters.
    """
    every = _total(outcomes[:-1])
    worst = max(outcomes, key=_unknown)
    if _unknown(worst) > _MOST_UNKNOWN:
        yield (
            f"{_unknown(worst):.1%} of the tokens of {worst.name} are unknown, and"
            f" {_unknown(every):.1%} of the corpus: the tokenizer cannot spell the"
            " text; give one that can spell any, as python -m dga_jax.prepare tokenizer"
            " trains, or SentencePiece with byte_fallback=true"
        )
    worst = max(outcomes, key=_empty)
    if _empty(worst) > _MOST_EMPTY:
        yield (
            f"{_empty(worst):.1%} of the documents of {worst.name} have no token, and"
            f" {_empty(every):.1%} of the corpus: their text is blank, or the tokenizer"
            " drops it; look at the field that --text_field names, or give another"
            " --tokenizer"
        )
    if every.padding > _MOST_PADDING:
        worst = max(outcomes[:-1], key=lambda outcome: outcome.padding)
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


def _unknown(outcome: Outcome) -> float:
    """Share of the tokens."""
    return outcome.unknown / max(outcome.text_tokens, 1)


def _empty(outcome: Outcome) -> float:
    """Share of the documents, as they were read."""
    return outcome.blank / max(outcome.documents + outcome.blank, 1)


def _line(outcome: Outcome) -> tuple[str, ...]:
    return (
        outcome.name,
        f"{outcome.documents:,}",
        f"{outcome.tokens:,}",
        f"{outcome.rows:,}",
        f"{outcome.heldout_rows:,}",
        f"{outcome.text_bytes / max(outcome.text_tokens, 1):.2f}",
        f"{outcome.padding:.1%}",
    )


def _total(outcomes: Sequence[Outcome]) -> Outcome:
    def total(field: str) -> int:
        return sum(getattr(outcome, field) for outcome in outcomes)

    rows = total("rows")
    return Outcome(
        name=f"all {len(outcomes):,} domains",
        documents=total("documents"),
        blank=total("blank"),
        text_bytes=total("text_bytes"),
        text_tokens=total("text_tokens"),
        unknown=total("unknown"),
        tokens=total("tokens"),
        rows=rows,
        heldout_rows=total("heldout_rows"),
        padding=sum(outcome.padding * outcome.rows for outcome in outcomes) / rows,
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
    *domains, _ = prepared.outcomes
    predicted = sum(outcome.rows for outcome in domains) * seq_len
    padding = predicted - sum(outcome.tokens for outcome in domains)
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
    *domains, _ = prepared.outcomes
    if whole := [one.name for one in domains if one.rows and not one.heldout_rows]:
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
