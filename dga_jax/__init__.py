"""Pretrains a language model on a data mixture that steers itself towards a target."""

import os

from dga_jax import processes

if processes.is_one_of_several():
    # JAX's libraries log the loss of another process, which `distributed` says in a
    # line. They read this when JAX is imported.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
