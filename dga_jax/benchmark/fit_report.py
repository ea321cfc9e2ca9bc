"""What `benchmark fit` prints of a config on a mesh of chips."""

import dataclasses
from collections import Counter
from collections.abc import Callable, Mapping, Sequence

from jax.sharding import Mesh
from ml_collections import ConfigDict

from dga_jax import sharding
from dga_jax.benchmark.collectives import Collective, sent_bytes
from dga_jax.benchmark.fit_bounds import Bounds, best_mfu, bounds
from dga_jax.benchmark.fit_chips import Target
from dga_jax.benchmark.fit_programs import (
    ALIGN,
    HELD,
    PADDING,
    TRAIN,
    DoesNotFit,
    Fit,
    Programs,
)
from dga_jax.benchmark.tables import Table, number
from dga_jax.model.loss import SCOPE
from dga_jax.model.transformer import parameter_count
from dga_jax.training import config as configs
from dga_jax.training import placement, validation

GIB = 2**30
_ATTENTION = (
    "The model's FLOPs are 6N + 12LdT a token, which counts the attention matrix in "
    "full (PaLM, appendix B); those of matrix products are the program's: what "
    "rematerialisation computes again, and of attention what its kernel computes"
)
_COUNTED = (
    "Collectives and traffic in loops count as often as the loop runs. Sent is the "
    "least that a chip sends: of n chips, (n-1)/n of what a gather gives, n-1 times "
    "what a scattered sum gives, both for a sum. The bounds take every link and the "
    "memory to be busy throughout, so no run is faster"
)


