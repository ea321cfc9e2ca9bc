"""Python programs in processes of their own, of one that has imported what they need.

To import JAX takes a program longer than most tests of it: a server imports it once
and forks for each. It uses no device and has no thread, so that its children begin as
a program does; they get arguments, environment, signals and an exit as any other.
"""

import atexit
import contextlib
import functools
import gc
import importlib
import json
import os
import pathlib
import runpy
import select
import signal
import socket
import subprocess
import sys
import threading
import types
import warnings

from jax._src import api

# Not modules that define flags: a program does that when it begins.
_IMPORTED = (
    "dga_jax.cli",
    "dga_jax.logs.plot",
    "dga_jax.prepare.assemble.clustering",
    "dga_jax.prepare.clusters.blocks",
    "dga_jax.prepare.clusters.tfidf",
    "dga_jax.training.fields",
    "dga_jax.training.loop",
    "dga_jax.training.same_run",
    "dga_jax.training.start_from",
    "ml_collections.config_flags",
    "jax.experimental.multihost_utils",
)
_ROOT = str(pathlib.Path(__file__).parents[1])
_OF_SEVERAL = {"JAX_COORDINATOR_ADDRESS", "JAX_NUM_PROCESSES", "JAX_PROCESS_ID"}
_QUIET = "TF_CPP_MIN_LOG_LEVEL"  # which is read when JAX is imported


class Process:
    """`python *arguments`, as `subprocess.Popen` has it; output is text, by pipe."""

    def __init__(self, arguments, cwd, env=os.environ):
        several = "JAX_COORDINATOR_ADDRESS" in env
        read, write = zip(*(os.pipe() for _ in range(2)), strict=True)
        ours, its = socket.socketpair()
        socket.send_fds(_server(several), [b"."], [its.fileno(), *write])
        its.close()
        for descriptor in write:
            os.close(descriptor)
        self.args = list(map(str, arguments))
        self.stdout, self.stderr = map(os.fdopen, read)
        self.returncode = None
        ours.sendall(json.dumps([self.args, str(cwd), dict(env)]).encode() + b"\n")
        self._said = ours.makefile("rb", buffering=0)
        self.pid = int(self._said.readline())

    def poll(self):
        """The exit status, negative of a signal; None of a program that still runs."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.wait(0)
        return self.returncode

    def wait(self, timeout=None):
        """As `poll`, but waits so many seconds for the end."""
        if self.returncode is None:
            if not select.select([self._said], [], [], timeout)[0]:
                raise subprocess.TimeoutExpired(self.args, timeout)
            self.returncode = int(self._said.readline())
        return self.returncode

    def send_signal(self, number):
        if self.poll() is None:
            os.kill(self.pid, number)

    def communicate(self):
        """What it said on stdout and stderr, once it has ended."""
        said = []
        reader = threading.Thread(target=lambda: said.append(self.stderr.read()))
        reader.start()
        output = self.stdout.read()
        reader.join()
        self.wait()
        return output, said[0]


def run(arguments, cwd, env=os.environ):
    """As `subprocess.run`, which captures the output."""
    process = Process(arguments, cwd, env)
    output, errors = process.communicate()
    return subprocess.CompletedProcess(process.args, process.returncode, output, errors)


@functools.cache
def _server(several):
    """A socket of the server for programs that are alone, or for those of several."""
    ours, its = socket.socketpair()
    environment = {name: os.environ[name] for name in os.environ if name != _QUIET}
    if several:
        environment[_QUIET] = "3"
    with its:
        subprocess.Popen(
            [sys.executable, __file__, str(its.fileno())],
            pass_fds=[its.fileno()],
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
        )
    return ours


def _read_by_jax(environment):
    """What JAX reads when it is imported: a child cannot have it otherwise."""
    return {
        name: value
        for name, value in environment.items()
        if name.startswith("JAX_") and name not in _OF_SEVERAL
    }


def _serve(requests):
    """Forks for each request; returns only in the children, with their arguments."""
    while True:
        signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody asks how they ended
        byte, descriptors, *_ = socket.recv_fds(requests, 1, 3)
        if not byte:  # the tests are over
            sys.exit()
        if os.fork():
            for descriptor in descriptors:
                os.close(descriptor)
            continue
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        client, *output = descriptors
        said = socket.socket(fileno=client).makefile("rwb", buffering=0)
        arguments, cwd, environment = json.loads(said.readline())
        child = os.fork()
        if child:
            for descriptor in output:
                os.close(descriptor)
            said.write(b"%d\n" % child)
            _, status = os.waitpid(child, 0)
            said.write(b"%d\n" % os.waitstatus_to_exitcode(status))
            os._exit(0)
        requests.close()
        os.close(client)
        for descriptor, number in zip(output, (1, 2), strict=True):
            os.dup2(descriptor, number)
            os.close(descriptor)
        sys.stdout = sys.__stdout__ = open(1, "w", closefd=False)  # noqa: SIM115
        sys.stderr = sys.__stderr__ = open(  # noqa: SIM115
            2, "w", buffering=1, errors="backslashreplace", closefd=False
        )
        assert _read_by_jax(environment) == _read_by_jax(os.environ)
        os.chdir(cwd)
        environment[_QUIET] = os.environ[_QUIET]
        os.environ.clear()
        os.environ.update(environment)
        path = environment.get("PYTHONPATH")
        sys.path[:1] = [cwd, *(path.split(os.pathsep) if path else ())]
        return arguments


def _become(how, what, *arguments):
    """Runs what Python would have run, `-m` a module or `-c` a text."""
    sys.argv = [what if how == "-m" else how, *arguments]
    if how == "-m":
        runpy.run_module(what, run_name="__main__", alter_sys=True)
    else:
        main = sys.modules["__main__"] = types.ModuleType("__main__")
        exec(compile(what, "<string>", "exec"), vars(main))


def _end(status):
    """As a program ends, but for freeing what it imported and compiled: a second."""
    threading._shutdown()
    if "JAX_COORDINATOR_ADDRESS" not in os.environ:
        atexit.unregister(api.clean_up)
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)


if __name__ == "__main__":
    sys.path[0] = _ROOT
    for _name in _IMPORTED:
        importlib.import_module(_name)
    gc.collect()
    gc.freeze()
    warnings.filterwarnings("ignore", "This process .* is multi-threaded")
    _arguments = _serve(socket.socket(fileno=int(sys.argv[1])))
    try:
        _become(*_arguments)
    except SystemExit as _exit:
        if not isinstance(_exit.code, int | None):
            raise
        _end(_exit.code or 0)
    _end(0)
