import pytest

from keras_dropblock import schedules


@pytest.mark.parametrize(
    "schedule, points",
    [
        (schedules.constant, {0: 1, 0.3: 1, 1: 1}),
        (schedules.linear, {0: 0, 0.25: 0.25, 0.5: 0.5, 1: 1}),
        (schedules.cosine, {0: 0, 1 / 3: 0.25, 0.5: 0.5, 2 / 3: 0.75, 1: 1}),
        (
            schedules.piecewise_constant([0.5, 0.75], [0, 0.2, 1]),
            {0: 0, 0.499: 0, 0.5: 0.2, 0.749: 0.2, 0.75: 1, 1: 1},
        ),
    ],
)
def test_schedules_pass_through_their_points(schedule, points):
    for progress, strength in points.items():
        assert schedule(progress) == pytest.approx(strength, abs=1e-12)


def test_every_named_schedule_ends_at_full_strength():
    assert all(f(1.0) == 1.0 for f in schedules.BY_NAME.values())


@pytest.mark.parametrize(
    "boundaries, values, argument",
    [
        ([0.5, 0.5], [0, 0.5, 1], "boundaries"),
        ([0.6, 0.5], [0, 0.5, 1], "boundaries"),
        ([0.0], [0, 1], "boundaries"),
        ([1.0], [0, 1], "boundaries"),
        ([60, 120], [0, 0.5, 1], "boundaries"),
        ([0.5], [0, 0.5, 1], "values"),
        ([0.5], [0, 1.5], "values"),
        ([0.5], [-0.1, 1], "values"),
    ],
)
def test_impossible_steps_are_refused(boundaries, values, argument):
    with pytest.raises(ValueError, match=f"`{argument}` must .*Received"):
        schedules.piecewise_constant(boundaries, values)
