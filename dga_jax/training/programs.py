"""The compiled programs of a run: kept from one start to the next, and made ahead.

To compile takes longer than anything else that happens before the first step. What was
compiled once is taken from JAX's persistent cache, whose keys say all that a program
depends on: itself, versions, flags of XLA, kind and features of the machine. What was
not is compiled by threads while the state is read or made.
"""

import contextlib
import os
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding
from ml_collections import ConfigDict

from dga_jax import one_of_several, sharding
from dga_jax.errors import UserError
from dga_jax.files import cache_directory, is_remote, made_writable
from dga_jax.training import config as configs
from dga_jax.training import distributed
from dga_jax.training.mixture import Mixture
from dga_jax.training.steps import Steps, weighted_rows
from dga_jax.training.train_state import TrainState

OFF = "off"
_FOLDER = "compiled"  # in the cache directory
_LEAST_VARIABLE = "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"
# JAX's own, 1, leaves out most programs of a small model.
_LEAST_SECONDS = 0.1

Programs = Mapping[str, Future]  # by the name of the step


def keep_compiled(given: str, cache: str = "") -> None:
    """Has JAX keep what it compiles, and take what it kept, from now on.

    Called after `distributed.initialize`, as it may ask for the kind of the devices.
    Several processes may share a folder. Where an entry cannot be read, or a folder of
    nobody's choice cannot be written to, programs are compiled as if it were not there.

    Args:
      given: `compile_cache`: a folder, or a URL that JAX can write to; "off"; or "" for
        the folder that JAX itself was told to use, else one in the cache directory,
        but none for several processes on GPUs.
      cache: the cache directory; see `cache_directory`.

    Raises:
      UserError: the folder that was given cannot be written to.
    """
    if given == OFF:
        jax.config.update("jax_enable_compilation_cache", False)
        return
    if not given and jax.config.jax_compilation_cache_dir:
        return
    if given and is_remote(given):
        # XLA would write its own beside JAX's, and only to a local folder.
        jax.config.update("jax_persistent_cache_enable_xla_caches", "none")
    elif given:
        given = _writable(given)
    # Process 0 alone writes. On GPUs, where XLA tunes as it compiles, all are to find
    # the same programs, and whether a default folder is shared is not known here.
    elif not (one_of_several() and jax.default_backend() == "gpu"):
        with contextlib.suppress(UserError):
            given = str(cache_directory(cache) / _FOLDER)
    if given:
        jax.config.update("jax_compilation_cache_dir", given)
    if _LEAST_VARIABLE not in os.environ:
        jax.config.update("jax_persistent_cache_min_compile_time_secs", _LEAST_SECONDS)


def _writable(given: str) -> str:
    """The folder `compile_cache`, made if it does not exist."""
    try:
        path = Path(given).expanduser().absolute()
    except RuntimeError:  # no home is known
        path = None
    if path is None or not made_writable(path):
        raise UserError(
            f"config.compile_cache={path or given}: cannot be written to; name another"
            f" directory, or {OFF}"
        )
    return str(path)


def compile_ahead(
    steps: Steps, arguments: Mapping[str, tuple], also: Callable[[], Any] = tuple
) -> Programs:
    """Begins to compile steps, in threads.

    JAX traces them one after the other, in the order of `arguments`, as Python allows
    no more; XLA compiles as many at a time, in that order, as there are cores but the
    caller's. When the main thread ends, nothing further is begun.

    Args:
      steps: jitted.
      arguments: of each by its name, arrays or their shapes, dtypes and shardings.
      also: called behind them, for what it compiles.

    Returns:
      By name what will be the program, or what went wrong with it; nothing if the
      system gives no thread.
    """
    programs = {name: Future() for name in arguments}
    waiting = dict(programs)  # of which nothing is known yet
    free = threading.Semaphore(max((os.cpu_count() or 1) - 1, 1))

    def finish(program: Future, lowered: jax.stages.Lowered) -> None:
        try:
            program.set_result(lowered.compile())
        except BaseException as error:
            program.set_exception(error)
        finally:
            free.release()

    def begin_each() -> None:
        for name, shapes in arguments.items():
            try:
                lowered = getattr(steps, name).lower(*shapes)
            except Exception as error:
                waiting.pop(name).set_exception(error)
                continue
            free.acquire()
            if not threading.main_thread().is_alive():
                return
            program = waiting.pop(name)
            if not _started(finish, program, lowered):
                finish(program, lowered)
        if threading.main_thread().is_alive():
            with contextlib.suppress(Exception):  # who needs it meets it again
                also()

    def begin() -> None:
        try:
            begin_each()
        finally:  # or who needs one would wait for ever
            for name, program in waiting.items():
                program.set_exception(RuntimeError(f"{name} was not compiled"))

    return programs if _started(begin) else {}


