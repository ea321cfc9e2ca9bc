"""README.md of an exported model: what it was trained on, and how it went."""

import re
import shlex
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

_MOST_DOMAINS = 64  # in the table
_HEAD = """---
library_name: transformers
pipeline_tag: text-generation
tags:
- dga_jax
# license: yours to name, with the licences of the training text in mind
---"""


class Card(NamedTuple):
    """What a model card says.

    Attributes:
      name: of the model.
      kind: its family.
      parameters: how many.
      dtype: of the tensors.
      step: train steps done.
      tokens: trained on.
      origin: what its parameters began as; "" if at random.
      store: path or URL of the store.
      content_hash: of the store.
      targets: that the weights followed; one without a name is the store's.
      mixer: rule by which weights moved.
      domains: [k] names.
      weights: float [2, k], first and last; NaN where the log does not say.
      losses: held-out losses at the end, nats per token, by what they are of.
      command: flags of the training command.
    """

    name: str
    kind: str
    parameters: int
    dtype: str
    step: int
    tokens: int
    origin: str
    store: str
    content_hash: str
    targets: Sequence[str]
    mixer: str
    domains: Sequence[str]
    weights: np.ndarray
    losses: Mapping[str, float]
    command: Sequence[str]


def text(card: Card) -> str:
    """The card, Markdown with a YAML head."""
    parts = [_HEAD, _about(card), _data(card), _losses(card), _command(card)]
    return "\n\n".join(part for part in parts if part) + "\n"


def _about(card: Card) -> str:
    began = f"from {card.origin}" if card.origin else "from scratch"
    return (
        f"# {_plain(card.name)}\n\n"
        f"A {card.kind} model of {card.parameters:,} parameters ({card.dtype}), trained"
        f" {began} for {card.step:,} steps on {card.tokens:,} tokens with `dga_jax`,"
        " whose data mixture steers itself towards a target."
    )


def _data(card: Card) -> str:
    target = ", ".join(map(_plain, card.targets)) or "the store's target"
    lines = [
        "## Training data",
        "",
        f"- store: `{card.store}`, content hash `{card.content_hash}`",
        f"- target: {target}",
        f"- mixer: `{card.mixer}`",
        f"- domains: {len(card.domains):,}",
    ]
    shown = np.argsort(-np.nan_to_num(card.weights[1]), kind="stable")[:_MOST_DOMAINS]
    lines += ["", "| domain | first weight | last weight |", "|---|---:|---:|"]
    for i in sorted(shown):
        first, last = card.weights[:, i]
        lines.append(f"| {_plain(card.domains[i])} | {first:.4g} | {last:.4g} |")
    left = len(card.domains) - len(shown)
    if left:
        lines += ["", f"The {left:,} others have smaller last weights."]
    return "\n".join(lines)


def _losses(card: Card) -> str:
    if not card.losses:
        return ""
    lines = ["## Held-out losses", "", "| of | nats per token |", "|---|---:|"]
    lines += [f"| {_plain(name)} | {loss:.4f} |" for name, loss in card.losses.items()]
    return "\n".join(lines)


def _command(card: Card) -> str:
    words = " \\\n  ".join(shlex.quote(word) for word in card.command)
    return f"## Command\n\n```\npython -m dga_jax.main \\\n  {words}\n```"


def _plain(name: str) -> str:
    """A name in which Markdown, HTML and TeX read nothing: `a|b` is one cell."""
    return re.sub(r"[\\`*_{}\[\]<>()#+!|~$&]", r"\\\g<0>", name)
