"""MMLU from a file: prompts, means by hand, and what cannot be asked for."""

import dataclasses
import json
import math
from pathlib import Path

import jax
import numpy as np
import pytest
from runs import ONE_DEVICE, mesh_of
from small import TINY, split

from dga_jax.errors import UserError
from dga_jax.harness.options import Options
from dga_jax.harness.scoring import Place
from dga_jax.tokenizer import BytesTokenizer

pytest.importorskip("lm_eval")

from dga_jax.harness import evaluate, tasks

HERE = Path(__file__).parent
DATA, EXAMPLES = str(HERE / "questions.jsonl"), str(HERE / "examples.jsonl")
CONFIG = dataclasses.replace(TINY, vocab_size=257)
PLACE = Place(CONFIG, mesh_of(*ONE_DEVICE), 300, 2048)


def harness_of(*names, **options):
    return evaluate.Harness(PLACE, BytesTokenizer(), Options(names, **options))


@pytest.fixture(scope="module")
def params():
    return split(CONFIG)[1]


def items_of(path):
    return [json.loads(line) for line in Path(path).read_text().splitlines()]


def asked(*names, **options):
    loaded = tasks.load(Options(names, DATA, **options))["tasks"]
    for task in loaded.values():
        task.build_all_requests()
    return {name: task.instances for name, task in loaded.items()}


def test_prompts_are_those_of_lm_eval():
    first = asked("mmlu", "mmlu_cloze")
    letters = [x.args for x in first["mmlu_marketing"][:4]]
    cloze = [x.args for x in first["mmlu_cloze_marketing"][:4]]
    item = next(item for item in items_of(DATA) if item["subject"] == "marketing")
    a, b, c, d = item["choices"]
    assert letters[0][0] == (
        "The following are multiple choice questions (with answers) about marketing."
        f"\n\n{item['question'].strip()}\nA. {a}\nB. {b}\nC. {c}\nD. {d}\nAnswer:"
    )
    assert [rest for _, rest in letters] == [" A", " B", " C", " D"]
    assert cloze[0][0] == (
        "The following are questions (with answers) about marketing.\n\nQuestion: "
        f"{item['question'].strip()}\nAnswer:"
    )
    assert [rest for _, rest in cloze] == [f" {choice}" for choice in item["choices"]]


def test_examples_are_of_the_subject_and_of_the_other_file():
    found = asked("mmlu", fewshot=EXAMPLES, num_fewshot=2)
    items = items_of(EXAMPLES)
    for name, instances in found.items():
        subject = name.removeprefix("mmlu_").replace("_", " ")
        first, second, third, *_ = (x for x in items if x["subject"] == subject)
        for context, _ in (x.args for x in instances):
            assert first["question"].strip() in context
            assert f"Answer: {'ABCD'[second['answer']]}\n\n" in context
            assert third["question"].strip() not in context


def test_means_by_hand(params):
    """Of questions, not of subjects; bits of all right answers over their bytes."""
    found = harness_of("mmlu", "mmlu_cloze", data=DATA, limit=5)(params)
    loaded = asked("mmlu", "mmlu_cloze")
    model = evaluate.HarnessModel(
        PLACE,
        BytesTokenizer(),
        evaluate.Scorer(PLACE),
        evaluate.Generator(PLACE),
    )
    model.params = params
    rows = {}
    for name, instances in loaded.items():
        scores = np.array([x for x, _ in model.loglikelihood(instances[:20])])
        docs = [instances[i].doc for i in range(0, 20, 4)]
        for doc, of_doc in zip(docs, scores.reshape(5, 4), strict=True):
            answer = doc["answer"]
            size = len(doc["choices"][answer].encode()) + 1
            rows.setdefault(name, []).append(
                (of_doc.argmax() == answer, of_doc[answer], size)
            )

    def of(names):
        right, nats, sizes = np.sum([row for name in names for row in rows[name]], 0)
        return right / (5 * len(names)), -nats / math.log(2) / sizes

    cloze = [name for name in rows if "cloze" in name]
    accuracy, bits = of(cloze)
    metrics = found.metrics()
    assert metrics["mmlu_cloze/acc"] == pytest.approx(accuracy)
    assert metrics["mmlu_cloze/bits_per_byte"] == pytest.approx(bits, rel=1e-5)
    stem = "mmlu_cloze_abstract_algebra"
    accuracy, bits = of([stem])
    assert metrics["mmlu_cloze_stem/bits_per_byte"] == pytest.approx(bits, rel=1e-5)
    assert found.results[stem]["bits_per_byte,none"] == pytest.approx(bits, rel=1e-5)
    letters, _ = of([name for name in rows if "cloze" not in name])
    assert metrics["mmlu/acc"] == pytest.approx(letters)
    assert not [name for name in metrics if "algebra" in name]
    words = [line.split() for line in found.table().splitlines()]
    assert words[0] == ["task", "n", "shots", "acc", "acc_norm", "bits_per_byte"]
    names = [line[0] for line in words]
    assert names.index("mmlu") < names.index("STEM") < names.index("abstract_algebra")
    assert words[names.index("abstract_algebra")][1:3] == ["5", "0"]
    json.dumps(found.as_json(), allow_nan=False)


