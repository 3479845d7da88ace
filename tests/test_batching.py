"""The server's batches: each request gets its rows, batches are limited."""

import asyncio
import concurrent.futures
import threading

import numpy as np
import pytest

from batching import Batcher


def run(scenario, function, batch_size=8):
    """(result of the scenario, sizes of the batches)."""
    sizes = []
    with concurrent.futures.ThreadPoolExecutor(1) as executor:
        batcher = Batcher(function, batch_size, executor, sizes.append)
        return asyncio.run(scenario(batcher)), sizes


def double(rows):
    return {"twice": 2 * rows}


def test_each_request_has_its_own_rows_and_no_batch_is_too_large():
    rng = np.random.default_rng(0)
    requests = [rng.normal(size=(rng.integers(1, 9), 3)) for _ in range(100)]

    async def all_at_once(batcher):
        return await asyncio.gather(*map(batcher, requests))

    results, sizes = run(all_at_once, double)
    for request, result in zip(requests, results, strict=True):
        assert (result["twice"] == 2 * request).all()
    assert sum(sizes) == sum(map(len, requests)) and max(sizes) <= 8
    # Consecutive batches that were not joined have more than 8 rows together.
    assert all(a + b > 8 for a, b in zip(sizes, sizes[1:], strict=False))


def test_requests_during_a_batch_form_the_next_batch():
    open_ = threading.Event()

    def gated(rows):
        open_.wait(10)
        return double(rows)

    async def one_then_three(batcher):
        first = asyncio.create_task(batcher(np.ones((1, 2))))
        while batcher._waiting or not batcher._worker:
            await asyncio.sleep(0)
        rest = [asyncio.create_task(batcher(np.ones((2, 2)))) for _ in range(3)]
        await asyncio.sleep(0)
        open_.set()
        return await asyncio.gather(first, *rest)

    _, sizes = run(one_then_three, gated)
    assert sizes == [1, 6]


def test_rows_of_different_shapes_are_in_different_batches():
    shapes = [(1, 2), (2, 2), (1, 3), (1, 2)]

    async def all_at_once(batcher):
        return await asyncio.gather(*(batcher(np.ones(s)) for s in shapes))

    results, sizes = run(all_at_once, double)
    assert [r["twice"].shape for r in results] == shapes
    assert sizes == [3, 1, 1]


def test_an_error_goes_to_its_batch_and_the_next_one_is_answered():
    def fails_below_zero(rows):
        if rows.min() < 0:
            raise ArithmeticError("below zero")
        return double(rows)

    async def bad_then_good(batcher):
        bad = [batcher(-np.ones((4, 1))), batcher(np.ones((4, 1)))]
        return await asyncio.gather(
            *bad, batcher(np.ones((1, 1))), return_exceptions=True
        )

    (first, second, third), sizes = run(bad_then_good, fails_below_zero)
    for error in (first, second):
        with pytest.raises(ArithmeticError, match="below zero"):
            raise error
    assert third["twice"].tolist() == [[2.0]] and sizes == [8, 1]


def test_cancelled_requests_are_not_computed():
    async def one_leaves(batcher):
        tasks = [asyncio.create_task(batcher(np.ones((1, 1)))) for _ in "abc"]
        await asyncio.sleep(0)  # all requests wait, none is in a batch yet
        tasks[1].cancel()
        return await asyncio.gather(*tasks, return_exceptions=True)

    (first, second, third), sizes = run(one_leaves, double)
    assert isinstance(second, asyncio.CancelledError) and sizes == [2]
    assert (first["twice"] == 2).all() and (third["twice"] == 2).all()
