"""The commands of `python -m dga_jax.prepare`."""
