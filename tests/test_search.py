"""Exact search in blocks: the same as looking at everything at once, in memory that candidates do not add to."""

import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from xlscale.metrics.retrieval import top_k


def brute_force(queries, candidates, k):
    products = queries @ candidates.T
    order = np.argsort(-products, axis=1, kind="stable")[:, :k]
    return order, np.take_along_axis(products, order, axis=1)


@pytest.mark.parametrize("blocks", [(1, 1), (3, 7), (64, 5), (1024, 16384)])
def test_equal_to_brute_force_whatever_the_blocks(blocks):
    generator = np.random.default_rng(1)
    queries, candidates = (generator.normal(size=(n, 12)).astype(np.float32) for n in (17, 203))
    indices, scores = top_k(queries, candidates, 20, blocks)
    expected, values = brute_force(queries, candidates, 20)
    assert np.array_equal(indices, expected)
    np.testing.assert_allclose(scores, values, rtol=1e-5)


@settings(max_examples=60, deadline=None)
@given(
    st.integers(1, 9), st.integers(1, 40), st.integers(1, 25), st.integers(1, 8), st.integers(1, 8), st.integers(0, 99)
)
def test_ties_go_to_the_first_candidate(queries, candidates, k, rows, columns, seed):
    generator = np.random.default_rng(seed)
    # Small whole numbers: products are exact, and many are equal.
    a, b = (generator.integers(-1, 2, size=(n, 3)).astype(np.float32) for n in (queries, candidates))
    indices, scores = top_k(a, b, k, (rows, columns))
    expected, values = brute_force(a, b, k)
    assert np.array_equal(indices, expected) and np.array_equal(scores, values)


class Made:
    """Vectors that are made when they are asked for, so that only what the search holds is counted: random or equal."""

    def __init__(self, rows: int, width: int, equal: bool):
        self.rows, self.width, self.equal = rows, width, equal

    def __len__(self):
        return self.rows

    def __getitem__(self, part):
        start, stop, _ = part.indices(self.rows)
        if self.equal:
            return np.ones((stop - start, self.width), np.float32)
        return np.random.default_rng(start).normal(size=(stop - start, self.width)).astype(np.float32)


def peak(rows: int, equal: bool) -> int:
    queries = Made(256, 16, equal)[:256]
    tracemalloc.start()
    top_k(queries, Made(rows, 16, equal), 20, (256, 2000))
    found = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return found


def test_memory_follows_the_block_and_not_the_candidates_or_ties():
    small, large, equal = peak(20_000, False), peak(200_000, False), peak(20_000, True)
    assert large < 1.2 * small and equal < 1.2 * small
    assert small < 6e6  # a block of products is 2 MB; all vectors would be 12.8 MB, all products 205 MB
