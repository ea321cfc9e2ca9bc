"""Measures what the README claims: `python -m dga_jax.benchmark --help`."""
