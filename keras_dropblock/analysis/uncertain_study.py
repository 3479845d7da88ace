"""The study of uncertainty: calibration, errors and unknown images."""

import functools
import pathlib

import numpy as np

from keras_dropblock import files
from keras_dropblock.analysis import calibration, charts, uncertainty
from keras_dropblock.analysis.outputs import outputs
from keras_dropblock.analysis.subjects import write


def study_uncertainty(subjects, folder, settings):
    """Monte Carlo predictions, calibration, errors and unknown images.

    Networks are compared with one prediction, with its logits divided by the
    fitted temperature and, if they have layers that drop, with Monte Carlo.
    """
    rows, reliable, rejected = [], [], []
    for subject in subjects:
        fit, (images, labels) = divided(subject)
        for method, temperature, predict in _methods(subject, fit, settings):
            known = predict(images)
            found = {
                "temperature": temperature,
                **uncertainty.score_uncertainty(known, labels),
            }
            for name, others in subject.unknown.items():
                unknown = uncertainty.score_unknown(known, predict(others))
                found[f"{name}_images"] = unknown.pop("images")
                found |= {f"{name}_{key}": x for key, x in unknown.items()}
            rows += subject.rows([found], method)
            correct = known.mean.argmax(1) == labels
            curve = uncertainty.rejection_curve(known.entropy, correct)
            rejected += subject.rows(curve, method)
            bins = calibration.reliability(known.mean, labels)
            reliable += subject.rows(bins, method)
    folder = pathlib.Path(folder)
    _draw(reliable, rejected, folder)
    files.write_csv(folder / "reliability.csv", reliable)
    files.write_csv(folder / "rejection.csv", rejected)
    held_out = all(subject.validation is not None for subject in subjects)
    write(
        folder,
        "uncertainty",
        "Uncertainty",
        rows,
        subjects,
        settings,
        bins=len({row["low"] for row in reliable}),
        samples=settings.samples,
        temperature_fitted_on="the validation split"
        if held_out
        else "every second test image; the scores are those of the others",
    )


def divided(subject):
    """((images, labels) to fit the temperature, (images, labels) to score).

    Without a validation split, every second test image is used to fit it, and
    the others to score.
    """
    test = subject.images, subject.labels
    if subject.validation is not None:
        return subject.validation, test
    return tuple(x[::2] for x in test), tuple(x[1::2] for x in test)


def _methods(subject, fit, settings):
    """(name, temperature, function from images to `Uncertain`) of each."""
    fit_images, fit_labels = fit
    logits = outputs(subject.model, subject.inputs(fit_images))
    temperature = calibration.fit_temperature(logits, fit_labels)
    yield "one prediction", 1.0, functools.partial(_once, subject, 1.0)
    once = functools.partial(_once, subject, temperature)
    yield "temperature fitted", temperature, once

    def several(images):
        return uncertainty.monte_carlo(
            subject.model,
            subject.inputs(images),
            samples=settings.samples,
            stochastic_depth=True,
        )

    if uncertainty.drops(subject.model):
        yield "Monte Carlo", 1.0, several


def _once(subject, temperature, images):
    logits = outputs(subject.model, subject.inputs(images))
    mean = calibration.softmax(logits / temperature)
    entropy = uncertainty.entropy(mean)
    return uncertainty.Uncertain(mean, entropy, np.zeros_like(entropy))


def _draw(reliable, rejected, folder):
    panels = [
        charts.Panel(
            "Reliability",
            "confidence (middle of the interval)",
            "accuracy",
            charts.series(
                [
                    {**row, "middle": (row["low"] + row["high"]) / 2}
                    for row in reliable
                ],
                "middle",
                "accuracy",
            ),
            diagonal=True,
        ),
        charts.Panel(
            "Images of high entropy rejected",
            "share of images kept",
            "accuracy",
            charts.series(rejected, "kept", "accuracy"),
        ),
    ]
    charts.draw(panels, folder / "uncertainty.png", share=False)
