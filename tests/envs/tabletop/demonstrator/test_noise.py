"""Styles of demonstrators."""

import numpy as np
import pytest

from nearer.envs.tabletop.demonstrator.noise import (
    MOTION_NOISE_REAL,
    MOTION_NOISE_SIM,
    MotionNoise,
    draw_style,
)


def test_draw_style_twice_the_rate_halves_the_steps() -> None:
    at_5_hz, at_10_hz = (
        draw_style(MOTION_NOISE_SIM, np.random.default_rng(3), control_hz) for control_hz in (5, 10)
    )
    assert at_10_hz.approach_step_m == pytest.approx(at_5_hz.approach_step_m / 2)
    assert at_10_hz.clearance_m == at_5_hz.clearance_m


@pytest.mark.parametrize("noise", [MOTION_NOISE_SIM, MOTION_NOISE_REAL], ids=["sim", "real"])
def test_draw_style_stays_in_its_ranges(noise: MotionNoise) -> None:
    rng = np.random.default_rng(0)
    styles = [draw_style(noise, rng) for _ in range(200)]
    for name in ("approach_step_m", "push_step_m", "smoothing", "tremor", "clearance_m"):
        low, high = getattr(noise, name)
        assert all(low <= getattr(style, name) <= high for style in styles)
    assert np.mean([style.takes_detour for style in styles]) == pytest.approx(
        noise.detour_probability, abs=0.07
    )
    assert {style.anticipates_delay for style in styles} == {noise.anticipates_delay}
