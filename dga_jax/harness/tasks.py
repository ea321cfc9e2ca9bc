"""Tasks for the harness: MMLU from a file, and whatever the harness itself finds.

The file's are built in memory, of what `lm_eval` calls a custom dataset: no hub, no
cache, and no look at the thousands of tasks that it comes with.
"""

import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import datasets
import yaml
from lm_eval.api.group import Group
from lm_eval.api.task import ConfigurableTask, Task
from lm_eval.config.group import AggMetricConfig
from lm_eval.tasks import TaskManager

from dga_jax.data import mmlu
from dga_jax.errors import UserError, listed
from dga_jax.harness.options import CLOZE, LETTERS, OF_FILE, Options
from dga_jax.harness.questions import Questions

BITS = "bits_per_byte"

SEED = 1234  # of examples that a task of the harness draws; the harness' own default
_SHOWN = 5
_METRICS = {LETTERS: ("acc",), CLOZE: ("acc", "acc_norm", BITS)}


class _Answers(Group):
    """A group whose bits per byte are those of all its answers together."""

    sizes: Mapping[str, int]  # bytes of right answers, by task

    def aggregate(self, task_metrics: Mapping[str, Any]) -> dict[str, Any]:
        """The means by questions of the tasks' metrics, and the bits per byte."""
        metrics = super().aggregate(task_metrics)
        key = f"{BITS},none"
        if key in metrics:
            tasks = [task.task_name for task in self.get_all_tasks()]
            bits = sum(task_metrics[task][key] * self.sizes[task] for task in tasks)
            metrics[key] = bits / sum(self.sizes[task] for task in tasks)
        return metrics


def load(options: Options) -> dict[str, Any]:
    """The tasks and groups that were asked for, as `lm_eval.evaluator` takes them.

    Raises:
      UserError: lm-eval has no such task or cannot load its data, or a file is broken.
    """
    built = []
    if options.of_file:
        questions, given = options.questions("data"), options.questions("fewshot")
        examples = _examples(options, questions, given)
        built += [
            of_file(name, questions, examples, options.limit)
            for name in options.of_file
        ]
    names = [name for name in options.tasks if name not in options.of_file]
    loaded = _loaded(options, built, names)
    for task in loaded["tasks"].values():
        _set_fewshot(task, options.num_fewshot)
    return loaded


def _loaded(
    options: Options, built: Sequence[Group], names: Sequence[str]
) -> dict[str, Any]:
    """By lm-eval, of its own tasks only if need be: to index them takes a while."""
    manager, unknown = _manager(options, names, defaults=False)
    if unknown:
        _check_syntax(options)
    else:
        try:
            return manager.load([*built, *names])
        except Exception as error:
            if not names:  # else a group of the user's may name tasks of lm-eval
                raise _cannot_load(options, error) from error
    manager, unknown = _manager(options, names, defaults=True)
    if unknown:
        local = any(name in OF_FILE for name in unknown)
        hint = f"; it needs {options.prefix}data=FILE" if local else ""
        raise UserError(
            f"{options.named('tasks')}: lm-eval has no {listed(unknown, _SHOWN)}{hint};"
            " lm-eval ls tasks says what there is"
        )
    try:
        return manager.load([*built, *names])
    except Exception as error:
        raise _cannot_load(options, error) from error


def _manager(
    options: Options, names: Sequence[str], *, defaults: bool
) -> tuple[TaskManager, list[str]]:
    """Who knows the user's tasks, with `defaults` lm-eval's too; names it does not."""
    manager = TaskManager(
        include_defaults=defaults, include_path=options.include or None
    )
    return manager, [name for name in names if name not in manager.all_tasks]


def _cannot_load(options: Options, error: Exception) -> UserError:
    """What `datasets`, the hub, or a task's own code has failed with."""
    said = " ".join(str(error).split())[:200]
    see = "see to them and their data, or " if options.include else ""
    return UserError(
        f"{options.named('tasks')}: lm-eval cannot load them"
        f" ({type(error).__name__}: {said}); {see}without a network, give questions of"
        f" MMLU with {options.prefix}data=FILE"
    )


def _check_syntax(options: Options) -> None:
    """Raises UserError for a file of the user's that lm-eval passed over."""
    folder = pathlib.Path(options.include)
    for path in sorted(folder.rglob("*.yaml")) if options.include else ():
        try:
            yaml.compose(path.read_bytes())
        except (OSError, yaml.YAMLError) as error:
            said = " ".join(str(error).split())[:200]
            raise UserError(
                f"{options.named('include')}: {path.name} is not YAML ({said}); mend it"
            ) from None


def _set_fewshot(task: Task, number: int | None) -> None:
    """As `simple_evaluate` does: a task that says 0 itself keeps it."""
    own = task.get_config("num_fewshot")
    if own is None or (number is not None and own != 0):
        task.set_config("num_fewshot", number or 0)
    task.set_fewshot_seed(SEED)


