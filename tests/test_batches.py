"""Batches: every input once, next to no padding."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from xlscale.data.batches import Encoded, collate, evaluation_order, training_order

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


def _without_rows(lengths, batch_size, generator, pool=16):
    """The order of inputs as it was before there were rows of several inputs, word for word."""
    order = generator.permutation(len(lengths))
    batches = []
    for start in range(0, len(order), batch_size * pool):
        chunk = order[start : start + batch_size * pool]
        chunk = chunk[np.argsort(lengths[chunk], kind="stable")]
        batches += [chunk[i : i + batch_size] for i in range(0, len(chunk), batch_size)]
    return [batches[i] for i in generator.permutation(len(batches))]


@given(lengths, st.integers(1, 40), st.integers(0, 2**32 - 1), st.data())
def test_where_every_input_is_a_row_nothing_has_changed(lengths, batch_size, seed, data):
    generators = [np.random.default_rng(seed) for _ in range(3)]
    before = _without_rows(lengths, batch_size, generators[0])
    row = np.array(data.draw(st.permutations(range(len(lengths)))))
    for generator, rows in zip(generators[1:], (None, row), strict=True):
        after = training_order(lengths, batch_size, generator, row=rows)
        assert len(before) == len(after)
        assert all(a.dtype == b.dtype and np.array_equal(a, b) for a, b in zip(before, after, strict=True))
        assert generators[0].bit_generator.state == generator.bit_generator.state


@given(st.lists(st.integers(1, 5), min_size=1, max_size=200), st.integers(1, 40), st.integers(0, 2**32 - 1))
def test_the_inputs_of_a_row_stay_together_and_batches_count_rows(sizes, batch_size, seed):
    generator = np.random.default_rng(seed)
    names = generator.permutation(1000)[: len(sizes)]  # of the rows: in no order, with gaps
    row = np.repeat(names, sizes)
    lengths = generator.integers(3, 128, len(row))
    order = training_order(lengths, batch_size, np.random.default_rng(seed), row=row)
    assert sorted(np.concatenate(order)) == list(range(len(row)))
    assert len(order) == -(-len(sizes) // batch_size)
    for index in order:
        begins = np.flatnonzero(np.diff(row[index], prepend=-1))
        assert len(begins) <= batch_size
        assert len(set(row[index])) == len(begins)  # side by side
        for inputs in np.split(index, begins[1:]):
            assert inputs.tolist() == np.flatnonzero(row == row[inputs[0]]).tolist()  # all, in their order


def test_little_is_padded_where_rows_have_several_inputs():
    generator = np.random.default_rng(0)
    row = np.repeat(np.arange(2000), 4)
    lengths = np.repeat(generator.integers(8, 64, 2000), 4) + generator.integers(0, 4, len(row))
    order = training_order(lengths, 16, generator, row=row)
    assert sum(len(index) * lengths[index].max() for index in order) / lengths.sum() < 1.12


def test_no_inputs_give_no_batches():
    assert training_order(np.empty(0, np.int64), 4, np.random.default_rng(0)) == []


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
    for position, i in enumerate(expected):
        assert found.ids_of(position).tolist() == ids[i]
        assert found.spans_of(position)[:, 0].tolist() == ids[i]
