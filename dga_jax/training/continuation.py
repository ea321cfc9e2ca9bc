"""How a model that was trained goes on with a text."""

import functools
import time
from collections.abc import Iterator
from typing import TextIO

import jax
import numpy as np
from jax.sharding import Mesh

from dga_jax.errors import UserError
from dga_jax.model.decode import Decode, make_decode, sampler
from dga_jax.model.transformer import ModelConfig
from dga_jax.tokenizer import Tokenizer
from dga_jax.training.trained import Trained

_LEAST_PROMPT = 16  # tokens that a prompt is filled up to, and to twice that, and so on
_CUT = "\N{REPLACEMENT CHARACTER}"  # stands for a character some of whose bytes lack


def go_on(
    model: Trained,
    prompt: str,
    most: int,
    temperature: float,
    top_p: float,
    seed: int,
    out: TextIO,
) -> str:
    """Writes a text and what follows it; says how much that is, and why it ends.

    Args:
      model: of a run.
      prompt: the text.
      most: tokens that follow, at most.
      temperature: see `generate`, and so for the others.
      top_p: likewise.
      seed: likewise.
      out: gets the text as it comes.

    Raises:
      UserError: the prompt leaves no room in a row, or is no text.
    """
    before = prompt_ids(model, prompt)
    room = model.longest - len(before)
    count = min(most, room)
    started, ids = time.perf_counter(), []
    following = generate(model, before, count, temperature, top_p, seed)
    stream(model.tokenizer, before, _kept(following, ids), out)
    print(file=out, flush=True)
    seconds = time.perf_counter() - started
    why = f"--max_tokens={most}"
    if len(ids) < count:
        why = "end of text"
    elif count == room:
        why = f"the model takes {model.longest} tokens"
    return f"{len(ids)} tokens in {seconds:.1f} s; {why}"


def prompt_ids(model: Trained, prompt: str) -> np.ndarray:
    """Ids of a text, int32 [T], behind what stands before a document in training.

    Raises:
      UserError: it leaves no room in a row, or its bytes were none of UTF-8.
    """
    try:
        prompt.encode()
    except UnicodeEncodeError as error:
        raise UserError(
            f"--prompt is not UTF-8 at character {error.start + 1}; give text"
        ) from None
    (ids,) = model.tokenizer.encode_batch([prompt])
    most = model.longest - 2  # the token before it, and one that follows
    if len(ids) > most:
        raise UserError(
            f"--prompt has {len(ids)} tokens, and the model takes at most {most}; give"
            " a shorter one"
        )
    begin = model.tokenizer.begin_of_text
    before = model.tokenizer.end_of_text if begin is None else begin
    return np.concatenate([[before], ids]).astype(np.int32)


def generate(
    model: Trained,
    prompt: np.ndarray,
    count: int,
    temperature: float,
    top_p: float,
    seed: int,
) -> Iterator[int]:
    """What follows a prompt, token by token, up to an end of text.

    Args:
      model: of a run.
      prompt: int32 [T].
      count: tokens at most; they fit into a row with the prompt.
      temperature: 0: the likeliest tokens.
      top_p: mass of the likeliest tokens that are drawn from.
      seed: of what is drawn.
    """
    size = _LEAST_PROMPT
    while size < len(prompt):  # one program serves prompts of many lengths
        size *= 2
    functions = _functions(model.model, size + count, temperature, top_p, model.mesh)
    filled = np.pad(prompt, (0, size - len(prompt)))[None]
    keys = jax.random.split(jax.random.key(seed), count)
    counts = np.array([len(prompt)], np.int32)
    ids, cache = functions.begin(model.params, filled, counts, keys[0])
    for i in range(count):
        token = int(ids[0, 0])
        if token == model.tokenizer.end_of_text:
            return
        yield token
        if i + 1 < count:
            ids, cache = functions.go_on(model.params, cache, ids, keys[i + 1])


@functools.lru_cache(maxsize=8)  # of a model that is asked again
def _functions(
    config: ModelConfig, room: int, temperature: float, top_p: float, mesh: Mesh
) -> Decode:
    return make_decode(config, room, sampler(temperature, top_p), mesh=mesh)


def stream(
    tokenizer: Tokenizer,
    prompt: np.ndarray,
    following: Iterator[int],
    out: TextIO,
) -> None:
    """Writes the text of a prompt and of what follows, each character when it is whole.

    All ids are decoded together, as the text of one may depend on those before it.
    """
    ids = prompt.tolist()
    shown = tokenizer.decode(ids)
    out.write(shown)
    out.flush()
    for token in following:
        ids.append(token)
        text = tokenizer.decode(ids)
        if text.startswith(shown) and not text.endswith(_CUT):
            out.write(text[len(shown) :])
            out.flush()
            shown = text
    out.write(tokenizer.decode(ids)[len(shown) :])


def _kept(tokens: Iterator[int], ids: list[int]) -> Iterator[int]:
    for token in tokens:
        ids.append(token)
        yield token
