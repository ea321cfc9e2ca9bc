"""Which processes there are, by what launchers say; whose the GPUs of a host are."""

import glob

import pytest
from jax._src import clusters

from dga_jax.errors import UserError
from dga_jax.training import joining


@pytest.fixture(autouse=True)
def nowhere(monkeypatch):
    """No launcher, and no GPU."""
    for name in ("SLURM_STEP_NODELIST", "OMPI_COMM_WORLD_SIZE", "CUDA_VISIBLE_DEVICES"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(glob, "glob", lambda pattern: [])
    joining._asked.cache_clear()
    yield
    joining._asked.cache_clear()


def kinds(monkeypatch, *found):
    """JAX knows these launchers alone: (name, is it here, how many processes)."""

    def kind(name, here, count):
        def answer(given):
            def ask(cls):
                if isinstance(given, Exception):
                    raise given
                return given

            return classmethod(ask)

        members = {"is_env_present": answer(here), "get_process_count": answer(count)}
        return type(name, (), {"name": name, "opt_in_only_method": False, **members})

    known = [kind(*one) for one in found]
    monkeypatch.setattr(clusters.ClusterEnv, "_cluster_types", known)


def test_a_pod_that_only_metadata_knows(monkeypatch):
    kinds(monkeypatch, ("slurm", False, 8), ("gcetpu", True, 4))
    assert joining.launcher() == "gcetpu"


@pytest.mark.parametrize(
    "found",
    [
        ("gcetpu", True, 1),  # a TPU VM of its own
        ("gcetpu", OSError("no such host"), 4),
        ("K8sCluster", True, 4),  # a pod, but of no indexed job
    ],
    ids=str,
)
def test_a_machine_of_its_own_waits_for_nobody(found, monkeypatch):
    monkeypatch.delenv("JOB_COMPLETION_INDEX", raising=False)
    kinds(monkeypatch, found)
    assert joining.launcher() is None


def test_what_cannot_be_asked(monkeypatch):
    """Alone, each of several would train the same."""
    kinds(monkeypatch, ("gcetpu", ImportError("No module named 'requests'"), 4))
    with pytest.raises(
        UserError, match=r"\(gcetpu\).*requests.*JAX_COORDINATOR_ADDRES"
    ):
        joining.launcher()


@pytest.mark.parametrize(
    ("variables", "devices"),
    [
        # One process a GPU; SLURM shows each all of them, or its own alone.
        ({"SLURM_LOCALID": "3", "SLURM_STEP_TASKS_PER_NODE": "8(x2)"}, [3]),
        (
            {
                "SLURM_LOCALID": "3",
                "SLURM_STEP_TASKS_PER_NODE": "8(x2)",
                "CUDA_VISIBLE_DEVICES": "3",
            },
            [0],
        ),
        # One process a host has all of its GPUs; one of two, half of them.
        (
            {"SLURM_LOCALID": "0", "SLURM_STEP_TASKS_PER_NODE": "1(x4)"},
            [0, 1, 2, 3, 4, 5, 6, 7],
        ),
        (
            {
                "SLURM_LOCALID": "1",
                "SLURM_STEP_TASKS_PER_NODE": "1,2",
                "SLURM_NODEID": "1",
            },
            [4, 5, 6, 7],
        ),
        ({"SLURM_LOCALID": "3", "CUDA_VISIBLE_DEVICES": ""}, None),
        ({"OMPI_COMM_WORLD_LOCAL_RANK": "1", "OMPI_COMM_WORLD_LOCAL_SIZE": "8"}, [1]),
        ({}, None),
    ],
    ids=str,
)
def test_gpus_of_a_process(variables, devices, monkeypatch):
    eight = [f"/dev/nvidia{i}" for i in range(8)]
    monkeypatch.setattr(glob, "glob", lambda pattern: eight)
    sign = "OMPI_COMM_WORLD_SIZE" if "OMPI" in str(variables) else "SLURM_STEP_NODELIST"
    for name, value in (variables | {sign: "16"}).items():
        monkeypatch.setenv(name, value)
    assert joining.local_devices() == devices
