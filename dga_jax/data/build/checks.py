"""What is checked before a job takes its time."""

import os

from dga_jax.data.corpus import Corpus
from dga_jax.errors import UserError


def check_distinct(generic: Corpus, target: Corpus, target_eval: Corpus | None) -> None:
    """No file may be trained on and steered by, or steered by and evaluated on.

    Raises:
      UserError: one is, or there is no file at all.
    """
    seen = {}
    for flag, corpus in [
        ("generic", generic),
        ("target", target),
        ("target_eval", target_eval),
    ]:
        if corpus and not corpus.shards:
            raise UserError(f"no file given for {flag}")
        for shard in corpus.shards if corpus else ():
            for path in shard.paths:
                place = path if "://" in path else os.path.realpath(path)
                if seen.setdefault(place, flag) != flag:
                    raise UserError(
                        f"{path} is in both {seen[place]} and {flag}; a text can be"
                        " only one of them"
                    )
