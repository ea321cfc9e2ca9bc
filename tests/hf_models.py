"""Tiny random models of the Hugging Face ecosystem, made by `transformers`."""

import pytest


def library(name):
    """PyTorch or `transformers`; without it a test is skipped."""
    return pytest.importorskip(name)


VOCAB = 300
_SIZES = {
    "vocab_size": VOCAB,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 1024,
    "bos_token_id": 256,
    "eos_token_id": 256,
    "pad_token_id": None,
}
LLAMA3 = {
    "rope_type": "llama3",
    "rope_theta": 500.0,
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 64,
}
# Of each: the family, and what its config says besides.
MODELS = {
    "llama": ("llama", {"tie_word_embeddings": False}),
    "llama tied": ("llama", {"tie_word_embeddings": True, "rms_norm_eps": 1e-5}),
    "llama wide heads": ("llama", {"head_dim": 16}),
    "llama 3.1": ("llama", {"rope_parameters": LLAMA3}),
    "llama one head": ("llama", {"num_key_value_heads": 4}),
    "mistral": ("mistral", {"sliding_window": None}),
    "mistral odd width": (
        "mistral",
        {"sliding_window": None, "hidden_size": 36, "head_dim": 10,
         "num_attention_heads": 8},
    ),
    "qwen2": ("qwen2", {"tie_word_embeddings": False}),
    "qwen2 tied": ("qwen2", {"tie_word_embeddings": True}),
    "qwen3": ("qwen3", {"head_dim": 16, "tie_word_embeddings": False}),
    "qwen3 tied": (
        "qwen3",
        {"head_dim": 8, "tie_word_embeddings": True,
         "rope_parameters": {"rope_type": "default", "rope_theta": 1e6}},
    ),
}  # fmt: skip


def make(name, seed=0, **changes):
    """A model of `MODELS`, float32; no norm is 1, no bias 0; its config changed."""
    torch, transformers = library("torch"), library("transformers")
    kind, fields = MODELS[name]
    config = transformers.AutoConfig.for_model(kind, **_SIZES | fields | changes)
    torch.manual_seed(seed)
    model = transformers.AutoModelForCausalLM.from_config(
        config, attn_implementation="eager"
    )
    with torch.no_grad():
        for part, values in model.named_parameters():
            if "norm" in part:
                values.mul_(1 + 0.3 * torch.randn_like(values))
            elif part.endswith("bias"):
                values.add_(0.5 * torch.randn_like(values))
            else:
                values.mul_(5)  # or all that attention gives is a mean
    return model.float().eval()


def saved(name, directory, dtype=None, **options):
    """The same on disk; returns the model."""
    model = make(name)
    if dtype:
        model = model.to(getattr(library("torch"), dtype))
    model.save_pretrained(directory, **options)
    return model


def opened(directory, dtype="float32"):
    """The model of a directory, all of whose tensors are taken."""
    torch, transformers = library("torch"), library("transformers")
    model, told = transformers.AutoModelForCausalLM.from_pretrained(
        directory,
        dtype=getattr(torch, dtype),
        attn_implementation="eager",
        output_loading_info=True,
    )
    assert not any(told.values()), told
    return model.eval()


def logits(model, tokens):
    """Of token ids [B, L], float32 [B, L, V]."""
    torch = library("torch")
    with torch.no_grad():
        return model(torch.tensor(tokens)).logits.float().numpy()
