"""Pretrains a language model on a data mixture that steers itself towards a target."""

import os


def one_of_several() -> str | None:
    """The variable that says that this process was launched as one of several, if any.

    JAX_COORDINATOR_ADDRESS, with JAX_NUM_PROCESSES and JAX_PROCESS_ID; that of a SLURM
    step of several tasks, which a batch script by itself is not; of Open MPI; or of
    TPUs of several hosts or slices. Asks the environment alone.
    """
    if "JAX_COORDINATOR_ADDRESS" in os.environ:
        return "JAX_COORDINATOR_ADDRESS"
    counts = ["OMPI_COMM_WORLD_SIZE", "MEGASCALE_NUM_SLICES"]
    if "SLURM_STEP_NODELIST" in os.environ:
        counts.append("SLURM_NTASKS")
    for name in counts:
        if int(os.environ.get(name) or 1) > 1:
            return name
    for name in ("TPU_PROCESS_ADDRESSES", "TPU_WORKER_HOSTNAMES"):
        if "," in os.environ.get(name, ""):
            return name
    return None


if one_of_several():
    # JAX's libraries log the loss of another process, which `distributed` says in a
    # line. They read this when JAX is imported.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
