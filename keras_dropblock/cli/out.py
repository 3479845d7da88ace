"""The flag of commands that write a file or a folder."""

from absl import flags

OUT = flags.DEFINE_string(
    "out",
    None,
    "What to write. keras-dropblock-export: the folder of the model, such as "
    "saved_models/NAME. A SavedModel is written to a new version below it, "
    "other formats to a file in it. keras-dropblock-analyze: a folder. For a "
    "single run, the default is its folder `analysis`, which "
    "keras-dropblock-report shows. keras-dropblock-report: an HTML file, by "
    "default report.html.",
)
