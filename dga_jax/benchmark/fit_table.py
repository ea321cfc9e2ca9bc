"""The table of docs/fit.md: `python -m dga_jax.benchmark fit --table`."""


def lines() -> "Iterator[str]":
    yield ""
