"""What is not computed here is refused, by its name."""

import json
import math

import jax
import ml_dtypes
import numpy as np
import pytest
import safetensors.numpy

from dga_jax.errors import UserError
from dga_jax.huggingface import architecture, layout, tensors, weights
from dga_jax.model.transformer import ModelConfig, abstract

LLAMA = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "vocab_size": 40,
    "hidden_size": 16,
    "intermediate_size": 24,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "hidden_act": "silu",
    "rms_norm_eps": 1e-5,
    "rope_theta": 10_000.0,
    "tie_word_embeddings": False,
    "max_position_embeddings": 64,
    "bos_token_id": 1,
    "eos_token_id": [2, 3],
    "torch_dtype": "bfloat16",
    "pretraining_tp": 1,
    "use_cache": True,
    "pad_token_id": None,
}
MISTRAL = {"model_type": "mistral", "architectures": ["MistralForCausalLM"]}
QWEN2 = {"model_type": "qwen2", "architectures": ["Qwen2ForCausalLM"]}
QWEN3 = {"model_type": "qwen3", "architectures": ["Qwen3ForCausalLM"]}
SCALED = {
    "rope_type": "llama3",
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 32,
}


def fields_of(changes):
    return architecture.model_fields(LLAMA | changes, "DIR")


def model_of(changes=()):
    fields = fields_of(dict(changes))
    fields.pop("max_positions")
    return ModelConfig(**fields)


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, {"num_kv_heads": 2, "head_dim": 4, "rope_theta": 10_000.0}),
        ({"num_key_value_heads": None}, {"num_kv_heads": 4}),
        ({"rope_theta": 5e5, "rope_scaling": SCALED}, {"rope_factor": 8.0}),
        ({"rope_scaling": {"type": "default"}}, {"rope_factor": 1.0}),
        ({"rope_parameters": SCALED | {"rope_theta": 7.0}, "rope_theta": None},
         {"rope_theta": 7.0, "rope_length": 32}),
        (MISTRAL | {"sliding_window": None, "head_dim": 6}, {"head_dim": 6}),
        (QWEN2 | {"sliding_window": 4096, "use_sliding_window": False},
         {"qkv_bias": True, "qk_norm": False}),
        (QWEN3 | {"layer_types": ["full_attention"] * 2},
         {"qkv_bias": False, "qk_norm": True, "head_dim": 128}),
        ({"attention_bias": False, "mlp_bias": None}, {"qkv_bias": False}),
    ],
)  # fmt: skip
def test_what_is_computed(changes, expected):
    found = fields_of(changes)
    assert {name: found[name] for name in expected} == expected


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"model_type": "gemma"}, 'model_type="gemma": not a family'),
        ({"model_type": "granite"}, 'model_type="granite": not a family'),
        ({"model_type": "smollm3"}, 'model_type="smollm3": not a family'),
        ({"model_type": ["llama"]}, "model_type=.* not a family"),
        ({"embedding_multiplier": 12.0}, "embedding_multiplier=12.0: this key"),
        ({"no_rope_layers": [1, 0]}, r"no_rope_layers=\[1, 0\]: this key"),
        ({"is_causal": False}, "is_causal=false: this key"),
        ({"auto_map": {"AutoModel": "x.y"}}, "auto_map=.* only null"),
        ({"quantization_config": {"bits": 4}}, "quantization_config=.* only null"),
        ({"hidden_act": "gelu"}, 'hidden_act="gelu": only "silu"'),
        ({"attention_bias": True}, "attention_bias=true: only false"),
        ({"mlp_bias": True}, "mlp_bias=true: only false"),
        ({"attention_dropout": 0.1}, "attention_dropout=0.1: only 0.0"),
        ({"partial_rotary_factor": 0.5}, "partial_rotary_factor=0.5: only 1.0"),
        ({"sliding_window": 32}, "sliding_window=32: a window of 32"),
        (MISTRAL | {"sliding_window": 4096}, "sliding_window=4096: a window"),
        (MISTRAL, "sliding_window=null: a window of 4096 positions, and not saying"),
        (QWEN2 | {"use_sliding_window": True}, "use_sliding_window=true: only false"),
        (QWEN3 | {"layer_types": ["sliding_attention"]}, "layer_types=.*full_atten"),
        ({"rope_scaling": {"type": "linear", "factor": 2.0}}, "rope_scaling=.*types"),
        ({"rope_scaling": SCALED | {"rope_type": "yarn"}}, "rope_scaling=.*types"),
        ({"rope_scaling": SCALED | {"mscale": 1.0}}, "rope_scaling=.*mscale is not"),
        ({"rope_scaling": SCALED | {"factor": None}}, "rope_scaling=.*number"),
        ({"rope_scaling": SCALED | {"high_freq_factor": 1.0}}, "not in order"),
        ({"rope_scaling": SCALED, "rope_parameters": {"rope_type": "default"}},
         "rope_scaling=.*rope_parameters says otherwise"),
        ({"rope_parameters": {"rope_theta": 5.0}}, "rope_theta=10000.0: rope_param"),
        ({"rope_parameters": {"full_attention": {}}}, "full_attention is not known"),
        ({"rope_parameters": {"partial_rotary_factor": 0.5}}, "partial_rotary"),
        ({"hidden_size": None}, "hidden_size=null: expected a number above 0"),
        ({"num_hidden_layers": 0}, "num_hidden_layers=0: expected a number"),
        ({"num_attention_heads": 2.5}, "num_attention_heads=2.5: expected a num"),
        ({"rms_norm_eps": math.nan}, "rms_norm_eps=NaN: expected a number"),
        ({"tie_word_embeddings": "yes"}, "tie_word_embeddings=.* true or false"),
        ({"num_key_value_heads": 3}, "num_key_value_heads=3: it does not divide"),
        ({"head_dim": 5}, "head_dim=5: it is odd"),
        ({"architectures": ["LlamaForSequenceClassification"]}, "architectures="),
    ],
)  # fmt: skip
def test_what_is_not(changes, said):
    with pytest.raises(UserError, match=rf"^DIR: config\.json says .*{said}") as caught:
        fields_of(changes)
    assert "\n" not in str(caught.value)


