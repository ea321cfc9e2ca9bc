"""The exceptions that a user may meet, and how a program of ours ends.

Whoever started it, a shell, SLURM or Kubernetes, is told by the exit status alone:

    0    complete
    1    a defect of ours; its traceback is on stderr
    2    the user's mistake; one line on stderr says which
    130  Ctrl-C
    143  stopped by SIGTERM, or another process of the job was stopped or is gone:
         all that was made is kept, and the same command goes on

All processes of a job end with the same one.
"""

import enum
import errno
from collections.abc import Sequence

# Of a file: no right to it, a disk that is only read, a quota that is used up.
_REFUSALS = (errno.EACCES, errno.EPERM, errno.EROFS, errno.EDQUOT)


class ExitStatus(enum.IntEnum):
    """See the top of this file."""

    COMPLETE = 0
    DEFECT = 1
    USER_ERROR = 2
    INTERRUPTED = 130
    STOPPED = 143


class UserError(Exception):
    """Something only the user can put right.

    The message is one line: what is wrong, where (file, line, config field or domain),
    and what to do. Entry points print it without a traceback; see `dga_jax.cli`.
    """


class Stopped(KeyboardInterrupt):
    """SIGTERM came where nothing is left to save; what tidies up on Ctrl-C does."""

    def __init__(self, message: str = "stopped by SIGTERM"):
        """Of SIGTERM to this process, unless the message says otherwise."""
        super().__init__(f"{message}; run the same command to go on")


def listed(names: Sequence[str], most: int) -> str:
    """Names for a message; of many the first ones, and how many there are besides."""
    more = f" and {len(names) - most:,} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more


def is_full_disk(error: BaseException) -> bool:
    """Whether the system said that there is no space."""
    return isinstance(error, OSError) and error.errno == errno.ENOSPC


def is_refused(error: BaseException) -> bool:
    """Whether the system would not have a file read or written here."""
    if not isinstance(error, OSError) or error.filename is None:
        return False
    return error.errno in _REFUSALS


def exit_status(error: BaseException) -> ExitStatus:
    """What a program ends with that an exception has ended."""
    if isinstance(error, UserError) or is_full_disk(error) or is_refused(error):
        return ExitStatus.USER_ERROR
    if isinstance(error, Stopped):
        return ExitStatus.STOPPED
    if isinstance(error, KeyboardInterrupt):
        return ExitStatus.INTERRUPTED
    return ExitStatus.DEFECT


def one_line(error: BaseException) -> str:
    """What a user is told of it."""
    said = " ".join(str(error).split())
    if is_full_disk(error):
        return f"the disk is full: {said}; free some space and run again"
    if is_refused(error):
        return f"{error.filename}: {error.strerror}; see to it and run again"
    if isinstance(error, UserError | Stopped):
        return said
    if isinstance(error, KeyboardInterrupt):
        return "interrupted"
    return f"{type(error).__name__}: {said}; see its traceback"
