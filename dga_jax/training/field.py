"""What a field of a config is."""

import enum
from typing import Any, NamedTuple

from dga_jax.bounds import Rule


class Touches(enum.Enum):
    """What a change of a field between two starts of a run touches."""

    NOTHING = "may change"  # nothing that was computed before
    ROUNDING = "may change; rounding only"
    VALUES = "may change where the steps done had the same values"
    UPDATES = "may change until the first update of the weights"
    MIXER = "fixed if the mixer moves weights"
    OWN = "fixed while this mixer is in use"
    DIGESTS = "may change where it gives the same"
    ALL = "fixed"


class Field(NamedTuple):
    """A field of the config.

    Attributes:
      default: its type is the field's.
      touches: what a change of it touches.
      about: its meaning, on a line.
      rule: what values it may have, or None where no bound can be given beforehand.
    """

    default: Any
    touches: Touches
    about: str
    rule: Rule | None = None

    @property
    def shown(self) -> str:
        """The default, as a flag would give it."""
        return as_flag(self.default)


def as_flag(value: Any) -> str:
    """A value as a flag would give it."""
    if isinstance(value, bool):
        return str(value).lower()
    return str(value) if value != "" else '""'
