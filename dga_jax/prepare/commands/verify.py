"""Rereads all of a store: dga_jax.prepare verify STORE."""

import time
from collections.abc import Sequence

from dga_jax.data.remote_store import local_store
from dga_jax.data.store import Store
from dga_jax.errors import UserError
from dga_jax.logs.console import duration, progress
from dga_jax.prepare import verification


def main(argv: Sequence[str]) -> None:
    """Prints one line if all is well; raises UserError at the first problem."""
    if len(argv) != 2:
        raise UserError("verify takes one store: dga_jax.prepare verify STORE")
    began = time.monotonic()
    store = Store.open(local_store(argv[1]))
    with progress(
        total=verification.work(store), unit="B", unit_scale=True, desc="verifying"
    ) as bar:
        found = verification.verify(store, bar.update)
    for name in found.extra:
        print(f"not part of the store: {name}")
    print(
        f"verified: {found.files:,} files, {found.num_bytes / 1e6:,.1f} MB,"
        f" {found.rows:,} rows that predict {found.tokens:,} tokens, in"
        f" {duration(time.monotonic() - began)}; content {store.content_hash[:16]}"
    )
