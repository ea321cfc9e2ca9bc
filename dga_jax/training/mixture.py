"""The mixture of a run: its domains, the mixer that moves their weights, the sampler.

Joins `mixing` (which knows no data) and `data` (which knows no mixing) for the loop.
"""

import hashlib
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import jax
import numpy as np
from jax.sharding import Mesh
from ml_collections import ConfigDict

from dga_jax import sharding
from dga_jax.data.sampler import Cumulative, Sampler
from dga_jax.data.store import Domains, Store
from dga_jax.errors import UserError
from dga_jax.files import file_digest
from dga_jax.mixing import mixers
from dga_jax.mixing.mixers import MixerState
from dga_jax.mixing.signals import COUNTED, Signals, spread
from dga_jax.training import config as configs

if TYPE_CHECKING:
    from dga_jax.training.row_shares import RowShares

# More probes than this in one update are a mistake, not a plan.
_MOST_PROBES = 4096


class Probes(NamedTuple):
    """What an update measures.

    Attributes:
      indices: int64 [m], into the weights: domains, or basis distributions.
      rows: int64 [m, b], ids of training rows.
      owners: int64 [m, b], which of the m each row is of; None: b of each in turn.
    """

    indices: np.ndarray
    rows: np.ndarray
    owners: np.ndarray | None = None


