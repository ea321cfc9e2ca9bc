"""`benchmark fit`: what it says of programs, and of flags that cannot be."""

import importlib.util
import os
import re
from typing import NamedTuple

import forks
import jax
import pytest
from absl import flags
from processes import ROOT

from dga_jax import sharding
from dga_jax.benchmark import fit, fit_chips, fit_report, fit_search, fit_table
from dga_jax.benchmark.collectives import sent_bytes
from dga_jax.benchmark.fit_bounds import Bounds, best_mfu, bounds
from dga_jax.benchmark.fit_chips import Chip
from dga_jax.benchmark.fit_programs import PROGRAMS, TRAIN, DoesNotFit
from dga_jax.errors import UserError
from dga_jax.model.loss import SCOPE
from dga_jax.training.config import apply_argument, default_config

CHIP = Chip(memory=100.0, peak=10.0, bandwidth=5.0, network=2.0)
TINY = (
    "debug,model.vocab_size=512,train.seq_len=32,model.num_layers=1,model.d_model=32,"
    "train.microbatches=2,train.batch_size=16"
)


def tiny(argument="mesh.fsdp=8"):
    return apply_argument(default_config(), f"{TINY},{argument}")


class Fitting(NamedTuple):
    parts: dict
    total: float


@pytest.fixture(scope="module")
def report():
    target = fit_chips.gpu_target("h100:8", fit_chips.gpu("h100:8")[0], 8)
    return fit_report.measure(tiny(), target, 4, PROGRAMS)


def test_bounds_are_quotients():
    found = bounds(40.0, 10.0, 10.0, CHIP)
    assert found == Bounds(4.0, 2.0, 5.0)
    assert (found.seconds, found.by) == (5.0, "network")
    assert best_mfu(30.0, found, CHIP) == pytest.approx(30 / 50)
    unknown = bounds(40.0, 10.0, 10.0, Chip(100.0, 10.0, None, None))
    assert unknown == Bounds(4.0, None, None)
    assert (unknown.seconds, unknown.by) == (4.0, "compute")
    assert best_mfu(30.0, unknown, Chip(100.0, None, None, None)) is None


@pytest.mark.parametrize(
    ("shape", "ring", "links"),
    [
        ((1, 1, 1), 16, 0),
        ((2, 4, 1), 16, 1 + 1.5),
        ((16, 16, 1), 16, 4),
        ((4, 4, 4), 4, 6),
    ],
)
def test_links_of_a_chip(shape, ring, links):
    assert fit_chips.links(shape, ring) == links


def test_parts_are_those_of_xla_and_of_the_state(report):
    for name, found in report.fits.items():
        parts, xla = found.parts, found.xla
        inputs = ("parameters", "optimizer state", "batch", "padding of layouts")
        assert sum(parts[part] for part in inputs) == xla.argument_size_in_bytes
        assert parts["temporaries"] == xla.temp_size_in_bytes
        aliased = xla.output_size_in_bytes - xla.alias_size_in_bytes
        assert parts["outputs"] == aliased
        # Two moments, wherever they are listed.
        held = parts["optimizer state"] + parts["optimizer state, only held"]
        assert held == pytest.approx(2 * parts["parameters"], rel=0.01), name
    train = report.fits[TRAIN].parts
    assert train["optimizer state, only held"] == 0
    assert train["batch"] == 16 // 8 * 33 * 4


def test_matrix_products_are_those_of_the_model(report):
    """The step computes 4 forwards for the 3 that count; the mask's half counts."""
    executed = report.fits[TRAIN].flops / report.mesh.size
    assert report.model_flops < executed < 1.5 * report.model_flops


def test_what_the_loss_sends_is_told_apart(report):
    """Of 2 x 8 rows of 32 tokens; the layers are 2, of 32, the vocabulary 512."""
    sent = report.fits[TRAIN].collectives
    loss = [one.of(SCOPE) for one in sent]
    assert 0 < sent_bytes(loss) < sent_bytes(sent) / 2
    shapes = {shape for one in loss for shape in one.shapes}
    assert (1, 8, 32, 32) in shapes  # all rows' activations, to each part
    assert any(64 in shape for shape in shapes)  # a part of the unembedding
    # No kernel of a layer, though their gradients' sums are combined with the loss's.
    assert not {(32, 32), (32, 128), (128, 32)} & shapes
    assert any((32, 128) in one.shapes for one in sent)


