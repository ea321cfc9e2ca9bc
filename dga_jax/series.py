"""Series of one number per domain, where there are too many domains for the log.

Up to `MAX_LOGGED` domains, every value is a key of the log. Above, a series is a pair
of files under WORKDIR/series, its name with "/" written "_":

    mixture_weight.json   {"name": "mixture/weight", "domains": [k names]}
    mixture_weight.bin    one record per logged step: int64 step, float32 [k] values,
                          little endian, nothing between records

Records of one size make an append cheap, a torn tail evident and a cut one truncate.
"""

import dataclasses
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import BinaryIO

import numpy as np

MAX_LOGGED = 64  # domains of a series that the log still holds in full
NUM_LEADING = 16  # domains of a larger one that it keeps

_FOLDER = "series"


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

    def last(self) -> dict[str, float]:
        """The last value of every domain that is not NaN, where it has one."""
        last = np.array(self.values[-1])
        for row in self.values[-2::-1]:
            missing = np.isnan(last)
            if not missing.any():
                break
            last[missing] = row[missing]
        return dict(zip(self.domains, last.tolist(), strict=True))


def key(name: str, domain: str) -> str:
    """The log's key of one domain: `{}` in the name stands for it, else it is last."""
    return name.replace("{}", domain) if "{}" in name else f"{name}/{domain}"


def leading(values: np.ndarray, count: int = NUM_LEADING) -> np.ndarray:
    """Indices of the `count` largest of `values` [k], largest first, ties in order."""
    ranks = np.where(np.isnan(values), -np.inf, values)
    return np.argsort(-ranks, kind="stable")[:count]


class SeriesFiles:
    """Appends to the series of one run.

    Args:
        workdir: of the run.
        first_step: records of this step and later ones are cut; see `MetricsWriter`.
    """

    def __init__(self, workdir: Path, first_step: int):
        self._folder = workdir / _FOLDER
        self._files: dict[str, BinaryIO] = {}
        for header in sorted(self._folder.glob("*.json")):
            _cut(header, first_step)

    def append(
        self, step: int, name: str, values: np.ndarray, domains: Sequence[str]
    ) -> None:
        """Adds the record of one step; `values` is [k], as `domains`."""
        if name not in self._files:
            self._files[name] = self._open(name, domains)
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
        if not header.exists():
            aside = header.with_suffix(".json.tmp")
            with open(aside, "w", encoding="utf-8") as file:
                json.dump({"name": name, "domains": list(domains)}, file)
                file.flush()
                os.fsync(file.fileno())
            os.replace(aside, header)
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
    """
    header = _header_path(Path(workdir) / _FOLDER, name)
    if header.exists():
        domains = json.loads(header.read_text())["domains"]
        records = _records(header, _record(len(domains)))
        if len(records):
            return Series(domains, records["step"], records["values"])
    return _from_lines(name, lines)


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


def _header_path(folder: Path, name: str) -> Path:
    return folder / f"{name.replace('/{}', '').replace('/', '_')}.json"


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
    record = _record(len(json.loads(header.read_text())["domains"]))
    steps = _records(header, record)["step"]
    kept = int(np.searchsorted(steps, first_step))
    path = header.with_suffix(".bin")
    if not kept:
        path.unlink(missing_ok=True)
        header.unlink()
    elif path.stat().st_size > kept * record.itemsize:
        os.truncate(path, kept * record.itemsize)
