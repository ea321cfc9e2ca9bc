"""What is checked before a job takes its time."""

import os

from dga_jax.data.build.folder import Folder
from dga_jax.data.corpus import Corpus
from dga_jax.data.sources.shard import real
from dga_jax.errors import UserError
from dga_jax.files import LOCK


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
        digests = {shard.digest for shard in corpus.shards} if corpus else ()
        if corpus and len(digests) < len(corpus.shards):
            raise UserError(f"a file is twice in {flag}")
        for shard in corpus.shards if corpus else ():
            for path in shard.paths:
                if seen.setdefault(real(path), flag) != flag:
                    raise UserError(
                        f"{path} is in both {seen[real(path)]} and {flag}; a text can"
                        " be only one of them"
                    )


def check_work(work: Folder, output: Folder, is_given: bool) -> None:
    """Raises UserError if a work directory will not do, or is not ours to remove."""
    if output.is_local and not work.is_local:
        raise UserError(
            f"--work={work} is a URL and --output={output} is not; rows go from one to"
            " the other as files, so give a URL for both or for none"
        )
    if not is_given and work.is_local and os.path.lexists(work.url):
        names = os.listdir(work.url) if os.path.isdir(work.url) else ["a file"]
        if names and LOCK not in names:
            raise UserError(
                f"{work} is there and was not made by this program, which would use and"
                " remove it; move it, or choose another --output or --work"
            )