class Mixture:
    """Domains of one level of a store, and how their weights move.

    Args:
      config: of the run; read are `mixer`, `data` and `seed`.
      store: the rows.
      initial: float64 [n], sums to 1, the initial weights; None: as the config says.

    Attributes:
      level: `data.level`.
      domains: of the store, at this level.
      available: bool [n], what has rows and so may have a weight.
      basis: the basis, or None where the domains' own weights move.
      names: names of what the weights are over: domains or basis distributions.
      mixer: the recipe.
      sampler: draws the rows.
      num_probes: domains, or basis distributions, measured in one update.
      scales_loss: whether weights scale the loss of rows, and not how many are drawn.

    Raises:
      UserError: an empty domain, or mixer options that do not fit the domains.
    """

    def __init__(
        self, config: ConfigDict, store: Store, initial: np.ndarray | None = None
    ):
        self.level = config.data.level
        self.domains = store.domains(self.level)
        _check_not_empty(self.domains, store)
        self._config = config
        takes_targets = "targets" in mixers.MIXERS[config.mixer.name].shared
        self._targets = store.targets.count if takes_targets else 1
        self.mixer = configs.make_mixer(config, self._targets)
        self.sampler = Sampler(
            config.seed,
            self.domains.offsets,
            limits=_limits(config, store, self.domains),
            max_epochs=config.data.max_epochs,
            systematic=config.data.systematic,
        )
        self._store = store
        self.basis = None
        if config.mixer.basis:
            from dga_jax.data import bases  # it takes SciPy, which few runs need

            self.basis = bases.find_basis(
                config.mixer.basis,
                store,
                config.data.level,
                config.mixer.smoothing,
                self.sampler.sizes > 0,
            )
        self._row_basis = self.basis and self.basis.reweighted(self._rows_per_token)
        self.names = self.basis.names if self.basis else self.domains.names
        self.available = (
            np.ones(len(self.names), bool) if self.basis else self.sampler.sizes > 0
        )
        self._count = int(self.available.sum())
        self._initial = self._initial_weights() if initial is None else initial
        self._check_counts()
        self.scales_loss = self.moves and config.mixer.apply == "loss"
        self._first = self.basis.mix(self._initial) if self.basis else self._initial
        self._check_enough_rows()
        jax.eval_shape(self.init)  # what the mixer has against these domains, it says

    @property
    def moves(self) -> bool:
        """Whether any update ever comes."""
        return self.mixer.moves

    @property
    def target_names(self) -> tuple[str, ...]:
        """Of the store's targets; none where there is one."""
        return self._store.targets.names

    @property
    def measures(self) -> bool:
        """Whether an update measures anything on probe rows."""
        return bool(set(self.mixer.reads) - {*COUNTED, "learning_rate"})

    @property
    def initial_digest(self) -> str:
        """Hex SHA-256 of the initial weights."""
        weights = np.ascontiguousarray(self._initial, "<f8")
        return hashlib.sha256(weights.tobytes()).hexdigest()

    @property
    def file_digests(self) -> dict[str, str]:
        """Hex SHA-256 of each file that an option of the mixer names, by its field."""
        recipe = mixers.MIXERS[self._config.mixer.name]
        given = self._config.mixer[recipe.name] if recipe.files else {}
        return {
            f"mixer.{recipe.name}.{option}": file_digest(Path(given[option]))
            for option in recipe.files
            if given[option]
        }

    def init(self) -> MixerState:
        """The initial weights, as `mixer.weights` says."""
        return configs.first_state(self._config, self.mixer, self._initial)

    def begin(self, mesh: Mesh) -> MixerState:
        """The same, placed as the loop has it."""
        where = sharding.replicated(mesh)
        return jax.tree.map(lambda x: sharding.place(np.asarray(x), where), self.init())

    def weights(self, state: MixerState) -> np.ndarray:
        """What moves, α or w: float64 [n], sums to 1."""
        weights = np.exp(np.asarray(state.log_weights, np.float64))
        return weights / weights.sum()

    def domain_weights(self, state: MixerState) -> np.ndarray:
        """α: float64 [k], the probability that a token comes from each domain."""
        weights = self.weights(state)
        return self.basis.mix(weights) if self.basis else weights

    def drawn_weights(self, state: MixerState) -> np.ndarray:
        """Shares of the tokens by which rows are drawn, float64 [k], sums to 1.

        α; the first α where weights scale the loss.
        """
        return self._first if self.scales_loss else self.domain_weights(state)

    def probability(self, state: MixerState, cursors: np.ndarray) -> np.ndarray:
        """With which a token comes from each domain from now on: float64 [k].

        0 of domains that are used up; NaN of all where nothing is left to draw.

        Args:
          state: what the last update left.
          cursors: int64 [k], rows drawn of each domain.
        """
        gone = self.sampler.used_up(cursors)
        left = np.where(gone, 0, self.drawn_weights(state))
        total = left.sum()
        return left / total if total else np.full(len(left), np.nan)

    def cumulative(self, state: MixerState) -> Cumulative:
        """Weights of rows, ready for the sampler.

        α is of tokens, and a row of domain i brings t_i of them on average: drawn with
        a probability ∝ α_i / t_i, the domain gives its share of the tokens, however
        full its rows are.
        """
        return Cumulative.of(self.drawn_weights(state) * self._rows_per_token)

    def loss_factors(self, state: MixerState, cursors: np.ndarray) -> np.ndarray | None:
        """By what each domain's loss is scaled: float32 [k]; None: rows are drawn so.

        α_i over the probability that a token is of domain i, both among the domains
        that `data.max_epochs` leaves: the mean over draws is then the loss of the
        mixture.

        Args:
          state: what the last update left.
          cursors: int64 [k], rows drawn of each domain before the batch.
        """
        if not self.scales_loss:
            return None
        weights = self.domain_weights(state)
        factors = weights / np.where(self._first > 0, self._first, 1)
        if self.sampler.max_epochs:
            left = ~self.sampler.used_up(cursors)
            asked = weights[left].sum()
            factors *= self._first[left].sum() / asked if asked else 1
        return factors.astype(np.float32)

    def probes(self, step: int, shares: "RowShares | None" = None) -> Probes:
        """What the update after train step `step` measures.

        Args:
          step: the train step.
          shares: how many rows each gets; None: all get the same.
        """
        if self.basis:
            indices = np.arange(len(self.basis.names))
        else:
            update = configs.updates_before(self._config, step)
            indices = self.sampler.probed_domains(
                update, self._config.mixer.probe_domains
            )
        each = self._config.mixer.probe_rows
        counts = shares.counts(indices) if shares else each
        rows = (
            self.sampler.basis_probes(step, self._row_basis.draw, counts)
            if self.basis
            else self.sampler.probes(step, indices, counts)
        )
        if not shares:
            return Probes(indices, rows)
        owners = np.repeat(np.arange(len(indices)), counts)
        return Probes(indices, rows.reshape(-1, each), owners.reshape(-1, each))

    def update(
        self,
        state: MixerState,
        step: int,
        indices: np.ndarray,
        signals: Signals | np.ndarray,
    ) -> MixerState:
        """Moves the weights by what was measured at `indices` [m].

        Args:
          state: what the last update left.
          step: the train step.
          indices: int64 [m], into the weights.
          signals: by domain [m], where they are not counted, [n], or not by domain;
            an array [m] is the alignments.
        """
        if not isinstance(signals, Signals):
            signals = Signals(alignments=signals)
        count, everyone = len(self.names), len(indices) == self._count
        if everyone and len(indices) < count:  # who is not there has nothing to keep
            signals = spread(signals, indices, count)
        return mixers.update(
            self.mixer,
            state,
            signals,
            step=step,
            indices=None if everyone else indices,
        )

    def blank(self) -> Signals:
        """Signals of zeros, such as an update takes: what the mixer reads."""
        shapes = dict.fromkeys(self.mixer.reads, (self.num_probes,))
        shapes |= {name: (len(self.names),) for name in COUNTED if name in shapes}
        targets = (self._targets,)
        given = {
            "learning_rate": (),
            "target_losses": targets,
            "target_alignments": (*targets, self.num_probes),
        }
        shapes |= {name: shape for name, shape in given.items() if name in shapes}
        if "alignments" in shapes:
            shapes["standard_errors"] = shapes["alignments"]
        return Signals(**{n: np.zeros(s, np.float32) for n, s in shapes.items()})

    def skipped_updates(self, state: MixerState) -> int:
        """How many updates were skipped because a signal was not finite."""
        return int(state.inner.skipped) if self.moves else 0

    @property
    def _rows_per_token(self) -> np.ndarray:
        return 1 / self.domains.tokens_per_row

    def _initial_weights(self) -> np.ndarray:
        text = self._config.mixer.weights.strip() or self.mixer.start
        available = self.available
        if text == "uniform":
            return available / available.sum()
        if text in ("natural", "importance"):
            if self.basis:
                raise UserError(
                    f"config.mixer.weights={text}: these are weights of domains, not of"
                    " a basis; leave it empty or name its distributions"
                )
            if text == "natural":
                return self.domains.natural_weights(available)
            mixer, level = self._config.mixer, self._config.data.level
            from dga_jax.data import bases

            return bases.importance_weights(
                self._store, level, mixer.reference, mixer.smoothing, available
            )
        from dga_jax.training.named_weights import named_weights

        return named_weights(text, self.names, available)

    def _check_counts(self) -> None:
        mixer, count = self._config.mixer, self._count
        wanted = mixer.probe_domains if self.measures else count
        self.num_probes = min(wanted or count, count)
        if self.measures and self.num_probes == 1 < count:
            raise UserError(
                f"config.mixer.probe_domains={mixer.probe_domains}: weights move "
                "between the domains that were probed; use 2 or more, or 0 for all"
            )
        weighted = np.count_nonzero(self._initial)
        if mixer.floor * weighted > 1:
            raise UserError(
                f"config.mixer.floor={mixer.floor}: {weighted} weights of at least that"
                f" cannot sum to 1; use at most {1 / weighted:.3g}"
            )
        if self.measures and self.num_probes > _MOST_PROBES:
            raise UserError(
                f"config.mixer.probe_domains={mixer.probe_domains}: every update would "
                f"probe {self.num_probes} domains; set it to at most {_MOST_PROBES}, "
                "or use a basis (mixer.basis)"
            )

    def _check_enough_rows(self) -> None:
        """Better now than when the last row is drawn, days later."""
        data, train = self._config.data, self._config.train
        available = data.max_epochs * int(self.sampler.sizes[self._first > 0].sum())
        needed = train.steps * train.batch_size
        if data.max_epochs and available < needed:
            raise UserError(
                f"config.data.max_epochs={data.max_epochs}: {available:,} rows may be "
                f"drawn, but {train.steps:,} steps of {train.batch_size} need "
                f"{needed:,}: lower train.steps, raise data.max_epochs or "
                "data.tokens_per_domain, or bring more text"
            )


