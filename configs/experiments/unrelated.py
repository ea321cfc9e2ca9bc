"""A target like nothing in the corpus: random characters."""

from ml_collections import ConfigDict

from configs import proxy_clusters
from configs.experiments import sample
from dga_jax.experiment.spec import Experiment, Figure, seeds
from dga_jax.training.config import apply_argument


def get_config(argument: str | None = None) -> ConfigDict:
    """All else as in the headline."""
    config = proxy_clusters.get_config()
    config.data.store = "stores/unrelated"
    mixers = sample.mixers_of_one_target()
    config.experiment = Experiment(
        question="What if the target is like nothing in the corpus?",
        axes={
            "seed": seeds(3),
            "mixer": mixers | {"dga-direct": {"mixer.probe_domains": 20}},
        },
        baseline={"mixer": "natural"},
        also=("dga-begun", "held"),
        figure=Figure("forest", lines="mixer"),
        answer=(
            "Nothing is gained, little is lost, and the run says so. Towards random"
            " characters DGA over 256 clusters themselves stays near even weights"
            " (226 effective domains of 256) and ends 0.06 nats above the natural"
            " mixture on the corpus, where uniform weights end 0.04 above; over a"
            " basis, whose few distributions are pushed further by the same noise, it"
            " ends 0.17 above from even weights and 0.07 from the histogram. On the"
            " target nobody beats the natural mixture: every run ends above its best,"
            " which is at step 50 in 17 of 21, and for that there is a warning"
            " (`unrelated`, [signs](../../failures.md))."
        ),
        shows_not=(
            "One kind of unrelated target, which has nothing to learn but how frequent"
            " characters are. The weights over a basis do not come back to where they"
            " began: the noise of the alignments is what moves them, and `mixer.shrink`"
            " or more probe rows is against that. Three seeds."
        ),
        data=(
            "The corpora of `stores/report`; the target is 400 documents of 2,000"
            " printable characters drawn at random, made as the [index](../README.md)"
            " says."
        ),
    )
    return apply_argument(config, argument)
