"""The text of rows, in bytes: what makes nats per token bits per byte.

A tokenizer may change text, lose some, or put some in, so tokens do not say how long a
text was. `prepare` counts the bytes of the text itself, of the rows that are evaluated.
"""

import numpy as np

from dga_jax.data.store import EVALUATED, ROW_BYTES, Store
from dga_jax.errors import UserError


def has_row_bytes(store: Store) -> bool:
    """Whether bytes were counted when the store was made."""
    return ROW_BYTES.format(split=EVALUATED[0]) in store.manifest["files"]


def row_bytes(store: Store, split: str, ids: np.ndarray) -> np.ndarray:
    """UTF-8 bytes of text that the predicted tokens of rows stand for.

    Args:
      store: of the rows.
      split: "heldout" or "target_eval".
      ids: int64 [n].

    Returns:
      float64 [n]; NaN where they were not counted, as in stores of older programs or
      of answers alone, unless they follow from the tokens.

    Raises:
      UserError: a file is damaged.
    """
    if has_row_bytes(store) and not store.answers:
        return _counted(store, split)[ids].astype(np.float64)
    if not store.tokenizer().is_exact:
        return np.full(len(ids), np.nan)
    return token_sums(store, store.read(split, ids)).astype(np.float64)


def token_sums(store: Store, rows: np.ndarray) -> np.ndarray:
    """Sums of `token_bytes` over the predicted tokens of rows [n, L+1]: int64 [n]."""
    targets = rows[:, 1:]
    sizes = np.where(targets < 0, 0, store.token_bytes[np.maximum(targets, 0)])
    return sizes.sum(axis=1, dtype=np.int64)


def _counted(store: Store, split: str) -> np.ndarray:
    name, rows = ROW_BYTES.format(split=split), store.num_rows(split)
    try:
        found = np.load(store.path / name, mmap_mode="r")
    except (OSError, ValueError, EOFError) as error:
        raise UserError(
            f"store {store.path}: cannot read {name} ({error}); prepare the store again"
        ) from error
    if found.shape != (rows,) or found.dtype != np.int64:
        raise UserError(
            f"store {store.path}: {name} is not int64 of {rows:,} rows; prepare the"
            " store again"
        )
    return found
