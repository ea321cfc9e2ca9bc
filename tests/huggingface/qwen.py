"""A small tokenizer of the kind of Qwen's, for a model's directory."""

import json
import lzma

import tokenizers
from tokenizers import (
    AddedToken,
    decoders,
    models,
    normalizers,
    pre_tokenizers,
    processors,
    trainers,
)

from dga_jax.data.sample import SAMPLE

PATTERN = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
SPECIAL = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
# Of the vocabulary, but not marked as special: text that spells them becomes them.
OTHERS = ("<tool_call>", "</tool_call>", "<|fim_prefix|>", "<think>", "</think>")


def texts_of(name, every=1):
    """Documents of a part of the sample."""
    with lzma.open(SAMPLE / "generic" / f"{name}.jsonl.xz", "rt") as lines:
        return [json.loads(line)["text"] for line in lines][::every]


def save_tokenizer(directory, vocab_size=400):
    """Writes tokenizer.json and what Qwen has beside it; returns the size."""
    made = tokenizers.Tokenizer(models.BPE())
    made.normalizer = normalizers.NFC()
    byte_level = {"add_prefix_space": False, "use_regex": False, "trim_offsets": False}
    made.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(tokenizers.Regex(PATTERN), "isolated"),
            pre_tokenizers.ByteLevel(**byte_level),
        ]
    )
    made.post_processor = processors.ByteLevel(**byte_level)
    made.decoder = decoders.ByteLevel(**byte_level)
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    made.train_from_iterator(texts_of("austen", every=8), trainer)
    made.add_special_tokens([AddedToken(name, normalized=False) for name in SPECIAL])
    made.add_tokens([AddedToken(name, normalized=False) for name in OTHERS])
    made.save(str(directory / "tokenizer.json"))
    config = {
        "add_bos_token": False,
        "add_prefix_space": False,
        "additional_special_tokens": list(SPECIAL[1:]),
        "bos_token": None,
        "clean_up_tokenization_spaces": False,
        "eos_token": "<|im_end|>",
        "errors": "replace",
        "pad_token": "<|endoftext|>",
        "split_special_tokens": False,
        "tokenizer_class": "Qwen2Tokenizer",
        "unk_token": None,
    }
    (directory / "tokenizer_config.json").write_text(json.dumps(config))
    return made.get_vocab_size()
