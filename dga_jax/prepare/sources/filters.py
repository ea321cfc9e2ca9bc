"""Conditions that a document's fields must meet: `FIELD OP VALUE`."""

import dataclasses
import datetime
import math
import numbers
import operator
import re
from collections.abc import Mapping
from typing import Any

from dga_jax.errors import UserError

_OPERATORS = {
    ">=": operator.ge,
    "<=": operator.le,
    "==": operator.eq,
    "!=": operator.ne,
    ">": operator.gt,
    "<": operator.lt,
}
_SYNTAX = re.compile(r"\s*([^<>=!]+?)\s*(>=|<=|==|!=|>|<)\s*([^<>=!\s].*?)\s*")
MISSING = object()


@dataclasses.dataclass(frozen=True)
class Filter:
    """A condition on one field of a document.

    Attributes:
      field: its name; dots lead into objects, as in `meta.language`.
      op: one of >=, <=, ==, !=, >, <.
      value: what the field is compared with.
    """

    field: str
    op: str
    value: int | float | str

    def __str__(self) -> str:
        return f"{self.field}{self.op}{self._value}"

    @property
    def quoted(self) -> str:
        """The same with a string for a value."""
        return f'{self.field}{self.op}"{self._value}"'

    @property
    def _value(self) -> int | float | str:
        whole = isinstance(self.value, float) and self.value.is_integer()
        return int(self.value) if whole else self.value

    def passes(self, found: Any) -> bool:
        """Whether what was found in the field meets the condition.

        A list of `[start, end, score]` spans, as a quality signal of RedPajama-V2 is,
        stands for the mean of its scores. Nothing (null, no spans, NaN) never passes.

        Raises:
          ValueError: it cannot be compared; said in words for the user.
        """
        if isinstance(found, list):
            found = _mean_score(found, self.field)
        if found is None or found is MISSING:
            return False
        value, in_text = self.value, isinstance(self.value, str)
        if isinstance(found, bytes):
            found = found.decode(errors="replace")
        elif isinstance(found, datetime.date):
            found = found.isoformat()
        elif isinstance(found, bool) and in_text:
            found, value = str(found).lower(), value.lower()
        if not isinstance(found, str | numbers.Number):
            raise ValueError(
                f"field {self.field!r} is of type {type(found).__name__}, which cannot"
                f" be compared; name a field with one value in the filter {self}"
            )
        if found != found:  # NaN
            return False
        if isinstance(found, str) != in_text:
            remedy = "compare it with a number"
            if isinstance(found, str):
                remedy = f"quote the value: {self.quoted}"
            asked = self.quoted if in_text else self
            raise ValueError(
                f"field {self.field!r} is {repr(found)[:80]}, which {asked} cannot be"
                f" asked of; {remedy}"
            )
        return _OPERATORS[self.op](found, value)


def parse_filter(text: str) -> Filter:
    """A filter from `FIELD OP VALUE`; VALUE is a number, or else a string.

    >>> parse_filter("rps_doc_word_count >= 50")
    Filter(field='rps_doc_word_count', op='>=', value=50)
    >>> parse_filter('meta.year=="2020"').value
    '2020'

    Raises:
      UserError: it is not of this form.
    """
    match = _SYNTAX.fullmatch(text)
    if not match:
        raise UserError(
            f"the filter {text!r} is not FIELD OP VALUE with OP one of"
            f" {', '.join(_OPERATORS)}; write 'word_count>=50' or 'meta.language==en'"
        )
    field, op, value = match.groups()
    if len(value) > 1 and value[0] == value[-1] and value[0] in "'\"":
        return Filter(field, op, value[1:-1])
    try:
        number = _number(value)
    except ValueError:
        return Filter(field, op, value)
    if number != number:  # NaN; a whole number may be too large for `math`
        raise UserError(f"the filter {text!r}: nothing can be compared with {value}")
    return Filter(field, op, number)


def _number(text: str) -> int | float:
    """A whole number as it is, for a float rounds those beyond 2^53."""
    try:
        return int(text)
    except ValueError:
        return float(text)


def look_up(item: Mapping[str, Any], name: str) -> Any:
    """What an object holds under a name, in which dots lead into objects.

    Returns:
      The value; None also where one of those objects is null; or MISSING.
    """
    found = item.get(name, MISSING)
    if found is not MISSING or "." not in name:
        return found
    found = item
    for part in name.split("."):
        if found is None:
            return None
        if not isinstance(found, Mapping):
            return MISSING
        found = found.get(part, MISSING)
    return found


def _mean_score(spans: list, field: str) -> float | None:
    try:
        scores = [span[2] for span in spans]
        scores = [float(score) for score in scores if score is not None]
    except (TypeError, IndexError, KeyError, ValueError, OverflowError):
        raise ValueError(
            f"field {field!r} is a list that is not of [start, end, score] spans; name"
            " a field with one value"
        ) from None
    return math.fsum(scores) / len(scores) if scores else None