def _check_not_empty(domains: Domains, store: Store) -> None:
    """Named domains must have rows; clusters need not."""
    empty = np.flatnonzero(domains.num_rows == 0)
    if empty.size and not store.branching:
        raise UserError(
            f"store {store.path}: domain {domains.names[empty[0]]!r} has no training "
            "rows; give it text or leave it out, and prepare the store again"
        )


def _limits(config: ConfigDict, store: Store, domains: Domains) -> np.ndarray | None:
    """Rows of each domain that may be used: int64 [k], or None for all of them.

    As many as hold `data.tokens_per_domain` tokens on average, one at least. Where the
    limit is one of coarser domains, its rows are shared out among the domains that make
    one up, in proportion: exactly as many in all.
    """
    tokens = config.data.tokens_per_domain
    if not tokens:
        return None
    if config.data.tokens_level < 0:
        return _rows_of(tokens, domains)
    parents = store.domains(config.data.tokens_level)
    if len(parents) > len(domains):
        raise UserError(
            f"config.data.tokens_level={config.data.tokens_level}: must not be finer"
            f" than data.level={config.data.level}"
        )
    stride = len(domains) // len(parents)
    rows = np.repeat(np.maximum(parents.num_rows, 1), stride)
    allowed = np.repeat(_rows_of(tokens, parents), stride)
    first = np.repeat(parents.offsets[:-1], stride)
    before, after = domains.offsets[:-1] - first, domains.offsets[1:] - first
    return after * allowed // rows - before * allowed // rows


def _rows_of(tokens: int, domains: Domains) -> np.ndarray:
    """Rows that hold so many tokens, of those that a domain has: int64 [k]."""
    wanted = np.maximum(tokens // domains.tokens_per_row, 1)
    return np.minimum(wanted, domains.num_rows).astype(np.int64)
