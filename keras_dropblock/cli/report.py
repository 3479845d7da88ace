"""keras-dropblock-report RUN...: write one HTML page that compares runs.

RUN is the work directory of a run, or the folder of a search. Runs
that differ only in the seed are averaged. The page includes the pictures and
tables in each run's folder `analysis`. It opens in a browser without a network.

    keras-dropblock-report runs/wrn_16_4 runs/wrn_16_4_dropblock
"""

from absl import app, flags

from keras_dropblock import cli
from keras_dropblock.cli.out import OUT

TAKES_ARGUMENTS = True
_ANALYSIS = flags.DEFINE_string(
    "analysis",
    None,
    "Folder that keras-dropblock-analyze wrote about several of the runs.",
)


def report(runs=()):
    if not runs:
        raise app.UsageError("At least one run must be given.")
    from keras_dropblock.report import page
    from keras_dropblock.training.recipe import defaults

    path = page.write(
        runs,
        OUT.value or "report.html",
        analysis=_ANALYSIS.value,
        defaults=defaults,
    )
    print(f"The report is in {path}.")


def main():
    cli.run(report)


if __name__ == "__main__":
    cli.refuse(__spec__)
