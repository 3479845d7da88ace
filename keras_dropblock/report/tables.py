"""Tables of groups of runs: their scores and their recipes."""

from keras_dropblock.report import groups

_SPLITS = ("test", "validation")


def scores(grouped, keys):
    """(title, heading, rows) for each task and each split with scores."""
    result = []
    for task in dict.fromkeys(group.runs[0].card.task for group in grouped):
        members = [g for g in grouped if g.runs[0].card.task == task]
        metrics = members[0].metrics
        for split in _SPLITS:
            found = [group.scores(split) for group in members]
            if split != "test" and not any(found):
                continue
            rows = [
                _row(group, keys, metrics, of_group)
                for group, of_group in zip(members, found, strict=True)
            ]
            heading = [*(keys or ["model"]), "n", "seeds"]
            heading += [metric.heading for metric in metrics]
            result.append((f"{task}, {split} split", heading, rows))
    return result


def _row(group, keys, metrics, scores):
    values = [groups.shown(group.recipe.get(key)) for key in keys or ["model"]]
    means = [
        groups.mean_and_std(
            [score[metric.name] for score in scores if metric.name in score],
            metric,
        )
        for metric in metrics
    ]
    seeds = ", ".join(map(str, group.seeds))
    return [*values, str(len(scores)), seeds, *means]


def recipe(grouped, defaults):
    """(key, its values in the groups, whether one is not the default).

    Args:
        grouped: list of `Group`s.
        defaults: see `page.write`.
    """
    usual = [{} for _ in grouped]
    if defaults is not None:
        usual = [defaults(group.runs[0].card.task) for group in grouped]
    rows = []
    order = [key for group in grouped for key in group.recipe]
    for key in dict.fromkeys(order):
        if key == "seed":
            continue
        values = [group.recipe.get(key) for group in grouped]
        texts = dict.fromkeys(map(groups.shown, values))
        changed = defaults is not None and any(
            _listed(value) != _listed(of_task.get(key))
            for value, of_task in zip(values, usual, strict=True)
        )
        rows.append((key, " | ".join(texts), changed))
    return rows


def _listed(value):
    """A value of a recipe as in a file, where tuples are lists."""
    return list(value) if isinstance(value, tuple) else value
