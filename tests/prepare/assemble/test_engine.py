"""Regrouping by key, stopped anywhere."""

import collections

from hypothesis import given, settings
from hypothesis import strategies as st

from dga_jax.prepare.assemble.engine import Local
from dga_jax.prepare.assemble.folder import Folder


class Stopped(BaseException):
    """Stands for a `kill -9`."""


class Words:
    """Scatters the words of a text by length, gathers them in files."""

    def __init__(self, folder, stop_after=10**9):
        self.folder, self.left = folder, stop_after
        self.calls = collections.Counter()

    def scatter(self, text):
        for word in text.split():
            self._count("scatter")
            yield len(word), word.encode()

    def __call__(self, key, parts):
        self._count("gather")
        words = sorted(part.decode() for part in parts)
        assert words == sorted(part.decode() for part in parts)  # once more
        self.folder.write(str(key), " ".join(words).encode())

    def done(self, key):
        return self.folder.has(str(key))

    def _count(self, what):
        self.calls[what] += 1
        self.left -= 1
        if self.left < 0:
            raise Stopped

    def run(self, texts, spill):
        engine = Local()
        engine.shuffle(self.scatter, texts, self, spill)
        return {key: self.folder.read(key).decode() for key in self.folder.names()}


TEXTS = ["it was the best of times", "it was the worst of times", "", "it was"]


def test_regroups(tmp_path):
    words = Words(Folder.of(tmp_path / "out"))
    assert words.run(TEXTS, Folder.of(tmp_path / "spill")) == {
        "2": "it it it of of",
        "3": "the the was was was",
        "4": "best",
        "5": "times times worst",
    }


@settings(max_examples=40, deadline=None)
@given(st.lists(st.integers(0, 17), max_size=4))
def test_stopped_anywhere_it_goes_on(tmp_path_factory, stops):
    directory = tmp_path_factory.mktemp("job")
    expected = Words(Folder.of(directory / "whole"))
    expected = expected.run(TEXTS, Folder.of(directory / "whole-spill"))
    out, spill = Folder.of(directory / "out"), Folder.of(directory / "spill")
    for stop in stops:
        words = Words(out, stop)
        try:
            assert words.run(TEXTS, spill) == expected
        except Stopped:
            continue
    assert Words(out).run(TEXTS, spill) == expected
    done = Words(out)
    done.run(TEXTS, spill)
    assert not done.calls
