"""The floor plan: who may import whom. See docs/layout.md."""

import ast
import itertools
import pathlib
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).parents[1]
PACKAGE = ROOT / "dga_jax"
# What stands below both wings, and what each room may import of the others.
BASE = {"", "bounds", "errors", "files", "remote", "sharding", "streams"}
_READS = BASE | {"data", "logs", "mixing", "model", "tokenizer"}
MAY_IMPORT = {
    **dict.fromkeys((*BASE, "cli", "commands", "logs", "model", "tokenizer"), BASE),
    "mixing": {"bounds"},
    "data": BASE | {"tokenizer"},
    "harness": BASE | {"data", "logs", "model", "tokenizer"},
    "huggingface": BASE | {"model", "tokenizer"},
    "prepare": BASE | {"cli", "data", "logs", "tokenizer"},
    "stores": BASE | {"data", "prepare"},  # the one door between the wings
    "training": _READS | {"harness", "huggingface", "stores"},
    "page": BASE | {"data", "logs", "mixing", "stores", "training"},
    "experiment": BASE | {"cli", "logs", "mixing", "training"},
    "main": BASE | {"cli", "page", "training"},
    "report": BASE | {"cli", "logs", "page"},
    "rows": BASE | {"cli", "data", "training"},
    "generate": BASE | {"cli", "training"},
    "lm_eval": BASE | {"cli", "harness", "training"},
    "export": BASE | {"cli", "training"},
    # Measures whatever there is.
    "benchmark": _READS
    | {"cli", "huggingface", "main", "prepare", "stores", "training"},
}
MOST_LINES = 400


def modules():
    """Path by dotted name."""
    return {
        ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(
            ".__init__"
        ): path
        for path in PACKAGE.rglob("*.py")
    }


class _WithoutTypes(ast.NodeTransformer):
    """Leaves out what only a type checker reads."""

    def visit_If(self, node):
        of_types = isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"
        return None if of_types else self.generic_visit(node)


def imported(path, known, types=True):
    """The modules of ours that one imports, inside of functions too.

    Those that only a type checker reads are left out unless asked for.
    """
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for node in ast.walk(tree if types else _WithoutTypes().visit(tree)):
        if isinstance(node, ast.Import):
            yield from (a.name for a in node.names if a.name in known)
        elif isinstance(node, ast.ImportFrom) and node.module in known:
            for name in node.names:
                full = f"{node.module}.{name.name}"
                yield full if full in known else node.module


def room(module):
    """The package, or the single module, right below the root; "" for the root."""
    return [*module.split("."), ""][1]


def test_every_room_has_a_rule():
    assert {room(name) for name in modules()} == set(MAY_IMPORT)


@pytest.mark.parametrize("one", sorted(MAY_IMPORT))
def test_imports_run_downwards(one):
    known = modules()
    allowed = MAY_IMPORT[one] | {one}
    wrong = [
        (name, other)
        for name, path in known.items()
        if room(name) == one
        for other in imported(path, known)
        if room(other) not in allowed
    ]
    assert wrong == []


def test_no_circle():
    known = modules()
    graph = {
        name: set(imported(path, known, types=False)) for name, path in known.items()
    }
    while leaves := [name for name, others in graph.items() if not others]:
        for name in leaves:
            del graph[name]
        for others in graph.values():
            others.difference_update(leaves)
    assert graph == {}


def planned():
    """Paths of the modules and folders that docs/layout.md names."""
    above = {}
    for line in (ROOT / "docs" / "layout.md").read_text().splitlines():
        indent = len(line) - len(line.lstrip())
        if indent < 4:
            continue
        folder = above.get(indent - 2, ROOT)
        for name in itertools.takewhile(
            lambda word: word.endswith(("/", ".py")), line.split()
        ):
            above[indent] = folder / name
            yield above[indent]


def test_the_plan_is_of_this_house():
    named = list(planned())
    assert [path for path in named if not path.exists()] == []
    packages = [path.parent for path in PACKAGE.rglob("__init__.py")]
    # A folder that has others in it is not told by a sentence.
    for parent in {path.parent for path in packages} - {ROOT}:
        rooms = {path for path in packages if path.parent == parent}
        rooms |= {path for path in parent.glob("*.py") if path.name[:2] != "__"}
        assert rooms - set(named) == set(), parent


def loaded_by(script):
    """All modules that a process has loaded that ran it."""
    return subprocess.run(
        [sys.executable, "-c", f"{script}; import sys; print(*sys.modules)"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    ).stdout.split()


def test_training_loads_nothing_of_preparing():
    loaded = loaded_by("import dga_jax.main")
    ours = [name for name in loaded if name.startswith("dga_jax")]
    assert not [name for name in ours if room(name) in ("prepare", "benchmark")]
    assert not {"sklearn", "pyarrow", "apache_beam", "tensorflow"} & set(loaded)
    assert len(ours) <= 60


@pytest.mark.usefixtures("sample_store")
def test_a_sample_that_was_made_is_opened_without_preparing():
    loaded = loaded_by("from dga_jax import stores; stores.find_store('sample', 128)")
    assert "dga_jax.data.sample" in loaded
    assert not [name for name in loaded if room(name) == "prepare"]


def test_no_room_is_too_long():
    files = [*PACKAGE.rglob("*.py"), *(ROOT / "configs").rglob("*.py")]
    long = {
        str(path.relative_to(ROOT)): count
        for path in files
        if (count := len(path.read_text(encoding="utf-8").splitlines())) > MOST_LINES
    }
    assert long == {}
