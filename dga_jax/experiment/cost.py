"""What a run cost, as its log says, without what was spent to look at it."""

from collections.abc import Mapping, Sequence

from dga_jax.logs.metrics import history

_BEGIN = "cost/"

Lines = Sequence[Mapping[str, float | None]]


def of_run(lines: Lines) -> dict[str, float]:
    """Tokens and FLOPs by kind, "KIND_tokens" and "KIND_flops"; "flops" of all of them.

    How often a run is evaluated is for the experiment to say and no cost of a mixer:
    evaluations are not in the sum.

    Args:
      lines: of a finished run.
    """
    keys = dict.fromkeys(key for line in lines for key in line)
    found = {
        key.removeprefix(_BEGIN): history(lines, key)[1][-1].item()
        for key in keys
        if key.startswith(_BEGIN)
    }
    found["flops"] -= found["eval_flops"]
    return found
