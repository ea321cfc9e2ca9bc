import json

import hypothesis
import numpy as np
import pytest
from hypothesis import strategies as st

from dga_jax.errors import UserError
from dga_jax.logs import series
from dga_jax.logs.metrics import MetricsWriter, read_metrics
from dga_jax.logs.series import leading, read_newest, read_series


def write(workdir, steps, num_domains, name="mixture/weight", first_step=0):
    """Value of domain i at step s: i + s / 1000."""
    names = [f"c{i:05}" for i in range(num_domains)]
    writer = MetricsWriter(workdir, first_step=first_step)
    for step in steps:
        values = np.arange(num_domains, dtype=np.float32) + np.float32(step / 1000)
        writer.write(step, writer.write_series(step, name, values, names))
    writer.close()
    return names


@pytest.mark.parametrize("num_domains", [1, 64, 65, 5000])
@pytest.mark.parametrize("name", ["mixture/weight", "eval/domain/{}/loss"])
def test_all_values_come_back_however_many_domains(tmp_path, num_domains, name):
    names = write(tmp_path, range(0, 30, 10), num_domains, name)
    found = read_series(tmp_path, name, read_metrics(tmp_path))
    assert list(found.domains) == names
    np.testing.assert_array_equal(found.steps, [0, 10, 20])
    expected = np.arange(num_domains, dtype=np.float32) + np.float32(0.02)
    np.testing.assert_array_equal(found.values[2], expected)
    assert (tmp_path / "series").exists() == (num_domains > 64)


def test_above_64_domains_the_log_keeps_the_16_leading_ones(tmp_path):
    write(tmp_path, [0], 65, "eval/domain/{}/loss")
    (line,) = read_metrics(tmp_path)
    expected = {f"eval/domain/c{i:05}/loss" for i in range(49, 65)}
    assert set(line) == {"step"} | expected


def test_another_series_may_rank_the_domains(tmp_path):
    names = [str(i) for i in range(100)]
    writer = MetricsWriter(tmp_path, first_step=0)
    values = writer.write_series(0, "a", np.zeros(100), names, rank_by=-np.arange(100))
    writer.close()
    assert list(values) == [f"a/{i}" for i in range(16)]


def test_a_resumed_series_has_the_bytes_of_an_undisturbed_one(tmp_path):
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    write(whole, range(0, 100, 10), 100)
    write(killed, range(0, 80, 10), 100)
    path = killed / "series" / "mixture_weight.bin"
    with open(path, "ab") as file:
        file.write(b"torn")
    write(killed, range(60, 100, 10), 100, first_step=51)
    expected = (whole / "series" / "mixture_weight.bin").read_bytes()
    assert path.read_bytes() == expected


def test_a_fresh_run_in_the_folder_of_another_may_have_other_domains(tmp_path):
    write(tmp_path, range(3), 100)
    write(tmp_path, range(2), 200)
    found = read_series(tmp_path, "mixture/weight", read_metrics(tmp_path))
    assert found.values.shape == (2, 200)


def test_the_last_value_is_the_last_that_is_one(tmp_path):
    writer = MetricsWriter(tmp_path, first_step=0)
    for step, row in enumerate([[1, 2, np.nan], [3, np.nan, np.nan]]):
        writer.write(step, writer.write_series(step, "a", row, ["x", "y", "z"]))
    writer.close()
    series = read_series(tmp_path, "a", read_metrics(tmp_path))
    last = series.last(["y", "z", "none", "x"])
    np.testing.assert_array_equal(last, [2, np.nan, np.nan, 3])
    np.testing.assert_array_equal(series.of(["x", "none"]), [[1, np.nan], [3, np.nan]])


def test_a_series_never_written_is_none(tmp_path):
    write(tmp_path, [0], 3)
    assert read_series(tmp_path, "mixture/alignment", read_metrics(tmp_path)) is None


def test_leading_breaks_ties_in_order_and_puts_nan_last():
    values = np.array([1, np.nan, 2, 2, -np.inf])
    np.testing.assert_array_equal(leading(values, 3), [2, 3, 0])


@hypothesis.given(
    st.lists(st.sampled_from([1.0, 0.0, -0.0, 2.5, np.nan, np.inf, -np.inf])),
    st.integers(1, 20),
)
def test_the_leading_are_the_first_of_all_in_order(values, count):
    ranks = [-np.inf if np.isnan(value) else value for value in values]
    expected = sorted(range(len(values)), key=lambda i: -ranks[i])[:count]
    assert leading(np.array(values, float), count).tolist() == expected


class Counted(list):
    """Names that count how often somebody goes through them."""

    passes = 0

    def __iter__(self):
        self.passes += 1
        return super().__iter__()


def test_names_are_written_once_and_not_looked_at_again(tmp_path, monkeypatch):
    """To go through 262,144 of them for each record took seconds a step."""
    monkeypatch.setattr(series, "_NAMES_AT_ONCE", 7)
    names = Counted(f'c"{i:05}' for i in range(100))
    writer = MetricsWriter(tmp_path, first_step=0)
    for step in range(3):
        writer.write_series(step, "mixture/weight", np.zeros(100), names)
    with pytest.raises(ValueError, match="same domains"):
        writer.write_series(3, "mixture/weight", np.zeros(100), [*names[1:], "other"])
    writer.close()
    assert names.passes == 2  # into the header, and to compare with the others
    content = (tmp_path / "series" / "mixture_weight.json").read_text()
    assert content == json.dumps({"name": "mixture/weight", "domains": [*names]})


ALIGNMENT = "series/mixture_alignment"


