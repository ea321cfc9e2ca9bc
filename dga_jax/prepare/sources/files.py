"""Which files a glob, a directory or a path stands for, here and elsewhere."""

import os
import stat
from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

from dga_jax import remote
from dga_jax.errors import UserError
from dga_jax.prepare.sources import globs


class File(NamedTuple):
    """A file, and what is known of it without reading it."""

    path: str
    num_bytes: int
    version: str


class Found(NamedTuple):
    """What a pattern stands for.

    Attributes:
      files: sorted by path.
      root: the directory that the pattern names without a wildcard.
      is_directory: the pattern is that directory.
      passed_over: files that nobody named and that are no data, such as _SUCCESS.
    """

    files: list[File]
    root: str
    is_directory: bool
    passed_over: tuple[str, ...] = ()


def find(pattern: str) -> Found:
    """The files that a pattern matches, or that lie anywhere below a directory.

    What a pattern means, and which files count unless they are named, see `globs`. A
    path that is there as it is written is no pattern.

    Raises:
      UserError: nothing matches, or something cannot be read.
    """
    if remote.is_local_url(pattern):
        found = _as_urls(_find_local(remote.local_path(pattern)), pattern)
    elif remote.is_remote(pattern):
        with remote.explained(pattern):
            found = _find_remote(pattern)
    else:
        found = _find_local(pattern)
    if not found.files and found.is_directory:
        raise UserError(f"{pattern} holds no file; check the path")
    if not found.files:
        raise UserError(f"no file matches {pattern!r}; check the path, quote the glob")
    return found._replace(files=sorted(found.files))


def local_file(path: str) -> File:
    """One file of this machine.

    Raises:
      UserError: it cannot be read.
    """
    try:
        status = os.stat(path)
    except OSError as error:
        if os.path.islink(path):
            raise UserError(
                f"cannot read {path}: the link leads nowhere; remove it"
            ) from None
        raise UserError(
            f"cannot read {path}: {error.strerror}; see to it or leave it out"
        ) from error
    if not stat.S_ISREG(status.st_mode):  # it is read more than once, and again later
        raise UserError(
            f"cannot read {path}: it is no regular file; write its content to one"
        )
    return File(path, status.st_size, f"{status.st_size} {status.st_mtime_ns}")


def remote_file(url: str) -> File:
    """One file elsewhere; raises what the storage's client raises."""
    return _of(remote.describe(url))


def _find_local(pattern: str) -> Found:
    if os.path.isdir(pattern):
        root = pattern.rstrip("/") or "/"
        paths, passed_over = _listed(_below(root, root), root)
        return Found([local_file(path) for path in paths], root, True, passed_over)
    if os.path.lexists(pattern):
        return Found([local_file(pattern)], os.path.dirname(pattern), False)
    paths, passed_over = [], []
    for one in globs.without_braces(pattern):
        root = globs.fixed(one)
        matcher = globs.Matcher(one)
        for path in _below(root, root, matcher.leads_to):
            below = _relative(path, root)
            if matcher.matches(below):
                paths.append(path)
            elif matcher.passes_over(below):
                passed_over.append(path)
    files = [local_file(path) for path in dict.fromkeys(paths)]
    return Found(files, globs.fixed(pattern), False, tuple(passed_over))


def _listed(paths: Iterable[str], root: str) -> tuple[list[str], tuple[str, ...]]:
    """Those paths below a directory that count, and those files that do not."""
    found, passed_over = [], []
    for path in paths:
        *folders, name = _relative(path, root).split("/")
        if all(map(globs.counts, folders)):
            (found if globs.counts(name) else passed_over).append(path)
    return found, tuple(passed_over)


def _below(
    folder: str,
    root: str,
    leads_to: Callable[[str], bool] | None = None,
    above: tuple[str, ...] = (),
) -> Iterator[str]:
    """The files below a directory, through links to directories, but not in circles.

    Args:
      folder: the directory.
      root: what paths that `leads_to` is asked about are relative to.
      leads_to: which directories are looked into; those that count unless it is given.
      above: directories that lead here.

    Raises:
      UserError: a directory cannot be read: files would be missing without a word.
    """
    place = os.path.realpath(folder or ".")
    if place in above:
        return
    try:
        entries = sorted(os.scandir(folder or "."), key=lambda entry: entry.name)
    except (FileNotFoundError, NotADirectoryError):
        return
    except OSError as error:
        raise UserError(
            f"cannot read {folder}: {error.strerror}; change it or give another pattern"
        ) from error
    for entry in entries:
        path = os.path.join(folder, entry.name)
        if not entry.is_dir():
            yield path
        elif leads_to(_relative(path, root)) if leads_to else globs.counts(entry.name):
            yield from _below(path, root, leads_to, (*above, place))


def _relative(path: str, root: str) -> str:
    return path.removeprefix(root).lstrip("/")


def _as_urls(found: Found, pattern: str) -> Found:
    """What was found on this machine, as it is written where it was a URL."""

    def url(path: str) -> str:
        return f"{pattern.partition('://')[0]}://{path}"

    return Found(
        [file._replace(path=url(file.path)) for file in found.files],
        url(found.root),
        found.is_directory,
        tuple(map(url, found.passed_over)),
    )


def _find_remote(pattern: str) -> Found:
    if not globs.is_wild(pattern):
        info = remote.describe(pattern)
        if info["type"] == "directory":
            return _directory(pattern)
        return Found([_of(info)], info["name"].rpartition("/")[0], False)
    root = remote.normal(globs.fixed(pattern))
    whole, found, passed_over = remote.normal(pattern), {}, []
    for one in globs.without_braces(pattern):
        start = remote.normal(globs.fixed(one))
        matcher, skipped = globs.Matcher(one), start.rstrip("/").count("/") + 1
        for info in remote.find(start, matcher.depth):
            if info["name"] == whole:  # it is there as it is written
                if info["type"] == "directory":
                    return _directory(pattern)
                return Found([_of(info)], whole.rpartition("/")[0], False)
            below = "/".join(info["name"].split("/")[skipped:])
            if info["type"] == "directory" or not below:
                continue
            if matcher.matches(below):
                found[info["name"]] = _of(info)
            elif matcher.passes_over(below):
                passed_over.append(info["name"])
    return Found(list(found.values()), root, False, tuple(passed_over))


def _directory(url: str) -> Found:
    root = remote.normal(url).rstrip("/")
    infos = {info["name"]: info for info in remote.find(url, None)}
    files = (name for name, info in infos.items() if info["type"] != "directory")
    paths, passed_over = _listed(files, root)
    return Found([_of(infos[path]) for path in paths], root, True, passed_over)


def _of(info: dict) -> File:
    return File(info["name"], int(info.get("size") or 0), remote.version(info))
