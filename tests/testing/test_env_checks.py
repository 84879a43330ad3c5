"""What frames say about an env, on frames that are made up."""

from collections.abc import Sequence

import gymnasium
import numpy as np

from nearer.testing.env_checks import (
    check_after_end,
    check_autoreset,
    check_cameras,
    check_rate,
    check_start_is_new,
    check_visible,
    measured_rate,
    reports_success,
    visible_after,
)
from nearer.testing.env_probe import REST_STEPS, Frame


def frame_of(*numbers: float, image: int = 0, at_s: float = 0.0, **info: object) -> Frame:
    return Frame(
        numbers=np.array(numbers, np.float32),
        digests={"front": bytes([image])},
        info=info,
        took_s=0.0,
        at_s=at_s,
    )


def frames_of(numbers: Sequence[float], images: Sequence[int] | None = None) -> list[Frame]:
    shown = images or range(len(numbers))
    return [frame_of(number, image=image) for number, image in zip(numbers, shown, strict=True)]


REST = [0.0, 0.001, -0.001, 0.0, 0.001, 0.0]
"""A start and five steps of a sensor with noise."""


def test_action_shows_where_motion_exceeds_the_noise_before_it() -> None:
    assert len(REST) == REST_STEPS + 1
    assert visible_after(frames_of([*REST, 0.001, 0.2, 0.4]), None) == 2
    assert visible_after(frames_of([*REST, 0.001, 0.002, 0.0]), None) is None
    assert visible_after(frames_of(REST), None) is None


def test_action_shows_where_two_episodes_of_one_start_part() -> None:
    resting = frames_of([0.0] * 9, [0] * 9)
    moving = frames_of([0.0] * 8 + [1e-6], [0] * 9)
    assert visible_after(moving, resting) == 3
    assert visible_after(resting, resting) is None


def test_images_alone_cannot_tell_whether_an_action_shows() -> None:
    (note,) = check_visible(None, 3, observes_numbers=False)
    assert "only images are observed" in note.sentence


def test_images_that_repeat_while_the_robot_stands_are_none_of_the_cameras_fault() -> None:
    assert not list(check_cameras(frames_of([0.0] * 9, [7] * 9)))
    moving = [0.1 * step for step in range(9)]
    (frozen,) = check_cameras(frames_of(moving, [7] * 9))
    assert "got the same image in 8 steps" in frozen.sentence
    (slow,) = check_cameras(frames_of(moving, [0, 0, 1, 1, 2, 2, 3, 3, 4]))
    assert "got the one before in 4 of 8 steps" in slow.sentence


def test_start_with_the_last_image_is_stale_unless_nothing_has_changed() -> None:
    assert list(check_start_is_new(frame_of(0.5, image=3), frame_of(0.0, image=3)))
    assert not list(check_start_is_new(frame_of(0.5, image=3), frame_of(0.5, image=3)))
    assert not list(check_start_is_new(frame_of(0.5, image=4), frame_of(0.0, image=3)))


def test_rate_is_the_median_of_a_robots_steps() -> None:
    walk = [frame_of(0.0, at_s=at_s) for at_s in (0.0, 0.1, 0.2, 0.9, 1.0)]
    rate = measured_rate([walk, walk[:1]])
    assert rate is not None
    assert abs(rate - 10) < 1e-6
    assert measured_rate([walk[:1]]) is None
    assert not list(check_rate(rate, 10, real_robot=True))
    assert not list(check_rate(900.0, 10, real_robot=False))
    (slow,) = check_rate(8.0, 10, real_robot=True)
    assert "must come at 10 Hz, got 8.0 Hz" in slow.sentence


def test_keys_of_gymnasiums_autoreset_give_it_away() -> None:
    env = gymnasium.make("Pendulum-v1")
    assert not list(check_autoreset(env, [frame_of(0.0)]))
    assert list(check_autoreset(env, [frame_of(0.0, final_obs=1)]))


def test_step_after_the_end_may_stay_where_it_was_and_start_nothing() -> None:
    start, last = frame_of(0.0), frame_of(1.0, image=1)
    assert not list(check_after_end(last, last, [start]))
    assert list(check_after_end(last, start, [start]))


def test_success_counts_as_reported_when_every_step_says_it() -> None:
    says = frame_of(0.0, is_success=False)
    assert reports_success([says, frame_of(0.0, success=True)])
    assert not reports_success([says, frame_of(0.0)])
    assert not reports_success([])
