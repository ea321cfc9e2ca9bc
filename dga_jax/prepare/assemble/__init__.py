"""From text to a store: steps that are done once, whatever runs them."""

from dga_jax.prepare.assemble.checks import check_distinct
from dga_jax.prepare.assemble.job import prepare_store
from dga_jax.prepare.assemble.options import LeaveOut, Part, PassedOver, Prepared, Watch

__all__ = [
    "LeaveOut",
    "Part",
    "PassedOver",
    "Prepared",
    "Watch",
    "check_distinct",
    "prepare_store",
]
