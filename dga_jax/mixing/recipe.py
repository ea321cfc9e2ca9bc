"""What a mixer is to everyone else, and what is put around the function that makes it.

`mixers` holds the functions. The arguments of one are its options, which a config has
under the same names; whatever it makes of the signals, the weights stay on the simplex.
"""

import functools
import inspect
import re
import typing
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import optax

from dga_jax.bounds import AtLeast, Rule
from dga_jax.mixing import ascent, simplex
from dga_jax.mixing.signals import Signals, only

_TYPES = (float, int, bool, str)


class Mixer(NamedTuple):
    """A rule that turns signals into new weights.

    Attributes:
      init: log-weights [n] -> the mixer's state.
      update: (`Signals`, state, log-weights [n], *, step, probed) -> (increment of the
        log-weights, state), as an optax transform with extra arguments.
      reads: names of the signals that it reads; none if the weights never move.
      start: what the weights are at first, unless the config says: "uniform", or
        "importance", P(domain | target).
      local: whether those probed may be moved as if there were no others.
    """

    init: optax.TransformInitFn
    update: optax.TransformUpdateExtraArgsFn
    reads: tuple[str, ...]
    start: str = "uniform"
    local: bool = False

    @property
    def moves(self) -> bool:
        """Whether the weights ever move."""
        return bool(self.reads)


class Option(NamedTuple):
    """An option of mixers: of one alone it is `config.mixer.NAME.OPTION`.

    Attributes:
      default: of its type, which is float, int, bool or str.
      rule: what values it may have, or None for any.
      about: what it means, on a line.
    """

    default: float | int | bool | str
    rule: Rule | None
    about: str


# What mixers share, `config.mixer.eta` and so on: may be schedules of the train step.
SCHEDULED = ("eta", "beta")
# Those that not every mixer has a use for, `config.mixer.kl` and so on; by default off.
SWITCHES = {
    "kl": Option(
        0.0,
        AtLeast(0),
        "a step without units: η is such that KL(α̂ ‖ α) is this; 0: η is eta",
    ),
    "debias": Option(
        False, None, "take off what the noise of alignments adds to weights"
    ),
    "adapt": Option(
        False, None, "β times the part of the alignments that is not noise"
    ),
}
# Of the run: its seed, how many targets it has, rows of a batch.
OF_RUN = ("seed", "targets", "batch_size")
SHARED = (*SCHEDULED, *SWITCHES, *OF_RUN)
# What every mixer is called with beside its own.
_AROUND = ("floor", "shrink")


class UnfitError(ValueError):
    """What an option holds does not fit the domains; the message says why.

    Attributes:
      option: its name.
    """

    def __init__(self, option: str, message: str):
        super().__init__(message)
        self.option = option


