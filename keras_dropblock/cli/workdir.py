"""The flag shared by the commands that use a run."""

from absl import flags

WORKDIR = flags.DEFINE_string(
    "workdir",
    None,
    "Folder of the run, or of the runs of a search. Training again with the "
    "same folder resumes.",
)
