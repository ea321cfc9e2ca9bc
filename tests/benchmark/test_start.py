"""The table of where the seconds of a start go."""

import os
import types

import forks
import pytest
from processes import ROOT

from dga_jax.benchmark import measured, start
from dga_jax.benchmark.started import PARTS, Laps
from dga_jax.errors import UserError


def seconds(clock, processors):
    return {part: [clock, processors] for part in PARTS}


def test_medians_and_sums():
    rounds = [
        {
            start.COLD: seconds(9.0, 4.0),
            start.WARM: seconds(warm, 1.0),
            start.RESTART: seconds(2.0, 0.5),
        }
        for warm in (3.0, 1.0, 2.0)
    ]
    table = start.table("a config", rounds)
    assert table.rows[PARTS[0]] == (9.0, 2.0, 2.0, 4.0, 1.0, 0.5)
    parts = len(PARTS)
    assert table.rows[start.ALL] == tuple(
        parts * value for value in (9.0, 2.0, 2.0, 4.0, 1.0, 0.5)
    )
    clock, processors = table.checks
    assert (clock.value, clock.met) == (parts * 2.0, False)
    assert (processors.value, processors.met) == (parts * 1.0, True)


def test_laps_add_up():
    laps = Laps(began=0.0)
    for part in (PARTS[1], PARTS[0], PARTS[1]):
        laps.end(part)
    assert sum(clock for clock, _ in laps.seconds.values()) == pytest.approx(
        laps._clock
    )
    assert laps.seconds[PARTS[2]] == [0.0, 0.0]


@pytest.fixture
def _forked(monkeypatch):
    """Starts have one device, and what they import already."""
    flags = os.environ["XLA_FLAGS"].replace("device_count=8", "device_count=1")
    monkeypatch.setenv("XLA_FLAGS", flags)

    def run(command, capture_output, text, env):
        return forks.run(command[1:], ROOT, env or os.environ)

    monkeypatch.setattr(measured, "subprocess", types.SimpleNamespace(run=run))


@pytest.mark.slow
@pytest.mark.usefixtures("_forked")
def test_start_part(byte_store):
    small = "configs/quickstart.py:debug,mixer.interval=3,eval.every=0"
    small += f",model.num_layers=1,data.store={byte_store.path}"
    (table,) = start.run(start.Size(rounds=1), [small])
    cold, warm, restart = table.rows[start.ALL][:3]
    assert min(cold, warm, restart) > 0
    evaluation = table.rows["evaluation"]
    assert evaluation[0] > 0
    assert evaluation[2] == 0  # it was done before the first step


@pytest.mark.usefixtures("_forked")
@pytest.mark.parametrize(
    ("steps", "said"), [(0, ""), (1, ".*measuring starts needs at least 2")]
)
def test_a_start_that_fails_says_why(steps, said):
    with pytest.raises(UserError, match=rf"config\.train\.steps={steps}{said}"):
        list(
            start.run(start.QUICK, [f"configs/quickstart.py:debug,train.steps={steps}"])
        )
