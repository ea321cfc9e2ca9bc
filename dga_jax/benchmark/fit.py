"""`python -m dga_jax.benchmark fit`: memory and speed of a run, before chips are rent.

Train step, alignment and evaluation of a config are compiled for a TPU topology that is
not there, or for as many CPU devices as there would be GPUs, and what the compiled
programs say is printed.
"""

import contextlib
import importlib.metadata
import math
from collections.abc import Sequence

import jax
from absl import flags
from ml_collections import ConfigDict, config_flags

from dga_jax import cli, sharding
from dga_jax.benchmark import fit_chips, fit_report, fit_search, fit_table
from dga_jax.benchmark.fit_chips import Chip
from dga_jax.benchmark.fit_programs import (
    ALIGN,
    PROGRAMS,
    TRAIN,
    DoesNotFit,
    Fit,
    Programs,
)
from dga_jax.benchmark.fit_report import Report
from dga_jax.errors import UserError
from dga_jax.mixing.mixers import MIXERS
from dga_jax.training import config as configs
from dga_jax.training import fields, setup, validation
from dga_jax.training.mixture import Mixture

_DEVICES = 8  # of those that only --memory_gb describes


def define_flags(values: flags.FlagValues = flags.FLAGS) -> None:
    """The flags of this command, which has one config and can change its fields."""
    config_flags.DEFINE_config_file(
        "config",
        None,
        "Config file, as of dga_jax.main; a flag a field: --config.FIELD=VALUE. The "
        f"fields:\n{fields.listing()}",
        flag_values=values,
    )
    of = {"flag_values": values}
    flags.DEFINE_string("topology", None, "TPU topology to compile for: v5e:4x4.", **of)
    flags.DEFINE_string("gpu", None, "GPUs to estimate for: h100:8.", **of)
    flags.DEFINE_float("memory_gb", None, "Of a device that --gpu does not know.", **of)
    flags.DEFINE_float("peak_tflops", None, "Of such a device, dense bfloat16.", **of)
    flags.DEFINE_integer(
        "devices", None, f"How many of such; {_DEVICES}.", lower_bound=1, **of
    )
    flags.DEFINE_string("mesh", "", "Fields of the mesh: data=1,fsdp=8,tensor=1.", **of)
    flags.DEFINE_integer(
        "domains",
        64,
        "Probed in an update, where no store says it.",
        lower_bound=1,
        **of,
    )
    flags.DEFINE_multi_enum(
        "program", list(PROGRAMS), PROGRAMS, "What is compiled.", **of
    )
    flags.DEFINE_bool(
        "search", True, "Look for the largest microbatch that fits.", **of
    )
    flags.DEFINE_bool(
        "table", False, "The table of docs/fit.md instead, in Markdown.", **of
    )
    flags.DEFINE_multi_string(
        "only", [], "Configs of the table: 750m; default all.", **of
    )


def main(argv: Sequence[str]) -> None:
    """Prints what one config takes on one topology, or the table of the docs."""
    cli.no_arguments(argv[1:])
    chosen = flags.FLAGS
    jax.config.update("jax_platforms", "cpu")  # nothing runs, and no TPU is touched
    if chosen.table:
        for line in fit_table.lines(chosen.only):
            print(line, flush=True)
        return
    if chosen["config"].value is None:
        raise UserError("--config is missing; " + cli.shipped_configs())
    config, explicit = cli.load_config("config")
    configs.update_former(config)
    target = chosen_target(chosen)
    set_mesh(config, chosen.mesh)
    number = _num_probes(config, explicit, chosen.domains)
    programs = [name for name in chosen.program if name != ALIGN or _measures(config)]
    print(_versions(), flush=True)
    report = fit_report.measure(config, target, number, programs)
    print(report, flush=True)
    if chosen.search and TRAIN in programs:
        print(largest_microbatch(report, number), flush=True)


def chosen_target(chosen: flags.FlagValues) -> fit_chips.Target:
    """What the flags say to compile for.

    Raises:
      UserError: none or several are named, or one that cannot be.
    """
    named = [bool(chosen.topology), bool(chosen.gpu), chosen.memory_gb is not None]
    if sum(named) != 1:
        raise UserError(
            "name what to compile for by one of --topology=v5e:4x4, --gpu=h100:8 or "
            "--memory_gb=80 --peak_tflops=989 --devices=8"
        )
    if chosen.memory_gb is not None:
        return _any_target(chosen)
    for flag in ("peak_tflops", "devices"):
        if chosen[flag].value is not None:
            name = "topology" if chosen.topology else "gpu"
            raise UserError(
                f"--{flag} goes with --memory_gb; of --{name}={chosen[name].value} it "
                "is known: leave it out"
            )
    if chosen.topology:
        return fit_chips.tpu_target(chosen.topology)
    chip, count = fit_chips.gpu(chosen.gpu)
    return fit_chips.gpu_target(chosen.gpu, chip, count)


def _any_target(chosen: flags.FlagValues) -> fit_chips.Target:
    """Devices that no table knows."""
    for flag in ("memory_gb", "peak_tflops"):
        value = chosen[flag].value
        if value is not None and not 0 < value < math.inf:
            raise UserError(f"--{flag}={value:g}: expected a number above 0")
    peak = chosen.peak_tflops and chosen.peak_tflops * 1e12
    chip = Chip(chosen.memory_gb * 1e9, peak, None, None)
    count = chosen.devices or _DEVICES
    return fit_chips.gpu_target(
        f"{count} devices of {chosen.memory_gb:g} GB", chip, count
    )


def set_mesh(config: ConfigDict, text: str) -> None:
    """Sets the fields of `mesh.` that `--mesh` names.

    Raises:
      UserError: something else than AXIS=NUMBER among them.
    """
    for part in filter(None, text.split(",")):
        axis, _, size = part.partition("=")
        if axis not in sharding.AXES or not size.removeprefix("-").isdecimal():
            axes = ",".join(f"{axis}=N" for axis in sharding.AXES)
            raise UserError(f"--mesh={text}: expected {axes}, or some of them")
        config.mesh[axis] = int(size)


def _num_probes(config: ConfigDict, explicit: set[str], domains: int) -> int:
    """Domains, or basis distributions, that an update measures."""
    validation.validate(config)
    if not config.data.store:
        return config.mixer.probe_domains or domains
    return Mixture(config, setup.open_store(config, explicit)).num_probes


def _measures(config: ConfigDict) -> bool:
    """Whether the weights of a run move by alignments."""
    return "alignments" in MIXERS[config.mixer.name].reads


def _versions() -> str:
    found = []
    for name in ("jax", "libtpu"):
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            found.append(f"{name} {importlib.metadata.version(name)}")
    return ", ".join(found)


def largest_microbatch(report: Report, num_probes: int) -> str:
    """Searches for the largest microbatch of the train step, and says what it found."""
    config, mesh = report.config, report.mesh
    sizes = fit_search.microbatch_sizes(
        config.train.batch_size, sharding.batch_shards(mesh)
    )
    now = config.train.batch_size // config.train.microbatches
    known = {now: report.fits[TRAIN]}

    def compile_at(rows: int) -> Fit | DoesNotFit:
        changed = ConfigDict(config)
        changed.train.microbatches = config.train.batch_size // rows
        return Programs(changed, mesh, num_probes).compile(TRAIN)

    memory = report.target.chip.memory
    rows = fit_search.largest_fitting(sizes, compile_at, memory, known)
    return fit_report.microbatch_line(rows, config.train.batch_size, known)
