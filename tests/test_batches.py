"""Batches: every input once, next to no padding."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from xlscale.batches import Encoded, collate, evaluation_order, training_order

lengths = st.lists(st.integers(3, 128), min_size=1, max_size=300).map(np.array)


@given(lengths, st.integers(1, 40), st.integers(0, 2**32 - 1))
def test_an_epoch_holds_every_input_once(lengths, batch_size, seed):
    order = training_order(lengths, batch_size, np.random.default_rng(seed))
    assert sorted(np.concatenate(order)) == list(range(len(lengths)))
    assert max(map(len, order)) <= batch_size
    assert len(order) == -(-len(lengths) // batch_size)  # as many steps as without buckets


@given(lengths, st.integers(1, 5000))
def test_evaluation_holds_every_input_once_within_the_token_budget(lengths, tokens):
    order = list(evaluation_order(lengths, tokens))
    assert sorted(np.concatenate(order)) == list(range(len(lengths)))
    assert all(len(index) == 1 or len(index) * lengths[index].max() <= tokens for index in order)


def test_little_is_padded_and_the_order_is_random():
    lengths = np.random.default_rng(0).integers(8, 64, 2000)
    orders = [training_order(lengths, 16, np.random.default_rng(seed)) for seed in (1, 2, 1)]
    padded = sum(len(index) * lengths[index].max() for index in orders[0])
    assert padded / lengths.sum() < 1.06  # plain shuffling: about 1.6
    assert not all(np.array_equal(a, b) for a, b in zip(orders[0], orders[1], strict=True))
    assert all(np.array_equal(a, b) for a, b in zip(orders[0], orders[2], strict=True))
    means = [lengths[index].mean() for index in orders[0]]
    assert abs(np.corrcoef(range(len(means)), means)[0, 1]) < 0.3  # no drift of length over the epoch


def test_collate_pads_and_masks():
    encoded = Encoded.of([[5, 6, 7], [8, 9]], targets={"label": np.array([1, 0])})
    batch = collate(encoded, np.array([1, 0]), pad=1)
    assert batch.ids.tolist() == [[8, 9, 1], [5, 6, 7]]
    assert batch.mask.tolist() == [[True, True, False], [True, True, True]]
    assert batch.targets["label"].tolist() == [0, 1]


@given(st.lists(st.lists(st.integers(0, 9), min_size=1, max_size=6), min_size=1, max_size=20), st.data())
def test_rows_are_taken_with_all_their_inputs_in_the_order_asked_for(ids, data):
    owners = data.draw(st.lists(st.integers(0, 5), min_size=len(ids), max_size=len(ids)))
    spans = [np.stack([one, one], 1) for one in map(np.array, ids)]
    encoded = Encoded.of(ids, owners, {"label": np.arange(len(ids))}, spans)
    rows = np.array(data.draw(st.permutations(range(6)))[:3])
    found = encoded.of_rows(rows)
    expected = [i for row in rows for i in range(len(ids)) if owners[i] == row]
    assert found.targets["label"].tolist() == expected
    assert [rows[row] for row in found.row] == [owners[i] for i in expected]
    for place, i in enumerate(expected):
        assert found.ids_of(place).tolist() == ids[i]
        assert found.spans_of(place)[:, 0].tolist() == ids[i]
