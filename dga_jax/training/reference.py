"""The fields of a config and the mixers, for a reader: docs/config.md.

python -m dga_jax.training.reference > docs/config.md
"""

from itertools import groupby

from dga_jax.mixing.mixers import MIXERS
from dga_jax.training.fields import Field, fields

_HEAD = """\
# Every field of a config

A flag is `--config.FIELD=VALUE`; in a config's argument, `FIELD=VALUE`. The last column
says what may change when a run is started again on its workdir; what is fixed there may
differ in a new run that starts from this one (`start.from`). The options of one mixer
alone are `mixer.NAME.OPTION`.

Made of the declarations (`fields.py` and `mixer_fields.py` in `dga_jax/training/`, the
mixers in `dga_jax/mixing/`) by `python -m dga_jax.training.reference > docs/config.md`.
What each mixer does is in [mixers.md](mixers.md).
"""
_TITLE = "| field | default | values | meaning | on resume |\n|---|---|---|---|---|\n"
_MIXERS_TITLE = "| `mixer.name` | begins | what it does |\n|---|---|---|\n"


def page() -> str:
    """The reference, in Markdown: a table for each group of fields."""
    tables = []
    named = sorted(fields().items(), key=lambda item: _group(item[0]) != "")
    for group, members in groupby(named, key=lambda item: _group(item[0])):
        rows = "".join(_row(name, field) for name, field in members)
        title = f"## `{group}`" if group else "## Of the run"
        tables.append(f"\n{title}\n\n{_TITLE}{rows}")
    return _HEAD + "".join(tables) + _mixers()


def _mixers() -> str:
    rows = ""
    for name, recipe in MIXERS.items():
        what = (recipe.__doc__ or name).strip().splitlines()[0]
        rows += f"| `{name}` | {recipe.start} | {what} |\n"
    return f"\n## Mixers\n\n{_MIXERS_TITLE}{rows}"


def _group(name: str) -> str:
    return name.rpartition(".")[0]


def _row(name: str, field: Field) -> str:
    rule = str(field.rule) if field.rule else type(field.default).__name__
    cells = (f"`{name}`", f"`{field.shown}`", rule, field.about)
    return f"| {' | '.join(cells)} | {field.touches.value} |\n"


if __name__ == "__main__":
    print(page(), end="")
