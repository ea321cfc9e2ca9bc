"""Files of plain text, each one document."""

from dga_jax.files import OnBytes
from dga_jax.prepare.sources import packed
from dga_jax.prepare.sources.document import NOT_UTF8, TOO_LONG, DocumentError, too_long

SUFFIXES = (".txt", ".text", ".md", ".rst")
_BUFFER = 1 << 16  # for there may be many files, most of them small
_MARK = b"\xef\xbb\xbf"


def read(path: str, max_bytes: int, on_bytes: OnBytes) -> str:
    """The text of a file, its newlines as they are; it may be compressed.

    Args:
      path: the file.
      max_bytes: a longer text is an error.
      on_bytes: called with the number of bytes read of the file, as they are read.

    Raises:
      DocumentError: damaged, too long, or no text; it begins as what follows the path.
      OSError: it cannot be read.
    """
    try:
        with packed.opened(path, on_bytes, _BUFFER) as file:
            data = file.read(max_bytes + 1)
    except packed.ForeignError as error:
        raise DocumentError("no text file", f" {error}") from error
    except packed.DAMAGE as error:
        raise DocumentError(
            "damaged file",
            f" is truncated or damaged: {error}; copy or compress it again",
        ) from error
    if len(data) > max_bytes:
        said = too_long(len(data), max_bytes, "the text is at least")
        raise DocumentError(TOO_LONG, f": {said}")
    mark = len(_MARK) if data.startswith(_MARK) else 0
    try:
        return data[mark:].decode()
    except UnicodeDecodeError as error:
        raise DocumentError(
            NOT_UTF8,
            f", byte {mark + error.start}: not UTF-8 ({error.reason}); convert the file"
            " to UTF-8 or leave it out",
        ) from error
