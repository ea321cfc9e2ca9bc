"""Who launched this process, and which devices of its host are its own.

JAX knows launchers (SLURM, Open MPI, GKE, TPU VMs of Google's, Kubernetes) and finds
the others by them. Here is what it leaves open: whether there are any others, for a
machine of its own waits for nobody, and what of a host's GPUs a process takes.
"""

import functools
import glob
import os
import re
import warnings

# Its launchers have no public name.
from jax._src import clusters

from dga_jax import one_of_several
from dga_jax.errors import UserError

_COORDINATOR = "JAX_COORDINATOR_ADDRESS"
_PLACE = ("JAX_NUM_PROCESSES", "JAX_PROCESS_ID")
# By launcher: this process among those of its host, and how many these are.
_ON_HOST = {
    "SLURM_STEP_NODELIST": ("SLURM_LOCALID", "SLURM_STEP_TASKS_PER_NODE"),
    "OMPI_COMM_WORLD_SIZE": (
        "OMPI_COMM_WORLD_LOCAL_RANK",
        "OMPI_COMM_WORLD_LOCAL_SIZE",
    ),
}


def launcher() -> str | None:
    """What says that this is one of several processes; None if nothing does.

    A variable, if one does; else the name of a launcher that JAX has to ask for it:
    the metadata of a TPU VM, or a cluster's API for an indexed job.

    Raises:
      UserError: what JAX needs to ask is missing.
    """
    return one_of_several() or _asked()


def coordinator() -> tuple[()] | tuple[str, int, int]:
    """Address, number of processes and index, where the variables say so.

    Raises:
      UserError: one of them is missing.
      ValueError: one is no number.
    """
    if _COORDINATOR not in os.environ:
        return ()
    missing = [name for name in _PLACE if name not in os.environ]
    if missing:
        raise UserError(f"{_COORDINATOR} is set, but {missing[0]} is not; set both")
    count, index = (int(os.environ[name]) for name in _PLACE)
    return os.environ[_COORDINATOR], count, index


def local_devices() -> list[int] | None:
    """Which GPUs of those that this process sees are its own; None: JAX decides.

    JAX gives a process of SLURM or Open MPI the GPU of its number on the host: it
    takes one of eight where a host has one process, and one that is not there where
    the launcher shows each process its own GPU alone. Here all that are seen are
    shared among the processes of the host; what each sees alone is its own.
    """
    seen = _visible_gpus()
    for sign, (index_name, count_name) in _ON_HOST.items():
        if not {sign, index_name} <= os.environ.keys():
            continue
        index, count = int(os.environ[index_name]), _on_host(count_name)
        if not seen:
            return None
        if seen < count:
            return list(range(seen))
        each = seen // count
        return list(range(index * each, (index + 1) * each))
    return None


def _visible_gpus() -> int:
    """GPUs that CUDA would show this process; asking CUDA would take them all."""
    if (names := os.environ.get("CUDA_VISIBLE_DEVICES")) is not None:
        return len([name for name in names.split(",") if name.strip()])
    return len(glob.glob("/dev/nvidia[0-9]*"))


def _on_host(name: str) -> int:
    """Processes on this host; SLURM writes "8(x2),4" for 8, 8 and 4 on three."""
    counts = []
    for part in os.environ.get(name, "1").split(","):
        found = re.fullmatch(r"(\d+)(?:\(x(\d+)\))?", part)
        if found:
            counts += [int(found[1])] * int(found[2] or 1)
    node = int(os.environ.get("SLURM_NODEID", "0")) if name.startswith("SLURM") else 0
    return counts[node] if node < len(counts) else 1


@functools.cache
def _asked() -> str | None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a cluster whose API we do not need
        for kind in clusters.ClusterEnv._cluster_types:
            name = kind.name or kind.__name__
            if kind.opt_in_only_method or (
                name == "K8sCluster" and "JOB_COMPLETION_INDEX" not in os.environ
            ):
                continue
            try:
                if kind.is_env_present():
                    return name if kind.get_process_count() > 1 else None
            except ImportError as error:
                said = f"a package is missing ({error}); install it"
            except OSError:  # no such service here: a machine of its own
                continue
            except Exception as error:  # of whatever it asks
                said = " ".join(str(error).split())
            else:
                continue
            raise UserError(
                f"whether this is one of several processes cannot be asked ({name}): "
                f"{said}, or set {_COORDINATOR}, {_PLACE[0]} and {_PLACE[1]}"
            )
    return None
