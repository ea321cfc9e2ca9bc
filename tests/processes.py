"""Several processes of one run, each with CPU devices of its own."""

import os
import pathlib
import socket

import forks

ROOT = pathlib.Path(__file__).parents[1]


def start(arguments, count=2, devices=4, of_last=()):
    """Starts `python *arguments` so often, each process with so many devices.

    `of_last` are arguments of the last one alone.
    """
    port = free_port()
    flags = os.environ["XLA_FLAGS"].replace("count=8", f"count={devices}")
    return [
        forks.Process(
            [*arguments, *(of_last if i == count - 1 else ())],
            ROOT,
            {
                **os.environ,
                "XLA_FLAGS": flags,
                "PYTHONPATH": str(ROOT),
                "JAX_COORDINATOR_ADDRESS": f"localhost:{port}",
                "JAX_NUM_PROCESSES": str(count),
                "JAX_PROCESS_ID": str(i),
            },
        )
        for i in range(count)
    ]


def finish(processes):
    """What the first printed, once all ended well."""
    results = [process.communicate() for process in processes]
    for process, (_, errors) in zip(processes, results, strict=True):
        assert process.returncode == 0, errors
    return results[0][0]


def ended(processes):
    """Exit statuses, and lines on stderr, of each; however long they take."""
    said = [process.communicate()[1].splitlines() for process in processes]
    return [process.returncode for process in processes], said


def free_port():
    with socket.socket() as sock:
        sock.bind(("localhost", 0))
        return sock.getsockname()[1]
