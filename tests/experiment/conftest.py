import pytest
from meshes import on_one_device


@pytest.fixture(scope="module", autouse=True)
def _one_device():
    with on_one_device():
        yield
