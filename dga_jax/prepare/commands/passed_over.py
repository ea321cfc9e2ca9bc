"""What `prepare` says of what it passed over, and of what may be parts of one."""

import collections
import os
from collections.abc import Sequence

from dga_jax.prepare.assemble import Prepared
from dga_jax.prepare.commands import reading

_MANY_SINGLE = 100  # domains of one file each, which a corpus in shards looks like
_SHOWN = 3


def lines(
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
            f" is used: {_some(found.files)}."
        )
    if markers:
        names = collections.Counter(map(os.path.basename, markers))
        common = [name for name, _ in names.most_common()]
        said.append(f"{len(markers):,} files are no data by name: {_some(common)}.")
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
    return _some([repr(name) for name in names])


def _some(names: Sequence[str]) -> str:
    more = len(names) - _SHOWN
    return ", ".join(names[:_SHOWN]) + (f" and {more:,} more" if more > 0 else "")
