"""The flag of every command that works on a run."""

from absl import flags

WORKDIR = flags.DEFINE_string(
    "workdir",
    None,
    "Folder of the run, or of a sweep's runs. To train on the same one again "
    "resumes.",
)
