"""Takes one token of a vocabulary away from text; all ids stay what they are.

A token that is marked special is not looked for in a text, but its name is an entry of
most vocabularies: Unigram finds "</s>" in a text, as merges find what they make. So the
entry gets a name that no text has: a hash of the tokenizer.
"""

import hashlib

from tokenizers import pre_tokenizers

from dga_jax.errors import UserError
from dga_jax.tokenizer.end_of_text import SAY
from dga_jax.tokenizer.protobuf import field, fields

_PIECES, _SELF_TEST = 1, 4  # fields of a SentencePiece model
_PIECE, _TYPE, _CONTROL = 1, 3, 3  # fields of a piece, and a type


def hidden_name(content: bytes) -> str:
    """A name for the end of text that no text has."""
    return f"<end of text {hashlib.sha256(content + b'end of text').hexdigest()}>"


def without_token(spec: dict, name: str, hidden: str, origin: str) -> dict:
    """A tokenizer.json of which a token is special and comes of no text.

    Args:
      spec: of the tokenizer.json.
      name: of the token.
      hidden: its name from now on.
      origin: names the tokenizer in errors.

    Raises:
      UserError: text cannot be spelled without the token.
    """
    model, added = spec["model"], spec.get("added_tokens") or []
    vocab = model["vocab"]
    names = [entry[0] for entry in vocab] if isinstance(vocab, list) else vocab
    if name in names:
        model = _without_entry(spec, name, hidden, origin)
    special = {"content": hidden, "special": True}
    special |= dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized"), False)
    renamed = [
        token | special if token["content"] == name else token for token in added
    ]
    if all(token["content"] != name for token in added):
        number = list(names).index(name) if isinstance(vocab, list) else vocab[name]
        renamed.append({"id": number, **special})
    return spec | {"model": model, "added_tokens": renamed}


def _without_entry(spec: dict, name: str, hidden: str, origin: str) -> dict:
    model = spec["model"]
    vocab = model["vocab"]
    if _spells_text(spec, name):
        raise UserError(
            f"{name} cannot end a text: {origin} spells text with it; {SAY}"
        )
    if isinstance(vocab, list):  # Unigram
        unknown = model.get("unk_id")
        is_unknown = unknown is not None and vocab[unknown][0] == name
        entries = [[hidden if piece == name else piece, p] for piece, p in vocab]
    else:
        is_unknown = model.get("unk_token") == name
        entries = {hidden if key == name else key: i for key, i in vocab.items()}
    changed = model | {"vocab": entries}
    if "merges" in model:
        prefix = len(model.get("continuing_subword_prefix") or "")
        merges = [
            (pair, pair.split(" ") if isinstance(pair, str) else pair)
            for pair in model["merges"]
        ]
        changed["merges"] = [
            pair
            for pair, (left, right) in merges
            if name not in (left, right, left + right[prefix:])
        ]
    if is_unknown and "merges" in model and _spells_all(spec):
        changed["unk_token"] = None
    elif is_unknown:
        raise UserError(
            f"{name} cannot end a text: {origin} makes it of what it cannot spell;"
            f" {SAY}"
        )
    return changed


def component_types(component: object) -> set[str]:
    """Types of a part of a tokenizer.json and of what a Sequence of them holds."""
    if isinstance(component, list):
        return set().union(*map(component_types, component))
    if not isinstance(component, dict):
        return set()
    nested = [v for v in component.values() if isinstance(v, list)]
    return {component.get("type", "")}.union(*map(component_types, nested))


def is_byte_level(spec: dict) -> bool:
    """Whether a tokenizer.json writes each byte of a text as a character."""
    parts = (spec.get("normalizer"), spec.get("pre_tokenizer"))
    return "ByteLevel" in component_types(list(parts))


def is_byte(name: str) -> bool:
    """Whether a token is a byte of what has no token of its own."""
    return len(name) == 6 and name.startswith("<0x") and name.endswith(">")


def _spells_text(spec: dict, name: str) -> bool:
    """Whether a token stands for a byte without which some text cannot be written."""
    if is_byte_level(spec) and name in pre_tokenizers.ByteLevel.alphabet():
        return True
    return bool(spec["model"].get("byte_fallback")) and is_byte(name)


def _spells_all(spec: dict) -> bool:
    """Whether no text needs the unknown token of a BPE."""
    model = spec["model"]
    if is_byte_level(spec):
        return model["vocab"].keys() >= set(pre_tokenizers.ByteLevel.alphabet())
    byte_pieces = {f"<0x{byte:02X}>" for byte in range(256)}
    return bool(model.get("byte_fallback")) and model["vocab"].keys() >= byte_pieces


def without_piece(content: bytes, number: int, hidden: str) -> bytes:
    """A SentencePiece model of which a piece is a control piece of another name.

    What the model would try itself on when it is read is left out: it may be spelled
    with the piece.
    """
    change = field(_PIECE, hidden.encode()) + bytes([_TYPE << 3, _CONTROL])
    parts, pieces = [], -1
    for number_of, start, first, stop in fields(content):
        part = content[start:stop]
        if number_of == _PIECES:
            pieces += 1
            if pieces == number:  # of a field that is given twice the last holds
                part = field(_PIECES, content[first:stop] + change)
        if number_of != _SELF_TEST:
            parts.append(part)
    return b"".join(parts)
