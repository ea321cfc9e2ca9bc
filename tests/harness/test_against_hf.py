"""Answers are those of lm-eval's own `hf` model, on the run's exported directory."""

from pathlib import Path

import jax
import numpy as np
import pytest
from runs import small_config, train_run

from dga_jax import export
from dga_jax.harness.options import Options
from dga_jax.training import benchmarks, trained

pytest.importorskip("lm_eval")
pytest.importorskip("torch")
pytest.importorskip("accelerate")

import lm_eval.models.huggingface as hf
from lm_eval.api.instance import Instance

from dga_jax.harness import tasks
from dga_jax.harness.adapter import HarnessModel
from dga_jax.harness.generation import Generator
from dga_jax.harness.scoring import Scorer

HERE = Path(__file__).parent
LONGEST = 256  # bytes: most questions fit, none with five examples does
MESHES = {"one": 1, "eight": 8}


@pytest.fixture(scope="module")
def run(byte_store, tmp_path_factory):
    """A run of a few steps with untied embeddings; its logits differ by nats."""
    directory = tmp_path_factory.mktemp("run")
    config = small_config(
        byte_store, model__max_positions=LONGEST, model__num_kv_heads=2
    )
    config.train.steps = 6
    config.mixer.name = "static"
    config.optimizer.learning_rate = 0.03
    assert train_run(config, directory)
    return directory


@pytest.fixture(scope="module")
def theirs(run, tmp_path_factory):
    """What `hf` answers: (kind, requests) -> answers, each asked once."""
    output = tmp_path_factory.mktemp("exported") / "model"
    export.export(run, output)
    model = hf.HFLM(
        pretrained=str(output), dtype="float32", device="cpu", batch_size=32
    )
    known = {}

    def answers(kind, requests):
        key = kind, str([request.args for request in requests])
        if key not in known:
            known[key] = getattr(model, kind)(requests, disable_tqdm=True)
        return known[key]

    return answers


@pytest.fixture(scope="module", params=MESHES)
def ours(run, request):
    """On one device, and on all eight."""
    devices = jax.devices()[: MESHES[request.param]]
    found = trained.load(run, devices=devices)
    place = benchmarks.place(found.config, found.model, found.mesh)
    model = HarnessModel(place, found.tokenizer, Scorer(place), Generator(place))
    model.params = found.params
    return model


def requests_of(**options):
    """What the tasks of the file ask; the same for each mesh."""
    asked = Options(("mmlu", "mmlu_cloze"), str(HERE / "questions.jsonl"), **options)
    found = []
    for task in tasks.load(asked)["tasks"].values():
        task.build_all_requests()
        found += task.instances
    return found


@pytest.mark.slow
@pytest.mark.parametrize("shots", [0, 5])
def test_log_likelihoods(ours, theirs, shots):
    examples = str(HERE / "examples.jsonl") if shots else ""
    requests = requests_of(fewshot=examples, num_fewshot=shots)
    assert len(requests) == 2 * 80 * 4
    lengths = [len("".join(request.args).encode()) for request in requests]
    assert (min(lengths) > LONGEST) == (shots > 0)
    expected = theirs("loglikelihood", requests)
    found = ours.loglikelihood(requests)
    np.testing.assert_allclose(
        [value for value, _ in found],
        [value for value, _ in expected],
        rtol=1e-5,
        atol=1e-5,
    )
    assert [greedy for _, greedy in found] == [greedy for _, greedy in expected]


def instances(kind, *arguments):
    return [Instance(kind, {}, args, i) for i, args in enumerate(arguments)]


def test_contexts_that_are_empty_and_spaces_that_move(ours, theirs):
    requests = instances(
        "loglikelihood", ("", "one"), ("two ", "three"), ("é", "ü four"), ("a", " ")
    )
    np.testing.assert_allclose(
        [value for value, _ in ours.loglikelihood(requests)],
        [value for value, _ in theirs("loglikelihood", requests)],
        rtol=1e-5,
    )


def test_whole_texts_longer_than_the_model_reads(ours, theirs):
    text = (HERE / "LICENSE.txt").read_text()
    requests = instances("loglikelihood_rolling", (text,), (text[:90],), ("é",))
    np.testing.assert_allclose(
        ours.loglikelihood_rolling(requests),
        theirs("loglikelihood_rolling", requests),
        rtol=1e-5,
    )


@pytest.mark.slow
def test_greedy_answers(ours, theirs):
    """Of prompts of many lengths, one too long; some end at a text, some do not."""
    text = (HERE / "LICENSE.txt").read_text()
    options = {"until": [" "], "max_gen_toks": 20}
    arguments = [(text[i : i + 19 * i + 1], options) for i in range(6)]
    arguments.append((text, options))
    requests = instances("generate_until", *arguments)
    expected = theirs("generate_until", requests)
    assert ours.generate_until(requests) == expected
    assert len(set(expected)) > 1
