"""Which token of a `tokenizer.json` ends a text: what is said, never a guess."""

import json
import pathlib
import shlex
from collections.abc import Mapping

from dga_jax.errors import UserError, listed

# Names that end a text, whoever made the vocabulary. Programs before this one took the
# first of these that a vocabulary holds.
KNOWN = (
    "<|endoftext|>",
    "</s>",
    "<|end_of_text|>",
    "<eos>",
    "<|eot_id|>",
    "<|im_end|>",
    "[SEP]",
)
SAY = "say which token ends a text with --eos_token=TEXT"
# What saves a tokenizer puts these beside it; the first that says something holds.
_NAMED_IN = ("tokenizer_config.json", "special_tokens_map.json")
_NUMBERED_IN = ("generation_config.json", "config.json")
_SHOWN = 8


def end_of_text(
    ids: Mapping[str, int],
    spec: dict,
    origin: str,
    beside: pathlib.Path | None = None,
    eos_token: str | None = None,
    *,
    of_model: bool = False,
) -> int:
    """The id of the token that ends a text.

    It is `eos_token`, or what the files beside the tokenizer say, or the only added
    token that is marked special and has one of the names that are `KNOWN`.

    Args:
      ids: of all tokens, by name.
      spec: the tokenizer.json.
      origin: names it in errors.
      beside: the directory it lies in, where its configuration may be too.
      eos_token: any token by its name.
      of_model: what config.json says comes first, where it names one token; of several
        it may say which the tokenizer's configuration names.

    Raises:
      UserError: no token is said to, or several are, or one that is not there.
    """
    if eos_token is not None:
        if eos_token not in ids:
            raise UserError(
                f"--eos_token={eos_token}: {origin} has no such token{_like(ids)}"
            )
        return ids[eos_token]
    if beside and of_model:
        said = _read(beside / "config.json").get("eos_token_id")
        if type(said) is int and said in ids.values():
            return said
    if beside:
        found = _named(ids, beside, origin)
        found = _numbered(ids, beside, origin) if found is None else found
        if found is not None:
            return found
    added = spec.get("added_tokens") or []
    marked = [token["content"] for token in added if token["special"]]
    known = [name for name in KNOWN if name in marked]
    if len(known) == 1:
        return ids[known[0]]
    if known:
        raise UserError(
            f"{origin} has several tokens that may end a text: {quoted(known)}; {SAY}"
        )
    unmarked = [name for name in KNOWN if name in ids]
    if unmarked:
        raise UserError(
            f"{origin} does not mark as special what may end a text:"
            f" {quoted(unmarked)}; {SAY}"
        )
    raise UserError(
        f"{origin} has no end-of-text token that is known as one{_like(ids, marked)};"
        f" {SAY}, or add one to its vocabulary"
    )


def formerly(ids: Mapping[str, int]) -> int | None:
    """What programs before this one took; None where they refused the tokenizer."""
    return next((ids[name] for name in KNOWN if name in ids), None)


def quoted(names: list[str]) -> str:
    """Names as a shell wants them; of many, the first."""
    return listed([shlex.quote(name) for name in names], _SHOWN)


def _like(ids: Mapping[str, int], marked: list[str] | None = None) -> str:
    """What there is to choose from."""
    names = marked or [name for name in KNOWN if name in ids]
    bracketed = [name for name in ids if name[:1] in "<[" and name[-1:] in ">]"]
    names = names or sorted(bracketed, key=ids.__getitem__)
    return f"; it has {quoted(names)}" if names else ""


def _named(ids: Mapping[str, int], beside: pathlib.Path, origin: str) -> int | None:
    """What a configuration says by name."""
    for name in _NAMED_IN:
        match _read(beside / name).get("eos_token"):
            case None:
                continue
            case str(token) | {"content": str(token)}:
                if token in ids:
                    return ids[token]
                said = token
            case other:
                said = json.dumps(other)
        raise UserError(
            f"{beside / name} says that {said} ends a text, which {origin} does not"
            f" have; {SAY}"
        )
    return None


def _numbered(ids: Mapping[str, int], beside: pathlib.Path, origin: str) -> int | None:
    """What a configuration says by id; of several, another must say which."""
    several = None
    for name in _NUMBERED_IN:
        said = _read(beside / name).get("eos_token_id")
        numbers = said if isinstance(said, list) else [said]
        if said is None:
            continue
        names = {i: name for name, i in ids.items()}
        if strange := [i for i in numbers if type(i) is not int or i not in names]:
            raise UserError(
                f"{beside / name} says that token {json.dumps(strange[0])} ends a text,"
                f" which {origin} does not have; {SAY}"
            )
        if len(set(numbers)) == 1:
            return numbers[0]
        several = several or (beside / name, [names[i] for i in numbers])
    if several:
        path, names = several
        raise UserError(f"{path} has several that end a text: {quoted(names)}; {SAY}")
    return None


def _read(path: pathlib.Path) -> dict:
    """A JSON object; empty where there is no such file."""
    try:
        content = json.loads(path.read_bytes())
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}; {SAY}") from error
    except ValueError as error:
        raise UserError(f"{path} is not JSON: {error}; {SAY}") from error
    return content if isinstance(content, dict) else {}
