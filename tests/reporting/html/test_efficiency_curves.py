"""The figure of success by further episodes."""

import re

from nearer.reporting.html.efficiency_curves import CurvePoint, efficiency_figure


def test_efficiency_figure_draws_each_curve_with_its_name() -> None:
    curves = {
        "practised": [
            CurvePoint(episodes=0, rates=(0.7, 0.8)),
            CurvePoint(episodes=90, rates=(0.9, 0.95)),
        ],
        "demonstrated": [
            CurvePoint(episodes=0, rates=(0.7,)),
            CurvePoint(episodes=1390, rates=(0.85,)),
        ],
    }
    svg = efficiency_figure(199, curves)
    texts = set(re.findall(r">([^<>]+)</text>", svg))
    assert {"practised", "demonstrated"} <= texts
    assert "further episodes, beyond 199 demonstrations" in texts
