"""What is installed is enough: the wheel trains from an empty directory."""

import os
import pathlib
import shutil
import subprocess
import sys
import tomllib
import zipfile

import pytest
from packaging.requirements import Requirement
from packaging.version import Version

from dga_jax import cli, commands, files

ROOT = pathlib.Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def pip(*arguments, cwd=ROOT):
    command = [sys.executable, "-m", "pip", *map(str, arguments)]
    subprocess.run(command, cwd=cwd, check=True, capture_output=True)


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """A folder that the wheel is installed into, without its requirements."""
    setuptools = pytest.importorskip("setuptools")
    if Version(setuptools.__version__).major < 77:
        pytest.skip("the wheel is built with setuptools 77 or newer")
    folder = tmp_path_factory.mktemp("wheel")
    source, target = folder / "source", folder / "installed"
    ignored = shutil.ignore_patterns(".*", "__pycache__", "tests", "runs", "build")
    shutil.copytree(ROOT, source, ignore=ignored)
    offline = ("--no-deps", "--no-index")
    pip("wheel", *offline, "--no-build-isolation", "-w", folder, source, cwd=folder)
    (wheel,) = folder.glob("*.whl")
    pip("install", *offline, "--target", target, wheel, cwd=folder)
    with zipfile.ZipFile(wheel) as packed:
        names = packed.namelist()
    top = {name.split("/")[0] for name in names}
    assert top == {"dga_jax", f"dga_jax-{PROJECT['version']}.dist-info"}
    return target


@pytest.mark.slow
def test_an_empty_directory(installed, tmp_path):
    env = {**os.environ, "PYTHONPATH": str(installed)}
    env["XLA_FLAGS"] = env["XLA_FLAGS"].replace("count=8", "count=1")
    for command in (
        [installed / "bin" / "dga-jax-train"],
        [sys.executable, "-m", "dga_jax.main"],
    ):
        done = subprocess.run(
            [
                *command,
                "--config=configs/quickstart.py:debug,model.num_layers=1,train.steps=2",
                "--config.log.console=1",
                "--workdir=run",
            ],
            cwd=tmp_path,
            env=env,
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stderr
    assert "this run is finished, 2 steps are done" in done.stdout
    assert {path.name for path in tmp_path.iterdir()} == {"run"}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (
            ["configs/clusters_quickstart.py:debug", "--config.data.store=nowhere"],
            "no store at nowhere",
        ),
        (["configs/nobodys.py"], "no such file; there are configs/{125m.py,"),
    ],
)
def test_configs_from_an_empty_directory(flags, said, installed, tmp_path):
    """One that imports another; one that is not there."""
    done = subprocess.run(
        [
            installed / "bin" / "dga-jax-train",
            f"--config={flags[0]}",
            *flags[1:],
            "--workdir=run",
        ],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(installed)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 2
    assert said in done.stderr


def test_where_configs_are_found(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    there = files.shipped("configs/125m.py")
    assert there.is_file()
    for before, behind in (
        ("--config=", ":debug,train.steps=3"),
        ("", ""),
        ("-c=", ""),
    ):
        found = cli.shipped_config(f"{before}configs/125m.py{behind}")
        assert found == f"{before}{there}{behind}"
    for other in ("--config=configs/nobodys.py", "--config=mine/configs/125m.py", "x"):
        assert cli.shipped_config(other) == other
    (tmp_path / "configs").mkdir()
    (tmp_path / "configs" / "125m.py").touch()  # ours comes first
    assert cli.shipped_config("--config=configs/125m.py") == "--config=configs/125m.py"


def test_console_scripts():
    """Each runs a module that there is, and the page names it."""
    said = (ROOT / "docs" / "launch.md").read_text()
    for script, where in PROJECT["scripts"].items():
        module, name = where.split(":")
        assert module == "dga_jax.commands"
        assert script == f"dga-jax-{name.replace('_', '-')}"
        assert f"`{script}`" in said or f"`{script.removeprefix('dga-jax')}`" in said
        path = getattr(commands, name).args[0].replace(".", "/")
        assert (ROOT / f"{path}.py").exists() or (ROOT / path / "__main__.py").exists()


@pytest.mark.parametrize("python", ["3.11", "3.12"])
def test_constraints(python):
    """They name a version that every requirement allows."""
    lines = (ROOT / f"constraints-{python}.txt").read_text().splitlines()
    pinned = [Requirement(line) for line in lines if not line.startswith("#")]
    versions = {one.name.lower().replace("_", "-"): one.specifier for one in pinned}
    for line in (ROOT / "requirements.txt").read_text().splitlines():
        line = line.partition("#")[0].strip()
        if not line:
            continue
        wanted = Requirement(line)
        (pin,) = versions[wanted.name.lower()]
        assert pin.operator == "=="
        assert wanted.specifier.contains(pin.version), line
