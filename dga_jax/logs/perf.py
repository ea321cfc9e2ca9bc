"""How fast a run is: a clock that survives restarts, model FLOPs and their share.

Every number from here depends on time and is logged under `perf/`.
"""

import contextlib
import platform
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import jax

# Dense bfloat16 FLOP/s of one JAX device, by the beginning of `device_kind`. TPUs: the
# table in jax/_src/pallas/mosaic/tpu_info.py; a chip of v2, v3 and 7x is two devices.
# GPUs: the makers' data sheets, without sparsity.
_PEAK_FLOPS = {
    "TPU v2": 23e12,
    "TPU v3": 61.5e12,
    "TPU v4": 275e12,
    "TPU v4 lite": 137e12,
    "TPU v5 lite": 197e12,
    "TPU v5e": 197e12,
    "TPU v5": 459e12,
    "TPU v5p": 459e12,
    "TPU v6 lite": 918e12,
    "TPU v6e": 918e12,
    "TPU7x": 1153.5e12,
    "NVIDIA A10": 125e12,
    "NVIDIA A10G": 70e12,
    "NVIDIA A30": 165e12,
    "NVIDIA A100": 312e12,
    "NVIDIA A800": 312e12,
    "NVIDIA L4": 121e12,
    "NVIDIA L40": 181e12,
    "NVIDIA L40S": 362e12,
    "NVIDIA H20": 148e12,
    "NVIDIA H100": 989e12,
    "NVIDIA H100 NVL": 835e12,
    "NVIDIA H100 PCIe": 756e12,
    "NVIDIA H200": 989e12,
    "NVIDIA H200 NVL": 835e12,
    "NVIDIA H800": 989e12,
    "NVIDIA GH200": 989e12,
    "NVIDIA B200": 2250e12,
    "NVIDIA GB200": 2500e12,
    "AMD Instinct MI300X": 1307e12,
}


def processor() -> str:
    """The processor's name; what `platform` knows where there is no /proc."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2] for line in lines if line.startswith("model name")]
    return names[0].strip() if names else platform.processor() or platform.machine()


def peak_flops(kind: str) -> float | None:
    """Peak dense bfloat16 FLOP/s by `device_kind`; None for a CPU or an unknown one."""
    if " MIG " in kind:  # a slice of a card carries the name of the whole
        return None
    known = [
        name for name in _PEAK_FLOPS if f"{kind} ".startswith((f"{name} ", f"{name}-"))
    ]
    return _PEAK_FLOPS[max(known, key=len)] if known else None


def model_flops_per_token(
    num_params_without_embedding: int, num_layers: int, d_model: int, seq_len: int
) -> float:
    """FLOPs of the forward and backward pass for one trained token: 6N + 12·L·d·T.

    The convention of PaLM (Chowdhery et al. 2022, arXiv 2204.02311, appendix B): the
    attention matrix counts in full, not half for being causal nor less for
    `model.document_mask`, and what rematerialisation computes again does not count.

    Args:
        num_params_without_embedding: N, parameters that take part in a matrix product.
            The output head does, tied or not; looking up an embedding does not.
        num_layers: L.
        d_model: d, the heads times their width.
        seq_len: T.
    """
    return 6 * num_params_without_embedding + 12 * num_layers * d_model * seq_len


def mfu(
    tokens_per_second: float,
    flops_per_token: float,
    num_devices: int,
    device_peak: float | None,
) -> float | None:
    """Share of the peak that the model's FLOPs take; None where it is unknown."""
    if not device_peak:
        return None
    return tokens_per_second * flops_per_token / (num_devices * device_peak)


