"""Coverage of predicted quantiles."""

import numpy as np
import pytest

from nearer.evaluation.reliability import reliability


def test_reliability_of_a_perfect_model_covers_as_nominal_and_biased_does_not() -> None:
    rng = np.random.default_rng(0)
    edges = np.arange(50, dtype=np.float32)
    probabilities = rng.dirichlet(np.ones(50), 4000).astype(np.float32)
    truth = np.array([rng.choice(50, p=p / p.sum()) for p in probabilities.astype(np.float64)])
    perfect = reliability(probabilities, edges, truth, 1)
    nominal, observed = perfect.coverage.nominal, perfect.coverage.observed
    assert np.abs(np.array(nominal) - observed).max() < 0.03
    late = np.minimum(truth + 10, 49)
    biased = reliability(probabilities, edges, late, 1).coverage
    assert np.abs(np.array(nominal) - biased.observed).max() > 0.1


@pytest.mark.parametrize("sharp", [1.0, 0.7])
def test_reliability_of_wide_bins_covers_as_nominal(sharp: float) -> None:
    probabilities = np.tile(np.array([sharp, 1 - sharp], dtype=np.float32), (1000, 1))
    truth = np.repeat([0, 1], [round(1000 * sharp), round(1000 * (1 - sharp))])
    coverage = reliability(probabilities, np.arange(2, dtype=np.float32), truth, 1).coverage
    assert coverage.observed == pytest.approx(coverage.nominal, abs=1e-6)
