"""From text to a store: steps that are done once, whatever runs them."""

from dga_jax.data.build.checks import check_distinct
from dga_jax.data.build.contract import LeaveOut, Part, PassedOver, Prepared, Watch
from dga_jax.data.build.job import prepare_store

__all__ = [
    "LeaveOut",
    "Part",
    "PassedOver",
    "Prepared",
    "Watch",
    "check_distinct",
    "prepare_store",
]
