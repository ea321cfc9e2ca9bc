"""Kernels of attention compute what XLA's own does, and run only where they can."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P
from runs import mesh_of

from dga_jax.errors import UserError
from dga_jax.model import kernels
from dga_jax.model.attention import document_positions
from dga_jax.model.kernels import Chip, Shape, choose

TPU, CPU, HOPPER = Chip("tpu"), Chip("cpu"), Chip("gpu", 9.0)
AMPERE, VOLTA, AMD = Chip("gpu", 8.0), Chip("gpu", 7.0), Chip("gpu")
PLAIN = Shape("bfloat16", 64, 1024, False)


def by_hand(q, k, v, positions):
    """softmax(QKᵀ/√K) V in float64, a head at a time; keys by their definition."""
    q, k, v = (np.asarray(x, np.float64) for x in (q, k, v))
    k, v = (np.repeat(x, q.shape[2] // x.shape[2], axis=2) for x in (k, v))
    scores = np.einsum("bqhk,bshk->bhqs", q, k) / np.sqrt(q.shape[3])
    index = np.arange(q.shape[1])
    seen = (index[:, None] >= index)[None]
    if positions is not None:
        start = index - np.asarray(positions)
        seen = seen & (start[:, :, None] == start[:, None, :])
    scores = np.where(seen[:, None], scores, -np.inf)
    weights = np.exp(scores - scores.max(axis=-1, keepdims=True))
    weights /= weights.sum(axis=-1, keepdims=True)
    return np.einsum("bhqs,bshk->bqhk", weights, v)


def arguments(length, heads, groups, documents, rows=2, width=16):
    rng = np.random.default_rng(length)

    def normal(heads):
        shape = (rows, length, heads, width)
        return rng.normal(size=shape).astype(np.float32)

    positions = None
    if documents:
        ends = (rng.random((rows, length)) < 0.05).astype(np.int32)
        positions = document_positions(jnp.asarray(ends), 1)
    return normal(heads), normal(groups), normal(groups), positions


@functools.partial(jax.jit, static_argnums=0)
def with_gradients(kernel, q, k, v, positions):
    """Its result, and gradients of a sum that tells all its entries apart."""
    weight = jnp.cos(jnp.arange(q.size, dtype=jnp.float32)).reshape(q.shape)

    def total(q, k, v):
        mixed = kernel(q, k, v, positions)
        return jnp.sum(mixed * weight), mixed

    gradients, mixed = jax.grad(total, argnums=(0, 1, 2), has_aux=True)(q, k, v)
    return mixed, *gradients


def assert_same(found, expected):
    for x, y in zip(found, expected, strict=True):
        np.testing.assert_allclose(x, y, atol=2e-5 * float(np.abs(y).max()))


LENGTHS = [1, 2, 63, 64, 65, 200]


@pytest.mark.parametrize("documents", [False, True], ids=["whole rows", "documents"])
@pytest.mark.parametrize("length", LENGTHS)
def test_xla_by_hand(length, documents):
    """Below 64 positions in one piece, from there on in two."""
    q, k, v, positions = arguments(length, 4, 2, documents)
    found = jax.jit(kernels.xla)(q, k, v, positions)
    np.testing.assert_allclose(found, by_hand(q, k, v, positions), atol=2e-6)


@pytest.mark.parametrize("documents", [False, True], ids=["whole rows", "documents"])
def test_xla_has_a_derivative_of_either_mode(documents):
    *qkv, positions = arguments(130, 4, 2, documents)
    tangents = arguments(131, 4, 2, False)[:3]
    tangents = [t[:, :130] for t in tangents]
    weight = np.cos(np.arange(qkv[0].size)).reshape(qkv[0].shape)

    def total(*qkv):
        return jnp.sum(kernels.xla(*qkv, positions) * weight)

    _, rate = jax.jit(lambda x, t: jax.jvp(total, x, t))(tuple(qkv), tuple(tangents))
    _, *gradients = with_gradients(kernels.xla, *qkv, positions)
    expected = sum(np.vdot(g, t) for g, t in zip(gradients, tangents, strict=True))
    assert float(rate) == pytest.approx(float(expected), rel=1e-4)


def test_half_of_the_keys_are_spared():
    """No array of all scores; one of the second half's."""
    q, k, v, _ = arguments(128, 4, 4, False)
    text = jax.jit(kernels.xla).lower(q, k, v, None).as_text()
    assert "x128x128x" not in text
    assert "x64x128x" in text


