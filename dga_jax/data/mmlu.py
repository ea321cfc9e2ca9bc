"""Questions of MMLU (Hendrycks et al. 2021, arXiv 2009.03300), and as documents."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

SUPERCATEGORY = "supercategory"
FIELDS = ("question", "choices", "answer")
LETTERS = "ABCDEFGHIJ"
_SUBJECTS = {
    "humanities": (
        "formal logic, high school european history, high school us history,"
        " high school world history, international law, jurisprudence,"
        " logical fallacies, moral disputes, moral scenarios, philosophy, prehistory,"
        " professional law, world religions"
    ),
    "social sciences": (
        "econometrics, high school geography, high school government and politics,"
        " high school macroeconomics, high school microeconomics,"
        " high school psychology, human sexuality, professional psychology,"
        " public relations, security studies, sociology, us foreign policy"
    ),
    "STEM": (
        "abstract algebra, astronomy, college biology, college chemistry,"
        " college computer science, college mathematics, college physics,"
        " computer security, conceptual physics, electrical engineering,"
        " elementary mathematics, high school biology, high school chemistry,"
        " high school computer science, high school mathematics, high school physics,"
        " high school statistics, machine learning"
    ),
    "other": (
        "anatomy, business ethics, clinical knowledge, college medicine, global facts,"
        " human aging, management, marketing, medical genetics, miscellaneous,"
        " nutrition, professional accounting, professional medicine, virology"
    ),
}
_SUPERCATEGORIES = {
    subject: name
    for name, subjects in _SUBJECTS.items()
    for subject in subjects.split(", ")
}


def is_question(item: Mapping[str, Any]) -> bool:
    """Whether a JSON object has a question's fields."""
    return all(field in item for field in FIELDS)


class Question(NamedTuple):
    """A multiple-choice question: its text, its choices, and which of them is right."""

    text: str
    choices: tuple[str, ...]
    answer: int


def question(item: Mapping[str, Any]) -> Question:
    """The question that a JSON object holds.

    Args:
      item: `question`, `choices`, and `answer`, an index into the choices.

    Raises:
      ValueError: a field is not of this kind, said in words for the user.
    """
    text, choices, answer = (item[field] for field in FIELDS)
    if not isinstance(text, str):
        raise ValueError("field 'question' is not a string")
    strings = isinstance(choices, list) and all(isinstance(x, str) for x in choices)
    if not strings or not 0 < len(choices) <= len(LETTERS):
        raise ValueError(
            f"field 'choices' is not a list of 1 to {len(LETTERS)} strings"
        )
    whole = isinstance(answer, int) and not isinstance(answer, bool)
    if not whole or not 0 <= answer < len(choices):
        raise ValueError(
            f"field 'answer' must be the index of one of {len(choices)} choices, not"
            f" {answer!r}"
        )
    return Question(text.strip(), tuple(choices), answer)


def prompt(text: str, choices: Sequence[str]) -> str:
    """The usual prompt of a multiple-choice question."""
    lines = [f"{LETTERS[i]}. {choice}" for i, choice in enumerate(choices)]
    return "\n".join([text.strip(), *lines, "Answer:"])


def render(item: Mapping[str, Any]) -> str:
    """The usual prompt of a multiple-choice question, with its answer.

    >>> print(render({"question": "1 + 1?", "choices": ["1", "2"], "answer": 1}))
    1 + 1?
    A. 1
    B. 2
    Answer: B

    Args:
      item: see `question`, also for what it raises.
    """
    found = question(item)
    return f"{prompt(found.text, found.choices)} {LETTERS[found.answer]}"


def supercategory(subject: object) -> str:
    """The one of MMLU's four supercategories that a subject belongs to.

    Raises:
      ValueError: no subject of MMLU.
    """
    name = str(subject).replace("_", " ").lower()
    if name not in _SUPERCATEGORIES:
        raise ValueError(f"{subject!r} is not a subject of MMLU")
    return _SUPERCATEGORIES[name]