def compile_run(
    config: ConfigDict,
    mesh: Mesh,
    mixture: Mixture,
    steps: Steps,
    state: TrainState,
    done: int | None,
) -> Programs:
    """Begins to compile the steps of a run, in the order in which the loop needs them.

    Args:
      config: of the run.
      mesh: of the run.
      mixture: of the run.
      steps: jitted.
      state: its shapes, dtypes and shardings.
      done: steps that it was saved after; None for one that begins.
    """
    rows = sharding.batch_sharding(mesh)

    def batch(count: int) -> jax.ShapeDtypeStruct:
        shape = count, config.train.seq_len + 1
        return jax.ShapeDtypeStruct(shape, np.int32, sharding=rows)

    size = config.train.batch_size
    arguments = {
        "evaluate": (state.params, batch(size // config.train.microbatches)),
        "train": (state, batch(size)),
    }
    if mixture.scales_loss:
        weights = jax.ShapeDtypeStruct((size,), np.float32, sharding=rows)
        arguments["train"] = (*arguments["train"], weights)
    if done is not None:  # the evaluation before the first step is done
        arguments = dict(reversed(arguments.items()))
    update = configs.next_update(config, done or 0)
    if not mixture.moves or update > config.train.steps:
        return compile_ahead(steps, arguments)
    count = mixture.num_probes
    if "alignments" in mixture.mixer.reads:
        arguments["align"] = state, *batch_shapes(config, mesh, count)

    def move() -> None:
        weights = mixture.begin(mesh)
        mixture.update(weights, update, np.arange(count), mixture.blank())

    # It runs: several processes would have to do so in one order with all else.
    alone = jax.process_count() == 1
    return compile_ahead(steps, arguments, move if alone else tuple)


def batch_shapes(
    config: ConfigDict, mesh: Mesh, num_probes: int
) -> tuple[dict[str, jax.ShapeDtypeStruct], ...]:
    """Of an update's batches, the target's and the probes', with their shardings."""
    mixer, width = config.mixer, config.train.seq_len + 1
    target = sharding.multiple(mixer.target_rows, sharding.batch_shards(mesh))
    shards = sharding.probe_shards(mesh, mixer.probe_rows)
    probes = sharding.multiple(num_probes, shards), mixer.probe_rows
    labels = ("ids", "owners") if mixer.probe_by_error else ("ids",)

    def shapes(where: NamedSharding, *rows: int, **more: np.ndarray) -> dict:
        batch = weighted_rows(np.zeros((*rows, width), np.int32)) | more
        return {
            key: jax.ShapeDtypeStruct(value.shape, value.dtype, sharding=where)
            for key, value in batch.items()
        }

    return shapes(sharding.batch_sharding(mesh), target), shapes(
        sharding.probe_sharding(mesh, mixer.probe_rows),
        *probes,
        **{label: np.zeros(probes, np.int32) for label in labels},
    )


def _started(target: Callable[..., None], *arguments: Any) -> bool:
    """Runs it in a thread; False if the system gives none."""
    try:
        threading.Thread(target=target, args=arguments).start()
    except RuntimeError:
        return False
    return True


def compiled(
    steps: Steps,
    compiling: Callable[[], contextlib.AbstractContextManager],
    ahead: Programs | None = None,
) -> Steps:
    """The same steps, each as one program that is compiled apart from its calls.

    Args:
      steps: jitted; each is called with arguments of one shape.
      compiling: gives the context to compile in, or to wait for it, such as that of a
        clock.
      ahead: programs that `compile_ahead` makes; others are compiled at their first
        call.
    """
    ahead = ahead or {}
    return Steps(
        *(
            _Compiled(name, step, compiling, ahead.get(name))
            for name, step in steps._asdict().items()
        )
    )


class _Compiled:
    """A jitted function as one program; see `compiled`."""

    def __init__(
        self,
        name: str,
        step: Callable,
        compiling: Callable[[], contextlib.AbstractContextManager],
        ahead: Future | None,
    ):
        self._name, self._step = name, step
        self._compiling, self._ahead = compiling, ahead
        self._program = None

    def __call__(self, *arguments: Any) -> Any:
        if self._program is None:
            with self._compiling():
                if self._ahead is not None:
                    self._program = self._ahead.result()
                else:
                    self._program = self._step.lower(*arguments).compile()
                # A first collective does not wait as long as another may compile.
                distributed.meet(f"{self._name} is compiled")
        return self._program(*arguments)
