"""The model of a run as a directory of the Hugging Face ecosystem; see `huggingface`.

The run is only read: its parameters one by one, without the optimizer.
"""

import math
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from dga_jax import files
from dga_jax.errors import UserError
from dga_jax.huggingface import architecture, card, layout, tensors, tokenizer_files
from dga_jax.huggingface.card import Card
from dga_jax.logs.metrics import LOG_NAME, read_metrics
from dga_jax.model.transformer import ModelConfig, parameter_count
from dga_jax.tokenizer import Tokenizer
from dga_jax.training import config as configs
from dga_jax.training import fields, parameters, recorded
from dga_jax.training.from_huggingface import OWN
from dga_jax.training.integrity import DamagedError
from dga_jax.training.recorded import Recorded
from dga_jax.training.start_from import candidates

DTYPES = ("float32", "bfloat16")
_LOSSES = "eval/"  # of these the card tells, but not domain by domain
_OF_DOMAINS = "eval/domain/"
_TRIED = 512  # rows on whose text a tokenizer.json that was made is tried
# What the config file of the card's command sets.
_SET_BY_FILE = (
    "train.steps",
    "train.batch_size",
    "train.microbatches",
    "optimizer.learning_rate",
)


def export(
    directory: Path,
    output: Path,
    *,
    step: int | None = None,
    dtype: str = "float32",
    file_bytes: int = tensors.FILE_BYTES,
) -> int:
    """Writes a run's model; it appears whole or not at all.

    Args:
      directory: the run's workdir.
      output: the directory to make.
      step: of the checkpoint; the newest that is good unless given.
      dtype: of the tensors, one of `DTYPES`.
      file_bytes: that a file of tensors may have.

    Returns:
      The step of the checkpoint.

    Raises:
      UserError: there is no such run, no good checkpoint, or the output cannot be made.
    """
    run = recorded.read(directory)
    if run is None:
        raise UserError(f"--workdir={directory} is not the workdir of a run; name one")
    _check_output(output)
    model = configs.model_config(run.config)
    tokenizer = run.open_store().tokenizer()
    spec = architecture.config_json(
        model,
        max_positions=run.config.model.max_positions or run.config.train.seq_len,
        bos=tokenizer_files.begin(tokenizer),
        eos=tokenizer.end_of_text,
        dtype=dtype,
    )
    aside = output.with_name(f".{output.name}.partial")
    try:
        step = _write_tensors(run, model, aside, step, dtype, file_bytes)
        _write_others(run, aside, output.name, step, spec, tokenizer)
        files.appear(aside, output)
    except OSError as error:
        raise UserError(
            f"--output={output}: {error.strerror or error}; free some space or choose"
            " another directory"
        ) from error
    finally:
        shutil.rmtree(aside, ignore_errors=True)
    return step


def _check_output(output: Path) -> None:
    parent = output.absolute().parent
    if output.exists() and (not output.is_dir() or any(output.iterdir())):
        raise UserError(f"--output={output} exists; remove it or choose another")
    if not files.made_writable(parent):
        raise UserError(f"--output={output}: {parent} cannot be written to")


def _write_tensors(
    run: Recorded,
    model: ModelConfig,
    aside: Path,
    asked: int | None,
    dtype: str,
    file_bytes: int,
) -> int:
    """Writes the newest checkpoint that is good, or the one asked for; its step."""
    where = f"--workdir={run.directory}"
    steps = candidates(where, run.directory, asked)
    for step in steps:
        shutil.rmtree(aside, ignore_errors=True)
        aside.mkdir()
        folder = run.directory / "checkpoints" / str(step)
        try:
            _write_step(folder, model, aside, dtype, file_bytes)
        except DamagedError as error:
            reason = f"checkpoint {step} is damaged ({' '.join(str(error).split())})"
            if step == steps[-1]:
                raise UserError(f"{where}: {reason[:300]}; name another") from None
            print(f"{run.directory}: {reason[:300]}", flush=True)
            continue
        return step
    raise AssertionError("there are candidates")


