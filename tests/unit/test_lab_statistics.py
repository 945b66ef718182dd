"""The lab's statistics against tabulated values, simulation and naive implementations."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats
from scipy.special import digamma, ndtri, polygamma, stdtrit

from seethink.studies.lab.looks import LOOKS, boundaries, level_at, look_at
from seethink.studies.lab.moderation import FEWEST, NO_PRIOR, Prior, fit_prior, fit_priors, trigamma_inverse
from seethink.studies.lab.power import Spread, claims_least, item_spread, least_effect, seeds_needed
from seethink.studies.lab.scales import load_scales
from seethink.studies.lab.schema import load_experiments

CLAIMS = [claim for experiment in load_experiments().values() for claim in experiment.claims]
RNG = np.random.default_rng(5)


# --- moderated variances


def drawn_variances(df: int, prior_df: float, prior_variance: float, claims: int) -> np.ndarray:
    """[C] Variances over df + 1 seeds, of claims whose true variances follow the prior."""
    true = prior_df * prior_variance / RNG.chisquare(prior_df, claims)
    return true * RNG.chisquare(df, claims) / df


@pytest.mark.parametrize(("prior_df", "prior_variance"), [(4.0, 0.3), (20.0, 7.0)])
def test_the_prior_that_the_variances_were_drawn_from_is_found(prior_df: float, prior_variance: float) -> None:
    found = fit_prior(drawn_variances(2, prior_df, prior_variance, 60_000).tolist(), [2] * 60_000)
    assert found.df == pytest.approx(prior_df, rel=0.15)
    assert found.variance == pytest.approx(prior_variance, rel=0.03)


def test_the_moments_of_the_log_variances_are_those_of_the_fitted_prior() -> None:
    """Smyth 2004: E log s^2 and var log s^2 of a scaled F distribution, with two and four degrees of freedom mixed."""
    variances, df = np.array([0.1, 2.0, 9.0, 0.5, 40.0, 1.0]), np.array([2, 4, 2, 2, 4, 2])
    found = fit_prior(variances.tolist(), df.tolist())
    expected = math.log(found.variance) + digamma(df / 2) - digamma(found.df / 2) + np.log(found.df / df)
    assert np.mean(np.log(variances) - expected) == pytest.approx(0, abs=1e-9)
    spread = np.var(np.log(variances) - digamma(df / 2) + np.log(df / 2), ddof=1)
    assert spread == pytest.approx(polygamma(1, df / 2).mean() + polygamma(1, found.df / 2))


def test_variances_that_differ_by_less_than_chance_become_one() -> None:
    found = fit_prior([1.0, 1.1, 0.9, 1.0, 1.05], [2] * 5)
    assert found.df == math.inf
    assert found.shrink(0.4, 2) == (found.variance, 10)  # not more than all claims have together


def test_the_limits_of_shrinking() -> None:
    assert NO_PRIOR.shrink(3.0, 2) == (3.0, 2)
    assert Prior(1e-12, 1.0).shrink(3.0, 2)[0] == pytest.approx(3.0)
    assert Prior(1e12, 1.0).shrink(3.0, 2)[0] == pytest.approx(1.0)
    assert Prior(4.0, 1.0, 100).shrink(4.0, 2) == (pytest.approx((4 * 1 + 2 * 4) / 6), 6)
    assert Prior(4.0, 1.0, 100).shrink(0.0, 2) == (0.0, 2)  # no spread says that something is wrong


def test_scales_have_priors_of_their_own_and_few_claims_none() -> None:
    few = [("factor", [0.1, 0.2 + i, 0.4]) for i in range(FEWEST - 1)]
    many = [("points", [0.1, 0.2 + i / 9, 0.4]) for i in range(FEWEST)]
    lone = [("points", [1.0]), ("points", [math.nan, 1.0, 2.0]), ("points", [2.0, 2.0, 2.0])]
    found = fit_priors([*few, *many, *lone])
    assert found["factor"] == NO_PRIOR
    assert found["points"] == fit_prior([float(np.var(v, ddof=1)) for _, v in many], [2] * FEWEST)


@pytest.mark.parametrize("value", [1e-6, 0.01, 1.0, 50.0, 1e6])
def test_the_inverse_of_trigamma(value: float) -> None:
    assert polygamma(1, trigamma_inverse(value)) == pytest.approx(value, rel=1e-8)


def test_the_moderated_interval_covers_the_truth_as_often_as_it_says_and_is_shorter() -> None:
    """30 claims at three seeds, 400 times; the true effects are 0."""
    covered, widths, plain = [], [], []
    for _ in range(400):
        values = RNG.normal(size=(30, 3)) * np.sqrt(6 * 0.04 / RNG.chisquare(6, (30, 1)))
        variances = values.var(1, ddof=1)
        prior = fit_prior(variances.tolist(), [2] * 30)
        shrunk = [prior.shrink(float(variance), 2) for variance in variances]
        reach = stdtrit(shrunk[0][1], 0.95) * np.sqrt([v / 3 for v, _ in shrunk])
        covered.append(np.mean(np.abs(values.mean(1)) < reach))
        widths.append(reach.mean())
        plain.append(np.mean(stdtrit(2, 0.95) * np.sqrt(variances / 3)))
    assert np.mean(covered) == pytest.approx(0.9, abs=0.01)
    assert np.mean(widths) < 0.85 * np.mean(plain)


# --- looks


@pytest.mark.parametrize(
    ("shares", "tabulated"),
    [
        ([0.2, 0.4, 0.6, 0.8, 1.0], [4.8769, 3.3569, 2.6803, 2.2898, 2.0310]),
        ([1 / 3, 2 / 3, 1.0], [3.7103, 2.5114, 1.9930]),
        ([1.0], [1.9600]),
    ],
)
def test_the_boundaries_are_the_tabulated_ones(shares: list[float], tabulated: list[float]) -> None:
    """Lan and DeMets' spending of O'Brien and Fleming's type at 2.5% a side: Reboussin et al. 2000, ld98."""
    assert boundaries(shares, 0.025) == pytest.approx(tabulated, abs=2e-4)


