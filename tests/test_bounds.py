import pytest

from dga_jax.bounds import Above, AtLeast, OneOf, Or, Within

NAN, INF = float("nan"), float("inf")


@pytest.mark.parametrize(
    ("rule", "says", "good", "bad"),
    [
        (AtLeast(0), "must be at least 0", [0, 0.0, 3], [-1, -1e-9, NAN, INF]),
        (Above(0), "must be above 0", [1, 1e-9], [0, -1, NAN, INF]),
        (Within("[0, 1)"), "must be in [0, 1)", [0, 0.5], [1, -0.1, NAN, -INF]),
        (Within("(0, 1]"), "must be in (0, 1]", [1, 0.5], [0, 1.1, NAN, INF]),
        (Or(-1, Above(0)), "must be -1 or above 0", [-1, -1.0, 2], [0, -0.5, NAN]),
        (OneOf(("a", "b")), "choose a or b", ["a", "b"], ["", "c", "a or b"]),
    ],
    ids=str,
)
def test_a_rule(rule, says, good, bad):
    assert rule.says == says
    assert all(rule.allows(value) for value in good)
    assert not any(rule.allows(value) for value in bad)
