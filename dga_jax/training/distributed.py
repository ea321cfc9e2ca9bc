"""Joins the processes of a multi-host run, where it was launched as one.

JAX's coordination service, in process 0, knows all of them and holds keys and values.
JAX itself says nothing of a process that fails and is waited for; one that is killed it
misses after a minute or two, or at once if it was process 0, and then aborts the others
with a long log. Hence `together`: whoever ends says so, and says every second that it
is alive; process 0 looks who is late; and the others end with a line and a status.

What processes see of a shared file system need not be the same at the same time: where
they must agree, process 0 looks, and `broadcast` tells the others.
"""

import contextlib
import ctypes
import functools
import itertools
import json
import os
import re
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NoReturn

import jax

# There is no public way to a barrier with a time limit or to the key-value store.
from jax._src import distributed as _jax_distributed

from dga_jax.errors import ExitStatus, Stopped, UserError, exit_status, one_line
from dga_jax.training import joining

_ENDED = "dga_jax/ended/"  # a key under it for each process that ended before its time
_ALIVE = "dga_jax/alive/"  # and for each that lives: how often it said so
_LOOK_SECONDS = 1.0
_GONE_SECONDS = 20.0  # without a sign of life
# The same for JAX itself. It may count from a sign that is half as old: were it less
# than twice ours, it would be the first to notice, and it cannot say who is gone.
_JAX_SECONDS = 60
_COME_SECONDS = 300  # that those wait who came first
# What JAX says of who has not come; the first where it fails to say so.
_LATE = re.compile("bad_cast|DEADLINE_EXCEEDED|UNAVAILABLE|deadline", re.IGNORECASE)
_LEAVE_SECONDS = 30  # that JAX waits for an orderly end
_SHOWN_SECONDS = 60.0
_LONG_MILLISECONDS = 30 * 24 * 3600 * 1000  # for the others, who take what it takes
_GONE = "it is gone, killed or with its machine; run the same command to go on"
_Client = Any  # of the coordination service; its class has no public name
_broadcasts = itertools.count()
_handlers = []  # kept for as long as C++ may call them
_ending = None  # the status that this process is about to end with


def initialize() -> None:
    """Calls `jax.distributed.initialize` if this is one of several processes, once.

    Raises:
      UserError: the variables contradict each other, or who is one of them cannot be
        asked.
      Stopped: the others did not come; their machines may begin later, or be gone.
    """
    if _state().client is not None:
        return
    launcher = joining.launcher()
    if not launcher:
        return
    # It waits for the others where no handler of Python's would run.
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    try:
        with _told_of_losses():
            jax.distributed.initialize(
                *joining.coordinator(),
                local_device_ids=joining.local_devices(),
                initialization_timeout=_COME_SECONDS,
                heartbeat_timeout_seconds=_JAX_SECONDS,
                shutdown_timeout_seconds=_LEAVE_SECONDS,
            )
    except (ValueError, RuntimeError) as error:
        _state().client = None  # or JAX would take leave of the others
        said = f"the processes of this run did not find each other ({launcher})"
        if _LATE.search(str(error)):
            raise Stopped(f"{said}: not all came within {_COME_SECONDS} s") from None
        raise UserError(f"{said}: {error}") from None


def joined() -> str:
    """What this run is made of, on a line; "" where it is one process."""
    state = _state()
    if _client() is None:
        return ""
    return (
        f"joined {state.num_processes} processes ({joining.launcher()}), "
        f"process 0 at {state.coordinator_address}"
    )


@contextlib.contextmanager
def together() -> Iterator[None]:
    """A block that all processes leave together, after `initialize`.

    When one leaves it by an exception, the others end within seconds, wherever they
    are, in a collective too: with a line on stderr that says which one and why, its
    exit status, and no `finally` of theirs run, as if they were killed. When one is
    gone, killed or with its machine, the others end so within half a minute, with
    `ExitStatus.STOPPED`. Those that come to its end wait there for the others. In a run
    of one process all this does nothing.
    """
    client = _client()
    if client is None:
        yield
        return
    watch = _Watch(client)
    watch.start()
    try:
        yield
        meet("all is done")
    except BaseException as error:
        if isinstance(error, RuntimeError):
            _wait_for_a_reason()
        with watch.leaving:
            watch.ended.set()
        tell(exit_status(error), one_line(error))
        raise
    finally:
        watch.ended.set()
        watch.join()  # a thread inside of JAX must not outlive the interpreter


