"""A plain decoder in PyTorch, as `peers_linen` has it: operation by operation, on CPU.

PyTorch is optional, and this is the only module that imports it.
"""

import functools
from collections.abc import Callable

import numpy as np
import torch
from torch import nn
from torch.nn import functional as ops

from dga_jax.training.optimizer import OptimizerConfig

_norm = functools.partial(nn.LayerNorm, eps=1e-6, bias=False)  # as Flax has it


class Block(nn.Module):
    """One pre-norm layer, [B, L, D] to [B, L, D]."""

    def __init__(self, d_model: int, num_heads: int, d_ff: int):
        super().__init__()
        self._heads = num_heads
        self.attention_norm = _norm(d_model)
        self.query_key_value = nn.Linear(d_model, 3 * d_model, bias=False)
        self.out = nn.Linear(d_model, d_model, bias=False)
        self.mlp_norm = _norm(d_model)
        self.up = nn.Linear(d_model, d_ff, bias=False)
        self.down = nn.Linear(d_ff, d_model, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """The residual stream after this layer."""
        rows, length, width = x.shape
        packed = self.query_key_value(self.attention_norm(x))
        shape = (rows, length, 3, self._heads, width // self._heads)
        query, key, value = packed.view(shape).permute(2, 0, 3, 1, 4)
        mixed = ops.scaled_dot_product_attention(query, key, value, is_causal=True)
        x = x + self.out(mixed.transpose(1, 2).reshape(rows, length, width))
        hidden = ops.gelu(self.up(self.mlp_norm(x)), approximate="tanh")  # as JAX's
        return x + self.down(hidden)


class Decoder(nn.Module):
    """Token ids [B, L] to logits [B, L, V]; arguments as of `peers_linen.Decoder`."""

    def __init__(
        self,
        vocab_size: int,
        num_layers: int,
        d_model: int,
        num_heads: int,
        d_ff: int,
        length: int,
    ):
        super().__init__()
        self.embed = nn.Embedding(vocab_size, d_model)
        self.positions = nn.Embedding(length, d_model)
        for table in (self.embed, self.positions):
            nn.init.normal_(table.weight, std=0.02)
        blocks = (Block(d_model, num_heads, d_ff) for _ in range(num_layers))
        self.blocks = nn.Sequential(*blocks)
        self.final_norm = _norm(d_model)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        """Logits, float32 [B, L, V]."""
        x = self.embed(tokens) + self.positions.weight[: tokens.shape[1]]
        return ops.linear(self.final_norm(self.blocks(x)), self.embed.weight)


def make_step(
    model: Decoder, config: OptimizerConfig, rows: np.ndarray
) -> Callable[[], torch.Tensor]:
    """A train step on rows [B, L+1], of AdamW at the peak of the learning rate.

    Returns:
      Moves the model on; nats per token of before, a scalar.
    """
    optimizer = torch.optim.AdamW(
        model.parameters(),
        config.learning_rate,
        (config.b1, config.b2),
        config.eps,
        config.weight_decay,
        fused=True,
    )
    rows = torch.from_numpy(rows.astype(np.int64))
    inputs, targets = rows[:, :-1], rows[:, 1:].reshape(-1)

    def step() -> torch.Tensor:
        loss = ops.cross_entropy(model(inputs).flatten(0, 1), targets)
        loss.backward()
        if config.clip_norm:
            nn.utils.clip_grad_norm_(model.parameters(), config.clip_norm)
        optimizer.step()
        optimizer.zero_grad()
        return loss.detach()

    return step


def make_matmul(a: np.ndarray, b: np.ndarray, times: int) -> Callable[[], None]:
    """The product of two float32 matrices, that many times a call."""
    left, right = torch.from_numpy(a), torch.from_numpy(b)

    def multiply() -> None:
        for _ in range(times):
            torch.mm(left, right)

    return multiply


def parameter_count(model: Decoder) -> int:
    """Number of parameters; what is used twice counts once."""
    return sum(parameter.numel() for parameter in model.parameters())


def use_threads(count: int) -> None:
    """From now on, operations take so many threads."""
    torch.set_num_threads(count)
