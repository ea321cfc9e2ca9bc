"""Names that tools give to the parts of a data set, and names that mean something."""

import pytest

from dga_jax.prepare.sources.names import domains_of

UUID = "3f1d2c4b-0a1b-4c2d-8e3f-444455556666"
# What each is called alone, in the directory .../corpus.
ALONE = {
    # Hugging Face
    "train-00000-of-00002-1a2b3c4d5e6f7a8b.parquet": "train",
    "train-00001-of-00041.parquet": "train",
    "validation-00000-of-00001.parquet": "validation",
    "data-00000-of-00005.jsonl": "data",
    "0000.parquet": "corpus",
    # FineWeb, C4, Dolma, RedPajama, SlimPajama, the Pile, DCLM
    "000_00000.parquet": "corpus",
    "CC-MAIN-2013-20/000_00012.parquet": "CC-MAIN-2013-20",
    "c4-train.00000-of-01024.json.gz": "c4-train",
    "c4-0007.json.gz": "c4",
    "cc_en_head-0000.json.gz": "cc_en_head",
    f"arxiv_{UUID}.jsonl": "arxiv",
    "en_head_0000.json.gz.dedup.classifier.jsonl": "en_head",
    "00.jsonl.zst": "corpus",
    "shard_00000000_processed.jsonl.zst": "shard_processed",
    # Spark, Hadoop, Dask, Ray, BigQuery
    f"part-00000-{UUID}-c000.snappy.parquet": "corpus",
    f"part-00007-{UUID}.c000.gz.parquet": "corpus",
    "part-00000.gz": "corpus",
    "part-r-00003.gz.parquet": "corpus",
    "part.0.parquet": "corpus",
    "part-0.parquet": "corpus",
    f"{UUID}_000000_000001.parquet": "corpus",
    "export-000000000012.json.gz": "export",
    # numbers
    "wiki_00": "wiki",
    "shard_00012": "corpus",
    "shard_12.jsonl": "corpus",
    "chunk1/00001.jsonl": "corpus",
    # names that mean something
    "austen.jsonl.xz": "austen",
    "moby.v2.jsonl.gz": "moby",
    "books3.jsonl": "books3",
    "cc-2023-06.jsonl": "cc-2023-06",
    "c4_2019.jsonl": "c4_2019",
    "2019.jsonl": "2019",
    "gpt-2.jsonl": "gpt-2",
    "file.jsonl": "file",
    "parts.jsonl": "parts",
}


@pytest.mark.parametrize("name", ALONE)
def test_a_file_alone(name):
    path = f"s3://bucket/corpus/{name}"
    assert domains_of([path])[path].domain == ALONE[name]


# A name with {} for a number, the numbers, and the domains of all together.
TOGETHER = [
    ("example_train_{}.jsonl.zst", range(40), {"example_train"}),
    ("chunk1/example_train_{}.jsonl.zst", range(12), {"example_train"}),
    ("wiki_{:02}", range(25), {"wiki"}),
    ("{:02}.jsonl.zst", range(30), {"corpus"}),
    ("{}.parquet", range(12), {"corpus"}),
    ("part-{}.json", range(3), {"corpus"}),
    ("wiki.{}.jsonl", range(2), {"wiki"}),
    ("x_{}.jsonl", range(2100), {"x"}),  # years are among them
    ("x-{}.jsonl", range(10, 20), {"x"}),
    ("data_0_{}_1.json.gz", range(4), {f"data_0_{i}_1" for i in range(4)}),
    ("{}.jsonl", range(2015, 2025), {str(i) for i in range(2015, 2025)}),
    ("news-{}.jsonl", range(1999, 2009), {f"news-{i}" for i in range(1999, 2009)}),
    ("cc-2023-{:02}", range(1, 13), {f"cc-2023-{i:02}" for i in range(1, 13)}),
    ("python3.{}.jsonl", range(8, 18), {f"python3.{i}" for i in range(8, 18)}),
    ("gpt-{}.jsonl", (2, 3), {"gpt-2", "gpt-3"}),
    ("books{}.jsonl", range(1, 4), {"books1", "books2", "books3"}),
]


@pytest.mark.parametrize(("form", "numbers", "domains"), TOGETHER)
def test_files_together(form, numbers, domains):
    found = domains_of(f"/data/corpus/{form.format(i)}" for i in numbers)
    assert {name.domain for name in found.values()} == domains
    sources = {name.source for name in found.values()}
    assert len(sources) == len(domains)


def test_what_tells_names_apart_is_kept():
    found = domains_of(f"/data/wiki.{language}.jsonl" for language in ("en", "de"))
    assert {name.domain for name in found.values()} == {"wiki.en", "wiki.de"}
    (alone,) = domains_of(["/data/wiki.en.jsonl"]).values()
    assert alone.domain == "wiki"


def test_parts_in_numbered_directories_are_of_one_source():
    paths = [f"/data/train/chunk{c}/x_{i}.jsonl" for c in range(3) for i in range(4)]
    assert len(set(domains_of(paths).values())) == 1
    (one, other) = domains_of(["/a/wiki.jsonl", "/b/wiki.jsonl"]).values()
    assert (one.domain, other.domain) == ("wiki", "wiki")
    assert one.source != other.source


def test_other_files_do_not_matter():
    """A name is told from those that are otherwise equal, in any order."""
    paths = [f"/d/wiki_{i}.jsonl" for i in range(9)]
    others = ["/d/wiki.jsonl", "/d/wikis_7.jsonl", "/d/cc-2023-06.jsonl"]
    found = domains_of([*reversed(paths), *others])
    assert {found[path] for path in paths} == {domains_of(paths)[paths[0]]}
    assert found[others[2]].domain == "cc-2023-06"
    assert found[others[1]].domain == "wikis_7"