def tell(status: int, said: str) -> str:
    """Ends the other processes, with what ends this one; what was told first counts.

    Joins them for that, if this process did not come so far.

    Returns:
      What was said, with the name of this process where there are several.
    """
    global _ending
    _ending = _ending or status
    # Process 0 may be gone, and with it the store; or the others were not to be found.
    with contextlib.suppress(RuntimeError, UserError, Stopped):
        initialize()
        if client := _client():
            _end(client, _state().process_id, status, said)
    return _by(_state().process_id, said) if _client() else said


class _Watch(threading.Thread):
    """Says that this process lives, and ends it when another one has ended."""

    def __init__(self, client: _Client):
        super().__init__(daemon=True)
        self.leaving, self.ended = threading.Lock(), threading.Event()
        self._client, self._me = client, _state().process_id
        now = time.monotonic()
        # By process: how often it was said to live, and when that was news.
        self._heard: dict[int, tuple[Any, float]] = dict.fromkeys(
            range(_state().num_processes), (None, now)
        )

    def run(self) -> None:
        for beat in itertools.count():
            try:
                self._client.key_value_set(f"{_ALIVE}{self._me}", str(beat), True)
                if self._me == 0:
                    self._miss(beat)
                ended = _entries(self._client, _ENDED)
            except RuntimeError:  # process 0 is gone, and JAX about to notice
                return
            with self.leaving:
                ended.pop(self._me, None)
                if ended and not self.ended.is_set():
                    self._follow(*min(ended.items()))
            if self.ended.wait(_LOOK_SECONDS):
                return

    def _miss(self, beat: int) -> None:
        """In process 0: who has not been heard for too long has ended."""
        now = time.monotonic()
        for process, said in _entries(self._client, _ALIVE).items():
            if said != self._heard[process][0]:
                self._heard[process] = said, now
        for process, (_, when) in self._heard.items():
            if now - when > _GONE_SECONDS:
                _end(self._client, process, ExitStatus.STOPPED, _GONE, gone=True)

    def _follow(self, process: int, entry: Mapping[str, Any]) -> NoReturn:
        global _ending
        _ending = entry["status"]
        said = _by(process, entry["said"])
        print(f"error: {said}", file=sys.stderr, flush=True)
        sys.stdout.flush()
        if entry["gone"]:  # JAX's orderly end would wait for that one
            # Process 0 must not go first: without its service the others are aborted.
            time.sleep(3 * _LOOK_SECONDS if self._me == 0 else 0)
        else:
            with contextlib.suppress(RuntimeError):
                jax.distributed.shutdown()
        os._exit(_ending)


def _end(
    client: _Client, process: int, status: int, said: str, gone: bool = False
) -> None:
    entry = json.dumps({"status": int(status), "said": said, "gone": gone})
    with contextlib.suppress(RuntimeError):  # it has ended already
        client.key_value_set(f"{_ENDED}{process}", entry)


def _entries(client: _Client, folder: str) -> dict[int, Any]:
    """What is under a folder of keys, by process."""
    return {
        int(key.rpartition("/")[2]): json.loads(value)
        for key, value in client.key_value_dir_get(folder)
    }


def _by(process: int, said: str) -> str:
    return f"process {process}: {said}"


def _wait_for_a_reason() -> None:
    """Where a collective fails because a peer is gone, `_Watch` ends this process."""
    time.sleep(_GONE_SECONDS + 3 * _LOOK_SECONDS)


@contextlib.contextmanager
def _told_of_losses() -> Iterator[None]:
    """Has JAX call `_lost` where it would abort this process, with a long log."""
    library = _jax_distributed._jax
    make = library.get_distributed_runtime_client
    library.get_distributed_runtime_client = functools.partial(
        make, missed_heartbeat_callback=_lost
    )
    try:
        yield
    finally:
        library.get_distributed_runtime_client = make
    with contextlib.suppress(OSError, AttributeError):
        _catch_bad_cast()


