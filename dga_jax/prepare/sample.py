"""The text that comes with the program, prepared."""

import contextlib
import pathlib
import tempfile

from dga_jax.data.sample import GENERIC, SAMPLE, TARGET, TARGET_EVAL, TOKENIZER
from dga_jax.prepare.assemble import prepare_store
from dga_jax.prepare.corpus import Corpus
from dga_jax.prepare.sources import Shard, expand
from dga_jax.tokenizer import load_tokenizer


def prepare_sample(
    path: pathlib.Path, seq_len: int, branching: tuple[int, ...]
) -> None:
    """Makes the sample a store at a path; see `data.sample.sample_path`."""
    clusters = None
    if branching:
        # Imported here, for scikit-learn takes a second that few runs need.
        from dga_jax.prepare.assemble.clustering import ClusterOptions

        clusters = ClusterOptions(branching)
    # Where a run beside this one is quicker, it has made the same.
    with (
        contextlib.suppress(FileExistsError),
        tempfile.TemporaryDirectory(dir=path.parent) as work,
    ):
        prepare_store(
            generic=Corpus(tuple(expand([str(SAMPLE / GENERIC)]))),
            target=Corpus((Shard.of(SAMPLE / TARGET),)),
            target_eval=Corpus((Shard.of(SAMPLE / TARGET_EVAL),)),
            tokenizer=load_tokenizer(SAMPLE / TOKENIZER),
            seq_len=seq_len,
            output=path,
            clusters=clusters,
            work=work,
        )
