"""Runs that go wrong in a way that was planted say so; one that does not, nothing."""

import numpy as np
import pytest
from runs import Killed, log_of, small_config, stopped, train_run
from stores import store_with, text_of

from dga_jax.report import write_report


def watched(store, **fields):
    """60 steps, an update every 5, an evaluation every 20."""
    return small_config(
        store,
        **{
            "train__steps": 60,
            "mixer__interval": 5,
            "mixer__beta": 0.3,
            "mixer__probe_rows": 4,
            "eval__every": 20,
            "eval__target_rows": 32,
            "checkpoint__every": 42,
        }
        | fields,
    )


def signs_of(folder):
    """Steps and figures by name."""
    found = {}
    for line in log_of(folder):
        for key, value in line.items():
            group, _, name = key.partition("/")
            if group == "warning":
                found.setdefault(name, {})[line["step"]] = value
    return found


def test_steps_that_are_much_too_large_swing(byte_store, tmp_path, monkeypatch, capsys):
    """And a run that was killed says in the end what one that was not does."""
    config = watched(byte_store, mixer__eta=1e3)
    assert train_run(config, tmp_path / "whole")
    found = signs_of(tmp_path / "whole")["swings"]
    assert 0.1 < max(found.values()) < 0.6
    said = [x for x in capsys.readouterr().out.splitlines() if "swing" in x]
    begins = [step for step in found if step - 5 not in found]
    assert [line.split(":")[0] for line in said] == [
        f"warning, step {step}" for step in begins
    ]
    assert "mixer.eta" in said[0]
    with stopped(monkeypatch, 48, by="kill"), pytest.raises(Killed):
        train_run(watched(byte_store, mixer__eta=1e3), tmp_path / "killed")
    assert train_run(watched(byte_store, mixer__eta=1e3), tmp_path / "killed")
    assert log_of(tmp_path / "killed") == log_of(tmp_path / "whole")
    capsys.readouterr()
    write_report(tmp_path / "whole")
    assert f"warning, steps {min(found)} to {max(found)}" in capsys.readouterr().out


def test_one_probe_row_has_no_errors(byte_store, tmp_path, capsys):
    config = watched(byte_store, mixer__probe_rows=1, train__steps=20)
    assert train_run(config, tmp_path)
    assert signs_of(tmp_path)["noise"] == {5: 1, 10: 1, 15: 1, 20: 1}
    assert capsys.readouterr().out.count("mixer.probe_rows") == 1


def test_a_target_of_random_bytes_is_unrelated(byte_corpora, tmp_path):
    letters = np.random.default_rng(0).integers(0, 256, 30_000)
    text = "".join(map(chr, letters))
    store = store_with(
        tmp_path / "text", byte_corpora, target=text[:20_000], target_eval=text[20_000:]
    )
    assert train_run(watched(store), tmp_path / "run")
    found = signs_of(tmp_path / "run")
    assert found["unrelated"][60] > 1


def test_a_domain_of_ten_rows_at_most_of_the_weight_is_repeated(
    byte_corpora, tmp_path, capsys
):
    scarce = ("scarce", "It is a truth universally acknowledged. " * 8)
    store = store_with(tmp_path / "text", byte_corpora, [scarce])
    names = store.domains().names
    rows = store.domains().num_rows[list(names).index("scarce")]
    assert 8 <= rows <= 12
    weights = ",".join(f"{x}={0.9 if x == 'scarce' else 0.1 / 8}" for x in names)
    fields = {"mixer__name": "static", "mixer__weights": weights}
    for limit in (16, 1000):
        config = watched(store, train__steps=40, warn__epochs=limit, **fields)
        assert train_run(config, tmp_path / str(limit))
    assert signs_of(tmp_path / "16")["repeats"][40] == pytest.approx(0.9, abs=1e-3)
    assert not signs_of(tmp_path / "1000")
    assert "scarce" in capsys.readouterr().out


@pytest.mark.slow
def test_a_domain_that_holds_the_steering_part_is_overfitted(byte_corpora, tmp_path):
    leak = text_of(byte_corpora["target"])[:2000]
    store = store_with(tmp_path / "text", byte_corpora, [("leak", leak)], target=leak)
    config = watched(
        store,
        train__steps=200,
        train__batch_size=16,
        optimizer__learning_rate=1e-2,
        optimizer__schedule="constant",
        model__d_model=64,
        warn__effective_domains=0.0,
    )
    assert train_run(config, tmp_path / "run")
    found = signs_of(tmp_path / "run")
    assert found["overfit"][200] > 1
    assert found["repeats"][200] > 0.9
    assert "collapse" not in found


def test_weights_on_one_domain_have_collapsed(byte_store, tmp_path):
    config = watched(byte_store, mixer__eta=1e4, mixer__beta=1.0, train__steps=20)
    assert train_run(config, tmp_path)
    assert signs_of(tmp_path)["collapse"][20] < 1.5


def test_domains_that_are_used_up(byte_store, tmp_path, capsys):
    rows = byte_store.domains().num_rows
    fields = {"mixer__name": "static", "data__tokens_per_domain": 10 * 32}
    weights = ",".join(
        f"{name}={0.65 if i == 0 else 0.05}"
        for i, name in enumerate(byte_store.domains().names)
    )
    config = watched(
        byte_store,
        train__steps=20,
        mixer__weights=weights,
        data__max_epochs=5,
        **fields,
    )
    assert len(rows) == 8
    assert train_run(config, tmp_path)
    assert signs_of(tmp_path)["used_up"][20] >= 0.65
    assert capsys.readouterr().out.count("used up (data.max_epochs=5)") == 1


def test_a_run_that_is_well_says_nothing(byte_store, tmp_path, capsys):
    config = watched(byte_store, mixer__probe_rows=16)
    assert train_run(config, tmp_path)
    assert not signs_of(tmp_path)
    assert "warning" not in capsys.readouterr().out
    steering = [line.get("eval/target_steering/loss") for line in log_of(tmp_path)]
    assert steering[0] > steering[-1] > 0