@pytest.mark.parametrize(("known", "error"), [(True, 0.05), (False, 0.0538)])
def test_all_looks_together_err_as_often_as_one_look_would(known: bool, error: float) -> None:
    """A claim without effect, looked at after 3, 5 and 8 seeds, 300,000 times: 5% a side with a known variance.

    Student's t of three, five and eight seeds are less alike than their z, which costs another 0.4%.
    """
    values = RNG.normal(size=(300_000, 8)).astype(np.float32)
    wrong = np.zeros(len(values), dtype=bool)
    for look in LOOKS:
        seen, tail = values[:, :look], (1 + level_at(look, 0.9)) / 2
        spread = 1.0 if known else seen.std(1, ddof=1)
        wrong |= seen.mean(1) * math.sqrt(look) / spread > (ndtri(tail) if known else stdtrit(look - 1, tail))
    assert wrong.mean() == pytest.approx(error, abs=0.0016)


def test_a_look_is_over_the_seeds_that_are_complete() -> None:
    assert [look_at(seeds) for seeds in (0, 2, 3, 4, 5, 7, 8, 20)] == [0, 0, 3, 3, 5, 5, 8, 8]
    assert level_at(3, 0.9) > level_at(5, 0.9) > level_at(8, 0.9) > 0.9


# --- power


