"""Measures what the documentation claims: `python -m dga_jax.benchmark --help`."""