class Recipe:
    """A mixer by name: called with its options, `floor`, `shrink`, it is the `Mixer`.

    η and β may be numbers or schedules of the train step; the function sees their
    values, be it a step's.

    Args:
      function: as `mixer` takes it.
      reads, start, head, files, local: as `mixer` takes them.

    Attributes:
      name: of the function.
      shared: names of those of `SHARED` that it takes.
      options: its own, by name.
      reads, start, head, files, local: as given.

    Raises:
      TypeError: an argument cannot be an option; says why.
    """

    def __init__(
        self,
        function: Callable[..., optax.GradientTransformation],
        reads: tuple[str, ...],
        start: str = "uniform",
        head: bool = False,
        files: tuple[str, ...] = (),
        local: bool = False,
    ):
        functools.update_wrapper(self, function)
        self.name = function.__name__
        self.reads, self.start, self.head = tuple(reads), start, head
        self.files, self.local = tuple(files), local
        self._function = function
        self._signature = inspect.signature(function)
        arguments = self._signature.parameters
        for argument in arguments.values():
            _check_name(function, argument)
        self.shared = tuple(name for name in SHARED if name in arguments)
        self._off = {n: SWITCHES[n].default for n in self.shared if n in SWITCHES}
        self.options = {
            name: _option(function, argument, name in files)
            for name, argument in arguments.items()
            if name not in SHARED
        }

    @property
    def moves(self) -> bool:
        """Whether the weights ever move."""
        return bool(self.reads)

    def __call__(
        self, *args: Any, floor: float = 0.0, shrink: bool = False, **options: Any
    ) -> Mixer:
        """The mixer with these options.

        Args:
          *args: of the function.
          floor: least weight of any domain (or basis distribution) with rows.
          shrink: alignments are shrunk by their errors before it reads them.
          **options: of the function; those of `SWITCHES` are off if left out.
        """
        given = self._signature.bind(*args, **self._off | options).arguments
        if not self.reads:
            still = optax.with_extra_args_support(self._function(**given))
            return Mixer(*still, self.reads, self.start)

        def at(step: jax.typing.ArrayLike) -> optax.GradientTransformationExtraArgs:
            transform = simplex.among_probed(self._function(**_at(given, step)))
            if shrink and "alignments" in self.reads:
                transform = _shrunk(transform)
            if floor:
                transform = _floored(transform, floor)
            return simplex.skip_nonfinite(transform)

        def init(log_weights: jax.Array) -> optax.OptState:
            return at(0).init(log_weights)

        def update(
            signals: Signals,
            state: optax.OptState,
            params: jax.Array,
            *,
            step: jax.typing.ArrayLike = 0,
            **extra: Any,
        ) -> tuple[jax.Array, optax.OptState]:
            signals = only(signals, self.reads)
            return at(step).update(signals, state, params, step=step, **extra)

        # The floor is one of all weights.
        local = self.local and not floor
        return Mixer(init, update, self.reads, self.start, local)


MIXERS: dict[str, Recipe] = {}


def mixer(
    reads: tuple[str, ...],
    start: str = "uniform",
    head: bool = False,
    files: tuple[str, ...] = (),
    local: bool = False,
) -> Callable[[Callable[..., optax.GradientTransformation]], Recipe]:
    """Makes a function a mixer, which `--config.mixer.name` knows by its name.

    It takes those of `SHARED` that it wants, such as η and β, as `eta` and `beta`,
    without a default, as the run has them; every other argument has a default and is an
    option of its own. Its annotation is the option's type, with a bound if need be
    (`Annotated[float, AtLeast(0)]`), its line under "Args:" the meaning. It returns an
    optax transform from `Signals` to an increment of the log-weights [n], a higher one
    for whom is to gain: `optax.stateless` makes one of a function of both,
    `simplex.reading` of a transform of one signal, `simplex.rule` of a function that
    also asks who was probed. Normalising, the floor, weights of those not probed and
    numbers that are not finite are no concern of it: that is put around it. What was
    not measured is 0.

    Args:
      reads: names of fields of `Signals`: what it gets, and all that is measured; ()
        if the weights never move.
      start: where they begin, unless the config says: "uniform" or "importance".
      head: whether its alignments are those of the output head alone.
      files: names of its options that name a file of `np.save`, or nothing with "". It
        gets what is in it, an array of finite float32, or None, which is the default.
        What is in it is part of the run; `UnfitError` says that it is not for these
        domains.
      local: whether it asks nothing of domains that were not probed, and keeps nothing
        of them but what it knew: then an update costs what those probed do, however
        many domains there are.
    """
    if isinstance(reads, str) or not set(reads) <= set(Signals._fields):
        raise TypeError(f"reads={reads!r}: expected some of {Signals._fields}")

    def declare(function: Callable[..., optax.GradientTransformation]) -> Recipe:
        recipe = Recipe(function, reads, start, head, files, local)
        if recipe.name in MIXERS:
            raise TypeError(f"there are two mixers {recipe.name!r}")
        MIXERS[recipe.name] = recipe
        return recipe

    return declare


def _at(
    given: Mapping[str, Any], step: jax.typing.ArrayLike
) -> dict[str, jax.typing.ArrayLike]:
    """Arguments of which schedules have become their values."""
    return {
        name: value(step) if name in SCHEDULED and callable(value) else value
        for name, value in given.items()
    }


