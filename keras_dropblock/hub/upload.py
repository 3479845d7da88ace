"""Publishing of models on the Hugging Face Hub."""

import dataclasses
import pathlib
import tempfile

from keras_dropblock import models, tasks
from keras_dropblock.errors import WeightsError, summary
from keras_dropblock.hub import weights
from keras_dropblock.hub.huggingface import SCHEME, Repository, client

# Names of tasks and licenses on the hub. Licenses have lower-case names there.
_PIPELINES = {
    "classification": "image-classification",
    "detection": "object-detection",
    "segmentation": "image-segmentation",
}
_LICENSES = (
    "apache-2.0",
    "bsd-3-clause",
    "cc-by-4.0",
    "cc-by-nc-4.0",
    "cc-by-sa-4.0",
    "cc0-1.0",
    "mit",
    "unknown",
)


def upload(model, address, *, private=False, message="Upload the model"):
    """Publish a model on the Hugging Face Hub, in one commit.

    The repository gets the weights, `card.json`, a README with the hub's
    metadata, and the files of Keras. `kdb.load(address)` and
    `keras.saving.load_model(address)` then give the same model. The
    repository is created if it does not exist. Log in first: run
    `hf auth login`, or set HF_TOKEN.

    Args:
        model: a model with a card whose network can be built, such as one
            from `load` or from a work directory. The optimizer is left out.
        address: `hf://owner/name`, or `hf://owner/name@branch`.
        private: whether a new repository is private.
        message: first line of the commit.

    Returns:
        The address with the commit, `hf://owner/name@commit`.

    Raises:
        WeightsError: if the model has no such card, or the hub rejects the
            upload.
        MissingExtraError: if huggingface_hub is not installed.

    Example:
        >>> keras_dropblock.hub.upload(model, "hf://me/wrn_16_4_flowers")
    """
    repository = Repository.of(address)
    card = getattr(model, "card", None)
    if card is None or not card.builder:
        raise WeightsError(
            "`model` must have a card with a builder, as from "
            "`keras_dropblock.load` or a work directory. Set `model.card` to "
            "a `hub.Card` that describes it."
        )
    client()  # an error about the package comes before any work
    with tempfile.TemporaryDirectory() as folder:
        _write(model, card, pathlib.Path(folder), repository)
        return _commit(repository, pathlib.Path(folder), private, message)


def _write(model, card, folder, repository):
    """Write all files of the repository into an empty folder."""
    copy = card.build()  # not compiled, and as the card says
    try:
        models.copy_weights(model, copy)
    except (ValueError, TypeError) as error:
        raise WeightsError(
            f"`model` is not the {card.network or card.builder} that its card "
            f"describes: {summary(error)}."
        ) from error
    # The weights may have changed since the card was published.
    if card.published:
        copy.save_weights(folder / "model.weights.h5")
        file = folder / "model.weights.h5"
        entry = {
            "sha256": weights.digest(file),
            "bytes": file.stat().st_size,
            "url": None,
        }
        metrics = {**card.metrics, "weights": entry}
        card = dataclasses.replace(card, metrics=metrics)
    copy.card = card
    copy.save(folder, zipped=False)
    card.write(folder)
    text = _metadata(card).to_yaml()
    readme = f"---\n{text}\n---\n\n{_readme(card, model, repository)}"
    (folder / "README.md").write_text(readme, "utf-8")


def _metadata(card):
    """The hub's metadata, a `huggingface_hub.ModelCardData`."""
    hub = client()
    name = card.license.lower()
    license = {"license": name if name in _LICENSES else "other"}
    if license["license"] == "other":
        license["license_name"] = card.license
    if card.origin.startswith(SCHEME):
        license["base_model"] = Repository.of(card.origin).name
    dataset = card.dataset or "unknown"
    pipeline = _PIPELINES.get(card.task)
    results = [
        hub.EvalResult(
            task_type=pipeline or card.task,
            dataset_type=dataset,
            dataset_name=dataset,
            metric_type=name,
            metric_value=score["mean"],
        )
        for name, score in card.metrics.get("scores", {}).items()
        if score["mean"] is not None
    ]
    return hub.ModelCardData(
        **license,
        library_name="keras",
        pipeline_tag=pipeline,
        tags=["keras-dropblock", "dropblock"],
        datasets=[card.dataset] if card.dataset else None,
        metrics=[result.metric_type for result in results] or None,
        model_name=card.name,
        eval_results=results or None,
    )


def _readme(card, model, repository):
    """The README below the metadata, as Markdown."""
    of = card.preprocessing
    rows = [
        ("network", card.network or card.builder),
        ("parameters", f"{model.count_params():,}"),
        ("data", card.dataset or "not known"),
        ("classes", f"{len(card.class_names):,}"),
        ("image", " x ".join(map(str, of.image_shape))),
        ("crop", f"{of.crop_fraction:g}, {of.framing}, {of.interpolation}"),
        ("license", card.license),
        ("started from", card.origin or "random weights"),
    ]
    for metric in tasks.find(card.task).metrics:
        score = card.metrics.get("scores", {}).get(metric.name)
        if score and score["mean"] is not None:
            std = "" if score["std"] is None else f" ± {score['std']:.4g}"
            text = f"{score['mean']:.4g}{std}, n = {card.metrics.get('n')}"
            rows.append((metric.name, text))
    table = "\n".join(f"| {name} | {text} |" for name, text in rows)
    return f"""# {card.name}

| | |
| --- | --- |
{table}

```python
import keras_dropblock as kdb

model = kdb.load("{repository}")
print(kdb.predict(model, ["image.jpg"], top=5))
```
"""


def _commit(repository, folder, private, message):
    hub = client()
    api = hub.HfApi(library_name="keras_dropblock")
    operations = [
        hub.CommitOperationAdd(str(path.relative_to(folder)), path)
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    ]
    try:
        api.create_repo(repository.name, private=private, exist_ok=True)
        commit = api.create_commit(
            repository.name,
            operations,
            commit_message=message,
            revision=repository.revision,
        )
    except Exception as error:  # the type depends on version and transport
        reason = error.__cause__ if type(error) is RuntimeError else error
        raise WeightsError(
            f"Cannot upload to {repository}: {summary(reason)} Check that you "
            "are logged in (hf auth login) and may write there."
        ) from error
    return f"{repository}@{commit.oid}"
