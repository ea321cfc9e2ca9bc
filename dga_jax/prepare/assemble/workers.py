"""A step in several processes of this machine, for Python does one thing at a time.

Each worker has a pipe of its own, and nothing is locked: whichever is killed, the rest
go on or are told.
"""

import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable, MutableSequence, Sequence
from multiprocessing import connection
from typing import Any

import numpy as np

from dga_jax.errors import UserError
from dga_jax.files import OnBytes

_LOOK_SECONDS = 0.2

Step = Callable[[Any, OnBytes], object]


def map_in_processes(
    step: Step,
    items: Sequence[Any],
    on_bytes: OnBytes,
    workers: int,
) -> None:
    """Calls step(item, on_bytes) for all items in `workers` processes.

    All of them end when this process does, whatever ends it.

    Raises:
      UserError: that of a step, or a process was killed.
    """
    context = multiprocessing.get_context("spawn")
    read, told = context.RawArray("Q", len(items)), 0  # by item, so one writes each
    running = {}
    try:
        for _ in range(workers):
            ours, theirs = context.Pipe()
            arguments = (theirs, os.getpid(), step, read)
            running[ours] = context.Process(target=_work, args=arguments, daemon=True)
            running[ours].start()
            theirs.close()
        waiting = iter(enumerate(items))
        while running:
            for ready in connection.wait(list(running), _LOOK_SECONDS):
                if error := ready.recv():
                    raise error
                item = next(waiting, None)
                ready.send(item)
                if item is None:
                    running.pop(ready).join()
            now = int(np.frombuffer(read, np.uint64).sum())
            on_bytes(now - told)
            told = now
    except (EOFError, ConnectionError) as error:
        raise UserError(
            "a worker process was killed, for want of memory perhaps; run again, with"
            f" fewer than --workers={workers}"
        ) from error
    finally:
        for process in running.values():
            process.kill()  # files appear whole or not at all
            process.join()


def _work(
    pipe: connection.Connection, parent: int, step: Step, read: MutableSequence[int]
) -> None:
    """Does what comes through the pipe, until None comes; answers errors, or None."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)  # the parent ends its workers
    os.environ["TOKENIZERS_PARALLELISM"] = "false"  # there is a process a core
    threading.Thread(target=_follow, args=(parent,), daemon=True).start()
    pipe.send(None)
    while (numbered := pipe.recv()) is not None:
        try:
            _call(step, *numbered, read)
            pipe.send(None)
        except Exception as error:
            pipe.send(error)
            return


def _call(step: Step, number: int, item: Any, read: MutableSequence[int]) -> None:
    def add(count: int) -> None:
        read[number] += count

    step(item, add)


def _follow(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(_LOOK_SECONDS)
    os._exit(1)
