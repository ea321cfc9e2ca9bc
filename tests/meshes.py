"""Runs on one device of the eight, where it is not the mesh that is looked at.

A program for eight takes longer to compile, and much longer to run on two cores.
"""

import contextlib

import jax
import pytest

from dga_jax.training import placement


@contextlib.contextmanager
def on_one_device():
    """Inside, a run in this process finds one device."""
    make_mesh = placement.make_mesh
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(
            placement,
            "make_mesh",
            lambda config, devices=None: make_mesh(config, jax.devices()[:1]),
        )
        yield
