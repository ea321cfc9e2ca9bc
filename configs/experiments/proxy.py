"""Does the proxy rank mixtures as the quickstart's model does?"""

from ml_collections import ConfigDict

from configs import proxy, quickstart
from dga_jax.experiment.spec import Experiment, Figure, seeds
from dga_jax.training.config import apply_argument
from dga_jax.training.fields import get

_MODEL = (
    "model.num_layers",
    "model.d_model",
    "model.num_heads",
    "model.d_ff",
    "train.steps",
    "train.seq_len",
    "optimizer.learning_rate",
    "eval.every",
)
_NAMES = ("austen", "bible_web", "dm_math", "factbook", "metamath", "python_code")
_NAMES = (*_NAMES, "sotu_early", "wordnet")


def get_config(argument: str | None = None) -> ConfigDict:
    """Fixed mixtures of the sample's eight domains, under both models."""
    config = proxy.get_config()
    models = {
        "quickstart": quickstart.get_config("train.steps=150"),
        "proxy": proxy.get_config(),
    }
    config.experiment = Experiment(
        question="Does the proxy rank mixtures as the quickstart's model does?",
        axes={
            "seed": seeds(1),
            "model": {
                name: {field: get(one, field) for field in _MODEL}
                for name, one in models.items()
            },
            "mixture": _mixtures(),
        },
        baseline={"mixture": "uniform"},
        ranks="model",
        figure=Figure("forest", lines="mixture", panels="model"),
        answer=(
            "Nearly: the rank correlation of the target's losses is 0.933 over nine"
            " mixtures, and both put the same four first. A run of the proxy took 9 s,"
            " one of the quickstart's model 40 s for half of its steps (medians of"
            " `seconds` in `results.jsonl`)."
        ),
        shows_not=(
            "One seed and one target; nine mixtures that are far apart. Three come in"
            " the opposite order: `austen`, `sotu_early`, `wordnet` under the proxy,"
            " `wordnet`, `sotu_early`, `austen` under the quickstart's model."
        ),
        data=(
            "The eight domains of `sample/`, the target the documentation of Python."
            " The quickstart's model is trained for half of its steps."
        ),
    )
    return apply_argument(config, argument)


def _mixtures() -> dict[str, dict[str, str]]:
    """The even one, and each with most of its weight on one domain or two."""
    found = {"uniform": _mixture({})}
    for name in (
        "austen",
        "dm_math",
        "factbook",
        "python_code",
        "sotu_early",
        "wordnet",
    ):
        found[name] = _mixture({name: 0.65})
    found["code+austen"] = _mixture({"python_code": 0.5, "austen": 0.2})
    found["code+factbook"] = _mixture({"python_code": 0.5, "factbook": 0.2})
    return found


def _mixture(most: dict[str, float]) -> dict[str, str]:
    """What is left is shared evenly by the others."""
    others = [name for name in _NAMES if name not in most]
    share = (1 - sum(most.values())) / len(others)
    weights = most | dict.fromkeys(others, share)
    pairs = ",".join(f"{name}={weights[name]:.6g}" for name in _NAMES)
    return {"mixer.name": "static", "mixer.weights": pairs}
