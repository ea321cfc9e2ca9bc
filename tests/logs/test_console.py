import io

import pytest

from dga_jax.logs.console import (
    Progress,
    columns,
    duration,
    fraction,
    quantity,
    scientific,
    shorten,
)

LEADING = [
    ("python_code", 0.41, False),
    ("a_rather_long_name", 0.12, False),
    ("factbook", 0.09, False),
]


def printed(width, **changes):
    out = io.StringIO()
    values = {
        "step": 120,
        "total_steps": 4000,
        "loss": 5.2134,
        "target_loss": 5.4021,
        "tokens_per_second": 12345.6,
        "eta_seconds": 65.2,
        "leading": LEADING,
    }
    Progress(out, width).line(**values | changes)
    return out.getvalue()


def test_a_line_says_where_the_run_stands():
    assert printed(200) == (
        "step  120/4000  loss 5.213  target 5.402  12.3k tok/s  eta  1m05s"
        "  python_code .41 a_rather_l.. .12 factbook .09\n"
    )


def test_a_domain_that_is_used_up_is_marked():
    leading = [("code", 0.9, True), ("prose", 0.1, False)]
    assert printed(200, leading=leading).endswith("  code .90 (used up) prose .10\n")


def test_columns_stay_in_place_from_the_first_line_on():
    first = printed(
        200, step=0, target_loss=None, tokens_per_second=None, eta_seconds=float("nan")
    )
    for label in ("loss", "target", "tok/s", "eta", "python_code"):
        assert first.index(label) == printed(200).index(label)


@pytest.mark.parametrize("width", [60, 80, 100, 120])
def test_domains_that_do_not_fit_are_left_out(width):
    line = printed(width)
    assert line.count("\n") == 1
    assert len(line.rstrip()) <= max(width, 65)
    assert ("factbook" in line) == (width == 120)


def test_numbers_as_a_person_reads_them():
    counts = (0, 7, 950, 1234, 12345, 999999, 1.25e6, 3e16)
    expected = ["0", "7", "950", "1.23k", "12.3k", "1M", "1.25M", "3e+04T"]
    assert [quantity(x) for x in counts] == expected
    seconds = (0.4, 45, 65.2, 3599.9, 7390, 273600, float("nan"))
    expected = ["0s", "45s", "1m05s", "1h00m", "2h03m", "3d04h", "-"]
    assert [duration(x) for x in seconds] == expected
    flops = (4.0, 475, 1.2345e15, float("nan"))
    assert [scientific(x) for x in flops] == ["4.00e0", "4.75e2", "1.23e15", "-"]
    assert [fraction(x) for x in (0, 0.414, 0.999, 1)] == [".00", ".41", "1.00", "1.00"]
    assert [shorten(x, 6) for x in ("abcdef", "abcdefg")] == ["abcdef", "abcd.."]


def test_wide_characters_take_two_places_and_accents_none():
    rows = [["日本", "1"], ["e\u0301t", "22"], ["abcd", "x"]]
    assert columns(rows) == "日本   1\ne\u0301t    22\nabcd   x"


def test_columns_stand_below_one_another():
    rows = [["", "loss", "bits"], ["target", "5.4"], ["all of them", "12.25", "1"]]
    assert columns(rows) == (
        "              loss  bits\ntarget         5.4\nall of them  12.25     1"
    )
