import dataclasses
import math
from typing import NamedTuple

import forks
import jax
import numpy as np
import pytest
from meshes import on_one_device
from processes import ROOT

from dga_jax.benchmark import (
    alignment,
    clusters,
    loop,
    pipeline,
    sampler,
    step,
    tables,
    traffic,
    updates,
)
from dga_jax.benchmark import variants as sizes
from dga_jax.errors import Stopped, UserError

TINY = dataclasses.replace(
    sizes.QUICK, domains=2, seq_len=16, chunk=1, rounds=1, many=(2, 16)
)


class SimpleSteps(NamedTuple):
    train: object
    align: object


@dataclasses.dataclass
class SimpleRun:
    steps: SimpleSteps


def check_table(table, rows, missing=()):
    """The rows that it claims, and a positive finite number in every cell."""
    assert set(table.rows) == set(rows)
    for name, values in table.rows.items():
        cells = dict(zip(table.columns, values, strict=True))
        for column, value in cells.items():
            if column in missing:
                assert value is None
            else:
                assert math.isfinite(value), (name, column)
                assert value > 0, (name, column)
    text = str(table)
    assert text.startswith(table.title)
    assert all(name in text for name in rows)
    for check in table.checks:
        assert math.isfinite(check.value)
        assert str(check) in text


def test_table_and_checks():
    table = tables.Table(
        "title",
        ("ms", "ratio"),
        {"a": (1234.5, 0.98765), "longer": (2e7, None)},
        (tables.Check("fast", 2.0, 1.0), tables.Check("wide", 2.0, 1.0, at_least=True)),
    )
    assert str(table).split("\n") == [
        "title",
        "             ms  ratio",
        "  a       1,234  0.988",
        "  longer    20M      -",
        "  MISSED: fast: 2",
        "  met: wide: 2",
    ]


def test_ratio_is_of_the_same_round():
    timings = tables.Timings({"a": [1.0, 8.0, 3.0], "b": [2.0, 4.0, 6.0]})
    assert timings["a"] == 3.0
    assert timings.ratio("a", "b") == 0.5


def test_variants_take_turns():
    calls = []
    work = {name: lambda name=name: calls.append(name) for name in "ab"}
    timings = tables.interleaved(work, 2)
    assert calls == ["a", "b", "a", "b"]
    assert timings["a"] > 0


def test_environment_names_hardware_and_versions():
    line = tables.environment()
    assert f"8 x {jax.devices()[0].device_kind}" in line
    assert f"jax {jax.__version__}" in line


@pytest.mark.slow
def test_alignment_part(quick_compilation):
    times, memory = alignment.time_table(TINY), alignment.memory_table(TINY)
    names = {
        "forward mode",
        "forward mode in chunks",
        "plain gradient",
        "train step's gradient",
        "vmap(grad)",
        "reverse mode by row",
    }
    check_table(times, names)
    check_table(
        memory, {"forward mode, 2 domains at a time", "forward mode", "vmap(grad)"}
    )
    assert memory.columns == ("k = 2", "k = 16")
    # Chunks bound the memory; all at once it grows with k.
    few, many = memory.rows["forward mode, 2 domains at a time"]
    assert many < 1.1 * few
    few, many = memory.rows["forward mode"]
    assert many > 2 * few


def test_variants_compute_the_same_alignments(quick_compilation):
    params = jax.tree.map(
        lambda x: jax.random.normal(jax.random.key(x.size), x.shape) * 0.1,
        sizes.shapes(TINY, sizes.one_device())[0],
    )
    probes = sizes.random_probes(TINY)
    first = jax.tree.map(lambda x: x[0], probes)
    loss, plain = sizes.row_loss(TINY.model), sizes.plain_loss(TINY.model)
    direction = jax.jit(sizes.gradient(plain))(params, first)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-5),
        direction,
        jax.jit(sizes.gradient(loss))(params, first),
    )
    forward = sizes.alignments(loss)(params, direction, probes).alignments
    reverse = jax.jit(sizes.vmapped_gradients(loss))(params, direction, probes)
    np.testing.assert_allclose(forward, reverse, rtol=1e-3)


