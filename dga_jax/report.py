"""What a run did, as a table, a plot and a page.

    python -m dga_jax.report --workdir=runs/quickstart

reads the log of a run, finished or not, prints the table, draws mixture.png and writes
report.html.

    python -m dga_jax.report runs/one runs/other

does so of each, writes a page that has them side by side into the folder that they are
in, and says which of their evaluations are on the Pareto front of special against
general, with a plot beside the page.
"""

from collections.abc import Sequence

from absl import flags

from dga_jax import cli, files
from dga_jax.errors import UserError
from dga_jax.logs import front
from dga_jax.page.report import write_front, write_report, write_reports


def main(argv: Sequence[str]) -> None:
    """The command line: see the top of this file."""
    given, page = [*argv[1:], *flags.FLAGS.workdir], flags.FLAGS.page
    if not given:
        raise UserError("no run is given: report RUN, or RUN RUN of several")
    remedy = "give the directory of a run that is here, or mount the bucket"
    workdirs = [files.local_path("--workdir", name, remedy) for name in given]
    if len(workdirs) > 1:
        page = page and files.local_path("--page", page, "write it here")
        page = write_reports(workdirs, page)
        print()
        special, general = flags.FLAGS.special, flags.FLAGS.general
        write_front(workdirs, page.with_name("front.png"), special, general)
    elif page:
        raise UserError(f"--page={page}: that of one run lies in it; leave it out")
    else:
        write_report(workdirs[0])


if __name__ == "__main__":
    flags.DEFINE_multi_string("workdir", [], "Folder of a run, as those behind it.")
    flags.DEFINE_string("page", None, "Of several runs: the page to write.")
    flags.DEFINE_string("special", front.SPECIAL, "Of several runs: metric to gain.")
    flags.DEFINE_string("general", front.GENERAL, "Of several runs: metric to keep.")
    cli.run(main)
