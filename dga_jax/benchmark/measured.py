"""Seconds and memory of a command, as a process of its own measures them.

    python -m dga_jax.benchmark.measured COMMAND...

runs the command and prints its `Measured` as one line of JSON. It is
small on purpose: what the process held that starts another, Linux counts as the other's
peak; and a benchmark holds JAX and what earlier parts left.
"""

import contextlib
import glob
import json
import os
import signal
import subprocess
import sys
import time
import types
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, NoReturn

from dga_jax.errors import Stopped, UserError, exit_status

_LOOK_SECONDS = 0.1
_UNIT = 1 if sys.platform == "darwin" else 1024  # bytes, of what the system says


class Measured(NamedTuple):
    """What a command took.

    Attributes:
      seconds: from its start to its end.
      peak_mb: the most memory that was resident at a time, in it and the processes that
        it started, looked at ten times a second; what they share counts for each.
      cpu_seconds: of all threads, in it and in those of its processes that it waited
        for; other work on the machine changes them less than the seconds.
    """

    seconds: float
    peak_mb: float
    cpu_seconds: float


def measure(command: Sequence[str], temporary: str | os.PathLike) -> Measured:
    """Runs a command that prints nothing of interest, and ends it if interrupted.

    Args:
      command: to run.
      temporary: where its temporary files go, which some leave behind.

    Raises:
      UserError: it failed; with the last line it said.
    """
    process = subprocess.Popen(
        [sys.executable, "-m", __name__, *command],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"TMPDIR": os.fspath(temporary)},
    )
    with process:
        try:
            found, said = process.communicate()
        except BaseException:
            process.terminate()
            raise
    if process.returncode:
        raise _failed("a run of the benchmark", said)
    return Measured(*json.loads(found))


def printed(
    arguments: Sequence[str | os.PathLike],
    what: str = "a run of the benchmark",
    env: Mapping[str, str] | None = None,
) -> Any:
    """What `python *arguments` prints on its last line, which is JSON.

    Args:
      arguments: of Python.
      what: it is, for the error.
      env: its environment; this process's, unless given.

    Raises:
      UserError: it failed; with the last line it said.
    """
    done = subprocess.run(
        [sys.executable, *arguments], capture_output=True, text=True, env=env
    )
    if done.returncode:
        raise _failed(what, done.stderr)
    return json.loads(done.stdout.splitlines()[-1])


def _failed(what: str, said: str) -> UserError:
    last = (said.strip().splitlines() or ["it said nothing"])[-1]
    return UserError(f"{what} failed: {last}")


def _main(command: Sequence[str]) -> int:
    # What comes while the process is being made waits until it is known.
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    signal.signal(signal.SIGTERM, _stop)
    start, peak = time.perf_counter(), 0
    # In a session of its own: its processes are told by that.
    process = subprocess.Popen(
        command,
        stdout=subprocess.DEVNULL,
        start_new_session=True,
        preexec_fn=_hear_signals,  # there are no threads
    )
    try:
        _hear_signals()
        ended = 0
        while not ended:
            peak = max(peak, _resident(process.pid))
            time.sleep(_LOOK_SECONDS)
            ended, status, usage = os.wait4(process.pid, os.WNOHANG)
    except KeyboardInterrupt as error:
        process.terminate()
        process.wait()
        return exit_status(error)
    seconds = time.perf_counter() - start
    process.returncode = os.waitstatus_to_exitcode(status)
    peak = max(peak, usage.ru_maxrss * _UNIT)
    cpu_seconds = usage.ru_utime + usage.ru_stime
    print(json.dumps(Measured(seconds, peak / 1e6, cpu_seconds)))
    return int(process.returncode != 0)


def _hear_signals() -> None:
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})


def _stop(signum: int, frame: types.FrameType | None) -> NoReturn:
    raise Stopped


def _resident(session: int) -> int:
    """Bytes that the processes of a session hold; 0 where there is no /proc."""
    pages = 0
    for path in glob.glob("/proc/[0-9]*/stat"):
        with contextlib.suppress(OSError), open(path) as file:
            # Behind the name, which may hold anything: the 6th field and the 24th.
            fields = file.read().rpartition(")")[2].split()
            pages += int(fields[21]) if int(fields[3]) == session else 0
    return pages * os.sysconf("SC_PAGE_SIZE")


if __name__ == "__main__":
    sys.exit(_main(sys.argv[1:]))