@pytest.mark.parametrize(("seeds", "level"), [(3, 0.9), (5, 0.97455), (8, 0.9)])
def test_the_least_effect_is_found_four_times_in_five(seeds: int, level: float) -> None:
    effect = least_effect(Spread(0.03, "given"), seeds, level)
    values = effect + 0.03 * RNG.normal(size=(100_000, seeds))
    low = values.mean(1) - stdtrit(seeds - 1, (1 + level) / 2) * values.std(1, ddof=1) / math.sqrt(seeds)
    assert (low > 0).mean() == pytest.approx(0.8, abs=0.005)
    assert stats.nct.sf(stats.t.ppf((1 + level) / 2, seeds - 1), seeds - 1, effect * math.sqrt(seeds) / 0.03) == (
        pytest.approx(0.8)
    )


def test_more_seeds_and_a_prior_find_smaller_effects() -> None:
    alone, moderated = Spread(1.0, "given"), Spread(1.0, "given", Prior(6.0, 1.0, 60))
    found = [least_effect(alone, seeds, 0.9) for seeds in (2, 3, 5, 8, 30)]
    assert found == sorted(found, reverse=True)
    assert least_effect(moderated, 3, 0.9) < 0.7 * least_effect(alone, 3, 0.9)
    assert least_effect(alone, 1000, 0.9) == pytest.approx((1.6449 + 0.8416) / math.sqrt(1000), rel=1e-2)
    assert math.isnan(least_effect(alone, 1, 0.9))
    assert math.isnan(least_effect(Spread(math.nan, ""), 5, 0.9))


def test_a_claim_of_no_difference_needs_both_sides() -> None:
    """Where there is none, both ends lie within the least difference four times in five, or a little more often."""
    claim = next(c for c in CLAIMS if c.expect == "same" and not c.primary)
    least = claims_least(claim, Spread(1.0, "given"), 8)
    values = RNG.normal(size=(100_000, 8))
    reach = stdtrit(7, 0.95) * values.std(1, ddof=1) / math.sqrt(8)
    assert 0.8 <= (np.abs(values.mean(1)) + reach < least).mean() < 0.82


def test_a_primary_claim_is_planned_at_its_looks() -> None:
    primary, spread = next(c for c in CLAIMS if c.primary and c.expect == "more"), Spread(1.0, "given")
    other = primary.model_copy(update={"primary": False, "least": 0.5})
    assert claims_least(primary, spread, 4) == claims_least(primary, spread, 3) > claims_least(other, spread, 3)
    assert math.isnan(claims_least(primary, spread, 2))
    needed = seeds_needed(other, spread)
    assert needed is not None
    assert claims_least(other, spread, needed) <= 0.5 < claims_least(other, spread, needed - 1)
    assert seeds_needed(primary.model_copy(update={"least": 1.2}), spread) == 8
    assert seeds_needed(primary.model_copy(update={"least": 0.5}), spread) is None


def test_the_spread_of_the_items_alone_is_binomial() -> None:
    """Nano: 600 items of math and 200 of each of five other domains, two answers each, of which half are right.

    RL's three checkpoints with 2, 1 and 1 answers are as good as 9 / (1/2 + 1 + 1) = 3.6 answers of one.
    """
    scale = load_scales()["nano"]
    claims = {c.text: c for c in CLAIMS}
    inside = item_spread(claims["RL gains in-domain accuracy"], scale).value
    outside = item_spread(claims["RL gains out-of-domain accuracy"], scale).value
    assert inside == pytest.approx(math.sqrt(0.25 / 1200 + 0.25 / (3.6 * 600)))
    assert outside == pytest.approx(math.sqrt(0.25 / 2000 + 0.25 / 3600))
    assert item_spread(claims["A weaker base gains less from RL"], scale).value == pytest.approx(inside * math.sqrt(2))
    counts, items = np.array([1, 1, 2, 2]), 600  # of RL's three checkpoints, and of the cold start
    shares = RNG.binomial(counts * items, 0.5, size=(20_000, 4)) / (counts * items)
    assert (shares[:, :3].mean(1) - shares[:, 3]).std() == pytest.approx(inside, rel=0.02)
    assert math.isnan(item_spread(claims["The reward drops sharply"], scale).value)
    assert math.isnan(item_spread(claims["It chooses better than the last step"], scale).value)
