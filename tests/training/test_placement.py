"""A run is put where it fits, and it is said where that is."""

import dataclasses

import jax
import pytest
from runs import small_config

from configs import quickstart
from dga_jax.errors import UserError
from dga_jax.training import config as configs
from dga_jax.training import placement
from dga_jax.training.fields import default_config
from dga_jax.training.setup import check

V5E = 15.75 * 2**30  # bytes that a program may use of one chip's memory
OF_125M, OF_750M = 4 * 124e6, 4 * 778_169_600


@pytest.mark.parametrize(
    ("parameter_bytes", "memory", "devices", "tensor", "fsdp"),
    [
        (OF_125M, V5E, 8, 1, 1),  # pure data
        (OF_750M, V5E, 8, 1, 8),  # which does not fit here
        (OF_750M, V5E, 1, 1, 1),  # nothing to share with
        (OF_750M, None, 8, 1, 1),  # not known, as on CPU
        (4 * 7e9, V5E, 16, 1, 16),
        (4 * 7e9, V5E, 8, 1, 8),  # too few: as much as can be
        (4 * 7e9, V5E, 16, 4, 4),  # four more share the inside of layers
        (4 * 7e9, 95e9, 12, 1, 12),
        (4 * 7e9, 95e9, 12, 2, 1),
    ],
)
def test_all_share_the_parameters_where_one_cannot_hold_them(
    parameter_bytes, memory, devices, tensor, fsdp
):
    assert (
        placement.fitting_fsdp(parameter_bytes, memory, devices, tensor=tensor) == fsdp
    )


def test_activations_need_room_too():
    """They do not shrink with fsdp: parameters have to leave them room."""
    sizes = [
        placement.fitting_fsdp(OF_125M, V5E, 8, activations=gigabytes * 1e9)
        for gigabytes in (0, 12, 14)
    ]
    assert sizes == [1, 1, 8]


def test_what_does_not_divide_the_width_shares_nothing():
    assert placement.fitting_fsdp(OF_750M, V5E, 12, width=1280) == 4


def of_750m():
    config = default_config()
    config.model.update(num_layers=36, d_model=1280, num_heads=20)
    config.train.update(batch_size=512, microbatches=8)
    return config


def test_a_large_model_on_small_chips():
    """750M on eight v5e chips: a pure data mesh is no choice, and it is said."""
    config, devices = of_750m(), jax.devices()
    mesh = placement.make_mesh(config, devices, V5E)
    assert dict(mesh.shape) == {"data": 1, "fsdp": 8, "tensor": 1}
    line = placement.describe(config, mesh, V5E)
    assert f"fsdp {mesh.shape['fsdp']} x tensor 1: about " in line
    assert "of 16.9 GB a device; attention: xla" in line
    assert "not fit" not in line
    config.mesh.fsdp = 1
    whole = placement.make_mesh(config, devices, V5E)
    assert dict(whole.shape) == {"data": 8, "fsdp": 1, "tensor": 1}
    assert "it may not fit" in placement.describe(config, whole, V5E)


def test_a_small_model_stays_whole():
    mesh = placement.make_mesh(quickstart.get_config(), jax.devices(), V5E)
    assert mesh.shape["data"] == 8


@pytest.mark.parametrize(
    ("sizes", "expected"),
    [
        ({}, (8, 1, 1)),
        ({"data": 2}, (2, 4, 1)),
        ({"data": 8}, (8, 1, 1)),
        ({"fsdp": 4}, (2, 4, 1)),
        ({"tensor": 2}, (4, 1, 2)),
        ({"data": 2, "tensor": 2}, (2, 2, 2)),
        ({"data": 1, "fsdp": 8}, (1, 8, 1)),
    ],
    ids=str,
)
def test_what_is_given_is_kept(sizes, expected):
    """On CPU, whose memory is not known."""
    config = quickstart.get_config()
    config.mesh.update(sizes)
    mesh = placement.make_mesh(config)
    assert tuple(mesh.shape.values()) == expected


@pytest.mark.parametrize(
    ("sizes", "words"),
    [
        ({"data": 3}, r"mesh\.data=3 x .* is not the 8 devices"),
        ({"data": 0}, r"mesh\.data=0"),
        ({"fsdp": 0}, r"mesh\.fsdp=0: must be at least 1"),
        ({"fsdp": -2}, r"mesh\.fsdp=-2: must be at least 1"),
        ({"tensor": 0}, r"mesh\.tensor=0: must be at least 1"),
    ],
    ids=str,
)
def test_sizes_that_make_no_mesh(sizes, words):
    config = quickstart.get_config()
    config.mesh.update(sizes)
    with pytest.raises(UserError, match=words):
        placement.make_mesh(config)


def test_keeping_activations_takes_more_than_making_them_again():
    model = configs.model_config(of_750m())
    full, dots, none = (
        placement.activation_bytes(
            dataclasses.replace(model, remat=remat), 8, 1024, 128
        )
        for remat in ("full", "dots", "none")
    )
    assert none > 4 * full
    # Of 36 layers, in bfloat16: five of the width (1,280), two of the inside (3,456).
    kept = 36 * 8 * 1024 * (5 * 1280 + 2 * 3456) * 2
    assert dots - full == pytest.approx(kept)


def test_all_processes_choose_by_the_memory_of_the_first(monkeypatch):
    asked = []

    def broadcast(value):
        asked.append(value)
        return V5E

    monkeypatch.setattr(placement.distributed, "broadcast", broadcast)
    assert placement.make_mesh(of_750m()).shape["fsdp"] == 8
    assert asked == [None]


def test_memory_of_cpu_is_not_known():
    assert placement.device_memory(jax.devices()) is None


def test_a_kernel_that_cannot_run_is_refused_at_the_start(byte_store):
    config = small_config(byte_store, model__attention="splash")
    with pytest.raises(UserError, match="it runs on TPU, and this is cpu"):
        check(config, ())


def test_the_kernel_of_a_run_follows_from_its_mesh(byte_store):
    config = small_config(byte_store)
    mesh = placement.make_mesh(config)
    assert configs.attention_kernel(config, mesh) == ("xla", "")
    assert configs.model_config(config, mesh).mesh == mesh
    assert configs.model_config(config).attention == "xla"
