import contextlib
import json
import math

import jax
import jax.numpy as jnp
import pytest

from dga_jax.logs.perf import (
    Clock,
    Pace,
    ProfilerWindow,
    mfu,
    model_flops_per_token,
    peak_flops,
)


class Timer:
    """A clock that a test moves by hand."""

    def __init__(self):
        self.now = 100.0

    def __call__(self):
        return self.now

    def sleep(self, seconds):
        self.now += seconds


def steps(clock, timer, number, seconds=1.0, tokens=10):
    for _ in range(number):
        timer.sleep(seconds)
        clock.tick(tokens)


def test_time_is_booked_to_the_innermost_activity():
    timer = Timer()
    clock = Clock(timer=timer)
    timer.sleep(7)
    with clock.measure("alignment"):
        timer.sleep(2)
        with clock.measure("compile"):
            timer.sleep(30)
        timer.sleep(1)
    timer.sleep(5)
    assert clock.seconds == {"train": 12, "alignment": 3, "compile": 30}
    assert clock.alignment_share == 3 / 15


def test_an_activity_that_fails_is_booked_all_the_same():
    timer = Timer()
    clock = Clock(timer=timer)
    with contextlib.suppress(RuntimeError), clock.measure("eval"):
        timer.sleep(2)
        raise RuntimeError
    timer.sleep(1)
    assert clock.seconds == {"train": 1, "alignment": 0, "eval": 2}


def test_speed_is_that_of_the_interval_without_evaluation():
    timer = Timer()
    clock = Clock(num_devices=4, timer=timer)
    assert "perf/tokens_per_second" not in clock.metrics()
    steps(clock, timer, 10, seconds=1)
    assert clock.metrics()["perf/tokens_per_second"] == 10
    with clock.measure("eval"):
        timer.sleep(100)
    with clock.measure("alignment"):
        timer.sleep(5)
    steps(clock, timer, 10, seconds=0.5)
    values = clock.metrics()
    assert values["perf/tokens_per_second"] == 10
    assert values["perf/alignment_share"] == 5 / 20
    assert values["perf/seconds"] == 120
    assert values["perf/device_hours"] == 120 * 4 / 3600


def test_sums_survive_a_restart_and_the_time_between_does_not_count():
    timer = Timer()
    clock = Clock(timer=timer)
    steps(clock, timer, 10)
    with clock.measure("eval"):
        timer.sleep(4)
    state = json.loads(json.dumps(clock.state()))
    timer.sleep(10_000)
    clock = Clock(timer=timer)
    timer.sleep(50)
    clock.restore(state)
    steps(clock, timer, 5, seconds=2)
    assert clock.tokens == 150
    assert clock.seconds == {"train": 20, "alignment": 0, "eval": 4}
    assert clock.metrics()["perf/tokens_per_second"] == 5  # of this process


def test_the_time_left_goes_by_the_pace_of_this_process():
    timer = Timer()
    clock = Clock(timer=timer)
    clock.restore({"seconds": {"train": 1e6, "alignment": 0.0}, "tokens": 10})
    timer.sleep(60)  # the first evaluation, say
    assert math.isnan(clock.eta_seconds(100))
    clock.tick(10)
    with clock.measure("compile"):
        timer.sleep(30)
    steps(clock, timer, 10, seconds=2)
    with clock.measure("eval"):
        timer.sleep(5)
    assert clock.eta_seconds(100) == 250
    assert clock.eta_seconds(0) == 0


@pytest.mark.parametrize(
    ("kind", "teraflops"),
    [
        ("TPU v4", 275),
        ("TPU v5 lite", 197),
        ("TPU v5", 459),
        ("TPU v6 lite", 918),
        ("NVIDIA A100-SXM4-80GB", 312),
        ("NVIDIA H100 80GB HBM3", 989),
        ("NVIDIA H100 PCIe", 756),
        ("NVIDIA H200", 989),
        ("NVIDIA L4", 121),
        ("NVIDIA L40S", 362),
        ("NVIDIA A1000 Laptop GPU", None),
        ("NVIDIA H100 80GB HBM3 MIG 1g.10gb", None),
        ("cpu", None),
    ],
)
def test_peak_by_the_name_that_jax_gives_a_device(kind, teraflops):
    peak = peak_flops(kind)
    assert peak == (teraflops and teraflops * 1e12)


def test_mfu_of_a_worked_example():
    # By hand: 857.2 million FLOPs a token, 152.6 teraFLOP/s of an A100's 312.
    flops = model_flops_per_token(124_000_000, 12, 768, 1024)
    assert flops == 6 * 124e6 + 12 * 12 * 768 * 1024
    assert mfu(178_000, flops, 1, 312e12) == pytest.approx(0.489, abs=1e-3)
    assert mfu(178_000, flops, 2, 312e12) == pytest.approx(0.489 / 2, abs=1e-3)
    assert mfu(178_000, flops, 1, None) is None


@pytest.mark.parametrize("peak", [None, 1000.0])
def test_the_clock_tells_the_share_of_the_peak(peak):
    timer = Timer()
    clock = Clock(2, timer, flops_per_token=30.0, peak_flops=peak)
    assert "perf/mfu" not in clock.metrics()  # no step yet
    steps(clock, timer, 5, seconds=2)
    found = clock.metrics()
    rate = found["perf/tokens_per_second"]
    assert rate > 0
    assert found.get("perf/mfu") == (peak and rate * 30 / (2 * 1000))


def test_a_pace_is_of_the_time_since_it_was_last_read():
    timer = Timer()
    clock = Clock(timer=timer)
    pace = Pace(clock)
    assert pace.read() is None
    steps(clock, timer, 5, seconds=2)
    clock.metrics()  # has a pace of its own
    assert pace.read() == 5
    timer.sleep(1)
    assert pace.read() is None


def test_model_flops_agree_with_what_xla_counts():
    """Two layers' worth of a matrix chain: a backward pass costs two forward ones."""
    d, tokens, layers = 64, 128, 3

    def loss(weights, x):
        for w in weights:
            x = x @ w
        return (x**2).sum()

    weights = [jnp.ones((d, d))] * layers
    gradient = jax.jit(jax.value_and_grad(loss, argnums=(0, 1)))
    counted = gradient.lower(weights, jnp.ones((tokens, d))).compile().cost_analysis()
    expected = tokens * model_flops_per_token(layers * d * d, 0, d, tokens)
    assert counted["flops"] == pytest.approx(expected, rel=0.02)


@pytest.mark.parametrize("traced", [(0, 5), (3, 0), (3, 2)])
def test_the_profiler_traces_its_window_alone(tmp_path, monkeypatch, traced):
    calls = []
    monkeypatch.setattr(jax.profiler, "start_trace", lambda path: calls.append(path))
    monkeypatch.setattr(jax.profiler, "stop_trace", lambda: calls.append("stop"))
    window = ProfilerWindow(tmp_path, *traced)
    for step in range(10):
        window.before_step(step, pending=jnp.ones(()))
        calls.append(step)
    window.close()
    of_two = [str(tmp_path / "profile"), 3, 4, "stop"]
    assert calls == [0, 1, 2, *(of_two if all(traced) else [3, 4]), *range(5, 10)]


def test_a_run_that_ends_inside_the_window_still_gets_its_trace(tmp_path):
    window = ProfilerWindow(tmp_path, 1, 5)
    window.before_step(1)
    pending = jax.jit(lambda x: x @ x)(jnp.ones((8, 8)))
    window.close(pending)
    window.close()
    assert list((tmp_path / "profile").rglob("*.xplane.pb"))
