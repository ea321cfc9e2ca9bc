"""From text to a store: steps that are done once, whatever runs them."""

from dga_jax.prepare.assemble.checks import check_distinct
from dga_jax.prepare.assemble.job import prepare_store
from dga_jax.prepare.assemble.options import (
    LeaveOut,
    Outcome,
    PassedOver,
    Prepared,
    Progress,
)

__all__ = [
    "LeaveOut",
    "Outcome",
    "PassedOver",
    "Prepared",
    "Progress",
    "check_distinct",
    "prepare_store",
]
