"""The fields of a config that say how the weights move; `fields` has the others."""

from dga_jax.bounds import Above, AtLeast, OneOf, Or, Within
from dga_jax.mixing.alignment import ESTIMATORS
from dga_jax.mixing.mixers import MIXERS
from dga_jax.mixing.recipe import SWITCHES
from dga_jax.training.field import Field, Touches

_ROUNDING = Touches.ROUNDING
_VALUES, _UPDATES, _ALL = Touches.VALUES, Touches.UPDATES, Touches.ALL
_DIGESTS = Touches.DIGESTS
_NOT_NEGATIVE, _POSITIVE = AtLeast(0), Above(0)


def _switch(name: str) -> Field:
    default, rule, about = SWITCHES[name]
    return Field(default, Touches.MIXER, about, rule)


MIXER: dict[str, Field] = {
    "mixer.name": Field("dga", _ALL, "the rule that moves the weights", OneOf(MIXERS)),
    "mixer.weights": Field(
        "",
        _DIGESTS,
        "where they begin: uniform, natural, importance, NAME=W,NAME=W or FILE.json;"
        " PART:*=W is shared by all of a part of the basis;"
        ' "": what the mixer begins with',
    ),
    "mixer.interval": Field(
        100, _VALUES, "T_r, train steps between updates of the weights", _POSITIVE
    ),
    "mixer.start": Field(0, _VALUES, "no update before this step", _NOT_NEGATIVE),
    "mixer.eta": Field(5.0, _VALUES, "η, how far an update goes", _NOT_NEGATIVE),
    "mixer.eta_end": Field(
        -1.0,
        _VALUES,
        "η at the last step, on a line from eta; -1: it is constant",
        Or(-1, _NOT_NEGATIVE),
    ),
    "mixer.beta": Field(
        0.1,
        _VALUES,
        "β, share of the new weights in the moving average; 1: no average",
        Within("(0, 1]"),
    ),
    "mixer.beta_end": Field(
        -1.0,
        _VALUES,
        "β at the last step, on a line from beta; -1: it is constant",
        Or(-1, Within("(0, 1]")),
    ),
    "mixer.floor": Field(
        0.0,
        Touches.MIXER,
        "least weight of a domain, or distribution of the basis, that has one at first",
        _NOT_NEGATIVE,
    ),
    "mixer.kl": _switch("kl"),
    "mixer.shrink": Field(
        False, Touches.MIXER, "shrink alignments by their standard errors"
    ),
    "mixer.debias": _switch("debias"),
    "mixer.adapt": _switch("adapt"),
    "mixer.probe_rows": Field(
        8, _UPDATES, "b, rows of a domain that an update measures", _POSITIVE
    ),
    "mixer.probe_by_error": Field(
        False,
        _UPDATES,
        "an update's rows go to the domains whose alignments are noisiest, half of"
        " probe_rows at least to each: as many in all",
    ),
    "mixer.target_rows": Field(
        64, _UPDATES, "rows of the target that an update measures", _POSITIVE
    ),
    "mixer.targets": Field(
        "",
        _UPDATES,
        "NAME=W,NAME=W of several targets: the weights of their losses in what is"
        ' steered towards; "": each row counts the same',
    ),
    "mixer.probe_domains": Field(
        0, _UPDATES, "domains that an update measures; 0: all", _NOT_NEGATIVE
    ),
    "mixer.estimator": Field(
        "forward", _ROUNDING, "how alignments are differentiated", OneOf(ESTIMATORS)
    ),
    "mixer.chunk": Field(
        0,
        _ROUNDING,
        "domains measured at a time; 0: as many as fit a microbatch",
        _NOT_NEGATIVE,
    ),
    "mixer.normalise": Field(
        True, _UPDATES, "divide alignments by the norm of the target's gradient"
    ),
    "mixer.precondition": Field(
        False, _UPDATES, "align with the step that Adam would make, not the gradient"
    ),
    "mixer.head": Field(
        False, _UPDATES, "align by the gradient of the output head alone"
    ),
    "mixer.apply": Field(
        "draws",
        Touches.MIXER,
        "rows are drawn by the weights; or by the first weights, and each row's loss is"
        " scaled by what they have become",
        OneOf(("draws", "loss")),
    ),
    "mixer.reference_run": Field(
        "",
        Touches.MIXER,
        "a run on the same store, whose losses some mixers read: its workdir, @STEP or"
        " the newest checkpoint",
    ),
    "mixer.basis": Field(
        "",
        _DIGESTS,
        "distributions over the domains whose weights move instead: the name of one"
        " stored with the store, levelL, target, natural, a .npy or .npz file with P,"
        " or several of these joined with +",
    ),
    "mixer.reference": Field(
        "target",
        _DIGESTS,
        "whose histogram importance takes: target, target/NAME of several, or"
        " BASIS/NAME of a stored basis",
    ),
    "mixer.smoothing": Field(
        1.0,
        _DIGESTS,
        "documents of the natural distribution in a histogram",
        _NOT_NEGATIVE,
    ),
}
