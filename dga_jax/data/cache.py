"""The directory where what can be made or copied again is kept."""

import os
import pathlib

from dga_jax.errors import UserError
from dga_jax.files import local_path, made_writable

CACHE_VARIABLE = "DGA_JAX_CACHE"


def cache_directory(given: str | os.PathLike = "") -> pathlib.Path:
    """The cache, made if it does not exist.

    Args:
      given: its path; "": $DGA_JAX_CACHE, else dga_jax in $XDG_CACHE_HOME, else
        ~/.cache/dga_jax.

    Raises:
      UserError: it is behind a URL, in a home that nobody knows, or cannot be written
        to.
    """
    if given:
        name, chosen = "the cache", os.fspath(given)
    elif chosen := os.environ.get(CACHE_VARIABLE, ""):
        name = CACHE_VARIABLE
    else:
        name, chosen = "XDG_CACHE_HOME", os.environ.get("XDG_CACHE_HOME") or "~/.cache"
        chosen = f"{chosen}/dga_jax"
    path = local_path(name, chosen, "name a directory that is")
    try:
        cache = path.expanduser().absolute()
    except RuntimeError:  # no HOME, and the system does not know the user
        raise UserError(
            f"no home directory is known for the cache {chosen}; set {CACHE_VARIABLE}"
            " to a directory that can be written to"
        ) from None
    if not made_writable(cache):
        raise UserError(
            f"cannot write to the cache {cache}; set {CACHE_VARIABLE} to a directory"
            " that can be written to"
        )
    return cache