def test_report_says_all(report):
    text = str(report)
    for said in (
        "h100:8: 8 x cpu, mesh data 1 x fsdp 8 x tensor 1",
        "GiB of a chip, which has 74.51",
        "temporaries",
        "all-gather",
        "of the loss",
        "best MFU to hope for",
        "12LdT",
        "an estimate: compiled for CPU devices",
        "Loops of unknown length, counted once: 0",
    ):
        assert said in text
    found = report.fits[TRAIN]
    assert f"argument {found.xla.argument_size_in_bytes:,}" in text
    assert found.sent > 0
    assert found.unknown_loops == 0


def test_what_does_not_fit_is_said(report):
    given_up = DoesNotFit("Used 17.9G of 15.75G hbm")
    fits = {**report.fits, TRAIN: given_up}
    target = fit_chips.Target("v5e:2x4", CHIP, ())
    changed = fit_report.Report(report.config, report.mesh, target, fits)
    assert "train does not fit: Used 17.9G of 15.75G hbm" in str(changed)
    assert changed.mfu is None
    line = fit_table.Line("750m", "v5e:2x4", "data")
    cells = fit_table.cells(line, changed)
    assert len(cells) == len(fit_table.cells(line, report))
    assert any(cell.startswith("does not fit") for cell in cells)


def test_sizes_of_microbatches():
    assert fit_search.microbatch_sizes(24, 4) == [4, 8, 12, 24]
    assert fit_search.microbatch_sizes(8, 8) == [8]


@pytest.mark.parametrize(
    ("memory", "known", "largest", "compiled"),
    [
        (1000, 8, 64, [64]),  # all fit
        (45, 8, 32, [16, 32, 64]),  # the line through 0 is too steep: step by step
        (75, 32, 64, [64]),
        (10, 8, None, [4]),  # none fits
        (15, 64, 4, [4, 8]),
    ],
)
def test_search_compiles_few(memory, known, largest, compiled):
    sizes, made = [4, 8, 16, 32, 64], []

    def compile_at(rows):
        made.append(rows)
        return outcome(rows)

    def outcome(rows):
        if 10 + rows > memory:
            return DoesNotFit("too large")
        # Half of the temporaries are there whatever the rows.
        return Fitting({"temporaries": 5 + rows}, 10 + rows)

    found = fit_search.largest_fitting(
        sizes, compile_at, memory, {known: outcome(known)}
    )
    assert found == largest
    assert made == compiled


@pytest.mark.parametrize(
    ("text", "sizes"),
    [("data=1,fsdp=8,tensor=1", (1, 8, 1)), ("fsdp=4,data=-1", (-1, 4, 1)), ("", None)],
)
def test_mesh_flag(text, sizes):
    config = tiny("mesh.fsdp=1")
    before = tuple(config.mesh[axis] for axis in sharding.AXES)
    fit.set_mesh(config, text)
    found = tuple(config.mesh[axis] for axis in sharding.AXES)
    assert found == (sizes or before)


@pytest.mark.parametrize("text", ["fsdp", "model=3", "fsdp=x", "fsdp=8;data=1"])
def test_mesh_flag_that_cannot_be_read(text):
    with pytest.raises(UserError, match="expected data=N,fsdp=N,tensor=N"):
        fit.set_mesh(tiny(), text)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ([], "name what to compile for"),
        (["--memory_gb=0"], "--memory_gb=0: expected a number above 0"),
        (["--memory_gb=80", "--peak_tflops=-1"], "--peak_tflops=-1: expected"),
        (["--memory_gb=nan"], "--memory_gb=nan: expected"),
        (["--gpu=h100:8", "--devices=4"], "--devices goes with --memory_gb"),
        (["--topology=v5e:2x4", "--peak_tflops=9"], "--peak_tflops goes with"),
    ],
)
def test_devices_that_cannot_be(given, said):
    values = flags.FlagValues()
    fit.define_flags(values)
    values(["fit", *given])
    with pytest.raises(UserError, match=said):
        fit.chosen_target(values)


