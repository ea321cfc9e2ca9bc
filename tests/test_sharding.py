"""Every mesh computes what one device does, on the same rows."""

import dataclasses
import functools
import importlib.util
import threading

import jax
import numpy as np
import pytest
from jax.experimental import mesh_utils
from jax.sharding import PartitionSpec as P
from runs import log_of, mesh_of, parts_of, small_config

from dga_jax import sharding
from dga_jax.benchmark.collectives import collective_bytes, collectives
from dga_jax.benchmark.fit_chips import topology_devices
from dga_jax.data.store import Store
from dga_jax.errors import UserError
from dga_jax.mixing import alignment
from dga_jax.training import config as configs
from dga_jax.training import train_state
from dga_jax.training.loop import train
from dga_jax.training.optimizer import make_optimizer
from dga_jax.training.setup import open_run
from dga_jax.training.steps import make_alignment_losses, weighted_rows

ALL_EIGHT = [(2**i, 2**j, 2 ** (3 - i - j)) for i in range(4) for j in range(4 - i)]
TRAINED = [(1, 8, 1), (2, 2, 2)]


def model_of(store):
    config = small_config(store)
    config.model.vocab_size = store.vocab_size
    return configs.model_config(config), configs.optimizer_config(config)


@pytest.fixture(scope="module")
def run_on(sample_store, tmp_path_factory):
    """A run's log, the rows it read, the state it began with and where."""
    runs, lock = {}, threading.Lock()

    def run(mesh):
        if mesh in runs:
            return runs[mesh]
        ids, read = [], Store.read

        def recording(self, split, wanted):
            with lock:  # reading ahead is done by several threads
                ids.append((split, *wanted.tolist()))
            return read(self, split, wanted)

        folder = tmp_path_factory.mktemp("mesh")
        config = small_config(
            sample_store, train__steps=4, mixer__interval=2, mixer__target_rows=6
        )
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(Store, "read", recording)
            start = open_run(parts_of(config, mesh), folder)
            state = start.snapshot.train
            where = jax.tree.map(lambda x: x.sharding, state)
            initial = jax.tree.map(np.asarray, state)
            assert train(start)
        runs[mesh] = log_of(folder), sorted(ids), initial, where
        return runs[mesh]

    return run


@pytest.mark.slow
@pytest.mark.parametrize("mesh", TRAINED, ids=str)
def test_a_mesh_trains_as_one_device_does(mesh, run_on, sample_store):
    """Losses, alignments, weights, evaluations; targets of 6 rows fit no mesh."""
    lines, rows, initial, where = run_on(mesh)
    expected_lines, expected_rows, expected_initial, _ = run_on((1, 1, 1))
    assert rows == expected_rows
    jax.tree.map(np.testing.assert_array_equal, initial, expected_initial)
    model, adam = model_of(sample_store)
    state = train_state.abstract_state(model, make_optimizer(adam), mesh_of(*mesh))
    assert where == jax.tree.map(lambda x: x.sharding, state)
    for line, expected in zip(lines, expected_lines, strict=True):
        assert line.keys() == expected.keys()
        for key, value in expected.items():
            assert line[key] == pytest.approx(value, rel=3e-5, abs=3e-6), key


@pytest.mark.parametrize("mesh", ALL_EIGHT, ids=str)
def test_parameters_lie_where_the_rules_say(mesh, sample_store):
    model, adam = model_of(sample_store)
    state = train_state.abstract_state(model, make_optimizer(adam), mesh_of(*mesh))
    blocks, layers = state.params["blocks"], (None,)
    expected = [
        (state.params["embed"]["embedding"], ("tensor", "fsdp")),
        (blocks["attention"]["query"]["kernel"], (*layers, "fsdp", "tensor")),
        (blocks["attention"]["key"]["kernel"], (*layers, "fsdp", "tensor")),
        (blocks["attention"]["out"]["kernel"], (*layers, "tensor", "fsdp")),
        (blocks["mlp"]["up"]["kernel"], (*layers, "fsdp", "tensor")),
        (blocks["mlp"]["down"]["kernel"], (*layers, "tensor", "fsdp")),
    ]
    moments = state.opt_state["adam"].mu["embed"]["embedding"]
    for leaf, spec in [*expected, (moments, ("tensor", "fsdp"))]:
        assert leaf.sharding.spec == P(*spec)
    _, fsdp, tensor = mesh
    for leaf, _ in expected:
        held = np.prod(leaf.sharding.shard_shape(leaf.shape))
        assert held * fsdp * tensor == leaf.size
    assert state.params["final_norm"]["scale"].sharding.is_fully_replicated
    assert state.step.sharding.is_fully_replicated


