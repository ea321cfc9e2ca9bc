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

from dga_jax.bounds import Rule
from dga_jax.mixing import simplex

# What mixers share, `config.mixer.eta` and so on: may be schedules of the train step.
SHARED = ("eta", "beta")
SIGNALS = ("alignments", None)
_TYPES = (float, int, bool, str)


class Mixer(NamedTuple):
    """A rule that turns signals into new weights.

    Attributes:
      init: log-weights [n] -> the mixer's state.
      update: (signal [n], state, log-weights [n], *, step, probed) -> (increment of the
        log-weights, state), as an optax transform with extra arguments.
      signal: "alignments", or None if the weights never move.
      start: what the weights are at first, unless the config says: "uniform", or
        "importance", P(domain | target).
    """

    init: optax.TransformInitFn
    update: optax.TransformUpdateExtraArgsFn
    signal: str | None
    start: str = "uniform"


class Option(NamedTuple):
    """An option of one mixer alone: `config.mixer.NAME.OPTION`.

    Attributes:
      default: of its type, which is float, int, bool or str.
      rule: what values it may have, or None for any.
      about: what it means, on a line.
    """

    default: float | int | bool | str
    rule: Rule | None
    about: str


class Recipe:
    """A mixer by name: called with its options, and `floor`, it gives the `Mixer`.

    η and β may be numbers or schedules of the train step; the function sees their
    values, be it a step's.

    Args:
      function: as `mixer` takes it.
      signal: what it reads.
      start: where the weights begin.

    Attributes:
      name: of the function.
      shared: names of those of `SHARED` that it takes.
      options: its own, by name.
      signal, start: as in `Mixer`.

    Raises:
      TypeError: an argument cannot be an option; says why.
    """

    def __init__(
        self,
        function: Callable[..., optax.GradientTransformation],
        signal: str | None,
        start: str,
    ):
        functools.update_wrapper(self, function)
        self.name = function.__name__
        self.signal, self.start = signal, start
        self._function = function
        self._signature = inspect.signature(function)
        self.shared = tuple(n for n in SHARED if n in self._signature.parameters)
        self.options = {
            name: _option(function, parameter)
            for name, parameter in self._signature.parameters.items()
            if name not in SHARED
        }

    def __call__(self, *args: Any, floor: float = 0.0, **options: Any) -> Mixer:
        """The mixer with these options.

        Args:
          *args: of the function.
          floor: least weight of any domain (or basis distribution) with rows.
          **options: of the function.
        """
        given = self._signature.bind(*args, **options).arguments
        if self.signal is None:
            still = optax.with_extra_args_support(self._function(**given))
            return Mixer(*still, self.signal, self.start)

        def at(step: jax.typing.ArrayLike) -> optax.GradientTransformationExtraArgs:
            transform = simplex.among_probed(self._function(**_at(given, step)))
            if floor:
                transform = _floored(transform, floor)
            return simplex.skip_nonfinite(transform)

        def init(log_weights: jax.Array) -> optax.OptState:
            return at(0).init(log_weights)

        def update(
            signal: jax.Array,
            state: optax.OptState,
            params: jax.Array,
            *,
            step: jax.typing.ArrayLike = 0,
            **extra: Any,
        ) -> tuple[jax.Array, optax.OptState]:
            return at(step).update(signal, state, params, step=step, **extra)

        return Mixer(init, update, self.signal, self.start)


MIXERS: dict[str, Recipe] = {}


def mixer(
    signal: str | None, start: str = "uniform"
) -> Callable[[Callable[..., optax.GradientTransformation]], Recipe]:
    """Makes a function a mixer, which `--config.mixer.name` knows by its name.

    It takes η and β, as `eta` and `beta`, if it wants them; every other argument has a
    default and is an option of its own. Its annotation is the option's type, with a
    bound if need be (`Annotated[float, AtLeast(0)]`), its line under "Args:" the
    meaning. It returns an optax transform from the signal [n] to an increment of the
    log-weights [n], a higher one for whom is to gain; `optax.stateless` makes one of a
    function of both. Who was not probed, normalising, the floor and numbers that are
    not finite are no concern of it: that is put around it.

    Args:
      signal: "alignments", or None if the weights never move.
      start: where they begin, unless the config says: "uniform" or "importance".
    """
    if signal not in SIGNALS:
        raise TypeError(f"signal={signal!r}: expected one of {SIGNALS}")

    def declare(function: Callable[..., optax.GradientTransformation]) -> Recipe:
        recipe = Recipe(function, signal, start)
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
        name: value(step) if name in SHARED and callable(value) else value
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


def _option(function: Callable, parameter: inspect.Parameter) -> Option:
    name, default = parameter.name, parameter.default
    where = f"mixer {function.__name__}: argument {name}"
    if default is parameter.empty:
        raise TypeError(
            f"{where} has no default; only {' and '.join(SHARED)} have none"
        )
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
    about = _documented(function).get(name)
    if not about:
        raise TypeError(f"{where} has no line under Args: in the docstring")
    return Option(kind(default), rule, about)


def _documented(function: Callable) -> dict[str, str]:
    """What a docstring says of each argument, on a line, by name."""
    _, _, section = inspect.cleandoc(function.__doc__ or "").partition("\nArgs:\n")
    lines = re.split(r"\n(?=\S)", section)[0]
    entries = re.findall(r"^ {2}(\w+): (.*(?:\n(?: {3,}.*)?)*)", lines, re.MULTILINE)
    return {name: " ".join(text.split()).rstrip(".") for name, text in entries}
