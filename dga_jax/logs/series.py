"""Series of one number per domain, where there are too many domains for the log.

Up to `MAX_LOGGED` domains, every value is a key of the log. Above, a series is a pair
of files under WORKDIR/series, its name with "/" written "_":

    mixture_weight.json   {"name": "mixture/weight", "domains": [k names]}
    mixture_weight.bin    one record per logged step: int64 step, float32 [k] values,
                          little endian, nothing between records

Records of one size make an append cheap, a torn tail evident and a cut one truncate.

In every record, a value is that of the domain in its place in the header. An older
version wrote alignments of ever other domains under the names of the first: such a file
is not read, and moved to WORKDIR/series/unknown_domains when its run goes on.
"""

import dataclasses
import itertools
import json
import operator
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import BinaryIO

import numpy as np

from dga_jax import files
from dga_jax.errors import UserError

MAX_LOGGED = 64  # domains of a series that the log still holds in full
NUM_LEADING = 16  # domains of a larger one that it keeps

_NAMES_AT_ONCE = 65_536
_FOLDER = "series"
_ASIDE = "unknown_domains"
# Series over all whose weights move, and the series of these weights.
_ALIGNMENTS = ("mixture/alignment", "mixture/alignment_error")
_WEIGHTS = ("mixture/basis_weight", "mixture/weight")


@dataclasses.dataclass(frozen=True)
class Series:
    """A number per domain over time.

    Attributes:
        domains: [k] names.
        steps: int64 [n], ascending.
        values: float [n, k]; NaN where a step gave no finite value. May be memory
            mapped: 262,144 domains at a thousand steps are a gigabyte.
    """

    domains: Sequence[str]
    steps: np.ndarray
    values: np.ndarray

    def of(self, names: Sequence[str]) -> np.ndarray:
        """Values of some domains: float [n, len(names)], NaN for one it has not."""
        places = {name: i for i, name in enumerate(self.domains)}
        found = [places.get(name) for name in names]
        known = [i for i, place in enumerate(found) if place is not None]
        values = np.full((len(self.values), len(names)), np.nan)
        values[:, known] = self.values[:, [found[i] for i in known]]
        return values

    def last(self, names: Sequence[str]) -> np.ndarray:
        """The newest values of some domains that are not NaN: float [len(names)]."""
        values = self.of(names)
        newest = len(values) - 1 - np.argmax(~np.isnan(values[::-1]), axis=0)
        return values[newest, np.arange(len(names))]


def key(name: str, domain: str) -> str:
    """The log's key of one domain: `{}` in the name stands for it, else it is last."""
    return name.replace("{}", domain) if "{}" in name else f"{name}/{domain}"


def leading(values: np.ndarray, count: int = NUM_LEADING) -> np.ndarray:
    """Indices of the `count` largest of `values` [k], largest first, ties in order."""
    ranks = np.where(np.isnan(values), -np.inf, values)
    places = np.arange(len(ranks))
    if count < len(ranks):  # to sort millions for a few of them takes seconds
        places = np.flatnonzero(ranks >= -np.partition(-ranks, count - 1)[count - 1])
    return places[np.argsort(-ranks[places], kind="stable")[:count]]


class SeriesFiles:
    """Appends to the series of one run.

    Args:
        workdir: of the run.
        first_step: records of this step and later ones are cut; see `MetricsWriter`.

    Raises:
        UserError: the header of a series cannot be read.
    """

    def __init__(self, workdir: Path, first_step: int):
        self._folder = workdir / _FOLDER
        self._files: dict[str, BinaryIO] = {}
        self._domains: dict[str, Sequence[str]] = {}
        for name in _ALIGNMENTS:
            if _of_unknown_domains(self._folder, name):
                _move_aside(_header_path(self._folder, name))
        for header in sorted(self._folder.glob("*.json")):
            _cut(header, first_step)

    def append(
        self, step: int, name: str, values: np.ndarray, domains: Sequence[str]
    ) -> None:
        """Adds the record of one step; `values` is [k], as `domains`.

        A file of other domains that is there is moved aside, with a line to say so. To
        compare millions of names takes seconds: give the same object at every step.

        Raises:
            ValueError: this series has been given other domains.
        """
        if name not in self._files:
            self._files[name] = self._open(name, domains)
            self._domains[name] = domains
        elif not _equal(self._domains[name], domains):
            raise ValueError(f"{name}: a series is over the same domains in all steps")
        record = np.zeros((), _record(len(domains)))
        record["step"], record["values"] = step, values
        self._files[name].write(record.tobytes())
        self._files[name].flush()  # others read it while the run goes on

    def flush(self) -> None:
        """Returns when every record is on disk."""
        for file in self._files.values():
            file.flush()
            os.fsync(file.fileno())

    def close(self) -> None:
        """Flushes and closes the files."""
        self.flush()
        for file in self._files.values():
            file.close()
        self._files = {}

    def _open(self, name: str, domains: Sequence[str]) -> BinaryIO:
        self._folder.mkdir(parents=True, exist_ok=True)
        header = _header_path(self._folder, name)
        if not header.exists() or not _equal(_domains(header), domains):
            _move_aside(header)
            with files.replaced(header) as file:
                file.writelines(_header(name, domains))
        return open(header.with_suffix(".bin"), "ab")


