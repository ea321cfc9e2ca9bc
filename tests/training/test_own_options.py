"""A mixer's own options, from its function to the flags, the record and the pages."""

import pathlib
import re
from typing import Annotated

import jax.numpy as jnp
import optax
import pytest
from absl import flags
from ml_collections import config_flags
from runs import Killed, log_of, small_config, stopped, train_run

from dga_jax.bounds import Within
from dga_jax.errors import UserError
from dga_jax.mixing import mixers
from dga_jax.mixing.mixers import MIXERS
from dga_jax.mixing.recipe import mixer
from dga_jax.training import config as configs
from dga_jax.training import fields, recorded, reference, same_run, validation

ROOT = pathlib.Path(__file__).parents[2]


@pytest.fixture
def strange():
    """A mixer as a stranger writes it: no state of its own, two options."""

    @mixer(reads=("alignments",))
    def strange(
        eta: float,
        least: Annotated[float, Within("[0, 1)")] = 0.0,
        signs: bool = False,
    ) -> optax.GradientTransformation:
        """Follows large alignments alone.

        Args:
          eta: step size.
          least: smaller alignments count as 0.
          signs: whether only their signs count.
        """

        def rule(signals, log_weights):
            found = signals.alignments
            large = jnp.where(jnp.abs(found) < least, 0.0, found)
            return eta * (jnp.sign(large) if signs else large)

        return optax.stateless(rule)

    yield strange
    del MIXERS["strange"]


def parsed(store, *arguments):
    """The config that the command line gives."""
    small = "model.num_layers=1,model.d_model=32,model.d_ff=64,train.steps=12,"
    small += "optimizer.schedule=constant,optimizer.warmup_steps=1,mixer.interval=3"
    fields = f"debug,checkpoint.every=5,log.every=1,{small}"
    line = [
        "main",
        f"--config={ROOT / 'configs' / 'quickstart.py'}:{fields}",
        f"--config.data.store={store.path}",
        "--config.mixer.name=strange",
        *arguments,
    ]
    values = flags.FlagValues()
    config_flags.DEFINE_config_file("config", flag_values=values, sys_argv=line)
    values(line)
    return values.config


def weights_of(directory):
    return recorded.read(directory).log_weights().values


OPTIONS = ("--config.mixer.strange.least=.01", "--config.mixer.strange.signs")


@pytest.mark.usefixtures("strange")
def test_a_run_by_a_mixer_of_a_stranger(byte_store, tmp_path, monkeypatch):
    """Its options count, it resumes to the bit, with another option it is another."""
    whole, killed, plain = (tmp_path / name for name in ("whole", "killed", "plain"))
    assert train_run(parsed(byte_store, *OPTIONS), whole)
    assert train_run(parsed(byte_store), plain)
    assert (weights_of(plain) != weights_of(whole)).any()
    with stopped(monkeypatch, 7, by="kill"), pytest.raises(Killed):
        train_run(parsed(byte_store, *OPTIONS), killed)
    with pytest.raises(
        UserError, match=r"config\.mixer\.strange\.signs was True and is now False"
    ):
        train_run(parsed(byte_store, OPTIONS[0]), killed)
    assert train_run(parsed(byte_store, *OPTIONS), killed)
    assert log_of(killed) == log_of(whole)
    assert recorded.read(killed).config.mixer.strange.least == 0.01


@pytest.mark.usefixtures("strange")
def test_an_option_that_cannot_be():
    config = configs.apply_argument(configs.default_config(), "mixer.strange.least=1")
    with pytest.raises(UserError) as caught:
        validation.validate(config)
    assert str(caught.value) == "config.mixer.strange.least=1.0: must be in [0, 1)"
    for argument, words in (("least=much", "type float"), ("last=1", "no such")):
        with pytest.raises(UserError, match=words):
            configs.apply_argument(config, f"mixer.strange.{argument}")


def record(**mixer):
    config = configs.default_config()
    config.mixer.update(mixer)
    recorded_fields = config.to_dict()
    del recorded_fields["explicit"]
    return {"config": recorded_fields, "data": {}}


@pytest.mark.usefixtures("strange")
def test_options_of_a_mixer_that_is_not_in_use():
    """May change; and a run from before there were any has the defaults."""
    run = pathlib.Path("run")
    assert same_run.compare(run, record(), record(strange={"least": 0.5}), 500) == []
    used = {"name": "strange"}
    older = record(**used)
    del older["config"]["mixer"]["strange"]
    assert same_run.compare(run, older, record(**used), 500) == []
    with pytest.raises(UserError, match=r"strange\.least was 0\.0 and is now 0\.5"):
        same_run.compare(run, older, record(**used, strange={"least": 0.5}), 500)
    with pytest.raises(UserError, match=r"mixer\.name was 'strange'"):
        same_run.compare(run, older, record(strange={"least": 0.5}), 500)


def test_options_of_a_mixer_that_is_gone():
    old = record()
    old["config"]["mixer"]["lost"] = {"least": 0.5}
    (said,) = same_run.compare(pathlib.Path("run"), old, record(), 500)
    assert said.endswith("not read by this one: mixer.lost.least=0.5")


@pytest.mark.usefixtures("strange")
def test_options_are_told():
    words = "smaller alignments count as 0"
    assert f"mixer.strange.least=0.0: {words} (in [0, 1))" in fields.listing()
    row = f"| `mixer.strange.least` | `0.0` | in [0, 1) | {words} | fixed while"
    assert row in reference.page()
    assert "| `strange` | uniform | Follows large alignments alone. |" in (
        reference.page()
    )


def test_a_mixer_cannot_be_called_as_a_field(monkeypatch):
    monkeypatch.setitem(MIXERS, "floor", MIXERS["dga"])
    with pytest.raises(TypeError, match="'floor' has the name of a config field"):
        configs.default_config()


def test_the_reference_is_current():
    current = (ROOT / "docs" / "config.md").read_text() == reference.page()
    assert current, "make it: python -m dga_jax.training.reference > docs/config.md"


def test_the_example_of_the_documentation(byte_store, tmp_path, monkeypatch):
    monkeypatch.delitem(MIXERS, "steady", raising=False)
    section = (ROOT / "docs" / "adding_a_mixer.md").read_text()
    code = re.search(r"```python\n(.*?)```", section, re.DOTALL)[1]
    exec(code, dict(vars(mixers)))
    given = {"mixer__name": "steady", "train__steps": 6, "mixer__eta_end": 1.0}
    config = small_config(byte_store, **given)
    configs.apply_argument(config, "mixer.steady.most=0.5")
    try:
        assert train_run(config, tmp_path)
        told = recorded.read(tmp_path).config.mixer.steady
        line = "mixer.steady.most=1.0: the largest change of a log-weight (above 0)"
        assert line in fields.listing()
        row = "| `steady` | uniform | Mirror ascent on a running mean of the alignments"
        assert row in reference.page()
    finally:
        del MIXERS["steady"]
    assert told.most == 0.5
    weights = weights_of(tmp_path)
    assert (weights[0] != weights[-1]).all()
