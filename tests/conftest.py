"""Eight CPU devices before JAX wakes up, and the sample as a store."""

import os

os.environ["JAX_PLATFORMS"] = "cpu"
os.environ["XLA_FLAGS"] = " ".join(
    [os.environ.get("XLA_FLAGS", ""), "--xla_force_host_platform_device_count=8"]
).strip()

import pytest


@pytest.fixture(scope="session")
def sample_store():
    from dga_jax.data.sample import sample_store as path_of_sample
    from dga_jax.data.store import Store

    return Store.open(path_of_sample(seq_len=128))
