"""How the bytes of a document are shared by its tokens."""

import numpy as np


def spread_bytes(
    tokens: np.ndarray,
    sizes: np.ndarray,
    text_bytes: np.ndarray,
    token_bytes: np.ndarray,
) -> np.ndarray:
    """UTF-8 bytes of text that each token stands for: all of a document's, whole ones.

    A tokenizer may change text, lose some, or put some in, so ids do not say how long
    a text was. Its bytes are therefore given to its tokens in proportion to what their
    entries of the vocabulary say: the first i tokens have B W_i / W bytes, rounded
    down, of B, where W_i is the sum of their entries. Where the entries add up to B,
    each token has its own.

    Args:
      tokens: [n], of documents one after another, each ending in an end of text.
      sizes: int64 [m], tokens of each document, at least 1.
      text_bytes: int64 [m], bytes of each; below 2^32.
      token_bytes: int32 [vocab_size]; where they are all 0 in a document, its tokens
        count the same. An end of text counts nothing beside other tokens.

    Returns:
      int64 [n]; the sum over a document is its bytes.
    """
    stops = np.cumsum(sizes)
    starts = stops - sizes
    weights = token_bytes[tokens].astype(np.int64)
    weights[stops - 1] = 0
    nothing = np.add.reduceat(weights, starts) == 0
    if nothing.any():
        weights[np.repeat(nothing, sizes)] = 1
        weights[stops[nothing & (sizes > 1)] - 1] = 0
    until = np.cumsum(weights)
    until -= np.repeat(until[starts] - weights[starts], sizes)
    until = np.repeat(text_bytes, sizes) * until // np.repeat(until[stops - 1], sizes)
    result = np.diff(until, prepend=0)
    result[starts] = until[starts]
    return result
