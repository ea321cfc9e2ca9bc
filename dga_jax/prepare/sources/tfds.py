"""Data sets that TensorFlow Datasets prepared, read without TensorFlow."""

import os
import re
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from dga_jax.errors import UserError
from dga_jax.files import OnBytes
from dga_jax.prepare.sources.document import DOMAIN, FLAGS, Fields, columns, names_of

if TYPE_CHECKING:
    from tensorflow_datasets.core import DatasetBuilder

_SHARD_BYTES = 64 << 20
_AT_ONCE = 64
_SYNTAX = re.compile(
    r"(?P<name>[^/:@]+)(/(?P<config>[^/:@]+))?(:(?P<version>[^/:@]+))?"
    r"/(?P<split>[^/:@]+)(@(?P<directory>.+))?"
)
_FORM = "tfds:NAME[/CONFIG][:VERSION]/SPLIT[@DIRECTORY]"


class DataSetSplit(NamedTuple):
    """A split of a data set.

    Attributes:
      path: its full name and place, as a pattern.
      name: of the data set, and its config.
      version: what changes when its files do.
      examples: how many it has.
      num_bytes: on disk.
    """

    path: str
    name: str
    version: str
    examples: int
    num_bytes: int

    @property
    def ranges(self) -> list[tuple[int, int, int]]:
        """Parts of some 64 MB: first example, one past the last, bytes."""
        count = max(1, min(self.examples, round(self.num_bytes / _SHARD_BYTES)))
        bounds = [self.examples * i // count for i in range(count + 1)]
        sizes = [self.num_bytes * bound // self.examples for bound in bounds]
        return [
            (bounds[i], bounds[i + 1], sizes[i + 1] - sizes[i]) for i in range(count)
        ]


def find(pattern: str) -> DataSetSplit:
    """The split that NAME[/CONFIG][:VERSION]/SPLIT[@DIRECTORY] stands for.

    Without @DIRECTORY it is looked for where $TFDS_DATA_DIR says, or else in
    ~/tensorflow_datasets. Nothing is downloaded.

    Raises:
      UserError: it is not there, or not in a format that can be read.
    """
    match = _SYNTAX.fullmatch(pattern)
    if not match:
        raise UserError(f"tfds:{pattern} is not {_FORM}")
    builder = _builder(match, pattern)
    split = match["split"]
    if split not in builder.info.splits:
        names = names_of(builder.info.splits)
        raise UserError(f"tfds:{pattern}: no split {split!r}, only {names}")
    info = builder.info.splits[split]
    if not info.num_examples:
        raise UserError(f"tfds:{pattern} holds no examples; leave it out")
    files = [os.fspath(path) for path in info.filepaths]
    try:
        states = [os.stat(path) for path in files]
    except OSError as error:
        raise UserError(
            f"cannot read {error.filename} of tfds:{pattern}: {error.strerror}; prepare"
            " the data set again"
        ) from error
    config = f"/{match['config']}" if match["config"] else ""
    directory = os.path.abspath(os.fspath(builder.data_dir)).removesuffix(
        f"/{builder.info.full_name}"
    )
    version = [f"{state.st_size} {state.st_mtime_ns}" for state in states]
    return DataSetSplit(
        f"tfds:{match['name']}{config}:{builder.version}/{split}@{directory}",
        match["name"] + config,
        " ".join(version),
        info.num_examples,
        sum(state.st_size for state in states),
    )


def records(
    path: str,
    start: int,
    stop: int,
    fields: Fields,
    named: bool,
    on_bytes: OnBytes,
    num_bytes: int,
) -> Iterator[tuple[int, dict[str, Any]]]:
    """Streams a range of examples, from `start` until before `stop`.

    Args:
      path: as in `DataSetSplit.path`.
      start: the first example.
      stop: one past the last.
      fields: what is to be read of them.
      named: the domain is known.
      on_bytes: called with bytes, in proportion to the examples read.
      num_bytes: of the range, for that.

    Yields:
      Numbers of examples, from 0 as in the data set, and their features.

    Raises:
      UserError: a feature is missing, or the files are damaged.
    """
    pattern = path.removeprefix("tfds:")
    match = _SYNTAX.fullmatch(pattern)
    builder = _builder(match, pattern)
    names = _features(builder.info.features, fields, named, path)
    domain = fields.domain or DOMAIN
    labels = builder.info.features[domain] if domain in names else None
    told = 0
    number = start
    try:
        source = builder.as_data_source(split=match["split"])
        for first in range(start, stop, _AT_ONCE):
            chosen = range(first, min(first + _AT_ONCE, stop))
            for number, example in zip(
                chosen, source.__getitems__(list(chosen)), strict=True
            ):
                item = {name: _plain(example[name]) for name in names}
                if hasattr(labels, "int2str"):
                    item[domain] = labels.int2str(item[domain])
                yield number, item
            now = num_bytes * (chosen[-1] + 1 - start) // (stop - start)
            on_bytes(now - told)
            told = now
    # Of its own it raises ValueError and RuntimeError, whatever is the matter.
    except (OSError, RuntimeError, ValueError, IndexError) as error:
        said = " ".join(str(error).split())
        raise UserError(
            f"{path} is truncated or damaged after example {number}: {said[:200]};"
            " prepare the data set again"
        ) from error


def _builder(match: re.Match, pattern: str) -> "DatasetBuilder":
    try:
        from tensorflow_datasets.core import read_only_builder, registered
    except ImportError as error:
        raise UserError(
            f"tfds:{pattern} needs a package: pip install tensorflow-datasets ({error})"
        ) from error
    name = match["name"] + (f"/{match['config']}" if match["config"] else "")
    directory = match["directory"] or os.environ.get("TFDS_DATA_DIR")
    where = directory or "~/tensorflow_datasets"
    try:
        builder = read_only_builder.builder_from_files(
            name, data_dir=directory, version=match["version"]
        )
    except Exception as error:  # whatever the reading of metadata raises
        if not isinstance(error, registered.DatasetNotFoundError):
            said = " ".join(str(error).split())
            raise UserError(
                f"tfds:{pattern}: the metadata of {name!r} in {where} cannot be read"
                f" ({type(error).__name__}: {said[:200]}); prepare the data set again"
            ) from error
        version = f" of version {match['version']}" if match["version"] else ""
        raise UserError(
            f"tfds:{pattern}: no data set {name!r}{version} in {where}; check the name,"
            f" the config and {_FORM}, or prepare it with file_format='array_record'"
        ) from error
    if builder.info.file_format.value != "array_record":
        raise UserError(
            f"tfds:{pattern} was prepared as {builder.info.file_format.value}, which"
            " cannot be read by index; prepare it with file_format='array_record'"
        )
    return builder


def _features(
    features: Mapping[str, Any], fields: Fields, named: bool, path: str
) -> list[str]:
    """The features at the top level that hold the fields that are read."""
    try:
        wanted = columns(fields, named, lambda name: _has(features, name))
    except KeyError as error:
        raise UserError(
            f"{path}: no feature {error.args[0]!r}, only {names_of(features)}; {FLAGS}"
        ) from error
    tops = [name if name in features else name.split(".")[0] for name in wanted]
    return list(dict.fromkeys(tops))


def _has(features: Mapping[str, Any], name: str) -> bool:
    if name in features:
        return True
    for part in name.split("."):
        if not hasattr(features, "keys") or part not in features:
            return False
        features = features[part]
    return True


def _plain(value: Any) -> Any:
    """Values of NumPy as those of Python."""
    if isinstance(value, dict):
        return {key: _plain(inner) for key, inner in value.items()}
    if isinstance(value, np.generic | np.ndarray):
        return value.tolist()
    return value
