"""A small corpus of real text, with duplicates, in a few files."""

import itertools
import json
import lzma

from dga_jax.data.sample import SAMPLE

_KINDS = ("austen", "dm_math", "python_code")


def write_corpus(folder, documents=60):
    """Writes it; returns its glob. The last file repeats half of another's texts."""
    texts = {}
    for kind in _KINDS:
        with lzma.open(SAMPLE / f"generic/{kind}.jsonl.xz", "rt") as file:
            found = [json.loads(line)["text"] for line in file]
        texts[kind] = [text[:2000] for text in found[:documents]]
    texts["zz_more"] = [*texts["dm_math"][::2], *texts["austen"][:1], "The end."]
    texts["zz_more"] += [f"{text[:500]} and so on" for text in texts["austen"]]
    for kind, items in texts.items():
        lines = "".join(json.dumps({"text": text}) + "\n" for text in items)
        (folder / f"{kind}.jsonl").write_text(lines)
    return f"{folder}/*.jsonl"


def write_beginnings(folder, documents=60):
    """The first documents of each kind of the sample, cut short; returns their glob."""
    for path in sorted((SAMPLE / "generic").glob("*.jsonl.xz")):
        with lzma.open(path, "rt") as file:
            first = itertools.islice(file, documents)
            texts = [json.loads(line)["text"][:3000] for line in first]
        lines = "".join(json.dumps({"text": text}) + "\n" for text in texts)
        (folder / path.name.removesuffix(".xz")).write_text(lines)
    return f"{folder}/*.jsonl"