def test_again_with_other_parameters(params):
    """Nothing is kept of an evaluation but what was compiled."""
    harness = harness_of("mmlu_cloze", data=DATA, limit=3)
    first, other = harness(params), harness(jax.tree.map(np.zeros_like, params))
    again = harness(params)
    assert first.results == again.results
    assert first.work == again.work
    bits = other.metrics()["mmlu_cloze/bits_per_byte"]
    assert bits == pytest.approx(math.log2(257), rel=1e-5)


def test_what_stands_before_a_document_stands_before_a_text():
    class Begun(BytesTokenizer):
        begin_of_text = 7

    def model_of(tokenizer):
        scorer, generator = evaluate.Scorer(PLACE), evaluate.Generator(PLACE)
        return evaluate.HarnessModel(PLACE, tokenizer, scorer, generator)

    begun, plain = model_of(Begun()), model_of(BytesTokenizer())
    assert begun.tok_encode("ab") == [7, 97, 98]
    assert plain.tok_encode("ab") == [97, 98]
    assert (begun.prefix_token_id, plain.prefix_token_id) == (7, 256)


def test_a_subject_that_is_none_of_mmlus_stands_alone(tmp_path):
    path = tmp_path / "own.jsonl"
    item = {"question": "?", "choices": ["a", "b"], "answer": 0, "subject": "chess"}
    path.write_text(json.dumps(item))
    loaded = tasks.load(Options(("mmlu",), str(path)))
    assert loaded["group_map"] == {"mmlu": ["mmlu_chess"]}
    (task,) = loaded["tasks"].values()
    task.build_all_requests()
    assert [x.args[1] for x in task.instances] == [" A", " B"]


@pytest.mark.parametrize(
    ("names", "options", "said"),
    [
        ((), {}, "--tasks=: names none"),
        (("mmlu",), {"data": "no/such"}, "--data=no/such: no such file"),
        (("piqa",), {"data": DATA}, "no task is made of it; name mmlu or mmlu_cloze"),
        (
            ("mmlu",),
            {"data": DATA, "fewshot": DATA, "num_fewshot": 1},
            f"--fewshot={DATA}: these are the questions themselves",
        ),
        (
            ("mmlu",),
            {"data": DATA, "num_fewshot": 1},
            "--num_fewshot=1: give the examples' file with --fewshot",
        ),
        (
            ("mmlu",),
            {"data": DATA, "fewshot": EXAMPLES},
            "is for tasks of --data, and needs --num_fewshot",
        ),
        (
            ("mmlu",),
            {"data": DATA, "fewshot": EXAMPLES, "num_fewshot": 9},
            "has fewer than 9 examples, which are none of the questions, of "
            "abstract_algebra, marketing, us_foreign_policy, world_religions; lower",
        ),
        (("mmlu",), {"include": "no/such"}, "--include=no/such: no such directory"),
    ],
)
def test_what_cannot_be_asked_for(names, options, said):
    with pytest.raises(UserError) as error:
        harness_of(*names, **options)
    assert said in str(error.value)
    assert "\n" not in str(error.value)


def test_a_task_of_ones_own_and_one_that_is_not_there(tmp_path, monkeypatch, params):
    """Tasks of the harness are read from a directory; its own need not be indexed."""
    manager, indexed = tasks.TaskManager, []

    def without_defaults(include_defaults, **named):
        indexed.append(include_defaults)
        return manager(include_defaults=False, **named)

    monkeypatch.setattr(tasks, "TaskManager", without_defaults)
    data = tmp_path / "data.json"
    data.write_text(json.dumps({"text": "one two"}) + "\n")
    (tmp_path / "mine.yaml").write_text(
        "task: mine\n"
        "dataset_path: json\n"
        f"dataset_kwargs: {{data_files: {{test: {data}}}, cache_dir: {tmp_path}}}\n"
        "test_split: test\n"
        "output_type: loglikelihood_rolling\n"
        "doc_to_text: ''\n"
        "doc_to_target: '{{text}}'\n"
        "metric_list:\n"
        "  - metric: bits_per_byte\n"
        "    aggregation: bits_per_byte\n"
        "    higher_is_better: false\n"
    )
    zeros = jax.tree.map(np.zeros_like, params)
    found = harness_of("mine", include=str(tmp_path))(zeros)
    assert indexed == [False]
    bits = found.metrics()["mine/bits_per_byte"]
    assert bits == pytest.approx(math.log2(257), rel=1e-5)
    with pytest.raises(UserError, match="lm-eval has no nonesuch; lm-eval ls tasks"):
        harness_of("mine", "nonesuch", include=str(tmp_path))
    (tmp_path / "other.yaml").write_text("task: [other\n")
    with pytest.raises(UserError, match=r"other\.yaml is not YAML .*; mend it"):
        harness_of("other", include=str(tmp_path))
    (tmp_path / "other.yaml").unlink()
    with pytest.raises(UserError, match="has no mmlu; it needs --data=FILE"):
        harness_of("mmlu", include=str(tmp_path))
