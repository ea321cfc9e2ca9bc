"""lm-eval in several processes: the scores of one, told once."""

import json

import processes
import pytest
from runs import small_config, train_run

pytest.importorskip("lm_eval")

TASK = """
dataset_path: json
dataset_kwargs: {data_files: {test: DATA}, cache_dir: CACHE}
test_split: test
doc_to_text: "{{question}}"
"""
CHOICE = """
task: choice
output_type: multiple_choice
doc_to_choice: "{{choices}}"
doc_to_target: answer
metric_list: [{metric: acc, aggregation: mean, higher_is_better: true}]
"""
GREEDY = """
task: greedy
output_type: generate_until
doc_to_target: "{{choices[answer]}}"
generation_kwargs: {until: ["b"], max_gen_toks: 4}
metric_list: [{metric: exact_match, aggregation: mean, higher_is_better: true}]
"""


@pytest.mark.slow
def test_two_give_the_scores_of_one(byte_store, tmp_path):
    """Also tasks of the user's own, whose answers are chosen or written."""
    run, data, mine = (tmp_path / name for name in ("run", "data.jsonl", "mine"))
    config = small_config(byte_store, train__steps=3, mixer__name="static")
    assert train_run(config, run)
    texts = ["a" * i for i in range(1, 8)]
    questions = [
        {"question": text, "choices": ["b", text], "answer": i % 2, "subject": "x"}
        for i, text in enumerate(texts)
    ]
    data.write_text("".join(json.dumps(line) + "\n" for line in questions))
    mine.mkdir()
    for name, text in {"choice": CHOICE, "greedy": GREEDY}.items():
        text = (TASK + text).replace("DATA", str(data))
        text = text.replace("CACHE", str(tmp_path / "cache"))
        (mine / f"{name}.yaml").write_text(text)
    command = ["-m", "dga_jax.lm_eval", f"--workdir={run}", f"--data={data}"]
    command += ["--tasks=mmlu_cloze,choice,greedy", f"--include={mine}"]
    found = {}
    for count in (1, 2):
        output = tmp_path / f"of{count}.json"
        several = processes.start([*command, f"--output={output}"], count, 1)
        results = [process.communicate() for process in several]
        assert [process.returncode for process in several] == [0] * count, results
        assert ["bits_per_byte" in printed for printed, _ in results] == [
            i == 0 for i in range(count)
        ]
        found[count] = json.loads(output.read_text())["results"]
    assert found[1].keys() == {"mmlu_cloze", "mmlu_cloze_x", "choice", "greedy"}
    for name, metrics in found[1].items():
        numbers = {k: v for k, v in metrics.items() if isinstance(v, int | float)}
        others = {key: found[2][name][key] for key in numbers}
        assert others == pytest.approx(numbers, rel=1e-5)
