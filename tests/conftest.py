"""Eight CPU devices before JAX wakes up, and stores of real text."""

import contextlib
import gc
import json
import lzma
import os
import pathlib
import signal
import sys
import time

# What imports and traces make stays: it need not be looked through again and again.
gc.set_threshold(50_000, 20, 100)
os.environ["JAX_PLATFORMS"] = "cpu"
# The tests' programs are small: to compile them well takes longer than to run them.
_XLA_FLAGS = [
    "--xla_force_host_platform_device_count=8",
    "--xla_backend_optimization_level=0",
]
_INHERITED = os.environ.get("XLA_FLAGS", "").split()
os.environ["XLA_FLAGS"] = " ".join(dict.fromkeys([*_INHERITED, *_XLA_FLAGS]))
# Runs differ in few programs: each is compiled once, also by the processes of a test,
# and kept for the next time. `--cache-clear` of pytest throws them away. The smallest
# are kept too: of those each process has many.
_COMPILED = pathlib.Path(__file__).parents[1] / ".pytest_cache" / "d" / "compiled"
os.environ["JAX_COMPILATION_CACHE_DIR"] = str(_COMPILED)
os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0"
os.environ["COLUMNS"] = "110"  # of the console, whoever runs the tests

import hypothesis  # noqa: E402
import pytest  # noqa: E402

# No test fails because the machine is slow.
hypothesis.settings.register_profile("any speed", deadline=None)
hypothesis.settings.load_profile("any speed")

_DOMAIN_BYTES = 30_000
_WEEK = 7 * 24 * 3600.0


def pytest_collection_modifyitems(config, items):
    """Among workers, files with slow tests first: quick ones level out the end."""
    if hasattr(config, "workerinput"):
        slow = {item.path for item in items if item.get_closest_marker("slow")}
        items.sort(key=lambda item: item.path not in slow)


def pytest_collection_finish():
    """No module that was imported has changed what all tests run under.

    What is there by now stays: the garbage collector need not look at it again. To
    fit an embedder of 128 dimensions takes most of the time of a test of clusters; the
    tests of the command do.
    """
    assert all(flag in os.environ["XLA_FLAGS"] for flag in _XLA_FLAGS)
    if tfidf := sys.modules.get("dga_jax.prepare.clusters.tfidf"):
        tfidf.DIM = 32
    gc.collect()
    gc.freeze()


def pytest_sessionfinish(session):
    """Programs that no run of the last week compiled or read are not kept."""
    if not hasattr(session.config, "workerinput"):
        for path in _COMPILED.glob("*"):
            with contextlib.suppress(OSError):  # another run may do the same
                if time.time() - path.stat().st_atime > _WEEK:
                    path.unlink()


@pytest.fixture(scope="session")
def sample_store():
    from dga_jax.data.store import Store
    from dga_jax.stores import find_store

    return Store.open(find_store("sample", seq_len=128))


@pytest.fixture(scope="session")
def byte_corpora(tmp_path_factory):
    """The beginning of each text of the sample, by `generic`, `target`, `target_eval`.

    30 documents of 1,000 characters each.
    """
    from dga_jax.data.sample import SAMPLE
    from dga_jax.prepare.corpus import Corpus
    from dga_jax.prepare.sources import Shard

    folder = tmp_path_factory.mktemp("texts")
    files = {}
    for part in ("generic", "target"):
        files[part] = []
        for path in sorted((SAMPLE / part).glob("*.jsonl.xz")):
            with lzma.open(path, "rt", encoding="utf-8") as packed:
                text = "".join(json.loads(line)["text"] for line in packed)
            pieces = [text[i : i + 1000] for i in range(0, _DOMAIN_BYTES, 1000)]
            cut = folder / path.name.removesuffix(".xz")
            cut.write_text("".join(json.dumps({"text": t}) + "\n" for t in pieces))
            files[part].append(cut)
    target_eval, target = files["target"]
    return {
        "generic": Corpus(tuple(map(Shard.of, files["generic"]))),
        "target": Corpus((Shard.of(target),)),
        "target_eval": Corpus((Shard.of(target_eval),)),
    }


@pytest.fixture(scope="session")
def byte_store(byte_corpora, tmp_path_factory):
    """These texts as bytes: 8 domains, rows of 32."""
    from dga_jax.data.store import Store
    from dga_jax.prepare.assemble import prepare_store
    from dga_jax.tokenizer import BytesTokenizer

    path = tmp_path_factory.mktemp("bytes") / "store"
    prepare_store(**byte_corpora, tokenizer=BytesTokenizer(), seq_len=32, output=path)
    return Store.open(path)


@pytest.fixture(scope="session")
def cluster_store(byte_corpora, tmp_path_factory):
    """The same in 6 clusters of 5, labels thrown away; rows of 32."""
    from dga_jax.data.store import Store
    from dga_jax.prepare.assemble import prepare_store
    from dga_jax.prepare.assemble.clustering import ClusterOptions
    from dga_jax.tokenizer import BytesTokenizer

    path = tmp_path_factory.mktemp("clusters") / "store"
    prepare_store(
        **byte_corpora,
        tokenizer=BytesTokenizer(),
        seq_len=32,
        output=path,
        clusters=ClusterOptions((6, 5)),
    )
    return Store.open(path)


@pytest.fixture(scope="session")
def vectors():
    """Of 120 documents of each text of the sample, embedded: float32 [960, d]."""
    from dga_jax.data.sample import SAMPLE
    from dga_jax.prepare.clusters import tfidf
    from dga_jax.prepare.sources import Shard, read_documents

    texts = []
    for path in sorted((SAMPLE / "generic").glob("*.xz")):
        shard = Shard.of(path)
        documents = [document.text[:3000] for document in read_documents(shard)]
        texts += documents[:: len(documents) // 120][:120]
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(tfidf, "DIM", 128)  # k-means is judged where users have it
        return tfidf.TfidfEmbedder.fit(texts).embed(texts)


@pytest.fixture(autouse=True)
def _sigterm_as_before():
    """A run in this process takes SIGTERM over; the next test gets it back."""
    before = signal.getsignal(signal.SIGTERM)
    yield
    signal.signal(signal.SIGTERM, before)


@pytest.fixture
def quick_compilation():
    """For tests of whether a program is right, not of how fast it is."""
    import jax

    jax.config.update("jax_disable_most_optimizations", True)
    yield
    jax.config.update("jax_disable_most_optimizations", False)
