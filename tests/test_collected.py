"""Every test file that there is gets run: pytest skips folders of some names."""

import pathlib
import re
import subprocess
import sys

TESTS = pathlib.Path(__file__).parent


def test_every_test_file_is_collected():
    listed = subprocess.run(
        [sys.executable, "-m", "pytest", "--collect-only", "-rs", str(TESTS)],
        cwd=TESTS.parent,
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    collected = {line.split("::")[0] for line in listed.splitlines() if "::" in line}
    # A package that they need is not installed, and that is said.
    collected |= set(re.findall(r"^SKIPPED \[\d+\] (\S+):\d+: ", listed, re.MULTILINE))
    there = {
        path.relative_to(TESTS.parent).as_posix() for path in TESTS.rglob("test_*.py")
    }
    assert there
    assert sorted(there - collected) == []