@pytest.mark.parametrize(
    ("length", "heads", "groups", "documents"),
    [
        (128, 2, 2, False),
        (256, 4, 2, True),
        (256, 2, 1, False),
        (100, 2, 2, True),
        (300, 2, 1, True),
        pytest.param(640, 2, 2, True, marks=pytest.mark.slow),
    ],
)
def test_splash_is_as_xla(length, heads, groups, documents):
    """Interpreted; result and gradients, of no multiples of 128 positions too."""
    case = arguments(length, heads, groups, documents)
    assert_same(
        with_gradients(kernels.kernel("splash", None), *case),
        with_gradients(kernels.xla, *case),
    )


def test_splash_in_bfloat16():
    """It rounds elsewhere than XLA, by no more than the dtype does."""
    *qkv, positions = arguments(128, 2, 2, False)
    exact = by_hand(*qkv, positions)
    half = [jnp.asarray(x, jnp.bfloat16) for x in qkv]
    found = kernels.kernel("splash", None)(*half, positions)
    assert found.dtype == jnp.bfloat16
    np.testing.assert_allclose(np.float32(found), exact, atol=0.02)


@pytest.mark.parametrize(
    ("mesh", "rows", "groups", "documents"),
    [
        ((2, 2, 2), 4, 2, False),
        ((2, 2, 2), 4, 2, True),
        pytest.param((8, 1, 1), 8, 1, False, marks=pytest.mark.slow),
        pytest.param((1, 8, 1), 8, 1, True, marks=pytest.mark.slow),
        pytest.param((1, 1, 8), 2, 8, True, marks=pytest.mark.slow),
        pytest.param((2, 2, 2), 3, 1, True, marks=pytest.mark.slow),
    ],
    ids=str,
)
def test_splash_on_a_mesh(mesh, rows, groups, documents):
    """The last case divides neither rows nor heads: every device computes all."""
    case = arguments(128, 8, groups, documents, rows=rows)
    assert_same(
        with_gradients(kernels.kernel("splash", mesh_of(*mesh)), *case),
        with_gradients(kernels.xla, *case),
    )


def test_rows_and_heads_are_spread_without_a_collective():
    """Each device computes its part: forward and gradient move nothing."""
    mesh = mesh_of(2, 2, 2)
    where = NamedSharding(mesh, P(("data", "fsdp"), None, "tensor", None))
    q = jax.ShapeDtypeStruct((4, 128, 4, 16), jnp.float32, sharding=where)
    k = jax.ShapeDtypeStruct((4, 128, 2, 16), jnp.float32, sharding=where)
    program = with_gradients.lower(kernels.kernel("splash", mesh), q, k, k, None)
    text = program.compile().as_text()
    assert "all-gather" not in text
    assert "all-reduce" not in text


def lowered_for_cuda(documents, monkeypatch):
    """The program for a GPU that is not there, of forward and gradient."""
    from jax._src.cudnn import fused_attention_stablehlo as source

    monkeypatch.setattr(source, "check_cudnn_version", lambda: 91000)
    *qkv, positions = arguments(128, 4, 2, documents, rows=4)
    half = [jnp.asarray(x, jnp.bfloat16) for x in qkv]
    attend = kernels.kernel("cudnn", mesh_of(2, 2, 2))

    def total(q, k, v):
        return jnp.sum(attend(q, k, v, positions).astype(jnp.float32))

    traced = jax.jit(jax.grad(total, argnums=(0, 1, 2))).trace(*half)
    return traced.lower(lowering_platforms=("cuda",)).as_text()


