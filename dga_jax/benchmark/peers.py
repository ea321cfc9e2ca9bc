"""A train step of ours beside those of nanodo and of a plain PyTorch decoder.

All train on the same rows of random tokens in float32, on one device and as many
threads, with AdamW, clipping, and a loss on all positions; ours is that of a run, by
its config. Matrices are as large in each: SwiGLU has three where the peers' GELU layer
has two, which are half as wide again. So one count of FLOPs serves all.
"""

import dataclasses
import importlib.metadata
import os
import types
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from dga_jax import sharding
from dga_jax.benchmark import peers_linen, variants
from dga_jax.benchmark.step import load_config
from dga_jax.benchmark.tables import Check, Table, Timings, interleaved
from dga_jax.model.transformer import ModelConfig, parameter_count
from dga_jax.training import config as configs
from dga_jax.training import train_state
from dga_jax.training.optimizer import OptimizerConfig, make_optimizer
from dga_jax.training.steps import make_steps

OURS, NANODO, TORCH = "dga_jax", "nanodo, Linen", "PyTorch"
_GOAL = 0.77  # of nanodo's time
_QUICKSTART = "configs/quickstart.py:model.vocab_size=2048"
_LARGER = (
    "configs/quickstart.py:model.num_layers=6,model.d_model=256,model.vocab_size=8192,"
    "train.batch_size=8,train.seq_len=256"
)
_SAME = (
    "Model FLOPs are 6 N + 12 layers x width x row a token, N of the matrices, which"
    " are as large in each; norms,",
    "activations and rotations are not counted, masked scores are.",
    "Not comparable: rotary positions against learned ones; PyTorch runs operation by"
    " operation, and where its",
    "small matmuls are far slower than its large one, as the first table shows, its"
    " row tells of that.",
)


@dataclasses.dataclass(frozen=True)
class Size:
    """What is measured.

    Attributes:
      configs: the models, as `--config` of `dga_jax.main` names them; each with its
        vocabulary, for no store is read.
      rounds: in which the train steps take turns.
      steps: train steps in a turn, dispatched without waiting for one another.
      large: m of the large product of matrices [m, m].
      matmul_gflop: of one turn of products.
      goals: whether the times are held against the goals.
    """

    configs: tuple[str, ...] = (_QUICKSTART, _LARGER)
    rounds: int = 7
    steps: int = 2
    large: int = 2048
    matmul_gflop: float = 20.0
    goals: bool = True


QUICK = Size(
    configs=("configs/quickstart.py:debug,model.vocab_size=512,train.seq_len=32",),
    rounds=3,
    large=256,
    matmul_gflop=0.1,
    goals=False,  # so small, what is not arithmetic decides
)


class Contender(NamedTuple):
    """One that trains.

    Attributes:
      parameters: how many it has.
      step: trains once; may return before it is done, with what to wait for.
    """

    parameters: int
    step: Callable[[], Any]


class _Torch(NamedTuple):
    """The module that needs PyTorch, or None; and what there is to say of it."""

    module: types.ModuleType | None
    said: str


def run(size: Size) -> Iterator[Table]:
    """The rate of products of matrices; then a table a model."""
    torch, loaded = _torch(), [load_config(text) for text in size.configs]
    shapes = [(size.large,) * 3, *map(_inside, loaded)]
    table, fastest = matmul_table(shapes, size, torch)
    yield table
    for config in loaded:
        yield train_table(config, size, torch, fastest)


def _torch() -> _Torch:
    try:
        from dga_jax.benchmark import peers_torch
    except (ImportError, OSError) as error:  # OSError: a library that it needs
        reason = (str(error).splitlines() or [repr(error)])[0]
        return _Torch(None, f"PyTorch is not measured ({reason})")
    threads = _threads()
    peers_torch.use_threads(threads)
    version = importlib.metadata.version("torch")
    return _Torch(peers_torch, f"PyTorch {version} on {threads} CPU threads")