def _catch_bad_cast() -> None:
    """Calls `_lost` where JAX fails to.

    It cannot give Python the status that a callback is called with: std::bad_cast,
    which nobody catches, and so the handler of C++ for that. What a collective throws
    whose peer is gone comes here, too.
    """
    library = ctypes.CDLL("libstdc++.so.6")
    library.__cxa_current_exception_type.restype = ctypes.c_void_p
    library._ZSt13set_terminatePFvvE.restype = ctypes.CFUNCTYPE(None)

    def terminate() -> None:
        kind = library.__cxa_current_exception_type()
        # A std::type_info: a pointer to its functions, one to its name.
        name = kind and ctypes.c_char_p.from_address(kind + 8).value
        if name == b"St8bad_cast":
            _lost()
        _wait_for_a_reason()
        before()

    handler = ctypes.CFUNCTYPE(None)(terminate)
    _handlers.append(handler)
    before = library._ZSt13set_terminatePFvvE(handler)


def _lost(*_: object) -> NoReturn:
    """JAX has lost process 0, or been told of another one that is lost."""
    if _ending is None:
        who = "process 0" if _state().process_id else "another process"
        print(f"error: {who}: {_GONE}", file=sys.stderr, flush=True)
        sys.stdout.flush()
    os._exit(ExitStatus.STOPPED if _ending is None else _ending)


def meet(where: str) -> None:
    """Returns when all processes of the run have come here.

    Args:
      where: a name, the same in all of them.

    Raises:
      RuntimeError: another process has stopped.
    """
    client = _client()
    if client is None:
        return
    try:
        client.wait_at_barrier(f"dga_jax/{where}", _LONG_MILLISECONDS)
    except RuntimeError as error:
        raise _not_together(error, where) from None


def broadcast(value: Any) -> Any:
    """The value that process 0 gives, in all processes.

    All call it, in the same order; what the others give does not matter.

    Args:
      value: what JSON can hold, up to a megabyte or so; tuples come back as lists.

    Raises:
      RuntimeError: process 0 has stopped.
    """
    client, text = _client(), json.dumps(value)
    if client is None:
        return json.loads(text)
    key = f"dga_jax/broadcast/{next(_broadcasts)}"
    try:
        if _state().process_id == 0:
            client.key_value_set(key, text)
        else:
            text = client.blocking_key_value_get(key, _LONG_MILLISECONDS)
    except RuntimeError as error:
        raise _not_together(error, "a decision") from None
    return json.loads(text)


def comes_true(holds: Callable[[], bool]) -> bool:
    """Whether it does within a minute.

    So long a shared file system may take to show one host what another has done.
    """
    until = time.monotonic() + _SHOWN_SECONDS
    while not (found := holds()) and time.monotonic() < until:
        time.sleep(_LOOK_SECONDS / 4)
    return found


def check_same(values: Mapping[str, Any]) -> None:
    """Raises UserError in a process whose values are not those of process 0.

    All call it; none comes back before all have compared.

    Args:
      values: by name; what JSON can hold.
    """
    theirs, ours = broadcast(values), json.loads(json.dumps(values))
    for name in sorted(theirs.keys() | ours.keys()):
        if ours.get(name) != theirs.get(name):
            raise UserError(
                f"{name} is {ours.get(name)!r} here and {theirs.get(name)!r} in process"
                " 0; start the same command, with the same files, everywhere"
            )
    meet("all have the same")


def _state() -> _jax_distributed.State:
    return _jax_distributed.global_state


def _client() -> _Client | None:
    """That of the coordination service; None in a run of one process.

    JAX's own count of processes would wait for the devices of all of them.
    """
    return _state().client if _state().num_processes > 1 else None


def _not_together(error: RuntimeError, where: str) -> RuntimeError:
    return RuntimeError(
        f"not all processes of this job have come to {where!r}: {error}"
    )
