"""Makes the files of this folder from full corpora; see README.md for their origin.

  python -m sample.make_sample --corpora=DIR --output=sample

DIR holds generic/NAME.jsonl.gz and targets/NAME.{steer,eval}.jsonl.gz. Documents are
spread evenly over each file. The tokenizer is trained on what is kept of the domains.
"""

import gzip
import json
import lzma
import pathlib
from collections.abc import Sequence

from absl import app, flags

from dga_jax.prepare.bpe import train_bpe

_CORPORA = flags.DEFINE_string("corpora", None, "Folder to read.", required=True)
_OUTPUT = flags.DEFINE_string("output", None, "Folder to write to.", required=True)

DOMAINS = {
    "austen": "targets/austen.steer",
    "bible_web": "generic/bible_web",
    "dm_math": "generic/dm_math",
    "factbook": "generic/factbook",
    "metamath": "generic/metamath",
    "python_code": "generic/python_code",
    "sotu_early": "generic/sotu_early",
    "wordnet": "generic/wordnet",
}
TARGETS = {
    "python_docs.steer": "targets/python_docs.steer",
    "python_docs.eval": "targets/python_docs.eval",
}
EXCLUDED_SOURCES = (
    "pydoc_data/",  # a copy of the documentation: the target's own text
    "asynchat.py",  # and these are under licences of their own
    "asyncore.py",
    "http/cookies.py",
    "logging/",
    "platform.py",
    "re/",
)
DOMAIN_BYTES = 1_500_000
TARGET_BYTES = 1_000_000
VOCAB_SIZE = 2048


def read(path: pathlib.Path) -> list[str]:
    """All texts of a file, in its order."""
    with gzip.open(path, "rt", encoding="utf-8") as file:
        items = [json.loads(line) for line in file]
    return [
        item["text"]
        for item in items
        if not item["source"].startswith(EXCLUDED_SOURCES)
    ]


def spread(texts: list[str], num_bytes: int) -> list[str]:
    """Texts at even distances, `num_bytes` of UTF-8 in all, to half a text."""
    sizes = [len(text.encode()) for text in texts]
    share = min(1.0, num_bytes / sum(sizes))
    kept, before, taken = [], 0, 0
    for text, size in zip(texts, sizes, strict=True):
        before += size
        if taken + size / 2 <= before * share:
            kept.append(text)
            taken += size
    return kept


def write(path: pathlib.Path, texts: list[str]) -> None:
    """Writes JSON lines, compressed; the same texts give the same bytes."""
    lines = [json.dumps({"text": text}, ensure_ascii=False) + "\n" for text in texts]
    data = "".join(lines).encode()
    path.write_bytes(lzma.compress(data, preset=9 | lzma.PRESET_EXTREME))


def main(_: Sequence[str]) -> None:
    """Reads --corpora, writes --output."""
    corpora, output = pathlib.Path(_CORPORA.value), pathlib.Path(_OUTPUT.value)
    corpus = []
    for folder, files, size in [
        ("generic", DOMAINS, DOMAIN_BYTES),
        ("target", TARGETS, TARGET_BYTES),
    ]:
        (output / folder).mkdir(parents=True, exist_ok=True)
        for name, source in files.items():
            texts = spread(read(corpora / f"{source}.jsonl.gz"), size)
            write(output / folder / f"{name}.jsonl.xz", texts)
            if folder == "generic":
                corpus += texts
    (output / "tokenizer.json").write_bytes(train_bpe(corpus, VOCAB_SIZE))


if __name__ == "__main__":
    app.run(main)
