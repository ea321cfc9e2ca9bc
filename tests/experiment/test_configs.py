"""Every experiment that is shipped builds, and trains, on a store like its own."""

import dataclasses
import importlib
import pathlib

import pytest

from dga_jax.data.store import Store
from dga_jax.experiment import plan, runner
from dga_jax.prepare.assemble import prepare_store
from dga_jax.prepare.assemble.clustering import ClusterOptions
from dga_jax.tokenizer import BytesTokenizer

ROOT = pathlib.Path(__file__).parents[2]
EXPERIMENTS = sorted(
    path.stem for path in (ROOT / "configs" / "experiments").glob("*.py")
)
OVER_SAMPLE = ("proxy",)
OF_ONE_TARGET = ("sample", "unrelated")
TARGETS = ("python_docs", "austen", "sotu_modern", "mmlu", "brown", "foldoc")


def of_all(corpus):
    """The same text under the name of every target."""
    shards = [
        dataclasses.replace(shard, domain=name, named=True)
        for name in TARGETS
        for shard in corpus.shards
    ]
    return dataclasses.replace(corpus, shards=tuple(shards))


@pytest.fixture(scope="module")
def many_targets(byte_corpora, tmp_path_factory):
    """Clusters, and all targets that are named in configs/experiments."""
    path = tmp_path_factory.mktemp("targets") / "store"
    prepare_store(
        generic=byte_corpora["generic"],
        target=of_all(byte_corpora["target"]),
        target_eval=of_all(byte_corpora["target_eval"]),
        tokenizer=BytesTokenizer(),
        seq_len=32,
        output=path,
        clusters=ClusterOptions((6, 5)),
    )
    return Store.open(path)


def debug(name):
    return importlib.import_module(f"configs.experiments.{name}").get_config("debug")


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_it_builds(name):
    runs = plan.plan(debug(name), [])
    combinations = [points for run in runs for _, points in run.combinations]
    assert len(combinations) == len(list(debug(name).experiment.combinations()))
    assert debug(name).experiment.question.endswith("?")


@pytest.mark.slow
@pytest.mark.parametrize("name", EXPERIMENTS)
def test_it_trains(name, many_targets, cluster_store, byte_store, tmp_path):
    """Two steps and one update of one run by mixer and target."""
    store = cluster_store if name in OF_ONE_TARGET else many_targets
    store = byte_store if name in OVER_SAMPLE else store
    chosen = {}
    for run in plan.plan(debug(name), []):
        config, mixer = run.config, run.config.mixer
        mixer.probe_domains = min(mixer.probe_domains, 4)
        config.data.store = str(store.path)
        config.data.tokens_per_domain = min(config.data.tokens_per_domain, 600)
        config.train.steps, config.mixer.interval, config.eval.every = 2, 1, 0
        config.model.update(num_layers=1, d_model=16, num_heads=2, d_ff=16)
        key = (mixer.name, mixer.basis, mixer.weights.partition("=")[0])
        chosen.setdefault(key, run)
    runs = list(chosen.values())
    trained = runner.train_all(runs, runs, tmp_path, [])
    assert trained.failed == []
