"""The power law of learning curves and its intervals."""

import numpy as np
import pytest

from featx.inspection.advice.power_law import PowerLaw, fit_power_law

IMAGES = np.array([6, 12, 24, 42, 60])


def draws(floor, factor, exponent, noise=0.0, count=10, seed=0):
    law = PowerLaw(*(np.array(value) for value in (floor, factor, exponent)))
    mean = np.array([float(law.error(n)) for n in IMAGES])
    return mean + noise * np.random.default_rng(seed).standard_normal((count, len(IMAGES))), law


@pytest.mark.parametrize(("floor", "factor", "exponent"), [(0.02, 0.5, 0.7), (0.0, 0.4, 0.3), (0.05, 2.0, 1.5)])
def test_a_law_without_noise_is_found_and_extrapolated(floor, factor, exponent):
    errors, law = draws(floor, factor, exponent)
    fit = fit_power_law(IMAGES, errors, 10**9)
    value, low, high = fit.error(120)
    assert value == pytest.approx(float(law.error(120)), abs=1e-3)
    assert low == pytest.approx(value, rel=1e-3) == pytest.approx(high, rel=1e-3)
    assert float(fit.law.floor) == pytest.approx(floor, abs=5e-3)


def test_curves_that_fit_no_law_give_a_law_within_its_bounds():
    rising = np.tile([0.1, 0.15, 0.2, 0.25, 0.3], (10, 1))
    fit = fit_power_law(IMAGES, rising, 10**9)
    assert float(fit.law.factor) == 0
    assert 0.1 < float(fit.law.floor) < 0.3
    assert fit.gain(60, 60) == (0, 0, 0)
    falling = np.tile(1.5 / IMAGES**0.5 - 0.15, (10, 1))
    assert float(fit_power_law(IMAGES, falling, 1000).law.floor) == 0


def test_the_interval_covers_the_truth_as_often_as_promised():
    covered = 0
    for seed in range(60):
        errors, law = draws(0.02, 0.5, 0.7, noise=0.02, seed=seed)
        _, low, high = fit_power_law(IMAGES, errors, 1000, seed).error(66)
        covered += low <= float(law.error(66)) <= high
    assert covered >= 50


def test_gains_are_positive_and_equal_the_difference_of_errors():
    fit = fit_power_law(IMAGES, draws(0.02, 0.5, 0.7, noise=0.02)[0], 1000)
    gain, low, high = fit.gain(60, 40)
    assert 0 <= low <= gain <= high
    assert gain == pytest.approx(fit.error(60)[0] - fit.error(100)[0])


def test_draws_that_agree_still_have_the_binomial_error_of_their_images():
    """An error of 5 % on 500 images has a standard error of about one point."""
    for count in (1, 10):
        value, low, high = fit_power_law(IMAGES, np.full((count, 5), 0.05), 500).error(60)
        assert value == pytest.approx(0.05)
        assert high - low == pytest.approx(2 * 1.96 * np.sqrt(0.05 * 0.95 / 500), rel=0.15)
