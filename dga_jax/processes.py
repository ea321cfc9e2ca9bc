"""Whether this process was launched as one of several; asks the environment alone."""

import os

COORDINATOR = "JAX_COORDINATOR_ADDRESS"


def is_one_of_several() -> bool:
    """Whether `distributed.initialize` would join others.

    It does so in one of three ways: JAX_COORDINATOR_ADDRESS with JAX_NUM_PROCESSES and
    JAX_PROCESS_ID; a SLURM job of several tasks; a Cloud TPU pod of several hosts.
    """
    in_slurm_job = int(os.environ.get("SLURM_NTASKS", "1")) > 1
    on_tpu_pod = "," in os.environ.get("TPU_WORKER_HOSTNAMES", "")
    return COORDINATOR in os.environ or in_slurm_job or on_tpu_pod