def of_file(
    variant: str, questions: Questions, examples: Questions, limit: int = 0
) -> Group:
    """A group of one task a subject, by MMLU's supercategories where they are its.

    Args:
      variant: `LETTERS` or `CLOZE`.
      questions: by subject.
      examples: shown before them, as many of each subject; empty: none are.
      limit: questions of each that will be evaluated; 0: all.
    """
    sizes = {
        _task_name(variant, subject): sum(map(_answer_bytes, docs[: limit or None]))
        for subject, docs in questions.items()
    }

    def group(name: str, alias: str) -> _Answers:
        metrics = [AggMetricConfig(metric) for metric in _METRICS[variant]]
        made = _Answers(name, alias=alias, aggregate_metric_list=metrics)
        made.sizes = sizes
        return made

    whole, parts = group(variant, variant), {}
    for subject, docs in sorted(questions.items()):
        task = _task(variant, subject, docs, examples.get(subject, []))
        try:
            part = mmlu.supercategory(subject)
        except ValueError:
            whole.add(task)
            continue
        if part not in parts:
            name = f"{variant}_{part.lower().replace(' ', '_')}"
            parts[part] = group(name, part)
        parts[part].add(task)
    for part in sorted(parts):
        whole.add(parts[part])
    return whole


def _examples(options: Options, questions: Questions, given: Questions) -> Questions:
    """Of each subject, the first examples that are none of the questions.

    Raises:
      UserError: a subject has too few.
    """
    number = options.num_fewshot or 0
    if not number:
        return {}
    found = {}
    for subject, docs in questions.items():
        asked = {(doc["question"], *doc["choices"]) for doc in docs}
        found[subject] = [
            doc
            for doc in given.get(subject, [])
            if (doc["question"], *doc["choices"]) not in asked
        ][:number]
    short = sorted(name for name, docs in found.items() if len(docs) < number)
    if short:
        raise UserError(
            f"{options.named('fewshot')}: has fewer than {number} examples, which are"
            f" none of the questions, of {listed(short, _SHOWN)}; lower"
            f" {options.prefix}num_fewshot, or give a file with more"
        )
    return found


def _task(
    variant: str,
    subject: str,
    docs: Sequence[dict[str, Any]],
    examples: Sequence[dict[str, Any]],
) -> ConfigurableTask:
    """Prompts are those of lm-eval's `mmlu` and `mmlu_continuation`."""
    kind = "multiple choice questions" if variant == LETTERS else "questions"
    name = subject.replace("_", " ")
    splits = {"test": datasets.Dataset.from_list(list(docs))}
    if examples:
        splits["examples"] = datasets.Dataset.from_list(list(examples))
    return ConfigurableTask(
        config={
            "task": _task_name(variant, subject),
            "task_alias": subject,
            "custom_dataset": lambda **_: splits,
            "test_split": "test",
            "fewshot_split": "examples" if examples else None,
            "fewshot_config": {"sampler": "first_n"},
            "num_fewshot": len(examples),
            "output_type": "multiple_choice",
            "description": f"The following are {kind} (with answers) about {name}.\n\n",
            "doc_to_text": _letters_text if variant == LETTERS else _cloze_text,
            "doc_to_choice": _letters if variant == LETTERS else "choices",
            "doc_to_target": "answer",
            "process_results": None if variant == LETTERS else _cloze_results,
            "metric_list": [
                {
                    "metric": metric,
                    "aggregation": BITS if metric == BITS else "mean",
                    "higher_is_better": metric != BITS,
                }
                for metric in _METRICS[variant]
            ],
        }
    )


def _task_name(variant: str, subject: str) -> str:
    return f"{variant}_{subject}"


def _letters_text(doc: Mapping[str, Any]) -> str:
    return mmlu.prompt(doc["question"], doc["choices"])


def _letters(doc: Mapping[str, Any]) -> list[str]:
    return list(mmlu.LETTERS[: len(doc["choices"])])


def _cloze_text(doc: Mapping[str, Any]) -> str:
    return f"Question: {doc['question']}\nAnswer:"


def _cloze_results(
    doc: Mapping[str, Any], results: Sequence[tuple[float, bool]]
) -> dict[str, Any]:
    """Whether the likeliest is right, whole and by character; nats of the right one."""
    nats = [log_probability for log_probability, _ in results]
    by_length = [x / len(c) for x, c in zip(nats, doc["choices"], strict=True)]
    right = doc["answer"]
    return {
        "acc": float(nats.index(max(nats)) == right),
        "acc_norm": float(by_length.index(max(by_length)) == right),
        BITS: (nats[right], _answer_bytes(doc)),
    }


def _answer_bytes(doc: Mapping[str, Any]) -> int:
    """Of the right answer, and of the space before it, which is predicted as well."""
    return len(doc["choices"][doc["answer"]].encode()) + 1