@pytest.mark.slow
def test_traffic_of_forward_mode_is_a_fraction(quick_compilation):
    table = traffic.traffic_table(TINY)
    check_table(table, {"mesh.data=1 mesh.fsdp=8", "mesh.data=2 mesh.fsdp=4"})
    for _, _, ratio, _ in table.rows.values():
        assert ratio < 0.5


def test_sampler_part():
    size = sampler.Size(domains=(16, 5000), rows=64, steps=2, rounds=1)
    (table,) = sampler.run(size)
    check_table(table, {"16 domains", "5,000 domains"})
    assert table.checks == ()


def test_clusters_part():
    (table,) = clusters.run(clusters.Size(points=500, dim=8, branching=(4, 3)))
    check_table(
        table,
        {"level 0: 4 clusters", "level 1: 12 clusters", "all levels", "assignment"},
    )
    assert table.checks == ()


def test_pipeline_part():
    size = pipeline.Size(
        rows=256, seq_len=32, domains=4, batch_size=16, steps=70, rounds=1
    )
    (table,) = pipeline.run(size)
    check_table(table, {"pipeline", "grain, record by record"})
    rate, milliseconds, _ = table.rows["pipeline"]
    assert rate == pytest.approx(16 * 32 / milliseconds * 1e3)


@pytest.mark.slow
def test_step_part(quick_compilation):
    config = "configs/quickstart.py:debug,data.store=,model.vocab_size=300,"
    config += "train.seq_len=32,model.num_layers=1,model.d_model=32,model.d_ff=64,"
    config += "mixer.probe_rows=2"
    with on_one_device():
        programs, around = step.run(step.Size(rounds=1, steps=9), [config])
    names = {
        "train step",
        "train step, document mask",
        "its gradient",
        "alignments, forward mode",
        "alignments, forward mode, document mask",
        "target gradient",
    }
    check_table(programs, names, missing=("MFU",))
    assert programs.rows["train step"][0] == 8
    assert programs.title.endswith("tokens, vocabulary 300")
    check_table(
        around,
        {"between train steps", "train step to alignment", "alignment to train step"},
    )


def test_loop_that_is_cut_short_says_so(monkeypatch):
    monkeypatch.setattr(loop, "train", lambda run: False)
    run = SimpleRun(SimpleSteps(None, None))
    with pytest.raises(Stopped, match="stopped by SIGTERM"):
        loop.loop_table(run, "name", 3)


def test_share_of_alignments_is_arithmetic():
    times = {step.TRAIN: 2.0, step.GRADIENT: 2.0, step.FORWARD: 1.0, step.TARGET: 2.0}
    (check,) = step.program_checks(times, target_rows=64)
    update = 64 * 8 * 1.0 + 64 * 2.0
    assert check.value == pytest.approx(100 * update / (update + 100 * 512 * 2.0))
    assert check.met


def test_updates():
    size = dataclasses.replace(updates.QUICK, branching=(2, 16), rounds=1)
    (table,) = updates.run(size)
    check_table(table, size.mixers)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("configs/nothing.py", "no such file"),
        ("dga_jax/__init__.py", "not a config"),
        ("configs/quickstart.py:train.stepz=3", "no such config field"),
    ],
)
def test_config_that_cannot_be_loaded(text, message):
    with pytest.raises(UserError, match=message):
        step.load_config(text)


def test_command():
    command = ["-m", "dga_jax.benchmark"]
    done = forks.run([*command, "--quick", "--part=sampler"], ROOT)
    assert done.returncode == 0, done.stderr
    assert "262,144 domains" in done.stdout
    assert "jax " in done.stdout.splitlines()[0]
    wrong = forks.run([*command, "smapler"], ROOT)
    assert wrong.returncode == 2
    assert wrong.stderr.startswith("error: no part 'smapler'")
    assert len(wrong.stderr.splitlines()) == 1
