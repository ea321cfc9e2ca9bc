"""config.json to the fields of a model, and back."""

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from dga_jax.errors import UserError
from dga_jax.huggingface.families import (
    FAMILIES,
    HARMLESS,
    READ,
    REQUIRED,
    SIZES,
    Family,
)
from dga_jax.model.transformer import ModelConfig

CONFIG = "config.json"
_ROPE_KEYS = {"rope_type", "type", "rope_theta", "partial_rotary_factor"}
_LLAMA3 = {
    "factor": "rope_factor",
    "low_freq_factor": "rope_low_frequency",
    "high_freq_factor": "rope_high_frequency",
    "original_max_position_embeddings": "rope_length",
}
_DEFAULT_THETA = 10_000.0
_ANOTHER = "give another model"


def read_config(directory: Path, where: str) -> dict[str, Any]:
    """What config.json of a directory says.

    Args:
      directory: of a model.
      where: names the directory in errors.

    Raises:
      UserError: no such directory, no such file, or not a JSON object.
    """
    path = directory / CONFIG
    if not directory.is_dir():
        raise UserError(
            f"{where}: no such directory; give one with {CONFIG} and safetensors, as"
            " hf download NAME --local-dir=DIR makes of a model of the hub"
        )
    try:
        spec = json.loads(path.read_bytes())
    except OSError as error:
        raise UserError(
            f"{where}: cannot read {CONFIG} ({error.strerror}); give the directory of a"
            " model"
        ) from None
    except ValueError as error:
        raise UserError(
            f"{where}: {CONFIG} is not JSON ({error}); copy it again"
        ) from None
    if not isinstance(spec, dict):
        raise UserError(f"{where}: {CONFIG} is not a JSON object; copy it again")
    return spec


def model_fields(spec: Mapping[str, Any], where: str) -> dict[str, Any]:
    """Fields of the config group `model`, by name, that compute what config.json says.

    Args:
      spec: what config.json says.
      where: names the directory in errors.

    Raises:
      UserError: a key says what we do not compute, or is not known; names it.
    """
    reader = _Reader(spec, f"{where}: {CONFIG}")
    family = reader.family()
    reader.check_keys(family)
    sizes = {key: reader.number(key, int) for key in SIZES}
    heads = sizes["num_attention_heads"]
    kv_heads = reader.number("num_key_value_heads", int, family.kv_heads or heads)
    head_dim = reader.number(
        "head_dim", int, family.head_dim or sizes["hidden_size"] // heads
    )
    if heads % kv_heads or head_dim % 2:
        raise reader.refused(
            "num_key_value_heads" if heads % kv_heads else "head_dim",
            "it does not divide num_attention_heads"
            if heads % kv_heads
            else "it is odd",
        )
    return {
        "vocab_size": sizes["vocab_size"],
        "num_layers": sizes["num_hidden_layers"],
        "d_model": sizes["hidden_size"],
        "d_ff": sizes["intermediate_size"],
        "num_heads": heads,
        "num_kv_heads": kv_heads,
        "head_dim": head_dim,
        "qkv_bias": family.qkv_bias,
        "qk_norm": family.qk_norm,
        "tied_embeddings": reader.switch("tie_word_embeddings"),
        "norm_eps": reader.number("rms_norm_eps", float, 1e-6),
        "max_positions": reader.number("max_position_embeddings", int, 0),
        **reader.rope(),
    }


