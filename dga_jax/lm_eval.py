"""Benchmarks of EleutherAI's lm-eval on a run's model, on this machine's devices.

    python -m dga_jax.lm_eval --workdir=runs/mine --tasks=mmlu,mmlu_cloze --data=FILE

FILE holds JSON lines with question, choices, answer (an index) and subject. Without it,
tasks are lm-eval's own, which it downloads.
"""

import json
from collections.abc import Sequence
from pathlib import Path

import jax
from absl import flags

from dga_jax import cli, files
from dga_jax.errors import UserError
from dga_jax.harness.options import Options
from dga_jax.training import benchmarks, distributed, trained, workdir


def main(argv: Sequence[str]) -> None:
    """Flags to a model and tasks to a table."""
    cli.no_arguments(argv)
    options = Options(
        tuple(filter(None, _TASKS.value)),
        data=_DATA.value,
        fewshot=_FEWSHOT.value,
        num_fewshot=_NUM_FEWSHOT.value,
        limit=_LIMIT.value,
        include=_INCLUDE.value,
    )
    options.check()
    output = _output(_OUTPUT.value)
    distributed.initialize()
    with distributed.together():
        model = trained.load(workdir.of_flag(_WORKDIR.value), _STEP.value, _STORE.value)
        place = benchmarks.place(model.config, model.model, model.mesh)
        from dga_jax.harness.evaluate import Harness  # which loads lm-eval

        first = jax.process_index() == 0
        harness = Harness(place, model.tokenizer, options, bar=first)
        found = harness(model.params)
        if first:
            print(f"{model.directory}, step {model.step}: {found.work}")
            print(found.table(), flush=True)
            if output is not None:
                _write(output, model, found.as_json())


def _output(given: str) -> Path | None:
    """Where results go.

    Raises:
      UserError: they cannot be written there; better known before the evaluation.
    """
    if not given:
        return None
    path = files.local_path("--output", given, "give a path here")
    other = path.exists() and not path.is_file()  # a folder, /dev/null
    if other or not files.made_writable(path.absolute().parent):
        raise UserError(f"--output={given}: cannot be written; name another file")
    return path


def _write(path: Path, model: trained.Trained, results: dict) -> None:
    content = {"workdir": str(model.directory), "step": model.step, **results}
    with files.written(path, "name another file with --output") as file:
        file.write((json.dumps(content, indent=1) + "\n").encode())


if __name__ == "__main__":
    _WORKDIR = flags.DEFINE_string("workdir", None, "Directory of the run.")
    _STEP = flags.DEFINE_integer(
        "step", None, "Of a checkpoint; the newest if not given."
    )
    _TASKS = flags.DEFINE_list(
        "tasks", None, "With --data: mmlu (letters), mmlu_cloze; else any of lm-eval's."
    )
    _DATA = flags.DEFINE_string("data", "", "JSON lines of multiple-choice questions.")
    _FEWSHOT = flags.DEFINE_string("fewshot", "", "The same, to take examples from.")
    _NUM_FEWSHOT = flags.DEFINE_integer(
        "num_fewshot", None, "Examples before each question.", lower_bound=0
    )
    _LIMIT = flags.DEFINE_integer(
        "limit", 0, "Questions of each task; 0: all.", lower_bound=0
    )
    _INCLUDE = flags.DEFINE_string(
        "include", "", "Directory of tasks of yours, in YAML."
    )
    _OUTPUT = flags.DEFINE_string("output", "", "Where to write the results, as JSON.")
    _STORE = flags.DEFINE_string(
        "store", "", "Where its store lies now, if it was moved."
    )
    flags.mark_flags_as_required(["workdir", "tasks"])
    cli.run(main, distributed.tell)
