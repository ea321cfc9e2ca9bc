"""What each step of making a store costs a core: what plans for large corpora rest on.

The text of the sample, made longer, goes into clusters in this process; CPU seconds of
each step are counted, those of all of its threads.
"""

import dataclasses
import pathlib
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from dga_jax.benchmark import corpora
from dga_jax.benchmark.tables import Table
from dga_jax.data.sample import SAMPLE
from dga_jax.errors import UserError
from dga_jax.files import OnBytes
from dga_jax.prepare.assemble import LeaveOut, prepare_store
from dga_jax.prepare.assemble.clustering import ClusterOptions
from dga_jax.prepare.assemble.engine import Local
from dga_jax.prepare.clusters.minilm import MiniLM
from dga_jax.prepare.corpus import Corpus
from dga_jax.prepare.sources import Shard, expand, read_documents
from dga_jax.tokenizer import load_tokenizer

_SEQ_LEN = 1024
_STEPS = {  # of the job, by the functions that do them
    "tokenize": ("Tokenize",),
    "look for contamination": ("Search",),
    "look for duplicates": ("ScatterHashes", "ScatterPlaces"),
    "embed, tfidf": ("Vectors",),
    "assign to clusters": ("Assign",),
    "count": ("CountDocuments", "CountTokens"),
    "place and write rows": ("ScatterTokens",),
}


@dataclasses.dataclass(frozen=True)
class Size:
    """What is measured.

    Attributes:
      mb: of text, in megabytes.
      branching: of the tree of clusters.
      minilm: documents that MiniLM embeds.
    """

    mb: float = 100.0
    branching: tuple[int, ...] = (64, 64)
    minilm: int = 1000


QUICK = Size(mb=4.0, branching=(8, 4), minilm=20)


class _Timed(Local):
    """Counts the CPU seconds of each kind of step."""

    def __init__(self):
        super().__init__()
        self.seconds: dict[str, float] = {}

    def map(self, step: Callable, items: Sequence[Any], on_bytes: OnBytes) -> None:
        """See the base class."""
        self._timing(type(step).__name__, super().map)(step, items, on_bytes)

    def shuffle(self, scatter: Callable, *arguments: Any) -> None:
        """See the base class."""
        self._timing(type(scatter).__name__, super().shuffle)(scatter, *arguments)

    def _timing(self, name: str, function: Callable) -> Callable:
        def timed(*arguments: Any) -> None:
            began = time.process_time()
            function(*arguments)
            spent = time.process_time() - began
            self.seconds[name] = self.seconds.get(name, 0.0) + spent

        return timed


def run(size: Size) -> Iterator[Table]:
    """Megabytes and documents that a core does in a second, by step."""
    with tempfile.TemporaryDirectory() as temporary:
        directory = pathlib.Path(temporary)
        patterns, _ = corpora.write_corpus(directory, int(size.mb * 1e6), (corpora.GZ,))
        shards = expand(patterns.values())
        engine = _Timed()
        prepared = prepare_store(
            generic=Corpus(tuple(shards)),
            target=Corpus(tuple(expand([str(corpora.TARGET)]))),
            tokenizer=load_tokenizer(SAMPLE / "tokenizer.json"),
            seq_len=_SEQ_LEN,
            output=directory / "store",
            clusters=ClusterOptions(size.branching),
            leave_out=LeaveOut(duplicates=True, contamination="report"),
            engine=engine,
        )
        *outcomes, _ = prepared.outcomes
        megabytes = sum(one.text_bytes for one in outcomes) / 1e6
        documents = sum(one.documents for one in outcomes)
        rows = {}
        for name, steps in _STEPS.items():
            seconds = sum(engine.seconds[step] for step in steps)
            rows[name] = (seconds, megabytes / seconds, documents / seconds)
        if minilm := _embed(shards, size.minilm):
            rows["embed, minilm"] = minilm
        yield Table(
            f"stages: {megabytes:,.0f} MB of text in {documents:,} documents",
            ("CPU s", "MB / CPU s", "documents / CPU s"),
            rows,
        )


def _embed(shards: Sequence[Shard], count: int) -> tuple[float, float, float] | None:
    """The same of MiniLM over every so many documents; None if it is not installed."""
    try:
        model = MiniLM.load()
    except UserError:
        return None
    texts = [document.text for shard in shards for document in read_documents(shard)]
    texts = texts[:: max(1, len(texts) // count)][:count]
    model.embed(texts)  # compiles
    began = time.process_time()
    model.embed(texts)
    seconds = time.process_time() - began
    size = sum(len(text.encode()) for text in texts) / 1e6
    return seconds, size / seconds, len(texts) / seconds
