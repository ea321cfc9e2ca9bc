"""What may change between two starts of a run, as a law over configs."""

import copy
import json
import pathlib

import hypothesis
import numpy as np
import pytest
from hypothesis import strategies as st

from dga_jax.errors import UserError
from dga_jax.mixing.mixers import MIXERS
from dga_jax.training import config as configs
from dga_jax.training import same_run
from dga_jax.training.fields import Touches, fields
from dga_jax.training.optimizer import learning_rate

RUN = pathlib.Path("runs/mine")
DATA = {"content_hash": "a", "domains": 8, "basis": "b", "initial_weights": "c"}
DEFAULTS = same_run.flat(configs.default_config().to_dict())
DEFAULTS.pop("explicit")
NAMES = sorted(DEFAULTS)
OTHER = {  # values that another value stands for elsewhere
    "model.remat": "dots",
    "optimizer.schedule": "wsd",
    "mixer.name": "static",
    "data.tokens_level": 1,
    "optimizer.warmup_steps": 7,
    "mixer.start": 150,
}


def record_of(data=None, **fields):
    """A record; `fields` have "__" for the dot."""
    config = configs.default_config()
    for name, value in fields.items():
        set_field(config, name.replace("__", "."), value)
    record = json.loads(json.dumps(config.to_dict()))
    del record["explicit"]
    return {"config": record, "data": {**DATA, **(data or {})}}


def set_field(config, name, value):
    *groups, leaf = name.split(".")
    for group in groups:
        config = config[group]
    config[leaf] = value


def changed(record, name):
    """The record with another value of a field."""
    record = copy.deepcopy(record)
    before = same_run.flat(record["config"])[name]
    now = OTHER.get(name)
    if now is None:
        now = {bool: lambda x: not x, str: lambda x: x + "x"}.get(
            type(before), lambda x: x + type(x)(1)
        )(before)
    set_field(record["config"], name, now)
    return record, before, now


def allowed(before, now, done):
    try:
        same_run.compare(RUN, before, now, done)
    except UserError:
        return False
    return True


@pytest.mark.parametrize("name", NAMES)
def test_a_field_that_changes(name):
    """After 2,000 of 10,000 steps, with 20 updates of the weights."""
    before = record_of(data__tokens_per_domain=5, model__end_of_text=7)
    now, was, new = changed(before, name)
    kind = fields()[name].touches
    if kind in (Touches.NOTHING, Touches.DIGESTS, Touches.OWN):
        assert same_run.compare(RUN, before, now, 2000) == []
    elif kind is Touches.ROUNDING:
        said = f"{name}: {was!r} -> {new!r}, changes rounding only"
        assert same_run.compare(RUN, before, now, 2000) == [said]
    elif name == "optimizer.decay_fraction":  # no cosine reads it
        assert same_run.compare(RUN, before, now, 2000) == []
    else:
        with pytest.raises(UserError, match=rf"config\.{name} was ") as caught:
            same_run.compare(RUN, before, now, 2000)
        text = str(caught.value)
        assert "\n" not in text
        assert f"is now {new!r}" in text
        start = f"--config.start.from={RUN}@2000 --config.start.what=all"
        assert (start in text) == (not name.startswith(("model.", "start.")))


@pytest.mark.parametrize(
    ("name", "digest"),
    [
        ("mixer.basis", "basis"),
        ("mixer.weights", "initial_weights"),
        ("mixer.reference", "initial_weights"),
        ("mixer.smoothing", "basis"),
        ("mixer.smoothing", "initial_weights"),
    ],
)
def test_what_a_field_gives_counts(name, digest):
    """And not how it is spelled: the same file may have moved, or be another now."""
    before = record_of()
    now, _, _ = changed(before, name)
    assert allowed(before, now, 10)
    now["data"][digest] = "another"
    with pytest.raises(UserError, match=f"config.{name} was"):
        same_run.compare(RUN, before, now, 10)
    with pytest.raises(UserError, match=f"store.{digest} was"):
        same_run.compare(RUN, before, record_of({digest: "another"}), 10)
    del before["data"][digest]  # an older record did not have it
    assert not allowed(before, now, 10)


@pytest.mark.parametrize(
    "name", [n for n in NAMES if n.startswith("mixer.") and n != "mixer.name"]
)
def test_what_the_mixer_does_not_read(name):
    """Neither matters nor is worth a word."""
    before = record_of(mixer__name="static")
    now, _, _ = changed(before, name)
    assert same_run.compare(RUN, before, now, 2000) == []


@pytest.mark.parametrize(
    "name", [n for n in NAMES if fields()[n].touches is Touches.UPDATES] + ["mixer.eta"]
)
def test_what_only_updates_read(name):
    """May change until the first of them."""
    before = record_of(mixer__interval=100)
    now, _, _ = changed(before, name)
    assert allowed(before, now, 99)
    assert not allowed(before, now, 100)


def test_another_store():
    before = record_of()
    now = record_of({"content_hash": "z", "initial_weights": "z"}, model__vocab_size=9)
    with pytest.raises(UserError, match=r"store\.content_hash was 'a' and is now 'z'"):
        same_run.compare(RUN, before, now, 1)