class Clock:
    """Seconds and tokens of a run, over all of its restarts.

    Time is booked to one activity at a time: to "train", unless inside `measure`. JAX
    dispatches asynchronously: whoever measures an activity lets the devices finish the
    work before it, and its own, or time is booked to the wrong one.

    Args:
        num_devices: of the run, for device-hours.
        timer: gives seconds.
        flops_per_token: of the model; see `model_flops_per_token`.
        peak_flops: of one device; None where it is not known.
    """

    def __init__(
        self,
        num_devices: int = 1,
        timer: Callable[[], float] = time.perf_counter,
        *,
        flops_per_token: float = 0.0,
        peak_flops: float | None = None,
    ):
        self._num_devices = num_devices
        self._timer = timer
        self._flops_per_token, self._peak = flops_per_token, peak_flops
        self._seconds = {"train": 0.0, "alignment": 0.0}
        self._tokens = 0
        self._activity = "train"
        self._since = timer()
        self._pace = Pace(self)  # from one line of the log to the next
        self._steps = 0  # of this process
        self._first_step_at = 0.0

    def tick(self, tokens: int) -> None:
        """Counts a train step of so many tokens."""
        self._tokens += tokens
        self._steps += 1
        if self._steps == 1:
            self._first_step_at = self._paced_seconds()

    @contextlib.contextmanager
    def measure(self, activity: str) -> Iterator[None]:
        """Books the time inside to an activity, and not to the one around it.

        "alignment" counts as training; "compile", "eval", "checkpoint" and others do
        not, and "compile" does not enter the estimated time of arrival either.
        """
        around = self._switch(activity)
        try:
            yield
        finally:
            self._switch(around)

    @property
    def seconds(self) -> dict[str, float]:
        """Seconds by activity, up to now."""
        self._switch(self._activity)
        return dict(self._seconds)

    @property
    def tokens(self) -> int:
        """Tokens trained on."""
        return self._tokens

    def trained(self) -> tuple[float, int]:
        """Seconds of training, alignment included, and tokens trained on, up to now."""
        seconds = self.seconds
        return seconds["train"] + seconds["alignment"], self._tokens

    @property
    def alignment_share(self) -> float:
        """Share of training time, which "alignment" is a part of, spent on it."""
        training, _ = self.trained()
        return self._seconds["alignment"] / training if training else 0.0

    def eta_seconds(self, steps_left: int) -> float:
        """Seconds to the end of the run at this process's pace; NaN before step 2."""
        if self._steps < 2:
            return float("nan")
        elapsed = self._paced_seconds() - self._first_step_at
        return steps_left * elapsed / (self._steps - 1)

    def metrics(self) -> dict[str, float]:
        """The `perf/` values of a line of the log; starts a new interval.

        Returns:
            "perf/tokens_per_second" over the training time since the last call (absent
            if no step was taken) and "perf/mfu" (also where the peak is unknown);
            "perf/alignment_share", "perf/seconds" and "perf/device_hours" over the
            whole run.
        """
        total = sum(self.seconds.values())
        values = {
            "perf/alignment_share": self.alignment_share,
            "perf/seconds": total,
            "perf/device_hours": total * self._num_devices / 3600,
        }
        rate = self._pace.read()
        if rate is not None:
            values["perf/tokens_per_second"] = rate
            share = mfu(rate, self._flops_per_token, self._num_devices, self._peak)
            if share is not None:
                values["perf/mfu"] = share
        return values

    def state(self) -> dict[str, Any]:
        """What `restore` takes, ready for JSON."""
        return {"seconds": self.seconds, "tokens": self._tokens}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Goes on from the state of a checkpoint, before the first step is taken."""
        self._seconds = dict(state["seconds"])
        self._tokens = int(state["tokens"])
        self._since = self._timer()
        self._pace = Pace(self)

    def _switch(self, activity: str) -> str:
        """Books the time so far; returns the activity that it was booked to."""
        now, before = self._timer(), self._activity
        self._seconds[before] = self._seconds.get(before, 0.0) + now - self._since
        self._since, self._activity = now, activity
        return before

    def _paced_seconds(self) -> float:
        seconds = self.seconds
        return sum(seconds.values()) - seconds.get("compile", 0.0)


class Pace:
    """Tokens a second of training, from one reading to the next."""

    def __init__(self, clock: Clock):
        self._clock, self._before = clock, clock.trained()

    def read(self) -> float | None:
        """Since the last reading; None if no step was taken."""
        before, self._before = self._before, self._clock.trained()
        seconds, tokens = (b - a for a, b in zip(before, self._before, strict=True))
        return tokens / seconds if tokens and seconds > 0 else None


class ProfilerWindow:
    """Traces a few steps of a run into WORKDIR/profile, for TensorBoard or XProf.

    Args:
        workdir: of the run.
        first_step: the first step traced; 0 traces nothing.
        num_steps: how many.
    """

    def __init__(self, workdir: Path, first_step: int, num_steps: int):
        self._folder = Path(workdir) / "profile"
        self._steps = range(first_step, first_step + num_steps if first_step else 0)
        self._tracing = False

    def before_step(self, step: int, pending: Any = None) -> None:
        """Starts or ends the trace where the window does; call before every step.

        Args:
            step: about to be dispatched.
            pending: arrays of the step before; the trace ends when they are computed.
        """
        if step in self._steps and not self._tracing:
            jax.profiler.start_trace(str(self._folder))
            self._tracing = True
        elif step not in self._steps:
            self.close(pending)

    def close(self, pending: Any = None) -> None:
        """Ends a trace that is still going."""
        if self._tracing:
            jax.block_until_ready(pending)
            jax.profiler.stop_trace()
            self._tracing = False