def test_table_of_no_config():
    with pytest.raises(UserError, match="--only=7g: choose from 125m, 350m, 750m, 7b"):
        next(fit_table.lines(["7b", "7g"]))


@pytest.mark.parametrize("name", ["h100", "h100:0", "voodoo:8", "h100:x"])
def test_gpu_that_is_not_known(name):
    with pytest.raises(UserError, match="expected NAME:COUNT, as in h100:8"):
        fit_chips.gpu(name)


def test_libtpu_that_is_missing(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"pip install -e '\.\[tpu\]'"):
        fit_chips.topology_devices("v5e:2x4")


def command(*given):
    env = {k: v for k, v in os.environ.items() if k != "XLA_FLAGS"}
    return forks.run(["-m", "dga_jax.benchmark", "fit", *given], ROOT, env)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("given", "said"),
    [
        (["--config=configs/nothing.py", "--gpu=h100:8"], "no such file"),
        (
            ["--config=configs/750m.py", "--gpu=h100:8", "--mesh=fsdp=3"],
            "is not the 8 devices",
        ),
    ],
)
def test_command_that_cannot_be(given, said):
    done = command(*given)
    assert done.returncode == 2, done.stderr
    assert done.stderr.startswith("error: ")
    assert said in done.stderr
    assert len(done.stderr.splitlines()) == 1


@pytest.mark.slow
def test_command_for_any_device():
    done = command(
        f"--config=configs/750m.py:{TINY}",
        "--memory_gb=1",
        "--peak_tflops=1",
        "--devices=4",
        "--config.mesh.fsdp=4",
        "--config.model.remat=false",  # as an older version had it
        "--program=train",
    )
    assert done.returncode == 0, done.stderr
    assert "4 devices of 1 GB: 4 x cpu" in done.stdout
    assert "largest microbatch that fits: 16 rows" in done.stdout


needs_libtpu = pytest.mark.skipif(
    importlib.util.find_spec("libtpu") is None,
    reason="libtpu is not installed: pip install -e '.[tpu]'",
)


@needs_libtpu
@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("v5e", "expected the like of v5e:2x4"),
        ("v9:2x2", "libtpu says"),
        ("v5e:3x5", "libtpu says"),
        ("v3:2x2", "no figures for a TPU v3|libtpu says"),  # by its version
    ],
)
def test_topology_that_is_not_known(name, said):
    with pytest.raises(UserError, match=said):
        fit_chips.topology_devices(name)


@needs_libtpu
@pytest.mark.parametrize("name", ["v5e:1x1", "v5p:1x1x1", "v6e:1x1", "tpu7x:1x1x1"])
def test_memory_is_what_the_compiler_has(name):
    target = fit_chips.tpu_target(name)
    where = jax.sharding.SingleDeviceSharding(target.devices[0])
    huge = jax.ShapeDtypeStruct((1 << 30, 300), "float32", sharding=where)
    with pytest.raises(jax.errors.JaxRuntimeError) as caught:
        jax.jit(lambda x: x + 1).lower(huge).compile()
    said = re.search(r"\(([\d.]+)G\)", str(caught.value))
    # The last digits are of libtpu's version.
    assert float(said[1]) == pytest.approx(target.chip.memory / 2**30, rel=0.01)


@needs_libtpu
@pytest.mark.slow
def test_compiles_for_a_topology_that_no_table_shows():
    target = fit_chips.tpu_target("v6e:1x2")
    assert {line.topology for line in fit_table.LINES}.isdisjoint({"v6e:1x2"})
    found = fit_report.measure(tiny("mesh.fsdp=2"), target, 2, PROGRAMS)
    assert found.mesh.devices.flat[0].platform == "tpu"
    for program in found.fits.values():
        assert program.unknown_loops == 0
        assert 0 < program.total < 1e9
    assert found.fits[TRAIN].sent > 0
    assert 0 < found.mfu < 1
