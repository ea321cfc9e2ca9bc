"""What a run takes from elsewhere: another run's state, or a Hugging Face model.

Few runs do. What they need is loaded for them alone.
"""

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ml_collections import ConfigDict

from dga_jax.data.store import Store
from dga_jax.training import workdir
from dga_jax.training.checkpoint import Checkpoints, Snapshot
from dga_jax.training.mixture import Mixture
from dga_jax.training.train_state import TrainState

if TYPE_CHECKING:
    from dga_jax.training.start_from import Begun


def take_architecture(
    config: ConfigDict, explicit: Iterable[str], directory: Path | None
) -> None:
    """Completes a config with the architecture of `model.from`.

    Args:
      config: of the run.
      explicit: names of the fields that were set on the command line.
      directory: the workdir; of a run that was begun there, its record says what its
        model is, whether or not `model.from` is given again.

    Raises:
      UserError: see `from_huggingface.take_architecture`.
    """
    before = None
    if directory is not None:
        checkpoints = Checkpoints(directory, config.checkpoint.keep)
        if workdir.is_begun(directory, checkpoints):
            before = workdir.read_record(directory, checkpoints)[0]
    begun = before is not None and before["config"].get("model", {}).get("from")
    if config.model["from"] or begun:
        from dga_jax.training import from_huggingface

        from_huggingface.take_architecture(config, explicit, before)


def settle(config: ConfigDict, before: Mapping[str, Any] | None) -> None:
    """Gives `start` the words in which the workdir recorded it; see `start_from`."""
    start = before["config"].get("start", {}) if before else {}
    if start.get("from"):
        from dga_jax.training import start_from

        start_from.settle(config, start)


def find(
    config: ConfigDict,
    directory: Path,
    store: Store,
    mixture: Mixture,
    abstract: TrainState,
) -> "Callable[[Snapshot], Begun] | None":
    """Reads what a run begins with that is not begun.

    Args:
      config: of the run.
      directory: its workdir.
      store: that it trains on.
      mixture: its domains.
      abstract: shapes, dtypes and shardings of its state.

    Returns:
      What makes of a fresh state the one to begin with, or None if it is that.

    Raises:
      UserError: it is not there, or does not fit; nothing was written by then.
    """
    if config.start["from"]:
        from dga_jax.training import start_from

        found = start_from.find(config, directory, store, mixture, abstract)
        return lambda fresh: start_from.begin(
            found, fresh, config, directory, store, mixture
        )
    if config.model["from"]:
        from dga_jax.training import from_huggingface
        from dga_jax.training.start_from import Begun

        params = from_huggingface.load(config, store, abstract.params)

        def begin(fresh: Snapshot) -> Begun:
            train = fresh.train._replace(params=params)
            said = f"the parameters of {config.model['from']}"
            return Begun(fresh._replace(train=train), {}, said)

        return begin
    return None
