"""Weights that a config or a file gives by name."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from dga_jax.data.domains import pairs
from dga_jax.errors import UserError

_SUM_TOLERANCE = 1e-3  # of weights a person typed


def named_weights(text: str, names: Sequence[str], available: np.ndarray) -> np.ndarray:
    """Weights that a person wrote down, float64 [n]; of those not named 0.

    Args:
      text: `NAME=W,NAME=W`, or the path of a JSON file with {NAME: W}.
      names: n names.
      available: bool [n], what can have a weight.

    Raises:
      UserError: names or numbers that cannot be weights of these.
    """
    given = _read_json(text) if text.endswith(".json") else _parse_pairs(text)
    where = f"config.mixer.weights={text}"
    index = {name: i for i, name in enumerate(names)}
    weights = np.zeros(len(names))
    for name, value in given.items():
        if not isinstance(value, int | float) or not 0 <= value <= 1 + _SUM_TOLERANCE:
            raise UserError(f"{where}: weight {value!r} of {name!r} is not in [0, 1]")
    for name, value in _spread_out(given, names).items():
        if name not in index:
            known = ", ".join(list(names)[:20])
            raise UserError(f"{where}: no domain {name!r}; there are {known}")
        if value and not available[index[name]]:
            raise UserError(f"{where}: domain {name!r} has no training rows")
        weights[index[name]] = value
    if abs(weights.sum() - 1) > _SUM_TOLERANCE:
        raise UserError(f"{where}: the weights sum to {weights.sum():.6g}, not to 1")
    return weights / weights.sum()


def _spread_out(given: dict[str, float], names: Sequence[str]) -> dict[str, float]:
    """Weights by name; that of PART:* is shared evenly by the others of a part."""
    found = {name: value for name, value in given.items() if not name.endswith(":*")}
    for name in given.keys() - found.keys():
        rest = [x for x in names if x.startswith(name[:-1]) and x not in found]
        found |= dict.fromkeys(rest or [name], given[name] / max(len(rest), 1))
    return found


def _parse_pairs(text: str) -> dict[str, float]:
    given = {}
    for pair, name, number in pairs(text):
        if number is None or name in given:
            raise UserError(
                f"config.mixer.weights={text}: {pair!r} is not NAME=WEIGHT, or "
                "comes twice; give natural, importance, NAME=W,NAME=W or a .json file"
            )
        given[name] = number
    return given


def _read_json(path: str) -> dict[str, Any]:
    try:
        given = json.loads(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(f"config.mixer.weights={path}: {error.strerror}") from None
    except (ValueError, RecursionError) as error:
        raise UserError(f"config.mixer.weights={path}: not JSON: {error}") from None
    if not isinstance(given, dict):
        raise UserError(f"config.mixer.weights={path}: expected an object NAME: WEIGHT")
    return given