def test_what_a_mesh_does_not_divide_is_whole():
    shapes = {"embed": {"embedding": jax.ShapeDtypeStruct((257, 30), np.float32)}}
    axes = {("embed", "embedding"): ("vocab", "embed")}
    found = sharding.tree_shardings(mesh_of(1, 2, 4), shapes, axes)
    assert found["embed"]["embedding"].spec == P(None, "fsdp")


def test_every_parameter_has_a_rule(sample_store):
    """Matrices do; only the norms' scales are left out of the table."""
    model, adam = model_of(sample_store)
    state = train_state.abstract_state(model, make_optimizer(adam), mesh_of(1, 2, 2))
    for path, leaf in jax.tree_util.tree_leaves_with_path(state.params):
        whole = leaf.sharding.is_fully_replicated
        assert whole == (path[-1].key == "scale"), path


@pytest.mark.parametrize(
    ("sizes", "words"),
    [
        ((3, 1, 1), r"mesh\.data=3 x .* is not the 8 devices"),
        ((-1, 3, 1), r"mesh\.fsdp=3"),
        ((-1, 16, 1), r"mesh\.fsdp=16"),
        ((0, 1, 1), r"mesh\.data=0"),
        ((-2, 1, 1), r"mesh\.data=-2"),
        ((-1, 0, 1), r"mesh\.fsdp=0: must be at least 1"),
        ((-1, 1, -1), r"mesh\.tensor=-1: must be at least 1"),
    ],
)
def test_meshes_that_cannot_be(sizes, words):
    with pytest.raises(UserError, match=words):
        sharding.make_mesh(*sizes)


def test_the_rest_goes_to_data():
    assert dict(sharding.make_mesh(-1, 2, 2).shape) == {
        "data": 2,
        "fsdp": 2,
        "tensor": 2,
    }
    assert sharding.batch_shards(sharding.make_mesh(-1, 2, 2)) == 4


@pytest.mark.skipif(
    importlib.util.find_spec("libtpu") is None,
    reason="libtpu is not installed: pip install -e '.[tpu]'",
)
@pytest.mark.parametrize(
    ("topology", "sizes"),
    [
        ("v6e:4x4", (2, 8, 1)),
        ("v6e:4x8", (16, 2, 1)),
        ("v5p:4x4x4", (32, 2, 1)),
        ("v5p:4x4x4", (8, 8, 1)),
        ("tpu7x:2x2x2", (2, 4, 2)),
    ],
)
def test_meshes_that_split_an_axis_of_a_torus(topology, sizes):
    devices = topology_devices(topology)
    mesh = sharding.make_mesh(*sizes, devices=devices)
    assert mesh.devices.shape == sizes
    assert {*mesh.devices.flat} == {*devices}


def test_slices():
    """Of two, each is a half of `data`; on CPU they are halves of the devices."""
    devices = jax.devices()
    mesh = sharding.make_mesh(-1, 2, 1, slices=2)
    assert mesh.devices.shape == (4, 2, 1)
    assert {*mesh.devices[:2].flat} == {*devices[:4]}
    assert sharding.count_slices(devices) == 1


@pytest.mark.parametrize(
    ("sizes", "slices", "words"),
    [
        ((-1, 1, 1), 3, r"mesh\.slices=3 does not divide the 8 devices"),
        ((-1, 1, 1), 0, r"mesh\.slices=0"),
        ((1, 8, 1), 2, r"mesh\.data=1: only data lies across the 2 slices"),
    ],
)
def test_slices_that_cannot_be(sizes, slices, words):
    with pytest.raises(UserError, match=words):
        sharding.make_mesh(*sizes, slices=slices)


@pytest.mark.skipif(
    importlib.util.find_spec("libtpu") is None, reason="libtpu is not installed"
)
def test_slices_of_tpus():
    """Two of v5e 2x4: fsdp inside, data across, and nothing gathered across."""
    devices = topology_devices("v5e:2x4", slices=2)
    assert len(devices) == 16
    assert sharding.count_slices(devices) == 2
    mesh = sharding.make_mesh(-1, 8, 1, devices[::-1], slices=2)
    assert [{d.slice_index for d in half.flat} for half in mesh.devices] == [{0}, {1}]


