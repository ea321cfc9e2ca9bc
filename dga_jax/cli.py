"""What every entry point shares: flags in, one clear line out on an error.

`dga_jax.errors` lists the exit statuses, which are the same for all.
"""

import keyword
import math
import os
import re
import signal
import sys
import threading
import types
from collections.abc import Callable, Sequence
from typing import NoReturn

from absl import app, flags, logging
from ml_collections import ConfigDict, config_flags

from dga_jax import files
from dga_jax.errors import ExitStatus, Stopped, UserError, exit_status, one_line

_tell: Callable[[int, str], str] | None = None
_AGAIN_SECONDS = 0.1
_REQUIRED = re.compile(
    r"flag --(\w+)=None: Flag --\1 must have a value other than None"
)
# What an error of a config file came through; the error itself is the last line.
_TRACEBACK = re.compile(r"Traceback \(most recent call last\):\n(\s.*\n)*")
_FIELD = re.compile(r"--?\w+\.[\w.]+(=|$)")
_CONFIG = re.compile(
    r"(?P<flag>--?\w+=)?(?P<file>configs/[\w/.-]+\.py)(?P<argument>:.*)?"
)


def fail(message: object, status: int = ExitStatus.USER_ERROR) -> NoReturn:
    """Prints `error: message` on one line of stderr and leaves with `status`."""
    said = _told(status, " ".join(str(message).split()))
    print(f"error: {said}", file=sys.stderr)
    sys.exit(status)


def _told(status: int, said: str) -> str:
    return _tell(status, said) if _tell else said


def stop_on_sigterm() -> None:
    """From now on SIGTERM raises `Stopped`, as Ctrl-C raises KeyboardInterrupt.

    Once, so that what tidies up is not interrupted by another SIGTERM. Where Python
    drops an exception, in a callback of the garbage collector say, it is raised again a
    moment later.
    """
    signal.signal(signal.SIGTERM, _stop)
    sys.unraisablehook = _dropped


def _stop(signum: int, frame: types.FrameType | None) -> NoReturn:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    raise Stopped


def _dropped(dropped: "sys.UnraisableHookArgs") -> None:
    if not isinstance(dropped.exc_value, Stopped):
        sys.__unraisablehook__(dropped)
        return
    signal.signal(signal.SIGTERM, _stop)
    main = threading.main_thread().ident
    again = threading.Timer(_AGAIN_SECONDS, signal.pthread_kill, [main, signal.SIGTERM])
    again.daemon = True
    again.start()


def _parse_flags(argv: Sequence[str]) -> list[str]:
    """Parses absl flags; what is wrong with them is the user's to put right.

    ml_collections raises bare Python errors for a config file that is missing or a
    field that it lacks, hence the wide net around the parsing alone.
    """
    try:
        rest = flags.FLAGS(list(argv))
        _check_finite()
        return rest
    except flags.Error as error:
        said = _REQUIRED.sub(r"--\1 is missing", str(error))
        said = _TRACEBACK.sub("", said).rstrip(". \n")
        fail(f"{said}. Run with --help for the flags.")
    except UserError as error:
        fail(error)
    except (AttributeError, KeyError) as error:
        # ml_collections wraps one error in another, quotes and all.
        reason = str(error).replace("\\n", ". ").replace("\n", ". ")
        reason = reason.replace("\\'", "").replace("'", "")
        fail(f"no such config field: {reason}")
    except (OSError, TypeError, ValueError, SyntaxError, ImportError) as error:
        fail(f"the config cannot be read: {type(error).__name__}: {error}")


def _check_finite() -> None:
    """Raises UserError for a flag that is no finite number; absl's bounds let NaN by.

    The fields of a config have rules of their own.
    """
    for name in (name for name in flags.FLAGS if "." not in name):
        value = flags.FLAGS[name].value
        if isinstance(value, float) and not math.isfinite(value):
            raise UserError(f"--{name}={value}: give a number that is finite")


def _keywords_quoted(arguments: Sequence[str]) -> list[str]:
    """Arguments in which `--config.start.from=` is spelled as ml_collections needs it.

    It takes a field's name for a Python expression, in which keywords are not names.
    """

    def quoted(argument: str) -> str:
        if not _FIELD.match(argument):
            return argument
        name, equals, value = argument.partition("=")
        first, *keys = name.split(".")
        for key in keys:
            first += f"[{key!r}]" if keyword.iskeyword(key) else f".{key}"
        return first + equals + value

    arguments = flags.FLAGS.read_flags_from_files(list(arguments), force_gnu=False)
    return [quoted(argument) for argument in arguments]


def shipped_config(argument: str) -> str:
    """An argument in which `configs/NAME.py` is found, wherever the program runs.

    A file of that name here comes first, then the one that comes with the program.
    """
    found = _CONFIG.fullmatch(argument)
    if not found or os.path.exists(found["file"]):
        return argument
    path = files.shipped(found["file"])
    if not path.exists():
        return argument
    return f"{found['flag'] or ''}{path}{found['argument'] or ''}"


def _guarded(main: Callable[[Sequence[str]], object]) -> Callable:
    def run_guarded(argv: Sequence[str]) -> int:
        # JAX, orbax and grain log what they do; what fails they raise as well as log.
        logging.set_verbosity(logging.FATAL)
        stop_on_sigterm()
        try:
            status = main(argv)
        except (Exception, KeyboardInterrupt) as error:
            status = exit_status(error)
            if status != ExitStatus.DEFECT:
                fail(one_line(error), status)
            _told(status, one_line(error))
            raise
        return int(status or 0)

    return run_guarded


def run(
    main: Callable[[Sequence[str]], object],
    tell: Callable[[int, str], str] | None = None,
) -> NoReturn:
    """Runs `main(positional_argv)` under absl, without tracebacks for users.

    A `UserError`, a flag that does not parse, a full disk and a file that may not be
    read or written end the program with one line on stderr, and so do SIGTERM and
    Ctrl-C; any other exception is a defect of ours and keeps its traceback. An
    integer that `main` returns is the exit status.

    Args:
      main: the program.
      tell: called with the exit status and line of whatever ends it, a flag that does
        not parse too, for it to tell other processes; returns the line to print.
    """
    global _tell
    _tell = tell
    sys.path.append(str(files.shipped()))  # configs import each other as `configs`
    try:
        sys.argv[1:] = map(shipped_config, _keywords_quoted(sys.argv[1:]))
    except flags.Error as error:  # a file of flags that cannot be read
        fail(error)
    app.run(_guarded(main), flags_parser=_parse_flags)


def load_config(name: str) -> tuple[ConfigDict, set[str]]:
    """The config of a config flag, and the names of fields set on the command line.

    Raises:
      UserError: the file that the flag names does not exist.
    """
    flag = flags.FLAGS[name]
    config = flag.value
    if not isinstance(config, ConfigDict):
        # A file that cannot be loaded leaves a stand-in, which fails when it is read.
        path = config_flags.get_config_filename(flag)
        raise UserError(f"--{name}={path}: no such file; {shipped_configs()}")
    return config, {*config.explicit, *config_flags.get_override_values(flag)}


def shipped_configs() -> str:
    """Which configs come with the program, for a message."""
    names = sorted(path.name for path in files.shipped("configs").glob("*.py"))
    return f"there are configs/{{{','.join(names)}}}"


def no_arguments(argv: Sequence[str]) -> None:
    """Raises UserError if anything but flags is on the command line."""
    if len(argv) > 1:
        raise UserError(f"unexpected argument {argv[1]!r}; flags begin with --")
