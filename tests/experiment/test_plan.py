"""Which runs an experiment takes."""

import pytest
from experiments import AXES, tiny

from dga_jax.errors import UserError
from dga_jax.experiment import plan
from dga_jax.experiment.spec import Figure
from dga_jax.training.fields import get


def names(runs):
    return [run.name for run in runs]


def test_every_combination_is_a_run(byte_store):
    runs = plan.plan(tiny(byte_store), [])
    assert names(runs)[:3] == ["low-uniform-0", "low-uniform-1", "low-dga-0"]
    assert len(runs) == 8
    config = runs[-1].config
    assert (config.seed, config.mixer.name) == (1, "dga")
    assert config.optimizer.learning_rate == 3e-3
    assert "experiment" not in config


def test_equal_runs_are_one(byte_store):
    """Weights that never move do not depend on the interval or the target."""
    moves = {str(n): {"mixer.interval": n} for n in (2, 3)}
    runs = plan.plan(tiny(byte_store, axes={"interval": moves, **AXES}), [])
    assert len(runs) == 4 + 8
    uniform = runs[0]
    assert [name for name, _ in uniform.combinations] == [
        "2-low-uniform-0",
        "3-low-uniform-0",
    ]
    assert uniform.combinations[1][1]["interval"] == "3"


def test_braces_stand_for_points(byte_store):
    axes = {
        "mixer": {"given": {"mixer.name": "static", "mixer.weights": "{most}=1"}},
        "most": {"austen": {}, "wordnet": {}},
    }
    runs = plan.plan(
        tiny(byte_store, axes=axes, baseline={}, over=(), figure=Figure("forest")), []
    )
    assert [get(run.config, "mixer.weights") for run in runs] == [
        "austen=1",
        "wordnet=1",
    ]


def test_only_and_tasks_choose(byte_store, monkeypatch):
    runs = plan.plan(tiny(byte_store), [])
    some = plan.only(runs, ["mixer=dga", "seed=0"])
    assert names(some) == ["low-dga-0", "high-dga-0"]
    assert len(plan.only(runs, ["rate=low", "rate=high"])) == 8
    parts = [plan.share(runs, f"{i}/3") for i in (1, 2, 3)]
    assert sorted(n for part in parts for n in names(part)) == sorted(names(runs))
    monkeypatch.setenv("SLURM_ARRAY_TASK_ID", "5")
    monkeypatch.setenv("SLURM_ARRAY_TASK_MIN", "4")
    monkeypatch.setenv("SLURM_ARRAY_TASK_COUNT", "3")
    assert names(plan.share(runs, "")) == names(parts[1])
    with pytest.raises(UserError, match="expected i/n"):
        plan.share(runs, "4/3")
    with pytest.raises(UserError, match="--only=mixer=doge: not AXIS=POINT"):
        plan.only(runs, ["mixer=doge"])


@pytest.mark.parametrize(
    ("changes", "explicit", "said"),
    [
        ({"axes": {"a": {"b/c": {}}}}, [], "names folders"),
        ({"axes": {}}, [], "each axis needs a point"),
        ({"baseline": {"mixer": "none"}}, [], "not on an axis"),
        ({"over": ("target",)}, [], "no axis 'target'"),
        ({"columns": ("moved",)}, [], "no measure 'moved'; there are target, "),
        ({"figure": Figure("front", y="loss")}, [], "no measure 'loss'"),
        ({"figure": Figure("pie")}, [], "choose from forest"),
        ({}, ["seed"], "config.seed was given, but an axis"),
    ],
)
def test_what_does_not_fit_is_said(byte_store, changes, explicit, said):
    with pytest.raises(UserError, match=said):
        plan.plan(tiny(byte_store, **changes), explicit)


def test_a_field_that_is_wrong_is_named_with_its_run(byte_store):
    def one(**fields):
        axes = {"a": {"b": fields}}
        figure = Figure("forest")
        return tiny(byte_store, axes=axes, baseline={}, over=(), figure=figure)

    with pytest.raises(UserError, match=r"b: no config field 'mixer\.nam'"):
        plan.plan(one(**{"mixer.nam": "dga"}), [])
    with pytest.raises(UserError, match=r"b: config\.mixer\.beta=2\.0"):
        plan.plan(one(**{"mixer.beta": 2.0}), [])


def test_a_config_without_an_experiment_is_refused(byte_store):
    config = tiny(byte_store)
    del config.experiment
    with pytest.raises(UserError, match="no experiment"):
        plan.plan(config, [])