def test_devices_that_cannot_be_laid_out(monkeypatch):
    def hole(*arguments, **options):
        raise AssertionError("Constructed mesh contains a hole")

    monkeypatch.setattr(mesh_utils, "create_device_mesh", hole)
    with pytest.raises(UserError, match=r"mesh\.fsdp=4 .* lay 8 x cpu out so \(Cons"):
        sharding.make_mesh(2, 4)


@dataclasses.dataclass(frozen=True)
class Device:
    """What a mesh is made by."""

    platform: str
    device_kind: str
    id: int
    slice_index: int
    process_index: int = 0
    coords: tuple[int, int, int] = (0, 0, 0)
    core_on_chip: int = 0


def test_gpus_of_several_hosts():
    """Each host calls itself a slice, and one mesh lies over all of them."""
    devices = [Device("gpu", "NVIDIA H100", i, i // 4) for i in range(8)]
    mesh = sharding.make_mesh(-1, 8, 1, devices)
    assert [device.id for device in mesh.devices.flat] == list(range(8))


def test_slices_are_not_joined_unasked():
    places = [(x, y, 0) for x in range(2) for y in range(2)]
    devices = [
        Device("tpu", "TPU v5 lite", 4 * part + i, part, coords=place)
        for part in range(2)
        for i, place in enumerate(places)
    ]
    assert sharding.make_mesh(-1, 4, 1, devices, slices=2).devices.shape == (2, 4, 1)
    with pytest.raises(UserError, match=r"mesh\.slices=1: .* of 2 TPU slices"):
        sharding.make_mesh(-1, 4, 1, devices)


def test_all_rows_are_held_by_a_single_process():
    where = sharding.batch_sharding(mesh_of(4, 2, 1))
    assert sharding.local_rows(where, 16).all()


@functools.cache
def aligned(store, mesh, num_domains, function):
    """The compiled alignment of k domains of 8 rows each, on a mesh."""
    config = small_config(store, model__d_model=64, model__d_ff=256)
    parts_of(config)  # takes vocabulary and row length from the store
    model, adam = configs.model_config(config), configs.optimizer_config(config)
    mesh = mesh_of(*mesh)
    state = train_state.abstract_state(model, make_optimizer(adam), mesh)
    options = configs.step_options(config, mesh, num_domains)
    _, loss = make_alignment_losses(model, options, mesh, (num_domains, 8))
    rows = store.read("train", np.arange(8 * num_domains)).reshape(num_domains, 8, -1)
    where = sharding.probe_sharding(mesh, 8)
    probes = jax.tree.map(
        lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=where),
        weighted_rows(rows) | {"ids": np.zeros(rows.shape[:2], np.int32)},
    )
    jitted = jax.jit(
        lambda *arguments: function(loss, *arguments),
        out_shardings=sharding.replicated(mesh),
    )
    return jitted.lower(state.params, state.params, probes).compile().as_text()


def forward(loss, params, direction, probes):
    return alignment.alignment_step(
        loss,
        params,
        direction,
        probes,
        row_weights=probes["tokens"],
        row_ids=probes["ids"],
    )


def gradients(loss, params, direction, probes):
    """What forward mode avoids: k gradients, then k products."""

    def one(batch):
        gradient = jax.grad(lambda p: loss(p, batch).mean())(params)
        return alignment.tree_dot(gradient, direction)

    return jax.vmap(one)(probes)


@pytest.mark.slow
@pytest.mark.parametrize("mesh", [(1, 8, 1), (2, 4, 1)], ids=str)
def test_no_collective_moves_a_parameter_per_domain(mesh, byte_store):
    """What crosses the mesh grows by scalars, not by parameters, with the domains."""
    few, many = (aligned(byte_store, mesh, k, forward) for k in (8, 24))
    per_domain = (collective_bytes(many) - collective_bytes(few)) / 16
    smallest_matrix = 64 * 64
    assert per_domain < 4 * smallest_matrix / 8
    for one in collectives(many):
        for shape in one.shapes:
            assert 24 not in shape or np.prod(shape) <= 24 * 8 * 3, one


@pytest.mark.slow
def test_gradients_would_move_one_per_domain(byte_store):
    """The check above can fail."""
    wasteful = collective_bytes(aligned(byte_store, (1, 8, 1), 8, gradients))
    thrifty = collective_bytes(aligned(byte_store, (1, 8, 1), 8, forward))
    assert wasteful - thrifty > 8 * 4 * 64 * 64
