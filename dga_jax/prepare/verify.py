"""Rereads all of a store: dga_jax.prepare verify STORE."""

import sys
import time
from collections.abc import Sequence

import tqdm

from dga_jax.console import duration
from dga_jax.data import verification
from dga_jax.data.store import Store
from dga_jax.errors import UserError

_QUIET_SECONDS = 30  # between lines of progress where nobody watches


def main(argv: Sequence[str]) -> None:
    """Prints one line if all is well; raises UserError at the first problem."""
    if len(argv) != 2:
        raise UserError("verify takes one store: dga_jax.prepare verify STORE")
    began = time.monotonic()
    store = Store.open(argv[1])
    with tqdm.tqdm(
        total=verification.work(store),
        unit="B",
        unit_scale=True,
        desc="verifying",
        mininterval=0.1 if sys.stderr.isatty() else _QUIET_SECONDS,
    ) as bar:
        found = verification.verify(store, bar.update)
    for name in found.extra:
        print(f"not part of the store: {name}")
    print(
        f"verified: {found.files:,} files, {found.num_bytes / 1e6:,.1f} MB,"
        f" {found.rows:,} rows that predict {found.tokens:,} tokens, in"
        f" {duration(time.monotonic() - began)}; content {store.content_hash[:16]}"
    )
