"""The harness's view of a model of ours: requests in text, answers in numbers."""

import functools
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from lm_eval import utils
from lm_eval.api.instance import Instance
from lm_eval.api.model import TemplateLM

from dga_jax.errors import UserError
from dga_jax.harness.generation import Generator
from dga_jax.harness.scoring import Place, Request, Scorer
from dga_jax.tokenizer import Tokenizer

_MOST_NEW = 256  # tokens, where a task does not say
_MOST_NEW_NAMES = (
    "max_gen_toks",
    "max_new_tokens",
    "max_tokens",
    "max_completion_tokens",
)


class HarnessModel(TemplateLM):
    """A model with its parameters, as lm-eval wants it.

    Answers are those that lm-eval's own `hf` gives of the exported model. Every process
    gives all of them.

    Args:
      place: what model, and where.
      tokenizer: of the model.
      scorer: shared by models of one place, for what it has compiled.
      generator: likewise.

    Attributes:
      params: of the model; to be set.
    """

    def __init__(
        self, place: Place, tokenizer: Tokenizer, scorer: Scorer, generator: Generator
    ):
        super().__init__()
        self.params: Any = None
        self._place, self._tokenizer = place, tokenizer
        self._scorer, self._generator = scorer, generator

    @property
    def eot_token_id(self) -> int:
        """Id of what ends a text."""
        return self._tokenizer.end_of_text

    @property
    def prefix_token_id(self) -> int:
        """Id of what stands before a text; what has no context is read behind it."""
        begin = self._tokenizer.begin_of_text
        return self.eot_token_id if begin is None else begin

    @property
    def max_length(self) -> int:
        """Tokens that are read, at most; what is longer loses its beginning."""
        return self._place.length

    def tok_encode(
        self, string: str, add_special_tokens: bool | None = None, **_: Any
    ) -> list[int]:
        """Ids of a text."""
        return self._encoded([string])[string].tolist()

    def _encoded(self, texts: Iterable[str]) -> dict[str, np.ndarray]:
        """Ids by text, which begin as documents do; each text is tokenized once."""
        texts = list(dict.fromkeys(texts))
        found = self._tokenizer.encode_batch(texts)
        begin = self._tokenizer.begin_of_text
        before = np.array([] if begin is None else [begin], np.int32)
        return {
            text: np.concatenate([before, ids.astype(np.int32)])
            for text, ids in zip(texts, found, strict=True)
        }

    def loglikelihood(
        self, requests: Sequence[Instance], disable_tqdm: bool = False
    ) -> list[tuple[float, bool]]:
        """Log-probability of each continuation, and whether it is the likeliest."""
        pairs = [_at_a_word(*request.args) for request in requests]
        ids = self._encoded(
            text for context, rest in pairs for text in (context, context + rest)
        )
        split = []
        for context, rest in pairs:
            known, whole = ids[context], ids[context + rest]
            if not context:  # it begins a text
                known = np.array([self.prefix_token_id], np.int32)
                if not np.array_equal(whole[:1], known):
                    whole = np.concatenate([known, whole])
            split.append(((context, rest), known, whole[len(known) :]))
        return self._loglikelihood_tokens(split)

    def _loglikelihood_tokens(
        self, requests: Sequence[tuple[Any, Sequence[int], Sequence[int]]], **_: Any
    ) -> list[tuple[float, bool]]:
        room = self.max_length
        cut = []
        for _, context, rest in requests:
            parts = [np.asarray(part, np.int32) for part in (context, rest)]
            tokens = np.concatenate(parts)[-(room + 1) :]
            cut.append(Request(tokens, min(len(rest), len(tokens) - 1)))
        return [tuple(score) for score in self._scorer(self.params, cut)]

    def loglikelihood_rolling(
        self, requests: Sequence[Instance], disable_tqdm: bool = False
    ) -> list[float]:
        """Log-probability of each text, each token of it predicted once."""
        texts = [request.args[0] for request in requests]
        ids = self._encoded(texts)
        windows, owners = [], []
        for i, text in enumerate(texts):
            for pair in utils.get_rolling_token_windows(
                ids[text].tolist(), self.prefix_token_id, self.max_length, context_len=1
            ):
                windows.append((None, *utils.make_disjoint_window(pair)))
                owners.append(i)
        totals = [0.0] * len(texts)
        for i, (value, _) in zip(
            owners, self._loglikelihood_tokens(windows), strict=True
        ):
            totals[i] += value
        return totals

    def generate_until(
        self, requests: Sequence[Instance], disable_tqdm: bool = False
    ) -> list[str]:
        """The likeliest text behind each context, up to what stops it.

        Raises:
          UserError: a task wants it to be drawn.
        """
        ids = self._encoded(request.args[0] for request in requests)
        groups: dict[tuple, list[int]] = {}
        for i, request in enumerate(requests):
            groups.setdefault(self._options(request), []).append(i)
        texts = {}
        for (count, *until), members in groups.items():
            room = self.max_length - count
            prompts = [
                ids[requests[i].args[0]][-room:].tolist() or [self.prefix_token_id]
                for i in members
            ]
            stops = functools.partial(self._stops, until)
            found = self._generator(self.params, prompts, count, stops)
            for i, row in zip(members, found, strict=True):
                texts[i] = self._text(row, until)
        return [texts[i] for i in range(len(requests))]

    def _options(self, request: Instance) -> tuple:
        """How many tokens at most, and what text stops it."""
        given = request.args[1]
        if given.get("do_sample") and given.get("temperature", 1) > 0:
            raise UserError(
                f"--tasks: {request.task_name} draws its answers (do_sample); only the"
                " likeliest are given here: export the model and use lm-eval's hf"
            )
        until = given.get("until") or []
        until = [until] if isinstance(until, str) else until
        counts = (given.get(name) for name in _MOST_NEW_NAMES)
        count = next((count for count in counts if count is not None), _MOST_NEW)
        if count >= self.max_length:  # the prompt needs room, too
            count = max(self.max_length // 2, 1)
        return int(count), *filter(None, until)

    def _stops(self, until: Sequence[str], ids: Sequence[int]) -> bool:
        if self.eot_token_id in ids:
            return True
        text = self._tokenizer.decode(ids)
        return any(stop in text for stop in until)

    def _text(self, ids: list[int], until: Sequence[str]) -> str:
        if self.eot_token_id in ids:
            ids = ids[: ids.index(self.eot_token_id)]
        text = self._tokenizer.decode(ids)
        for stop in until:
            text = text.split(stop)[0]
        return text


def _at_a_word(context: str, rest: str) -> tuple[str, str]:
    """Spaces at the end of a context begin what follows, as they do in tokens."""
    cut = context.rstrip()
    return cut, context[len(cut) :] + rest
