# ---
# jupyter:
#   jupytext:
#     formats: ipynb,py:percent
#     text_representation:
#       extension: .py
#       format_name: percent
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # dga_jax: a data mixture that steers itself
#
# [![Open In Colab](https://colab.research.google.com/assets/colab-badge.svg)](https://colab.research.google.com/github/dga-jax/dga_jax/blob/main/launch/colab.ipynb)
#
# A small language model is trained on eight kinds of text, towards one that is not
# among them: the documentation of Python. Every ten steps the gradients of each kind
# are compared with the target's, and the weights with which text is drawn move
# towards what helps. On a CPU it takes a few minutes; a GPU or a TPU is used where
# there is one.
#
# Everything runs in an environment of its own: what the notebook's Python has
# installed does not matter, and stays as it is.

# %%
import json
import os
import pathlib
import shutil
import subprocess
import sys

REPOSITORY = "https://github.com/dga-jax/dga_jax"
STEPS = int(os.environ.get("DGA_JAX_STEPS", "150"))


def run(*command: str | pathlib.Path, **options: object) -> None:
    """Shows what a command prints; one that fails ends the cell."""
    with subprocess.Popen(
        [str(word) for word in command],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        **options,
    ) as process:
        for line in process.stdout:
            print(line, end="", flush=True)
    subprocess.CompletedProcess(command, process.wait()).check_returncode()


# %% [markdown]
# ## The code, and what it needs

# %%
code = pathlib.Path(os.environ.get("DGA_JAX_CODE", "dga_jax")).resolve()
if not (code / "dga_jax").is_dir():
    run("git", "clone", "--depth=1", REPOSITORY, code)


def accelerator() -> list[str]:
    """The JAX of the chip that is here, if there is one."""
    if shutil.which("nvidia-smi"):
        asked = subprocess.run(
            ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"],
            capture_output=True,
            text=True,
        )
        if driver := asked.stdout.strip():  # CUDA 13 asks for a driver of 580 or newer
            return [f"jax[cuda{13 if int(driver.split('.')[0]) >= 580 else 12}]"]
    chips = [
        *pathlib.Path("/dev").glob("accel*"),
        *pathlib.Path("/dev/vfio").glob("[0-9]*"),
    ]
    return ["jax[tpu]"] if chips else []


if "DGA_JAX_PYTHON" in os.environ:  # one that has all of it
    python = pathlib.Path(os.environ["DGA_JAX_PYTHON"])
else:
    run(sys.executable, "-m", "pip", "install", "--quiet", "uv")
    uv = [sys.executable, "-m", "uv"]
    environment = pathlib.Path(".venv").resolve()
    python = environment / "bin" / "python"
    if not python.exists():
        run(*uv, "venv", "--quiet", "--python=3.12", environment)
    needs = ["-r", code / "requirements.txt", *accelerator()]
    run(*uv, "pip", "install", "--quiet", "--python", python, *needs)

# %% [markdown]
# ## Training
#
# Each line has the step, the training loss, the target's loss on text that steers
# nothing, speed, and the domains with the most weight. Stop the cell and start it
# again: the run goes on where it was.

# %%
workdir = pathlib.Path("runs/colab").resolve()
run(
    python,
    "-m",
    "dga_jax.main",
    "--config=configs/quickstart.py",
    f"--workdir={workdir}",
    f"--config.train.steps={STEPS}",
    f"--config.eval.every={max(STEPS // 5, 1)}",
    cwd=code,
)

# %% [markdown]
# ## What happened
#
# On the left the weights: what is like the target is drawn more often. On the right
# the losses.

# %%
from IPython.display import Image, display  # noqa: E402

display(Image(workdir / "mixture.png", width=900))

# %% [markdown]
# The same numbers, for programs: one line of `metrics.jsonl` a step.

# %%
written = (workdir / "metrics.jsonl").read_text().splitlines()
lines = [json.loads(line) for line in written]
evaluated = [line for line in lines if "eval/target/loss" in line]
for line in evaluated:
    print(f"step {line['step']:4}  target {line['eval/target/loss']:.3f} nats a token")

# %% [markdown]
# ## Is it alive?
#
# A model of 902,016 parameters that read for a few minutes writes nonsense, but of
# the right kind.

# %%
run(
    python,
    "-m",
    "dga_jax.generate",
    f"--workdir={workdir}",
    "--prompt=The function returns",
    "--max_tokens=60",
    "--seed=1",
    cwd=code,
)

# %% [markdown]
# ## Your own text
#
# `python -m dga_jax.prepare` makes a store of JSON lines, Parquet, folders of text,
# RedPajama-v2 and more; `--config.data.store=STORE` trains on it. The pages under
# `docs/` go on from here.