class _Reader:
    """Reads a config.json; what is wrong is told with the key's name."""

    def __init__(self, spec: Mapping[str, Any], where: str):
        self._spec, self._where = spec, where

    def refused(self, key: str, why: str, remedy: str = _ANOTHER) -> UserError:
        value = json.dumps(self._spec.get(key))
        if len(value) > 80:
            value = f"{value[:80]}..."
        return UserError(f"{self._where} says {key}={value}: {why}; {remedy}")

    def family(self) -> Family:
        kind = self._spec.get("model_type")
        if not isinstance(kind, str) or kind not in FAMILIES:
            known = ", ".join(FAMILIES)
            raise self.refused(
                "model_type", f"not a family that is computed here; those are {known}"
            )
        return FAMILIES[kind]

    def check_keys(self, family: Family) -> None:
        for key, value in self._spec.items():
            if key in READ or key in HARMLESS or value is None:
                continue
            if key not in REQUIRED:
                raise self.refused(
                    key,
                    "this key is not known, and may change what is computed",
                    f"take it out if you know that it does not, or {_ANOTHER}",
                )
            if value != REQUIRED[key]:
                wanted = json.dumps(REQUIRED[key])
                raise self.refused(key, f"only {wanted} is computed here")
        self._check_windows(family)
        architectures = self._spec.get("architectures") or [family.architecture]
        if architectures != [family.architecture]:
            raise self.refused(
                "architectures", f"only {family.architecture} is read here"
            )

    def _check_windows(self, family: Family) -> None:
        has_switch = family.architecture.startswith("Qwen")
        window = self._spec.get("sliding_window", family.window)
        if self.switch("use_sliding_window"):
            raise self.refused("use_sliding_window", "only false is computed here")
        if window is not None and not has_switch:
            missing = "" if "sliding_window" in self._spec else ", and not saying so"
            raise self.refused(
                "sliding_window",
                f"a window of {window} positions{missing}; only full attention, null,"
                " is computed here",
            )
        kinds = self._spec.get("layer_types") or []
        if not isinstance(kinds, list) or any(k != "full_attention" for k in kinds):
            raise self.refused("layer_types", "only full_attention is computed here")

    def switch(self, key: str, *, default: bool = False) -> bool:
        value = self._spec.get(key)
        if value is not None and type(value) is not bool:
            raise self.refused(key, "expected true or false")
        return default if value is None else value

    def number(self, key: str, kind: type, default: float | None = None) -> Any:
        value = self._spec.get(key)
        return self._positive(key, default if value is None else value, kind, default)

    def _positive(
        self, key: str, value: Any, kind: type, default: float | None = None
    ) -> Any:
        good = isinstance(value, int | kind) and not isinstance(value, bool)
        if not good or not (0 < value < math.inf or value == default):
            raise self.refused(key, "expected a number above 0")
        return kind(value)

    def rope(self) -> dict[str, Any]:
        """Fields of the rotary frequencies, whichever key has them."""
        found = {
            key: self._spec[key]
            for key in ("rope_scaling", "rope_parameters")
            if self._spec.get(key)
        }
        rules = {key: self._rope_of(key, rule) for key, rule in found.items()}
        fields = next(iter(rules.values()), {})
        if len(rules) == 2:
            old, new = rules["rope_scaling"], rules["rope_parameters"]
            fields = old | new
            if old | new != new | old or (old.keys() ^ new.keys()) - {"rope_theta"}:
                raise self.refused("rope_scaling", "rope_parameters says otherwise")
        given = self._spec.get("rope_theta")
        if given is not None:
            theta = self.number("rope_theta", float)
            if fields.get("rope_theta", theta) != theta:
                raise self.refused("rope_theta", "rope_parameters says otherwise")
            fields = fields | {"rope_theta": theta}
        return {"rope_theta": _DEFAULT_THETA, "rope_factor": 1.0} | fields

    def _rope_of(self, key: str, rule: Any) -> dict[str, Any]:
        if not isinstance(rule, dict):
            raise self.refused(key, "expected an object")
        kind = rule.get("rope_type", rule.get("type", "default"))
        if kind not in ("default", "llama3"):
            raise self.refused(key, "only the types default and llama3 are computed")
        known = _ROPE_KEYS | (_LLAMA3.keys() if kind == "llama3" else set())
        for name, value in rule.items():
            if name not in known and value is not None:
                raise self.refused(key, f"{name} is not known in type {kind}")
        if rule.get("partial_rotary_factor", 1.0) not in (None, 1.0):
            raise self.refused(key, "only partial_rotary_factor=1.0 is computed here")
        fields = {}
        if rule.get("rope_theta") is not None:
            fields["rope_theta"] = self._positive(key, rule["rope_theta"], float)
        if kind == "llama3":
            for name, field in _LLAMA3.items():
                kind_of = int if field == "rope_length" else float
                fields[field] = self._positive(key, rule.get(name), kind_of)
            if fields["rope_factor"] < 1 or (
                fields["rope_high_frequency"] <= fields["rope_low_frequency"]
            ):
                raise self.refused(key, "its factors are not in order")
        return fields


def config_json(
    model: ModelConfig, *, max_positions: int, bos: int, eos: int, dtype: str
) -> dict[str, Any]:
    """What config.json says of a model of ours.

    Args:
      model: the architecture.
      max_positions: the longest text that it is said to take, tokens.
      bos: token that a text begins with.
      eos: token that a text ends with.
      dtype: of the tensors.

    Raises:
      UserError: no family has this architecture.
    """
    kind, family = _family_of(model)
    rope = {"rope_theta": model.rope_theta, "rope_type": "default"}
    if model.rope_scaling:
        rope["rope_type"] = "llama3"
        rope |= {key: getattr(model, field) for key, field in _LLAMA3.items()}
    scaling = {key: value for key, value in rope.items() if key != "rope_theta"}
    spec = {
        "architectures": [family.architecture],
        "model_type": kind,
        "vocab_size": model.vocab_size,
        "hidden_size": model.d_model,
        "intermediate_size": model.d_ff,
        "num_hidden_layers": model.num_layers,
        "num_attention_heads": model.num_heads,
        "num_key_value_heads": model.num_kv_heads,
        "head_dim": model.head_width,
        "hidden_act": "silu",
        "rms_norm_eps": model.norm_eps,
        "tie_word_embeddings": model.tied_embeddings,
        # Programs of before read these two, those of today the third.
        "rope_theta": model.rope_theta,
        "rope_scaling": scaling if model.rope_scaling else None,
        "rope_parameters": rope,
        "max_position_embeddings": max_positions,
        "attention_dropout": 0.0,
        "initializer_range": 0.02,
        "use_cache": True,
        "bos_token_id": bos,
        "eos_token_id": eos,
        "dtype": dtype,
        "torch_dtype": dtype,
    }
    if kind in ("llama", "qwen3"):
        spec["attention_bias"] = False
    if kind == "llama":
        spec["mlp_bias"] = False
    if kind.startswith("qwen"):
        spec |= {"use_sliding_window": False, "max_window_layers": model.num_layers}
    if kind != "llama":
        spec["sliding_window"] = None
    return spec


def _family_of(model: ModelConfig) -> tuple[str, Family]:
    """The family that computes the same; the first that does."""
    for kind, family in FAMILIES.items():
        same = (family.qkv_bias, family.qk_norm) == (model.qkv_bias, model.qk_norm)
        # Of Llama, transformers takes no other width, whatever head_dim says.
        narrow = kind == "llama" and model.d_model % model.num_heads
        if same and not narrow:
            return kind, family
    raise UserError(
        "no family of models has both model.qkv_bias and model.qk_norm; train with one"
        " of them to export it"
    )
