"""Joins the processes of a multi-host run, where it was launched as one."""

import os

import jax
from jax.experimental import multihost_utils

from dga_jax.errors import UserError

_COORDINATOR = "JAX_COORDINATOR_ADDRESS"
_PLACE = ("JAX_NUM_PROCESSES", "JAX_PROCESS_ID")


def initialize() -> None:
    """Calls `jax.distributed.initialize` if the environment asks for it.

    It does so in one of three ways: JAX_COORDINATOR_ADDRESS with JAX_NUM_PROCESSES and
    JAX_PROCESS_ID; a SLURM job of several tasks; a Cloud TPU pod of several hosts.

    Raises:
      UserError: the variables contradict each other, or the others cannot be reached.
    """
    try:
        if _COORDINATOR in os.environ:
            count, index = _place()
            jax.distributed.initialize(os.environ[_COORDINATOR], count, index)
        elif int(os.environ.get("SLURM_NTASKS", "1")) > 1 or _on_tpu_pod():
            jax.distributed.initialize()
    except (ValueError, RuntimeError) as error:
        raise UserError(
            f"the processes of this run did not find each other: {error}"
        ) from None


def meet(where: str) -> None:
    """Returns when all processes of the run have come here."""
    if jax.process_count() > 1:
        multihost_utils.sync_global_devices(where)


def _place():
    missing = [name for name in _PLACE if name not in os.environ]
    if missing:
        raise UserError(f"{_COORDINATOR} is set, but {missing[0]} is not; set both")
    return tuple(int(os.environ[name]) for name in _PLACE)


def _on_tpu_pod():
    return "," in os.environ.get("TPU_WORKER_HOSTNAMES", "")