@pytest.fixture
def saved(tmp_path):
    """A directory with random weights; returns it and its tensors."""
    random = np.random.default_rng(0)
    found = {
        name: random.standard_normal(shape, np.float32)
        for name, shape in layout.tensor_shapes(model_of()).items()
    }
    safetensors.numpy.save_file(found, tmp_path / tensors.SINGLE)
    (tmp_path / "config.json").write_text(json.dumps(LLAMA))
    return tmp_path, found


def refused(directory, said, changes=()):
    with pytest.raises(UserError, match=said) as caught:
        weights.check(directory, model_of(changes), "DIR")
    assert "\n" not in str(caught.value)


def test_every_tensor_is_read(saved):
    directory, found = saved
    path = directory / tensors.SINGLE
    assert weights.check(directory, model_of(), "DIR").keys() == found.keys()
    bias = {"model.layers.1.self_attn.o_proj.bias": np.zeros(16, np.float32)}
    safetensors.numpy.save_file(found | bias, path)
    refused(directory, r"DIR: tensor .*1\.self_attn\.o_proj\.bias has no place")
    name = "model.layers.0.mlp.up_proj.weight"
    safetensors.numpy.save_file({k: v for k, v in found.items() if k != name}, path)
    refused(directory, rf"DIR: no tensor {name}, which config\.json asks for")
    safetensors.numpy.save_file(found | {name: found[name][:-1]}, path)
    refused(directory, rf"tensor {name} is \[23, 16\], and \[24, 16\] by config\.json")
    half = found[name].astype(np.float64)
    safetensors.numpy.save_file(found | {name: half}, path)
    refused(directory, f"tensor {name} is of type F64, not of F32, F16, BF16")