def read_series(
    workdir: Path, name: str, lines: Sequence[Mapping[str, float]]
) -> Series | None:
    """Reads a series whole, from its files or from the lines of the log.

    Args:
        workdir: of the run.
        name: as it was written, such as "mixture/weight" or "eval/domain/{}/loss".
        lines: of the log; see `metrics.read_metrics`.

    Returns:
        The series, its domains in the order of the store if it has files and by name
        if not; None if the run logged no such series.

    Raises:
        UserError: the header of the series cannot be read.
    """
    return _from_files(Path(workdir) / _FOLDER, name) or _from_lines(name, lines)


def read_newest(
    workdir: Path,
    name: str,
    lines: Sequence[Mapping[str, float]],
    domains: Sequence[str],
) -> np.ndarray:
    """The newest values of some domains that are not NaN: float [len(domains)].

    Where the files have none, the lines of the log may: an older version kept subsets
    of at most `MAX_LOGGED` domains there alone. For the arguments see `read_series`.
    """
    newest = np.full(len(domains), np.nan)
    for read in (
        lambda: _from_files(Path(workdir) / _FOLDER, name),
        lambda: _from_lines(name, lines),
    ):
        missing = np.isnan(newest)
        found = read() if missing.any() else None
        if found is not None:
            newest[missing] = found.last(domains)[missing]
    return newest


def _from_files(folder: Path, name: str) -> Series | None:
    header = _header_path(folder, name)
    if not header.exists() or _of_unknown_domains(folder, name):
        return None
    domains = _domains(header)
    records = _records(header, _record(len(domains)))
    if not len(records):
        return None
    return Series(domains, records["step"], records["values"])


def _from_lines(name: str, lines: Sequence[Mapping[str, float]]) -> Series | None:
    before, _, after = key(name, "\0").partition("\0")
    steps, rows = [], []
    for line in lines:
        row = {
            k[len(before) : len(k) - len(after)]: value
            for k, value in line.items()
            if k.startswith(before) and k.endswith(after)
        }
        if row:
            steps.append(line["step"])
            rows.append(row)
    if not rows:
        return None
    domains = sorted(set().union(*rows))
    values = np.array([[row.get(name) for name in domains] for row in rows], float)
    return Series(domains, np.array(steps), values)


def _equal(names: Sequence[str], others: Sequence[str]) -> bool:
    if names is others:
        return True
    return len(names) == len(others) and all(map(operator.eq, names, others))


def _header(name: str, domains: Sequence[str]) -> Iterator[bytes]:
    """The content of a header, piece by piece: the names may be millions."""
    yield f'{{"name": {json.dumps(name)}, "domains": ['.encode()
    names, comma = iter(domains), b""
    while some := list(itertools.islice(names, _NAMES_AT_ONCE)):
        yield comma + json.dumps(some)[1:-1].encode()
        comma = b", "
    yield b"]}"


def _header_path(folder: Path, name: str) -> Path:
    return folder / f"{name.replace('/{}', '').replace('/', '_')}.json"


def _domains(header: Path) -> list[str]:
    """The names in a header."""
    try:
        return list(json.loads(header.read_text(encoding="utf-8"))["domains"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(
            f"{header}: cannot be read ({error}); move it away, and the .bin beside it"
        ) from None


def _of_unknown_domains(folder: Path, name: str) -> bool:
    """Whether a series of alignments does not name all that moves.

    An older version wrote the header of the first subset that was probed, and under it
    the values of every later one.
    """
    header = _header_path(folder, name)
    if name not in _ALIGNMENTS or not header.exists():
        return False
    weights = [_header_path(folder, name) for name in _WEIGHTS]
    moving = next((path for path in weights if path.exists()), None)
    return moving is None or _domains(header) != _domains(moving)


def _move_aside(header: Path) -> None:
    """Moves a series out of the way, and says so; nothing if there is none.

    Its values go first: were the process killed in between, the header alone would be
    there to be moved to the same place.
    """
    aside, number = header.parent / _ASIDE, 1
    while (aside / header.name).exists():
        number += 1
        aside = header.parent / f"{_ASIDE}-{number}"
    found = [p for p in (header.with_suffix(".bin"), header) if p.exists()]
    for path in found:
        aside.mkdir(exist_ok=True)
        os.replace(path, aside / path.name)
    if found:
        print(
            f"{found[-1]}: not of this run's domains, so it is unknown whose its values"
            f" are; moved to {aside}, and begun anew",
            flush=True,
        )


def _record(num_domains: int) -> np.dtype:
    return np.dtype([("step", "<i8"), ("values", "<f4", (num_domains,))])


def _records(header: Path, record: np.dtype) -> np.ndarray:
    """The whole records of a series, memory mapped: structured [n]."""
    path = header.with_suffix(".bin")
    count = path.stat().st_size // record.itemsize if path.exists() else 0
    if not count:
        return np.zeros(0, record)
    return np.memmap(path, record, mode="r", shape=(count,))


def _cut(header: Path, first_step: int) -> None:
    """Leaves the whole records of steps before `first_step`, or no file at all."""
    record = _record(len(_domains(header)))
    steps = _records(header, record)["step"]
    kept = int(np.searchsorted(steps, first_step))
    path = header.with_suffix(".bin")
    if not kept:
        path.unlink(missing_ok=True)
        header.unlink()
    elif path.stat().st_size > kept * record.itemsize:
        os.truncate(path, kept * record.itemsize)
