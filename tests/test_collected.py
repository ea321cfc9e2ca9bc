"""Every test file that there is gets run: pytest skips folders of some names."""

import ast
import pathlib
import subprocess
import sys

import pytest

TESTS = pathlib.Path(__file__).parent


def has_tests(path):
    """Whether the file has a test that pytest would find."""
    names = [getattr(x, "name", "") for x in ast.parse(path.read_text()).body]
    return any(name.startswith(("test", "Test")) for name in names)


def collected(session, path, root=TESTS):
    """Whether pytest looks into all folders above the file, and takes it for tests.

    By the hooks by which it decides that itself; no test is imported.
    """
    hook, config = session.config.hook, session.config
    there = [path, *(p for p in path.parents if root in (p, *p.parents))]
    if any(hook.pytest_ignore_collect(collection_path=p, config=config) for p in there):
        return False
    files = hook.pytest_collect_file(file_path=path, parent=session)
    return any(type(file) is pytest.Module for file in files)  # not for its doctests


def test_every_test_file_is_collected(request):
    there = sorted(TESTS.rglob("test_*.py"))
    assert there
    missing = [p for p in there if not (collected(request.session, p) and has_tests(p))]
    assert missing == []


def test_folders_with_a_conftest_go_together():
    """Two of them in one command; as modules of one name they would not."""
    folders = sorted({path.parent for path in TESTS.rglob("conftest.py")} - {TESTS})
    assert len(folders) > 1
    command = [sys.executable, "-m", "pytest", "--collect-only", "--quiet", *folders]
    done = subprocess.run(
        command, cwd=TESTS.parent, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout[-2000:]


def test_a_folder_that_pytest_skips(request, tmp_path):
    for name, found in (("data/test_a", True), ("build/test_a", False), ("b", False)):
        path = tmp_path / f"{name}.py"
        path.parent.mkdir(exist_ok=True)
        path.touch()
        assert collected(request.session, path, tmp_path) == found
