"""Every experiment that is shipped fits a store like its own, and its mixers train."""

import copy
import dataclasses
import importlib
import pathlib

import pytest

from dga_jax.data.store import Store
from dga_jax.experiment import plan, runner
from dga_jax.prepare.assemble import prepare_store
from dga_jax.prepare.assemble.clustering import ClusterOptions
from dga_jax.tokenizer import BytesTokenizer
from dga_jax.training import setup

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


@pytest.fixture(scope="module")
def chosen(many_targets, cluster_store, byte_store):
    """One run by mixer and target, of each experiment; tiny, of two steps."""
    found = {}
    for name in EXPERIMENTS:
        store = cluster_store if name in OF_ONE_TARGET else many_targets
        store = byte_store if name in OVER_SAMPLE else store
        runs = found[name] = {}
        for run in plan.plan(debug(name), []):
            config, mixer = run.config, run.config.mixer
            mixer.probe_domains = min(mixer.probe_domains, 4)
            config.data.store = str(store.path)
            config.data.tokens_per_domain = min(config.data.tokens_per_domain, 600)
            config.train.steps, config.mixer.interval, config.eval.every = 2, 1, 0
            config.model.update(num_layers=1, d_model=16, num_heads=2, d_ff=16)
            begun = mixer.weights.partition("=")[0]
            runs.setdefault((mixer.name, mixer.basis, begun), run)
    return found


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_its_runs_are_of_its_store(name, chosen):
    """Targets, domains and basis are there, and rows enough: all that a run checks."""
    for run in chosen[name].values():
        setup.check(copy.deepcopy(run.config), [])


@pytest.mark.slow
def test_each_kind_trains_and_is_measured(chosen, tmp_path):
    """Two steps and one update over each basis, however begun, and by each target.

    Which target it is makes no other program; every mixer is trained elsewhere.
    """
    kinds = {}
    for of_one in chosen.values():
        for (mixer, basis, begun), run in of_one.items():
            begun = begun if begun == "natural" else bool(begun)
            kinds.setdefault((basis, begun, mixer == "grape"), run)
    runs = [
        run._replace(name=f"{number}-{run.name}")
        for number, run in enumerate(kinds.values())
    ]
    trained = runner.train_all(runs, runs, tmp_path, [])
    assert trained.failed == []