def test_another_mesh_is_said():
    """Also where the config left it open; an older record does not say what it was."""
    small = {"data": 4, "fsdp": 2, "tensor": 1}
    before = record_of({"mesh": small})
    now = record_of({"mesh": {"data": 1, "fsdp": 8, "tensor": 1}})
    assert same_run.compare(RUN, before, now, 10) == [
        "mesh: data 4 x fsdp 2 x tensor 1 -> data 1 x fsdp 8 x tensor 1, "
        "changes rounding only"
    ]
    assert same_run.compare(RUN, before, before, 10) == []
    assert same_run.compare(RUN, record_of(), now, 10) == []


def test_fewer_steps_than_are_done():
    before = record_of(train__steps=20, optimizer__schedule="constant")
    now = record_of(
        train__steps=9, optimizer__schedule="constant", optimizer__warmup_steps=2
    )
    assert allowed(before, now, 9)
    with pytest.raises(UserError, match=r"20 and is now 9, but 10 are done"):
        same_run.compare(RUN, before, now, 10)


@hypothesis.given(st.sets(st.sampled_from(NAMES)), st.sets(st.sampled_from(NAMES[:5])))
@hypothesis.settings(deadline=None, max_examples=60)
def test_records_of_other_versions(missing, unknown):
    """A field that one lacks is at its default; one that it has too many is said."""
    before, now = record_of(), record_of()
    for name in missing:
        *groups, leaf = name.split(".")
        group = before["config"]
        for key in groups:
            group = group[key]
        del group[leaf]
    for name in unknown:
        set_field(before["config"], f"{name}_of_later", 3)
    for group in {name.partition(".")[0] for name in missing if "." in name}:
        if not before["config"][group]:
            del before["config"][group]  # a whole group may be new
    lines = same_run.compare(RUN, before, now, 2000)
    said = [f"{name}_of_later=3" for name in sorted(unknown)]
    assert lines == (
        [f"recorded by another version and not read by this one: {', '.join(said)}"]
        if said
        else []
    )


def test_what_is_left_open_may_be_stated():
    fields = {"model__num_kv_heads": 12, "model__d_ff": 2048, "data__tokens_level": 0}
    fields |= {"optimizer__warmup_steps": 1000}
    assert allowed(record_of(), record_of(**fields), 2000)
    assert allowed(record_of(**fields), record_of(), 2000)
    assert not allowed(record_of(), record_of(model__d_ff=2176), 2000)


SCHEDULES = st.fixed_dictionaries(
    {
        "train__steps": st.integers(6, 12),
        "optimizer__learning_rate": st.sampled_from([0.1, 0.2]),
        "optimizer__schedule": st.sampled_from(["cosine", "wsd", "constant"]),
        "optimizer__warmup_steps": st.integers(0, 3),
        "optimizer__decay_fraction": st.sampled_from([0.2, 0.5]),
        "mixer__interval": st.integers(2, 5),
        "mixer__start": st.integers(0, 6),
        "mixer__eta": st.sampled_from([1.0, 2.0]),
        "mixer__eta_end": st.sampled_from([-1.0, 1.0]),
        "mixer__beta_end": st.sampled_from([-1.0, 0.1, 0.9]),
        "mixer__probe_domains": st.sampled_from([0, 3]),
    }
)


def values_of(fields, done):
    """Step by step, as the loop reads them."""
    config = configs.from_fields(record_of(**fields)["config"])
    rate = learning_rate(configs.optimizer_config(config))
    schedules = [configs.schedule(config, name) for name in ("eta", "beta")]
    found = np.broadcast_to(np.float32(rate(np.arange(done))), done).tolist()
    for step in range(1, done + 1):
        if configs.update_due(config, step):
            found.append((step, config.mixer.probe_domains))
            if config.mixer.probe_domains:
                found.append(step // config.mixer.interval)
            for value in schedules:
                found.append(np.float32(value(step) if callable(value) else value))
    return found


@hypothesis.given(SCHEDULES, st.data(), st.integers(0, 6))
@hypothesis.settings(deadline=None, max_examples=40)
def test_schedules_count_by_their_values(before, data, done):
    """Whatever fields they come from: the same values, for the steps done."""
    others = data.draw(st.sets(st.sampled_from(sorted(before)), max_size=3))
    drawn = data.draw(SCHEDULES)
    now = {name: drawn[name] if name in others else before[name] for name in before}
    same = values_of(before, done) == values_of(now, done)
    assert allowed(record_of(**before), record_of(**now), done) == same


def test_an_automatic_warmup_is_what_it_was():
    """`constant`, 20 -> 40 steps goes on, with the warm-up stated or not."""
    before = record_of(train__steps=20, optimizer__schedule="constant")
    assert same_run.warmup_steps(before) == 2
    now = record_of(
        train__steps=40, optimizer__schedule="constant", optimizer__warmup_steps=2
    )
    assert allowed(before, now, 20)
    now["config"]["optimizer"]["warmup_steps"] = 4
    with pytest.raises(UserError, match=r"optimizer\.warmup_steps was 2 and is now 4"):
        same_run.compare(RUN, before, now, 20)


def test_a_million_steps():
    """Are compared in one go."""
    before = record_of(train__steps=2_000_000, mixer__eta_end=0.0)
    assert allowed(before, before, 1_000_000)


@pytest.mark.parametrize("name", sorted(MIXERS))
def test_targets_that_a_mixer_does_not_read(name):
    """Older versions took them: who leaves them out now goes on with the same run."""
    before = record_of(mixer__name=name, mixer__targets="a=1")
    reads = "alignments" in MIXERS[name].reads
    assert allowed(before, record_of(mixer__name=name), 2000) == (not reads)
