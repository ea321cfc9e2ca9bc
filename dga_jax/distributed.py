"""Joins the processes of a multi-host run, where it was launched as one.

JAX's coordination service, in process 0, knows all of them. When one ends by itself, it
waits five minutes for the others to end as well, and they wait wherever they need it.
When one is killed, it is missed after 100 seconds, or at once if it was process 0; then
JAX aborts the others and prints a long log. Nothing is said of a process that fails and
is waited for; hence `together`.

What processes see of a shared file system need not be the same at the same time: where
they must agree, process 0 looks, and `broadcast` tells the others.
"""

import contextlib
import itertools
import json
import os
import signal
import sys
import threading
from collections.abc import Iterator
from typing import Any

import jax

# There is no public way to a barrier with a time limit or to the key-value store.
from jax._src import distributed as _jax_distributed

from dga_jax import processes
from dga_jax.errors import UserError

_PLACE = ("JAX_NUM_PROCESSES", "JAX_PROCESS_ID")
_STOPPED = "dga_jax/stopped/"  # a key under it for each process that failed
_STATUS = 2  # of a process that ends because another did, as for any user's error
_LOOK_SECONDS = 1.0
_LONG_SECONDS = 30 * 24 * 3600.0
_broadcasts = itertools.count()


def initialize() -> None:
    """Calls `jax.distributed.initialize` if `processes.is_one_of_several`.

    Raises:
      UserError: the variables contradict each other, or the others cannot be reached.
    """
    try:
        if processes.COORDINATOR in os.environ:
            count, index = _place()
            jax.distributed.initialize(os.environ[processes.COORDINATOR], count, index)
        elif processes.is_one_of_several():
            jax.distributed.initialize()
    except (ValueError, RuntimeError) as error:
        raise UserError(
            f"the processes of this run did not find each other: {error}"
        ) from None


@contextlib.contextmanager
def together() -> Iterator[None]:
    """A block that all processes leave together, after `initialize`.

    When one leaves it by an exception, the others end within seconds, wherever they
    are, in a collective too: one line on stderr, exit status 2, and no `finally` of
    theirs runs, as if they were killed. Those that come to its end wait there for the
    others. SIGTERM stops the job; left to JAX, it would be the notice of a preemption,
    and the job went on. In a run of one process all this does nothing.

    Raises:
      UserError: stopped by SIGTERM.
    """
    client = _client()
    if client is None:
        yield
        return
    leaving, ended = threading.Lock(), threading.Event()
    watch = threading.Thread(target=_watch, args=(client, leaving, ended), daemon=True)
    watch.start()
    signal.signal(signal.SIGTERM, _stop)
    try:
        yield
        meet("all is done")
    except BaseException:
        with leaving:  # not by its own key
            ended.set()
        # Process 0 may be gone, and with it the store; then JAX ends the others.
        with contextlib.suppress(RuntimeError):
            client.key_value_set(f"{_STOPPED}{jax.process_index()}", "")
        raise
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        ended.set()
        # A thread inside of JAX must not outlive the interpreter.
        watch.join()


def _stop(*_):
    raise UserError("stopped by SIGTERM; run the same command to go on")


def _watch(client, leaving, ended):
    """Ends this process when another one has said that it stops."""
    while not ended.wait(_LOOK_SECONDS):
        try:
            stopped = client.key_value_dir_get(_STOPPED)
        except RuntimeError:  # JAX is about to end this process
            return
        with leaving:
            if not stopped or ended.is_set():
                continue
            print(f"error: {_of_another()}", file=sys.stderr, flush=True)
            sys.stdout.flush()
            # Process 0 must not go first: without its service the others are aborted.
            with contextlib.suppress(RuntimeError):
                jax.distributed.shutdown()
            os._exit(_STATUS)


def meet(where: str, timeout: float | None = None) -> None:
    """Returns when all processes of the run have come here.

    Args:
      where: a name, the same in all of them.
      timeout: seconds to wait at most; None: as long as it takes.

    Raises:
      UserError: another process did not come in time, or has stopped.
    """
    client = _client()
    if client is None:
        return
    try:
        client.wait_at_barrier(f"dga_jax/{where}", _milliseconds(timeout))
    except RuntimeError as error:
        raise _not_together(error, where, timeout) from None


def broadcast(value: Any, timeout: float | None = None) -> Any:
    """The value that process 0 gives, in all processes.

    All call it, in the same order; what the others give does not matter.

    Args:
      value: what JSON can hold, up to a megabyte or so; tuples come back as lists.
      timeout: seconds to wait for it at most; None: as long as it takes.

    Raises:
      UserError: process 0 did not come in time, or has stopped.
    """
    client, text = _client(), json.dumps(value)
    if client is None:
        return json.loads(text)
    key = f"dga_jax/broadcast/{next(_broadcasts)}"
    try:
        if jax.process_index() == 0:
            client.key_value_set(key, text)
        else:
            text = client.blocking_key_value_get(key, _milliseconds(timeout))
    except RuntimeError as error:
        raise _not_together(error, "a decision", timeout) from None
    return json.loads(text)


def _client():
    """That of the coordination service; None in a run of one process."""
    return _jax_distributed.global_state.client if jax.process_count() > 1 else None


def _milliseconds(timeout):
    return int(1000 * (_LONG_SECONDS if timeout is None else timeout))


def _not_together(error, where, timeout):
    if "DEADLINE_EXCEEDED" in str(error) and timeout is not None:
        return UserError(
            f"after {timeout:g} s not all processes of this job have come to {where!r};"
            " see the messages of the others"
        )
    return UserError(_of_another())


def _of_another():
    return "another process of this job has stopped; see its message"


def _place():
    missing = [name for name in _PLACE if name not in os.environ]
    if missing:
        raise UserError(
            f"{processes.COORDINATOR} is set, but {missing[0]} is not; set both"
        )
    return tuple(int(os.environ[name]) for name in _PLACE)