def _threads() -> int:
    """As many as JAX takes on a CPU."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _inside(config: ConfigDict) -> tuple[int, int, int]:
    """(tokens of a batch, D, the peers' F): the largest product of a peer's layer."""
    model = configs.model_config(config)
    tokens = config.train.batch_size * config.train.seq_len
    return tokens, model.d_model, peer_d_ff(model)


def peer_d_ff(model: ModelConfig) -> int:
    """Width of two matrices that are together as large as SwiGLU's three."""
    return model.d_ff * 3 // 2


def matmul_table(
    shapes: list[tuple[int, int, int]], size: Size, torch: _Torch
) -> tuple[Table, float]:
    """GFLOP/s of products [m, k] x [k, n] in float32; the first is the large one.

    Returns:
      The table, and the fastest of the large ones.
    """
    rows = {}
    for m, k, n in shapes:
        rng = np.random.default_rng(0)
        a, b = (rng.random(shape, np.float32) for shape in ((m, k), (k, n)))
        times = max(1, round(size.matmul_gflop * 1e9 / (2 * m * k * n)))
        products = {OURS: _jax_matmul(a, b, times)}
        if torch.module:
            products[TORCH] = torch.module.make_matmul(a, b, times)
        timings = _timed(products, size.rounds)
        gflop = 2e-9 * m * k * n * times
        rates = [gflop / timings[name] for name in products]
        ratio = timings.ratio(OURS, TORCH) if torch.module else None
        row = (*rates, *(None,) * (2 - len(rates)), ratio)
        rows[f"[{m:,}, {k:,}] x [{k:,}, {n:,}]"] = row
    large = next(iter(rows.values()))
    fastest = max(rate for rate in large[:2] if rate is not None)
    title = f"peers: GFLOP/s of float32 products; {torch.said}"
    return Table(title, ("JAX", "PyTorch", "PyTorch / JAX"), rows), fastest


def _jax_matmul(a: np.ndarray, b: np.ndarray, times: int) -> Callable[[], Any]:
    left, right = (jax.device_put(x, jax.devices()[0]) for x in (a, b))
    product = jax.jit(lambda a, b: jnp.matmul(a, b, precision="highest"))
    return lambda: [product(left, right) for _ in range(times)]


def _timed(variants: Mapping[str, Callable[[], Any]], rounds: int) -> Timings:
    for call in variants.values():
        jax.block_until_ready(call())  # compiles
    return interleaved(variants, rounds)


def train_table(config: ConfigDict, size: Size, torch: _Torch, fastest: float) -> Table:
    """Train steps of a model, side by side.

    Args:
      config: of the model and of how it is trained.
      size: what is measured.
      torch: see `_torch`.
      fastest: GFLOP/s of the machine's large product.
    """
    found = contenders(config, torch.module)
    turns = {name: _turn(one.step, size.steps) for name, one in found.items()}
    timings = _timed(turns, size.rounds)
    model = configs.model_config(config)
    tokens = config.train.batch_size * config.train.seq_len
    # The peers' too: their matrices are as large. A norm's scales, which are counted
    # with them, are less than a thousandth.
    gflop = configs.flops_per_token(config) * tokens / 1e9

    def line(name: str) -> tuple[float, ...]:
        seconds = timings[name] / size.steps
        rate = gflop / seconds
        share = rate / fastest
        relative = timings.ratio(name, NANODO)
        return found[name].parameters, 1e3 * seconds, rate, share, relative

    rows = {name: line(name) for name in found}
    missing = dict.fromkeys({OURS, NANODO, TORCH} - rows.keys(), (None,) * 5)
    checks = ()
    if size.goals:
        goal = f"a step in at most {_GOAL} of nanodo's time"
        checks = (Check(goal, timings.ratio(OURS, NANODO), _GOAL),)
    title = (
        f"peers: {model.num_layers} layers x {model.d_model}, vocabulary"
        f" {model.vocab_size:,}, {config.train.batch_size} rows x"
        f" {config.train.seq_len} tokens a step, {gflop:.3g} GFLOP"
    )
    columns = (
        "parameters",
        "ms a step",
        "GFLOP/s",
        "of the large product's",
        f"time / {NANODO}",
    )
    return Table(title, columns, rows | missing, checks, _SAME)


def contenders(
    config: ConfigDict, torch: types.ModuleType | None
) -> dict[str, Contender]:
    """Those that train a config's model, or a peer of it, on the same random rows.

    Args:
      config: with its own vocabulary.
      torch: `peers_torch`, or None to leave it out.
    """
    model, adam = configs.model_config(config), configs.optimizer_config(config)
    shape = (config.train.batch_size, config.train.seq_len + 1)
    rng = np.random.default_rng(config.seed)
    rows = rng.integers(0, model.vocab_size, shape, np.int32)
    found = {
        OURS: _ours(config, model, adam, rows),
        NANODO: _linen(peer_sizes(config, model), adam, rows),
    }
    if torch:
        peer = torch.Decoder(**peer_sizes(config, model))
        step = torch.make_step(peer, adam, rows)
        found[TORCH] = Contender(torch.parameter_count(peer), step)
    return found


def peer_sizes(config: ConfigDict, model: ModelConfig) -> dict[str, int]:
    """Arguments of a peer's `Decoder`."""
    return {
        "vocab_size": model.vocab_size,
        "num_layers": model.num_layers,
        "d_model": model.d_model,
        "num_heads": model.num_heads,
        "d_ff": peer_d_ff(model),
        "length": config.train.seq_len,
    }


def _ours(
    config: ConfigDict, model: ModelConfig, adam: OptimizerConfig, rows: np.ndarray
) -> Contender:
    """The train step of a run of the config, on one device."""
    mesh = variants.one_device()
    options = configs.step_options(config, mesh, num_probes=1)
    state = train_state.create(model, make_optimizer(adam), mesh, config.seed)
    batch = sharding.place(rows, sharding.batch_sharding(mesh))
    of_run = configs.model_config(config, mesh)  # with the kernels of its devices
    step = make_steps(of_run, adam, options, mesh).train
    return Contender(parameter_count(model), _moving(step, state, batch))


def _linen(
    sizes: Mapping[str, int], adam: OptimizerConfig, rows: np.ndarray
) -> Contender:
    model, optimizer = peers_linen.Decoder(**sizes), peers_linen.make_optimizer(adam)
    state = peers_linen.initial(model, optimizer)
    count = sum(leaf.size for leaf in jax.tree.leaves(state.params))
    batch = jax.device_put(rows, jax.devices()[0])
    step = peers_linen.make_step(model, optimizer)
    return Contender(count, _moving(step, state, batch))


def _moving(step: Callable, state: Any, batch: jax.Array) -> Callable[[], Any]:
    """A step that keeps its state."""

    def move() -> Any:
        nonlocal state
        state, metrics = step(state, batch)
        return metrics

    return move


def _turn(step: Callable[[], Any], steps: int) -> Callable[[], Any]:
    return lambda: [step() for _ in range(steps)]
