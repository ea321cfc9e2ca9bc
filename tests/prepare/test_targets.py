"""Several targets in a store, against a store of each."""

import dataclasses
import json
import re

import numpy as np
import pytest
from distributions import dense

from dga_jax.data import bases
from dga_jax.data.store import MANIFEST, Store
from dga_jax.errors import UserError
from dga_jax.prepare.assemble import prepare_store
from dga_jax.prepare.assemble.clustering import ClusterOptions
from dga_jax.prepare.commands.inspect import summary as inspected
from dga_jax.prepare.commands.summary import table
from dga_jax.prepare.commands.verify import verify
from dga_jax.prepare.corpus import Corpus
from dga_jax.prepare.sources import expand
from dga_jax.tokenizer import BytesTokenizer

NAMES = ("docs", "tales")


@pytest.fixture(scope="module")
def texts(tmp_path_factory):
    """Files of a few documents: two targets, and two parts to evaluate them on."""
    folder = tmp_path_factory.mktemp("texts")
    for name, count in [
        ("docs", 11),
        ("tales", 7),
        ("docs_eval", 2),
        ("tales_eval", 3),
    ]:
        lines = [
            json.dumps({"text": f"{name} {i} " * (5 + i)}) + "\n" for i in range(count)
        ]
        (folder / f"{name}.jsonl").write_text("".join(lines))
    return folder


def corpus(texts, *patterns):
    """Of NAME=FILE or FILE each."""
    parts = (pattern.rpartition("=") for pattern in patterns)
    found = [f"{name}{equals}{texts}/{file}.jsonl" for name, equals, file in parts]
    return Corpus(tuple(expand(found)))


def made(path, byte_corpora, target, target_eval=None, **options):
    prepared = prepare_store(
        generic=byte_corpora["generic"],
        target=target,
        target_eval=target_eval,
        tokenizer=BytesTokenizer(),
        seq_len=32,
        output=path,
        **options,
    )
    return Store.open(path), prepared


def rows_of(store, split, bounds=(0, None)):
    ids = np.arange(store.num_rows(split))[slice(*bounds)]
    return store.read(split, ids)


@pytest.mark.parametrize("separate", [False, True])
def test_each_targets_rows_are_those_it_has_alone(
    texts, byte_corpora, tmp_path, separate
):
    def store_of(path, *names):
        target = corpus(texts, *(f"{name}={name}" for name in names))
        evaluated = corpus(texts, *(f"{name}={name}_eval" for name in names))
        return made(path, byte_corpora, target, evaluated if separate else None)

    store, prepared = store_of(tmp_path / "both", *NAMES[::-1])
    targets = store.targets
    assert targets.names == NAMES
    for i, name in enumerate(NAMES):
        alone, by_itself = store_of(tmp_path / name, name)
        assert "targets" not in alone.manifest
        for split, offsets in [
            ("target", targets.offsets),
            ("target_eval", targets.eval_offsets),
        ]:
            found = rows_of(store, split, offsets[i : i + 2])
            np.testing.assert_array_equal(found, rows_of(alone, split))
        part = prepared.targets[i]
        same = dataclasses.replace(part, name="target")
        assert same == by_itself.outcomes[-1]
        assert f"\n{part.name} " in table(prepared.outcomes, prepared.targets)
        steer, aside = part.rows, part.heldout_rows
        assert f"{name}: {steer:,} rows, {aside:,} to evaluate on" in inspected(store)
    verify(store)


def test_a_name_for_one_target_changes_nothing(texts, byte_corpora, tmp_path):
    """Nor do several files without names: they are one target."""
    named, _ = made(tmp_path / "a", byte_corpora, corpus(texts, "docs=docs"))
    plain, _ = made(tmp_path / "b", byte_corpora, corpus(texts, "docs"))
    several, prepared = made(tmp_path / "c", byte_corpora, corpus(texts, *NAMES))
    assert named.content_hash == plain.content_hash
    assert not several.targets.names
    assert not prepared.targets
    assert several.targets.offsets.tolist() == [0, several.num_rows("target")]


def test_histograms_of_each_and_of_all(texts, byte_corpora, tmp_path):
    target = corpus(texts, "docs=docs", "tales=tales")
    options = ClusterOptions((3, 2))
    store, _ = made(tmp_path / "s", byte_corpora, target, clusters=options)
    each = bases.target_histograms(store)
    assert each.names == ("target/docs", "target/tales")
    assert each.documents.tolist() == [9, 6]  # every fifth is kept for evaluation
    available = store.domains(1).num_rows > 0

    def weights(reference, smoothing=1.0):
        return bases.importance_weights(store, 1, reference, smoothing, available)

    mixed = (9 * weights("target/docs", 0.0) + 6 * weights("target/tales", 0.0)) / 15
    np.testing.assert_allclose(weights("target", 0.0), mixed, rtol=1e-12)
    basis = bases.find_basis("level0+target", store, 1, 1.0, available)
    assert basis.names[-2:] == each.names
    np.testing.assert_allclose(dense(basis)[-1], weights("target/tales"), atol=1e-12)
    said = "has no 'target/tale'; it has target/docs, target/tales"
    with pytest.raises(UserError, match=said):
        weights("target/tale")


@pytest.mark.parametrize(
    ("target", "target_eval", "message"),
    [
        (["docs=docs", "tales"], None, r"--target=\S*tales.jsonl has no name and an"),
        (
            ["docs=docs", "tales=tales"],
            ["docs_eval", "tales_eval"],
            r"--target_eval=\S*docs_eval.jsonl has no name",
        ),
        (
            ["docs=docs", "tales=tales"],
            ["docs=docs_eval"],
            "--target names 'tales' and --target_eval does not",
        ),
        (
            ["docs=docs", "tales=tales"],
            ["docs=docs_eval", "tales=tales_eval", "x=blank"],
            "--target_eval names 'x' and --target does not",
        ),
        (["docs=docs", "tales=blank"], None, "tales=.* holds no text"),
        (["docs=docs", "tales=short"], None, "target 'tales' has too little text: 2"),
    ],
)
def test_what_cannot_be(texts, byte_corpora, tmp_path, target, target_eval, message):
    (texts / "blank.jsonl").write_text('{"text": " "}\n')
    (texts / "short.jsonl").write_text('{"text": "a"}\n')
    evaluated = corpus(texts, *target_eval) if target_eval else None
    with pytest.raises(UserError, match=message) as caught:
        made(tmp_path / "s", byte_corpora, corpus(texts, *target), evaluated)
    assert "\n" not in str(caught.value)


def test_a_target_named_twice(texts):
    with pytest.raises(UserError, match="have one name; give each its own"):
        corpus(texts, "docs=docs", "docs=tales")


@pytest.mark.parametrize("key", ["offsets", "eval_offsets"])
def test_offsets_that_do_not_cover_the_rows(texts, byte_corpora, tmp_path, key):
    target = corpus(texts, "docs=docs", "tales=tales")
    store, _ = made(tmp_path / "s", byte_corpora, target)
    manifest = json.loads((store.path / MANIFEST).read_text())
    manifest["targets"][key][-1] += 1
    (store.path / MANIFEST).write_text(json.dumps(manifest))
    with pytest.raises(UserError, match=re.escape(f"{MANIFEST} is damaged (rows of")):
        Store.open(store.path)
