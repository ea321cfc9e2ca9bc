"""The least time that a step can take: by arithmetic, memory and network."""

from typing import NamedTuple

from dga_jax.benchmark.fit_chips import Chip


class Bounds(NamedTuple):
    """Seconds of a program on one device; None where the chip's figure is not known.

    Attributes:
      compute: of its matrix products at the peak.
      memory: of what it reads and writes, at the memory's bandwidth.
      network: of what it sends, with every link busy.
    """

    compute: float | None
    memory: float | None
    network: float | None

    @property
    def seconds(self) -> float:
        """The longest of them: if all three went on at the same time throughout."""
        return max((s for s in self if s is not None), default=0.0)

    @property
    def by(self) -> str:
        """Which one it is."""
        known = [(s, name) for name, s in self._asdict().items() if s is not None]
        return max(known)[1] if known else "-"


def bounds(flops: float, moved: float, sent: float, chip: Chip) -> Bounds:
    """The bounds of a program.

    Args:
      flops: of matrix products on one device.
      moved: bytes between the device and its memory.
      sent: bytes that the device sends to others.
      chip: the device.
    """

    def over(amount: float, rate: float | None) -> float | None:
        return amount / rate if rate else None

    return Bounds(
        over(flops, chip.peak), over(moved, chip.bandwidth), over(sent, chip.network)
    )


def best_mfu(model_flops: float, bound: Bounds, chip: Chip) -> float | None:
    """The model's FLOPs on one device over what its peak makes of the bound's time."""
    if not chip.peak or not bound.seconds:
        return None
    return model_flops / (chip.peak * bound.seconds)