def _write_step(
    folder: Path, model: ModelConfig, aside: Path, dtype: str, file_bytes: int
) -> None:
    leaves = {leaf.path: leaf for leaf in layout.leaves(model)}
    shapes = layout.tensor_shapes(model)
    with tensors.writing(aside, shapes, dtype, file_bytes) as writer:
        for path, values in parameters.read(folder, model):
            writer.put(leaves[path].divided(values))


def _write_others(
    run: Recorded,
    aside: Path,
    name: str,
    step: int,
    spec: dict[str, Any],
    tokenizer: Tokenizer,
) -> None:
    generation = {key: spec[key] for key in ("bos_token_id", "eos_token_id")}
    of_tokenizer = tokenizer_files.files(
        tokenizer, spec["max_position_embeddings"], _texts(run, tokenizer)
    )
    if of_tokenizer.warning:
        print(f"{name}: {of_tokenizer.warning}", flush=True)
    contents = {
        architecture.CONFIG: tokenizer_files.encoded(spec),
        "generation_config.json": tokenizer_files.encoded(generation),
        "README.md": card.text(_card(run, name, step, spec)).encode(),
        **of_tokenizer.contents,
    }
    for file, content in contents.items():
        (aside / file).write_bytes(content)


def _texts(run: Recorded, tokenizer: Tokenizer) -> Iterator[str]:
    """Of some rows of the store, evenly spread."""
    store = run.open_store()
    for row in store.read_stored("train", store.spread("train", _TRIED)):
        yield tokenizer.decode([i for i in row.tolist() if i < tokenizer.vocab_size])


def _card(run: Recorded, name: str, step: int, spec: dict[str, Any]) -> Card:
    config, lines = run.config, []
    if (run.directory / LOG_NAME).is_file():  # nobody needs it but the card
        lines = read_metrics(run.directory)
    names, weights = _weights(run, step)
    targets = [part.strip() for part in config.mixer.targets.split(",") if part.strip()]
    return Card(
        name=name,
        kind=spec["model_type"],
        parameters=parameter_count(configs.model_config(config)),
        dtype=spec["dtype"],
        step=step,
        tokens=(step - run.first_step) * config.train.batch_size * config.train.seq_len,
        origin=config.model["from"] or config.start["from"],
        store=config.data.store,
        content_hash=run.data["content_hash"],
        targets=targets,
        mixer=config.mixer.name,
        domains=names,
        weights=weights,
        losses=_final_losses(lines, step),
        command=list(_flags(run)),
    )


def _weights(run: Recorded, step: int) -> tuple[Sequence[str], np.ndarray]:
    """Names of what the weights are over, and the first and last up to a step."""
    series = run.log_weights()
    if series is None:
        return (), np.empty((2, 0))
    upto = np.flatnonzero(series.steps <= step)
    if not len(upto):
        return (), np.empty((2, 0))
    return series.domains, np.exp(series.values[[upto[0], upto[-1]]])


def _final_losses(lines: Sequence[dict[str, Any]], step: int) -> dict[str, float]:
    """The newest held-out losses up to a step."""
    found = {}
    for line in lines:
        if line["step"] > step:
            break
        for key, value in line.items():
            of = key.removeprefix(_LOSSES).removesuffix("/loss")
            if key == f"{_LOSSES}{of}/loss" and not key.startswith(_OF_DOMAINS):
                found[of] = value if value is not None else math.nan
    return found


def _flags(run: Recorded) -> Iterator[str]:
    """Of a command that has the run's config, from a file that leaves most defaults."""
    yield "--config=configs/125m.py"
    yield f"--workdir={run.directory}"
    given = run.config.model["from"]
    for name, field in fields.fields().items():
        value = fields.get(run.config, name)
        group, _, leaf = name.partition(".")
        follows = given and group == "model" and leaf not in OWN
        if not follows and (value != field.default or name in _SET_BY_FILE):
            shown = str(value).lower() if isinstance(value, bool) else value
            yield f"--config.{name}={shown}"
