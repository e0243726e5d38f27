"""Volatility and first passage: vectors, and Monte-Carlo against the closed form."""

import math

import numpy as np
import pytest

from keeper.volatility import (
    YEAR,
    Exposure,
    bootstrap,
    ewma_covariances,
    first_passage,
    over,
    step_covariance,
)
from tests.scores import brier, reliability

EDGES = (0.0, 0.01, 0.05, 0.1, 0.2, 0.4, 0.6, 0.8, 1.0)


def test_closed_forms_give_the_vectors() -> None:
    deviation = over(0.8, 86_400)
    drift, distance = -0.5 * deviation**2, math.log(1.05)
    assert first_passage(distance, deviation, drift) == pytest.approx(0.2499436683382389, abs=1e-12)
    seen = first_passage(distance, deviation, drift, looks=288)
    assert seen == pytest.approx(0.23616, abs=1e-5)


def test_what_cannot_move_reaches_nothing_and_what_is_there_is_there() -> None:
    assert first_passage(0.1, 0.0) == 0.0
    assert first_passage(0.1, 0.0, drift=-0.2) == 1.0
    assert first_passage(0.0, 0.1) == 1.0
    assert first_passage(5.0, 0.001, drift=-1.0) == 0.0
    assert first_passage(1e-9, 5.0, drift=-50.0) <= 1.0


def test_a_years_volatility_is_its_deviation_over_a_year() -> None:
    assert over(0.8, YEAR) == 0.8
    assert over(0.8, YEAR / 4) == pytest.approx(0.4)


def test_ewma_is_the_recursion_and_knows_nothing_ahead() -> None:
    moves = np.array([[0.01, -0.02], [0.03, 0.0], [-0.05, 0.04]])
    known = ewma_covariances(moves, np.eye(2) * 1e-4, decay=0.9)
    assert known.shape == (4, 2, 2)
    assert known[1] == pytest.approx(0.9 * np.eye(2) * 1e-4 + 0.1 * np.outer(moves[0], moves[0]))
    other = ewma_covariances(np.vstack([moves[:2], [[9.0, 9.0]]]), np.eye(2) * 1e-4, decay=0.9)
    assert (other[:3] == known[:3]).all()
    assert not np.allclose(other[3], known[3])


def test_correlated_assets_hedge_what_is_owed_in_them() -> None:
    calm = np.array([[1.0, 0.98], [0.98, 1.0]]) * 0.01**2
    staked = Exposure(1.05, np.array([0.0, 1.0]), np.array([1.0, 0.0]))
    dollars = Exposure(1.05, np.array([0.0, 1.0]), np.zeros(2))
    assert staked.deviation(calm) == pytest.approx(0.01 * math.sqrt(2 - 2 * 0.98))
    assert dollars.deviation(calm) == pytest.approx(0.01)
    assert staked.passage(calm, 24) < 0.01
    assert dollars.passage(calm, 24) > 0.2
    assert Exposure(0.99, np.array([1.0]), np.array([0.0])).passage(np.eye(1), 1) == 1.0


def test_paths_agree_with_the_formula_where_prices_are_normal() -> None:
    print("seed 7")
    rng = np.random.default_rng(7)
    moves = rng.normal(0.0, 0.01, (20_000, 1))
    account = Exposure(1.05, np.array([1.0]), np.array([0.0]))
    against_dollars = Exposure(account.health, np.array([1.0, 0.0]), np.array([0.0, 1.0]))
    paths = bootstrap(moves, 24, 20_000, rng, block=1)
    with_dollars = np.concatenate([paths, np.zeros_like(paths)], axis=2)
    formula = account.passage(step_covariance(moves), 24)
    assert against_dollars.passage_of(with_dollars) == pytest.approx(formula, abs=0.015)


def test_paths_keep_assets_and_hours_together() -> None:
    moves = np.array([[0.01, 0.02], [-0.01, -0.02], [0.03, 0.06], [-0.03, -0.06]])
    rng = np.random.default_rng(1)
    paths = bootstrap(moves, 10, 50, rng, block=2)
    assert paths.shape == (50, 10, 2)
    assert paths[:, :, 1] == pytest.approx(2 * paths[:, :, 0])
    doubled = bootstrap(moves, 10, 50, np.random.default_rng(1), block=2, scale=np.full(2, 2.0))
    assert doubled == pytest.approx(2 * paths)


def test_scores() -> None:
    assert brier([0.0, 1.0, 0.5], [False, True, True]) == pytest.approx(0.25 / 3)
    table = reliability([0.05, 0.07, 0.9, 1.0], [False, True, True, True], EDGES)
    assert [(band.low, band.count, band.happened) for band in table] == [
        (0.05, 2, 0.5),
        (0.8, 2, 1.0),
    ]