@dataclasses.dataclass(frozen=True)
class Report:
    """Programs of a config, compiled for a mesh.

    Attributes:
      config: of the run.
      mesh: that it was compiled for.
      target: of which the mesh is.
      fits: what was compiled, by the program's name.
    """

    config: ConfigDict
    mesh: Mesh
    target: Target
    fits: Mapping[str, Fit | DoesNotFit]

    def bounds(self, program: str) -> Bounds | None:
        """Of a program that fits."""
        fit = self.fits.get(program)
        if not isinstance(fit, Fit):
            return None
        flops = fit.flops / self.mesh.size
        return bounds(flops, fit.traffic.total, fit.sent, self.target.chip)

    @property
    def model_flops(self) -> float:
        """Of a train step on one device, as MFU counts them."""
        train = self.config.train
        tokens = train.batch_size * train.seq_len
        return configs.flops_per_token(self.config) * tokens / self.mesh.size

    @property
    def mfu(self) -> float | None:
        """The best that the train step's bounds leave."""
        bound = self.bounds(TRAIN)
        return best_mfu(self.model_flops, bound, self.target.chip) if bound else None

    @property
    def alignment_share(self) -> float | None:
        """Of the training time, by the bounds."""
        train, align = self.bounds(TRAIN), self.bounds(ALIGN)
        if not train or not align or not train.seconds:
            return None
        interval = self.config.mixer.interval * train.seconds
        return align.seconds / (align.seconds + interval)

    def __str__(self) -> str:
        given_up = [
            f"{name} does not fit: {fit.reason}"
            for name, fit in self.fits.items()
            if isinstance(fit, DoesNotFit)
        ]
        parts = [self._title(), *given_up]
        if fits := {n: f for n, f in self.fits.items() if isinstance(f, Fit)}:
            parts += [self._bytes(fits), self._work(fits), self._times(fits)]
            parts += [self._best(), _largest(fits), _xla(fits), _COUNTED, _ATTENTION]
            loops = sum(fit.unknown_loops for fit in fits.values())
            parts.append(f"Loops of unknown length, counted once: {loops}")
        return "\n\n".join(str(part) for part in [*parts, self.target.note] if part)

    def _title(self) -> str:
        config, first = self.config, self.mesh.devices.flat[0]
        axes = " x ".join(f"{name} {size}" for name, size in self.mesh.shape.items())
        count = parameter_count(configs.model_config(config))
        rows = config.train.batch_size // config.train.microbatches
        return (
            f"{self.target.name}: {self.mesh.size} x {first.device_kind}, mesh {axes}; "
            f"{count:,} parameters, {config.train.batch_size} rows of "
            f"{config.train.seq_len} tokens a step in {config.train.microbatches} "
            f"microbatches of {rows} rows; attention: "
            f"{configs.attention_kernel(config, self.mesh)[0]}, of alignments xla"
            f"{placement.loss_in_parts(config, self.mesh)}"
        )

    def _bytes(self, fits: Mapping[str, Fit]) -> Table:
        names = next(iter(fits.values())).parts
        rows = {
            name: tuple(fit.parts[name] / GIB for fit in fits.values())
            for name in names
            if name not in (PADDING, HELD) or any(f.parts[name] for f in fits.values())
        }
        rows["in all"] = tuple(fit.total / GIB for fit in fits.values())
        memory = self.target.chip.memory
        rows["% of the chip"] = tuple(100 * fit.total / memory for fit in fits.values())
        title = f"GiB of a chip, which has {memory / GIB:.2f}"
        return Table(title, tuple(fits), rows)

    def _work(self, fits: Mapping[str, Fit]) -> Table:
        def each(value: Callable[[Fit], float | None]) -> tuple[float | None, ...]:
            return tuple(value(fit) for fit in fits.values())

        rows = {
            "TFLOP of matrix products": each(
                lambda fit: fit.flops / self.mesh.size / 1e12
            ),
            "TFLOP by XLA, loops once": each(
                lambda fit: fit.xla_flops and fit.xla_flops / 1e12
            ),
            "GB of memory read and written": each(lambda fit: fit.traffic.total / 1e9),
            "GB sent": each(lambda fit: fit.sent / 1e9),
        }
        kinds = {name: sent_by_kind(fit.collectives) for name, fit in fits.items()}
        for kind in sorted(set().union(*kinds.values())):
            rows[f"  {kind}"] = tuple(kinds[name][kind] / 1e9 for name in fits)
        rows["  arrays with the vocabulary"] = each(
            lambda fit: sent_bytes(self._of_vocabulary(fit.collectives)) / 1e9
        )
        rows["  of the loss"] = each(
            lambda fit: sent_bytes(one.of(SCOPE) for one in fit.collectives) / 1e9
        )
        return Table("work of a chip", tuple(fits), rows)

    def _of_vocabulary(self, collectives: list[Collective]) -> list[Collective]:
        """Those of embedding, unembedding and logits, whole or in parts."""
        size = self.config.model.vocab_size
        lengths = {size} | {size // n for n in self._shards() if size % n == 0}
        lengths |= {-(-size // n) for n in self._shards()}
        return [
            one
            for one in collectives
            if any(lengths & set(shape) for shape in one.shapes)
        ]

    def _shards(self) -> list[int]:
        sizes = self.mesh.shape
        return [sizes["fsdp"], sizes["tensor"], sizes["fsdp"] * sizes["tensor"]]

    def _times(self, fits: Mapping[str, Fit]) -> Table:
        found = {name: self.bounds(name) for name in fits}
        rows = {
            by: tuple(s and s * 1e3 for s in (getattr(b, by) for b in found.values()))
            for by in Bounds._fields
        }
        rows["the longest"] = tuple(bound.seconds * 1e3 for bound in found.values())
        return Table("least ms, by", tuple(fits), rows)

    def _best(self) -> str:
        if self.mfu is None:
            return ""
        said = (
            f"best MFU to hope for: {100 * self.mfu:.1f}%, bound by "
            f"{self.bounds(TRAIN).by}; the model's {number(self.model_flops / 1e12)} "
            "TFLOP a chip and step"
        )
        if self.alignment_share is not None:
            said += (
                f"\nalignment, by these bounds: {100 * self.alignment_share:.2g}% of "
                f"the time at mixer.interval={self.config.mixer.interval}"
            )
        return said


def sent_by_kind(collectives: list[Collective]) -> Counter:
    """Bytes that a chip sends, by kind of collective."""
    sent = Counter()
    for one in collectives:
        sent[one.op] += one.sent_bytes
    return sent


def _largest(fits: Mapping[str, Fit]) -> str:
    lines = ["largest arrays that are made in the chip's memory, GiB"]
    for name, fit in fits.items():
        for large in fit.largest:
            shape = ",".join(map(str, large.array.shape))
            lines.append(
                f"  {name}: {large.array.bytes / GIB:.3f} {large.array.kind}[{shape}]"
                f" {large.origin}".rstrip()
            )
    return "\n".join(lines)


def _xla(fits: Mapping[str, Fit]) -> str:
    names = ("argument", "output", "alias", "temp", "generated_code")
    lines = ["bytes by XLA's memory_analysis()"]
    for name, fit in fits.items():
        sizes = (f"{n} {getattr(fit.xla, f'{n}_size_in_bytes'):,}" for n in names)
        lines.append(f"  {name}: {', '.join(sizes)}; compiled in {fit.seconds:.0f} s")
    return "\n".join(lines)


def microbatch_line(
    rows: int | None, batch_size: int, tried: Mapping[int, Fit | DoesNotFit]
) -> str:
    """What the search for the largest microbatch found."""
    took = []
    for size, fit in sorted(tried.items()):
        given_up = isinstance(fit, DoesNotFit)
        took.append(
            f"{size} rows {'none' if given_up else f'{fit.total / GIB:.2f} GiB'}"
        )
    looked = f"compiled: {', '.join(took)}"
    if rows is None:
        return f"largest microbatch that fits: none; {looked}"
    return (
        f"largest microbatch that fits: {rows} rows, train.microbatches="
        f"{batch_size // rows}; {looked}"
    )


def measure(
    config: ConfigDict, target: Target, num_probes: int, programs: Sequence[str]
) -> Report:
    """Compiles programs of a config, and works out what they take.

    Raises:
      UserError: a config that is not valid, or not on this mesh.
    """
    validation.validate(config)
    mesh = placement.make_mesh(config, target.devices, target.chip.memory)
    validation.check_batch(config, sharding.batch_shards(mesh))
    compiled = Programs(config, mesh, num_probes)
    fits = {name: compiled.compile(name) for name in programs}
    return Report(config, mesh, target, fits)
