"""What is asked of the harness, checked before anything is loaded for it."""

import dataclasses
import importlib.util
import os
import pathlib

from dga_jax.errors import UserError
from dga_jax.harness.questions import Questions, read_questions

LETTERS, CLOZE = "mmlu", "mmlu_cloze"
OF_FILE = (LETTERS, CLOZE)


@dataclasses.dataclass(frozen=True)
class Options:
    """What is to be evaluated.

    Attributes:
      tasks: names of tasks and groups; `OF_FILE` are those of `data`, if it is given.
      data: file of questions of MMLU, or of the same kind; "": none.
      fewshot: file of examples shown before each question of their subject; "": none.
      num_fewshot: how many; None: what a task of lm-eval says, else none.
      limit: questions of each task; 0: all.
      include: directory of further tasks, in YAML; "": none.
      prefix: of these names where a user sets them, for errors.
    """

    tasks: tuple[str, ...]
    data: str = ""
    fewshot: str = ""
    num_fewshot: int | None = None
    limit: int = 0
    include: str = ""
    prefix: str = "--"

    def named(self, name: str) -> str:
        """An option with its value, as a user knows it."""
        value = getattr(self, name)
        if isinstance(value, tuple):
            value = ",".join(value)
        return f"{self.prefix}{name}={value}"

    @property
    def of_file(self) -> tuple[str, ...]:
        """The tasks that are made of `data`."""
        return tuple(name for name in self.tasks if self.data and name in OF_FILE)

    def check(self) -> None:
        """Raises UserError for what is seen to be wrong without reading much."""
        if importlib.util.find_spec("lm_eval") is None:
            raise UserError(
                f"{self.named('tasks')}: lm-eval is not installed; pip install"
                " 'dga_jax[eval]', or lm-eval"
            )
        if not self.tasks:
            raise UserError(f"{self.named('tasks')}: names none; give {LETTERS}, say")
        for name in ("data", "fewshot"):
            path = getattr(self, name)
            if path and not os.path.isfile(path):
                raise UserError(f"{self.named(name)}: no such file; give JSON lines")
        if self.data and not self.of_file:
            raise UserError(
                f"{self.named('data')}: no task is made of it; name"
                f" {' or '.join(OF_FILE)} in {self.prefix}tasks"
            )
        if self.of_file and self.num_fewshot and not self.fewshot:
            raise UserError(
                f"{self.named('num_fewshot')}: give the examples' file with"
                f" {self.prefix}fewshot"
            )
        if self.fewshot and not (self.of_file and self.num_fewshot):
            raise UserError(
                f"{self.named('fewshot')}: is for tasks of {self.prefix}data, and"
                f" needs {self.prefix}num_fewshot"
            )
        if self.fewshot and pathlib.Path(self.fewshot).samefile(self.data):
            raise UserError(
                f"{self.named('fewshot')}: these are the questions themselves; give"
                " examples from another file"
            )
        if self.include and not os.path.isdir(self.include):
            raise UserError(f"{self.named('include')}: no such directory")

    def questions(self, name: str) -> Questions:
        """The questions of `data` or `fewshot`; none where it is not given.

        Raises:
          UserError: see `read_questions`.
        """
        path = getattr(self, name)
        return read_questions(f"{self.prefix}{name}", path) if path else {}
