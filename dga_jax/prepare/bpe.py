"""Learns a vocabulary from text."""

from collections.abc import Iterable

import tokenizers

from dga_jax.tokenizer import end_of_text


def train_bpe(
    texts: Iterable[str], vocab_size: int, *, min_frequency: int = 0
) -> bytes:
    """A byte-level BPE that cuts words as GPT-2's does.

    Args:
      texts: to learn from; the same ones give the same tokenizer.
      vocab_size: at least 257. Where the texts hold too few pairs that occur often
        enough, the vocabulary is smaller.
      min_frequency: of a pair that becomes a token.

    Returns:
      The content of a tokenizer.json.
    """
    tokenizer = tokenizers.Tokenizer(tokenizers.models.BPE())
    tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(
        add_prefix_space=False
    )
    tokenizer.decoder = tokenizers.decoders.ByteLevel()
    trainer = tokenizers.trainers.BpeTrainer(
        vocab_size=vocab_size,
        min_frequency=min_frequency,
        special_tokens=[end_of_text.KNOWN[0]],
        initial_alphabet=tokenizers.pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    return tokenizer.to_str(pretty=True).encode()