def test_cudnn_is_called_as_it_should_be(monkeypatch):
    """Lowered for a GPU; what it computes cannot be tested without one."""
    text = lowered_for_cuda(False, monkeypatch)
    assert "__cudnn$fmhaSoftmax" in text
    assert "__cudnn$fmhaSoftmaxBackward" in text
    assert "CAUSAL" in text
    # Of 4 rows and 4 heads in 2 groups, a device of 2 x 2 x 2 has one row, two heads.
    assert "1x128x2x16xbf16" in text
    assert "1x128x1x16xbf16" in text
    assert "x128x128x" not in text


@pytest.mark.skipif(jax.__version_info__ < (0, 12), reason="not offered before")
def test_cudnn_within_documents(monkeypatch):
    text = lowered_for_cuda(True, monkeypatch)
    assert "__cudnn$fmhaScaleBiasSoftmaxBackward" in text
    assert "NO_MASK" in text  # all is in the bias
    assert "1x1x128x128xbf16" in text


@pytest.mark.parametrize(
    ("chip", "change", "kernel", "why"),
    [
        (CPU, {}, "xla", ""),
        (TPU, {}, "splash", ""),
        (TPU, {"dtype": "float32", "head_dim": 80, "length": 1000}, "splash", ""),
        (TPU, {"documents": True}, "splash", ""),
        (TPU, {"length": 64}, "xla", "not splash: rows of 64 tokens"),
        (HOPPER, {}, "cudnn", ""),
        (AMPERE, {"length": 1001}, "cudnn", ""),
        (HOPPER, {"head_dim": 256}, "cudnn", ""),
        (AMPERE, {"head_dim": 256}, "xla", "not cudnn: heads are 256 wide"),
        (HOPPER, {"head_dim": 12}, "xla", "multiples of 8 up to 256"),
        (HOPPER, {"dtype": "float32"}, "xla", "model.dtype is float32"),
        (HOPPER, {"documents": True, "length": 33}, "xla", "no odd length, 33"),
        (VOLTA, {}, "xla", "from Ampere on"),
        (AMD, {}, "xla", "not cudnn: it runs on NVIDIA"),
    ],
)
def test_what_auto_takes(chip, change, kernel, why):
    found, reason = choose("auto", chip, PLAIN._replace(**change))
    assert found == kernel
    assert why in reason
    assert bool(reason) == bool(why)


@pytest.mark.parametrize(
    ("wanted", "chip", "change", "words"),
    [
        ("splash", CPU, {}, "it runs on TPU, and this is cpu"),
        ("splash", HOPPER, {}, "this is gpu"),
        ("cudnn", CPU, {}, "it runs on NVIDIA from Ampere on, and this is cpu"),
        ("cudnn", HOPPER, {"dtype": "float32"}, "model.dtype is float32"),
        ("cudnn", AMPERE, {"head_dim": 136}, "heads are 136 wide"),
    ],
)
def test_a_kernel_that_cannot_run(wanted, chip, change, words):
    """One line that names the field, the reason and what to do."""
    with pytest.raises(UserError, match=words) as caught:
        choose(wanted, chip, PLAIN._replace(**change))
    line = str(caught.value)
    assert line.startswith(f"config.model.attention={wanted}: ")
    assert line.endswith("use model.attention=auto")
    assert "\n" not in line


def test_the_cudnn_that_a_chip_takes():
    ultra = Chip("gpu", 10.3, 91000)
    kernel, reason = choose("auto", ultra, PLAIN)
    assert (kernel, reason) == (
        "xla",
        "not cudnn: on NVIDIA's 10.3 it takes cuDNN 9.11",
    )
    assert choose("auto", ultra._replace(cudnn=91100), PLAIN) == ("cudnn", "")


def test_a_kernel_that_was_named_is_taken():
    assert choose("xla", TPU, PLAIN) == ("xla", "")
    assert choose("splash", TPU, PLAIN._replace(length=64)) == ("splash", "")
    assert choose("cudnn", HOPPER, PLAIN) == ("cudnn", "")


@dataclasses.dataclass(frozen=True)
class FakeDevice:
    platform: str
    compute_capability: str = "0"


def test_chips():
    assert Chip.of(jax.devices()[0]) == CPU
    assert Chip.of(FakeDevice("gpu", "9.0")) == HOPPER
    assert Chip.of(FakeDevice("gpu", "gfx90a")) == AMD
