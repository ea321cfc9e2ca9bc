"""What config.json may say of each family of models that we compute exactly.

A key of config.json is read, or must have a value, or does not touch what a trained
model computes; any other is refused, as what it means is not known. So it is told that
a model has a sliding window, scaled embeddings or layers without positions: its tensors
would fit, and its results would be wrong.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

# Of these, what a key that is missing stands for depends on the family.
_SIZES = (
    "vocab_size",
    "hidden_size",
    "intermediate_size",
    "num_hidden_layers",
    "num_attention_heads",
)
READ = frozenset(
    {
        *_SIZES,
        "model_type",
        "num_key_value_heads",
        "head_dim",
        "rms_norm_eps",
        "tie_word_embeddings",
        "rope_theta",
        "rope_scaling",
        "rope_parameters",
        "max_position_embeddings",
        "layer_types",
        "use_sliding_window",
        "sliding_window",
    }
)
SIZES = _SIZES

# What a key must say where it is there; null says nothing.
REQUIRED: dict[str, Any] = {
    "hidden_act": "silu",
    "attention_bias": False,
    "mlp_bias": False,
    "attention_dropout": 0.0,
    "partial_rotary_factor": 1.0,
    "is_encoder_decoder": False,
    "is_decoder": False,
    "add_cross_attention": False,
    "cross_attention_hidden_size": None,
    "chunk_size_feed_forward": 0,
    "pruned_heads": {},
    "quantization_config": None,
    "auto_map": None,
}

# How a model is run, shown or stored, generates text, or was trained.
HARMLESS = frozenset(
    """
    _attn_implementation _attn_implementation_autoset _commit_hash _name_or_path
    architectures bad_words_ids begin_suppress_tokens bos_token_id
    decoder_start_token_id diversity_penalty do_sample dtype early_stopping
    encoder_no_repeat_ngram_size
    eos_token_id exponential_decay_length_penalty finetuning_task forced_bos_token_id
    forced_eos_token_id id2label initializer_range label2id length_penalty
    max_length max_window_layers min_length no_repeat_ngram_size num_beam_groups
    num_beams num_return_sequences output_attentions output_hidden_states output_scores
    pad_token_id prefix prefixes_allowed_tokens_fn pretraining_tp problem_type
    remove_invalid_values repetition_penalty return_dict return_dict_in_generate
    sep_token_id suppress_tokens task_specific_params temperature tf_legacy_loss
    tie_encoder_decoder tokenizer_class top_k top_p torch_dtype torchscript
    transformers.js_config transformers_version typical_p unsloth_fixed
    unsloth_version use_bfloat16 use_cache
    """.split()  # noqa: SIM905 (a list of them fills a screen)
)


class Family(NamedTuple):
    """A `model_type`.

    Attributes:
      architecture: of its models that predict text.
      qkv_bias: whether queries, keys and values have biases.
      qk_norm: whether queries and keys are normalised.
      kv_heads: key and value heads where config.json does not say; 0: as many as heads.
      head_dim: likewise; 0: hidden_size / num_attention_heads.
      window: of attention where config.json does not say; None: there is none.
    """

    architecture: str
    qkv_bias: bool = False
    qk_norm: bool = False
    kv_heads: int = 0
    head_dim: int = 0
    window: int | None = None


FAMILIES: Mapping[str, Family] = {
    "llama": Family("LlamaForCausalLM"),
    "mistral": Family("MistralForCausalLM", kv_heads=8, window=4096),
    "qwen2": Family("Qwen2ForCausalLM", qkv_bias=True, kv_heads=32),
    "qwen3": Family("Qwen3ForCausalLM", qk_norm=True, kv_heads=32, head_dim=128),
}
