"""A program of the server of forks begins and ends as one of its own."""

import os
import signal
import subprocess

import forks
import pytest
from processes import ROOT

BEGUN = """
import os, sys
print(sys.argv, os.getcwd(), os.environ["ONLY_HERE"])
print(sys.stdout.line_buffering, os.environ.get("TF_CPP_MIN_LOG_LEVEL"))
print("said", file=sys.stderr)
import jax
print(jax.device_count())
sys.exit(3)
"""


@pytest.mark.parametrize("several", [False, True])
def test_begins_with_what_it_is_given(several, tmp_path):
    flags = os.environ["XLA_FLAGS"].replace("count=8", "count=2")
    env = os.environ | {"ONLY_HERE": "ä", "XLA_FLAGS": flags}
    if several:
        env["JAX_COORDINATOR_ADDRESS"] = "localhost:1"
    done = forks.run(["-c", BEGUN, "--flag", 7], tmp_path, env)
    assert (done.returncode, done.stderr) == (3, "said\n")
    begun, streams, devices = done.stdout.splitlines()
    assert begun == f"['-c', '--flag', '7'] {tmp_path} ä"
    assert streams == f"False {3 if several else 1}"
    assert devices == "2"


def test_ends_by_a_signal():
    process = forks.Process(["-c", "import time; time.sleep(1000)"], ROOT)
    assert process.poll() is None
    with pytest.raises(subprocess.TimeoutExpired):
        process.wait(0.01)
    process.send_signal(signal.SIGKILL)
    assert process.communicate() == ("", "")
    assert process.returncode == process.poll() == -signal.SIGKILL


def test_ends_as_a_program_does():
    """A defect has its traceback; what is to be done at the end is done."""
    text = "import atexit; atexit.register(print, 'end'); raise KeyError('x')"
    done = forks.run(["-c", text], ROOT)
    assert (done.returncode, done.stdout) == (1, "end\n")
    assert done.stderr.splitlines()[-1] == "KeyError: 'x'"


def test_what_was_begun_is_finished():
    """Threads are waited for, and what was printed last arrives."""
    text = "import sys, threading, time; f = lambda: (time.sleep(0.2), print('late'))"
    text += "; threading.Thread(target=f).start(); sys.exit(4)"
    done = forks.run(["-c", text], ROOT)
    assert (done.returncode, done.stdout, done.stderr) == (4, "late\n", "")
