"""A step in several processes of this machine, for Python does one thing at a time."""

import concurrent.futures
import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from dga_jax.errors import UserError

_LOOK_SECONDS = 0.2
_step = _read = None  # in a worker: what it does; the bytes that were read, by item


def map_in_processes(
    step: Callable[[Any, Callable[[int], object]], object],
    items: Sequence[Any],
    on_bytes: Callable[[int], object],
    workers: int,
) -> None:
    """Calls step(item, on_bytes) for all items in `workers` processes.

    All of them end when this process does, whatever ends it.

    Raises:
      UserError: that of a step, or a process was killed.
    """
    context = multiprocessing.get_context("spawn")
    # Without a lock, which a worker that is killed would take with it: an item has one
    # writer.
    read, told = context.RawArray("Q", len(items)), 0
    pool = concurrent.futures.ProcessPoolExecutor(
        workers, context, _begin, (os.getpid(), step, read)
    )
    try:
        waiting = {pool.submit(_call, *pair) for pair in enumerate(items)}
        while waiting:
            done, waiting = concurrent.futures.wait(
                waiting, _LOOK_SECONDS, concurrent.futures.FIRST_EXCEPTION
            )
            now = int(np.frombuffer(read, np.uint64).sum())
            on_bytes(now - told)
            told = now
            for future in done:
                future.result()
    except concurrent.futures.process.BrokenProcessPool as error:
        _end(pool)
        raise UserError(
            "a worker process was killed, for want of memory perhaps; run again, with"
            f" fewer than --workers={workers}"
        ) from error
    except BaseException:
        _end(pool)
        raise
    pool.shutdown()


def _end(pool) -> None:
    pool.shutdown(wait=False, cancel_futures=True)
    for process in multiprocessing.active_children():
        process.kill()  # files appear whole or not at all


def _begin(parent: int, step, read) -> None:
    """Makes a process a worker."""
    global _step, _read
    _step, _read = step, read
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent ends its workers
    os.environ["TOKENIZERS_PARALLELISM"] = "false"  # there is a process a core
    threading.Thread(target=_follow, args=(parent,), daemon=True).start()


def _follow(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(_LOOK_SECONDS)
    os._exit(1)


def _call(number, item) -> None:
    def add(count: int) -> None:
        _read[number] += count

    _step(item, add)
