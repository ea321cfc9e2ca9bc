"""Pretrains a language model on a data mixture that steers itself towards a target."""

import os


def one_of_several() -> str | None:
    """The variable that says that this process was launched as one of several, if any.

    JAX_COORDINATOR_ADDRESS, with JAX_NUM_PROCESSES and JAX_PROCESS_ID; that of a SLURM
    step of several tasks, which a batch script by itself is not; or that of a Cloud TPU
    pod of several hosts. Asks the environment alone.
    """
    if "JAX_COORDINATOR_ADDRESS" in os.environ:
        return "JAX_COORDINATOR_ADDRESS"
    in_slurm_step = "SLURM_STEP_NODELIST" in os.environ
    if in_slurm_step and int(os.environ.get("SLURM_NTASKS", "1")) > 1:
        return "SLURM_NTASKS"
    on_tpu_pod = "," in os.environ.get("TPU_WORKER_HOSTNAMES", "")
    return "TPU_WORKER_HOSTNAMES" if on_tpu_pod else None


if one_of_several():
    # JAX's libraries log the loss of another process, which `distributed` says in a
    # line. They read this when JAX is imported.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
