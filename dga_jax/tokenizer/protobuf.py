"""As much of protocol buffers as to read and change a SentencePiece model."""

from collections.abc import Iterator

_VARINT, _BYTES = 0, 2  # wire types
_FIXED = {1: 8, 5: 4}


def field(number: int, value: bytes) -> bytes:
    """A field of bytes, as a message has it."""
    return bytes([number << 3 | _BYTES]) + _as_varint(len(value)) + value


def _as_varint(value: int) -> bytes:
    parts = []
    while value > 127:
        parts.append(value & 127 | 128)
        value >>= 7
    return bytes([*parts, value])


def fields(message: bytes) -> Iterator[tuple[int, int, int, int]]:
    """Of each field: its number, where it starts, where its value does, its end."""
    place = 0
    while place < len(message):
        start = place
        key, place = varint(message, place)
        first = place
        if (wire := key & 7) == _BYTES:
            size, first = varint(message, place)
            place = first + size
        elif wire == _VARINT:
            _, place = varint(message, place)
        else:
            place += _FIXED[wire]
        yield key >> 3, start, first, place


def varint(message: bytes, place: int) -> tuple[int, int]:
    """A whole number that begins at a place, and where it ends."""
    value = shift = 0
    while True:
        byte = message[place]
        place, value = place + 1, value | (byte & 127) << shift
        shift += 7
        if byte < 128:
            return value, place