def test_values_that_are_not_finite(saved):
    """Training would say that its loss is not, and to lower the learning rate."""
    directory, found = saved
    name = "model.layers.1.mlp.down_proj.weight"
    found[name][3, 4] = np.inf
    safetensors.numpy.save_file(found, directory / tensors.SINGLE)
    config = model_of()
    one = jax.sharding.SingleDeviceSharding(jax.devices()[0])
    shapes = jax.tree.map(
        lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=one),
        abstract(config)[1],
    )
    checked = weights.check(directory, config, "DIR")
    with pytest.raises(UserError, match=f"tensor {name} of the model has values"):
        weights.load(checked, config, shapes)


def test_what_follows_from_other_tensors_may_be_there(saved):
    """Tied embeddings written twice, and the rotary frequencies of Llama 2."""
    directory, found = saved
    path, tied = directory / tensors.SINGLE, {"tie_word_embeddings": True}
    refused(
        directory, r"tensor lm_head\.weight is not .*, as tie_word_embeddings", tied
    )
    found["lm_head.weight"] = found["model.embed_tokens.weight"]
    steps = np.array([1, 0.01], ml_dtypes.bfloat16).astype(np.float32)
    found["model.layers.0.self_attn.rotary_emb.inv_freq"] = steps
    safetensors.numpy.save_file(found, path)
    assert "lm_head.weight" not in weights.check(directory, model_of(tied), "DIR")
    found["model.layers.0.self_attn.rotary_emb.inv_freq"] = steps * 2
    safetensors.numpy.save_file(found, path)
    refused(directory, r"rotary_emb\.inv_freq has no place", tied)


def test_files_that_are_not_whole(saved):
    directory, _ = saved
    path = directory / tensors.SINGLE
    whole = path.read_bytes()
    for cut in (0, 5, 100, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:cut])
        refused(directory, r"model\.safetensors is not a whole safetensors file")
    path.write_bytes(whole + b"x")
    refused(directory, r"model\.safetensors is not a whole safetensors file")
    path.unlink()
    refused(directory, "has no weights: neither model.safetensors nor")
    (directory / "pytorch_model.bin").write_bytes(b"x")
    refused(directory, r"has pickled weights only \(pytorch_model\.bin\)")


def test_several_files(saved):
    directory, found = saved
    model = model_of()
    (directory / "parts").mkdir()
    directory = directory / "parts"
    with tensors.writing(directory, layout.tensor_shapes(model), np.float32, 3000) as w:
        w.put(found.items())
    names = sorted(path.name for path in directory.glob("*.safetensors"))
    assert len(names) > 2
    assert weights.check(directory, model, "DIR").keys() == found.keys()
    content = (directory / names[1]).read_bytes()
    (directory / names[1]).unlink()
    refused(directory, f"{names[1]}: No such file")
    (directory / names[1]).write_bytes((directory / names[0]).read_bytes())
    refused(directory, r"no tensor .* is in it; copy the model again")
    (directory / names[1]).write_bytes(content)
    index = directory / tensors.INDEX
    index.write_text(json.dumps({"weight_map": {"x": "../model.safetensors"}}))
    refused(directory, "is not an index of tensors")
    index.write_text("{")
    refused(directory, "is not an index of tensors")


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (None, r"DIR: cannot read config\.json \(No such file"),
        ("{", r"DIR: config\.json is not JSON"),
        ("[]", r"DIR: config\.json is not a JSON object"),
    ],
)
def test_a_config_that_is_none(content, said, tmp_path):
    if content:
        (tmp_path / "config.json").write_text(content)
    with pytest.raises(UserError, match=said):
        architecture.read_config(tmp_path, "DIR")
    with pytest.raises(UserError, match="DIR: no such directory"):
        architecture.read_config(tmp_path / "gone", "DIR")
