"""Where the store lies that a config names: the one door from training to preparing."""

import os
import pathlib

from dga_jax.data.store import Store
from dga_jax.errors import UserError
from dga_jax.files import is_remote

# What a config says instead of a path: the text that comes with the program, with its
# kinds of text for domains, or with 16 x 16 clusters.
SAMPLES = {"sample": (), "sample-clusters": (16, 16)}


def find_store(name: str, seq_len: int, cache: str | os.PathLike = "") -> pathlib.Path:
    """The path on this machine of a store; the sample is made, a URL copied, once.

    Args:
      name: a path, a URL, "sample" or "sample-clusters".
      seq_len: L of the sample; other stores have their own.
      cache: where what is made or copied is kept; see `files.cache_directory`.

    Raises:
      UserError: see `sample_path` and `local_store`; or what was made is damaged.
    """
    # What is not needed to train is not loaded to train.
    if name not in SAMPLES:
        if not is_remote(name):
            return pathlib.Path(name)
        from dga_jax.data.remote_store import local_store

        return local_store(name, cache)
    from dga_jax.data.sample import sample_path

    path = sample_path(seq_len, SAMPLES[name], cache)
    if not path.exists():
        from dga_jax.prepare.sample import prepare_sample

        prepare_sample(path, seq_len, SAMPLES[name])
    try:
        Store.open(path)
    except UserError as error:
        raise UserError(f"{error}: remove {path} and run again") from error
    return path