def _floored(
    inner: optax.GradientTransformationExtraArgs, minimum: float
) -> optax.GradientTransformationExtraArgs:
    """`inner`, then the floor: one longer chain, as checkpoints have always had it."""
    last = simplex.floor(minimum)

    def init(log_weights: jax.Array) -> optax.OptState:
        state = inner.init(log_weights)
        links = state if type(state) is tuple else (state,)
        return (*links, last.init(log_weights))

    def update(
        signal: jax.Array, state: optax.OptState, params: jax.Array, **extra: Any
    ) -> tuple[jax.Array, optax.OptState]:
        chained = type(jax.eval_shape(inner.init, params)) is tuple
        before = tuple(state[:-1]) if chained else state[0]
        delta, moved = inner.update(signal, before, params, **extra)
        delta, end = last.update(delta, state[-1], params, **extra)
        return delta, (*(moved if chained else (moved,)), end)

    return optax.GradientTransformationExtraArgs(init, update)


def _shrunk(
    inner: optax.GradientTransformationExtraArgs,
) -> optax.GradientTransformationExtraArgs:
    """`inner`, of alignments that `ascent.shrunk` made smaller."""

    def update(
        signals: Signals,
        state: optax.OptState,
        params: jax.Array,
        *,
        probed: jax.Array | None = None,
        **extra: Any,
    ) -> tuple[jax.Array, optax.OptState]:
        if signals.standard_errors is not None:
            alive = simplex.moving(params, probed)
            values, errors = ascent.shrunk(
                signals.alignments, signals.standard_errors, alive
            )
            signals = signals._replace(alignments=values, standard_errors=errors)
        return inner.update(signals, state, params, probed=probed, **extra)

    return optax.GradientTransformationExtraArgs(inner.init, update)


def _check_name(function: Callable, argument: inspect.Parameter) -> None:
    """Raises TypeError where its value would not be the one that it is given."""
    name, default = argument.name, argument.default
    where = f"mixer {function.__name__}: argument {name}"
    if name in _AROUND:
        raise TypeError(f"{where} is what is put around every mixer; rename it")
    if name in SHARED and default is not argument.empty:
        raise TypeError(
            f"{where}={default!r} would never be read: mixers share {name}, which the "
            "run gives; leave the default out, or rename it"
        )


def _option(
    function: Callable, argument: inspect.Parameter, is_file: bool = False
) -> Option:
    name, default = argument.name, argument.default
    where = f"mixer {function.__name__}: argument {name}"
    if default is argument.empty:
        raise TypeError(f"{where} has no default; only {', '.join(SHARED)} have none")
    about = _documented(function).get(name)
    if not about:
        raise TypeError(f"{where} has no line under Args: in the docstring")
    if is_file:
        if default is not None:
            raise TypeError(
                f"{where}={default!r} is what a file holds; its default is None"
            )
        return Option("", None, about)
    hint = typing.get_type_hints(function, include_extras=True).get(name)
    kind, rules = hint, []
    if typing.get_origin(hint) is typing.Annotated:
        kind, *rules = typing.get_args(hint)
    if kind not in _TYPES:
        names = ", ".join(t.__name__ for t in _TYPES)
        raise TypeError(f"{where} is annotated as {kind}; it may be {names}")
    rule = next((rule for rule in rules if isinstance(rule, Rule)), None)
    if rule and not rule.allows(default):
        raise TypeError(f"{where}={default!r}: {rule.says}")
    return Option(kind(default), rule, about)


def _documented(function: Callable) -> dict[str, str]:
    """What a docstring says of each argument, on a line, by name."""
    _, _, section = inspect.cleandoc(function.__doc__ or "").partition("\nArgs:\n")
    lines = re.split(r"\n(?=\S)", section)[0]
    entries = re.findall(r"^ {2}(\w+): (.*(?:\n(?: {3,}.*)?)*)", lines, re.MULTILINE)
    return {name: " ".join(text.split()).rstrip(".") for name, text in entries}