def write_as_before(workdir, subsets):
    """An old run of 200 domains: the header of the first subset, values of each."""
    names = write(workdir, range(len(subsets)), 200)
    header = {"name": "mixture/alignment", "domains": [names[i] for i in subsets[0]]}
    (workdir / f"{ALIGNMENT}.json").write_text(json.dumps(header))
    with open(workdir / f"{ALIGNMENT}.bin", "wb") as file:
        for step, subset in enumerate(subsets):
            file.write(np.int64(step).tobytes())
            file.write(np.array(subset, "<f4").tobytes())
    return names


ROTATED = [range(80), range(80, 160)]


def test_values_of_unknown_domains_are_not_read(tmp_path):
    """What the log has of them is right: it named those of the moment."""
    names = write_as_before(tmp_path, ROTATED)
    lines = read_metrics(tmp_path)
    assert read_series(tmp_path, "mixture/alignment", lines) is None
    lines.append({"step": 2, f"mixture/alignment/{names[90]}": 90.0})
    found = read_series(tmp_path, "mixture/alignment", lines)
    assert (list(found.domains), found.values.tolist()) == ([names[90]], [[90.0]])
    assert read_series(tmp_path, "mixture/weight", lines).values.shape == (2, 200)


def test_the_newest_value_may_be_in_the_log_of_a_run_of_before(tmp_path):
    """Subsets of at most 64 were there alone; now there is a file of all 200."""
    names = write(tmp_path, [0], 200)
    writer = MetricsWriter(tmp_path, first_step=1)
    writer.write(1, {f"a/{name}": -float(i) for i, name in enumerate(names[:20])})
    values = np.where(np.arange(200) < 10, np.arange(200.0), np.nan)
    writer.write(2, writer.write_series(2, "a", values, names))
    writer.close()
    newest = read_newest(
        tmp_path, "a", read_metrics(tmp_path), [names[i] for i in (3, 12, 99)]
    )
    np.testing.assert_array_equal(newest, [3, -12, np.nan])


@pytest.mark.parametrize("killed", [False, True])
def test_values_of_unknown_domains_are_moved_aside_whole(killed, tmp_path, capsys):
    names = write_as_before(tmp_path, ROTATED)
    before = {
        suffix: (tmp_path / f"{ALIGNMENT}{suffix}").read_bytes()
        for suffix in (".json", ".bin")
    }
    aside = tmp_path / "series" / "unknown_domains"
    if killed:  # between the one file and the other, earlier
        aside.mkdir()
        (tmp_path / f"{ALIGNMENT}.bin").rename(aside / "mixture_alignment.bin")
    writer = MetricsWriter(tmp_path, first_step=1)
    values = np.where(np.arange(200) < 5, np.arange(200.0), np.nan)
    writer.write(1, writer.write_series(1, "mixture/alignment", values, names))
    writer.close()
    for suffix, content in before.items():
        assert (aside / f"mixture_alignment{suffix}").read_bytes() == content
    said = capsys.readouterr().out
    assert said.count("\n") == 1
    assert str(aside) in said
    found = read_series(tmp_path, "mixture/alignment", read_metrics(tmp_path))
    np.testing.assert_array_equal(found.steps, [1])
    np.testing.assert_array_equal(found.of(names)[0], values)
    # What lies aside stays as it is, whatever the run does next.
    MetricsWriter(tmp_path, first_step=0).close()
    assert (aside / "mixture_alignment.bin").read_bytes() == before[".bin"]
    assert capsys.readouterr().out == ""


def test_twice_moved_aside_are_two(tmp_path):
    for _ in range(2):
        write_as_before(tmp_path, ROTATED)
        MetricsWriter(tmp_path, first_step=1).close()
    folders = sorted(p.name for p in (tmp_path / "series").iterdir() if p.is_dir())
    assert folders == ["unknown_domains", "unknown_domains-2"]


def test_alignments_of_all_that_moves_go_on(tmp_path, capsys):
    """Those that an old run wrote of all domains are right, and appended to."""
    names = write_as_before(tmp_path, [range(200), range(200)])
    writer = MetricsWriter(tmp_path, first_step=1)
    writer.write_series(1, "mixture/alignment", np.ones(200), names)
    writer.close()
    found = read_series(tmp_path, "mixture/alignment", read_metrics(tmp_path))
    np.testing.assert_array_equal(found.values, [np.arange(200), np.ones(200)])
    assert capsys.readouterr().out == ""


def test_a_series_is_over_the_same_domains_in_all_steps(tmp_path):
    """However they were written: by another process, or in this one."""
    names = write(tmp_path, [0], 100)
    others = names[1:] + names[:1]
    writer = MetricsWriter(tmp_path, first_step=1)
    writer.write_series(1, "mixture/weight", np.ones(100), others)
    with pytest.raises(ValueError, match="mixture/weight: a series is over the same"):
        writer.write_series(2, "mixture/weight", np.ones(100), names)
    writer.close()
    found = read_series(tmp_path, "mixture/weight", read_metrics(tmp_path))
    assert (list(found.domains), found.steps.tolist()) == (others, [1])


def test_a_header_that_cannot_be_read_is_one_line(tmp_path):
    write(tmp_path, [0], 100)
    header = tmp_path / "series" / "mixture_weight.json"
    header.write_bytes(b"")
    for act in (
        lambda: read_series(tmp_path, "mixture/weight", []),
        lambda: MetricsWriter(tmp_path, first_step=1),
    ):
        with pytest.raises(UserError, match=r"mixture_weight\.json: .*move it away"):
            act()
    header.unlink()
    header.with_suffix(".bin").unlink()
    MetricsWriter(tmp_path, first_step=1).close()
