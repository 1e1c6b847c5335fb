"""Tokenised data on disk: what is read equals what was tokenised, once."""

import numpy as np
import pytest

from xlscale import tasks
from xlscale.cards.catalogue import data_card
from xlscale.core.files import XlscaleError
from xlscale.data import load
from xlscale.models import ladder
from xlscale.training import token_cache


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setattr(token_cache, "FOLDER", tmp_path)
    return tmp_path


def _same(a, b):
    assert a.targets.keys() == b.targets.keys()
    for name in token_cache.FIELDS:
        one, other = getattr(a, name), getattr(b, name)
        assert (one is None and other is None) or np.array_equal(one, other), name
        assert one is None or one.dtype == other.dtype, name
    assert all(np.array_equal(a.targets[name], b.targets[name]) for name in a.targets)


@pytest.mark.parametrize(("name", "split"), [("topic", "dev"), ("udhr", "test"), ("squad_wiki", "dev")])
def test_read_tokens_equal_fresh_ones_and_need_no_tokenizer(e5, folder, monkeypatch, name, split):
    task, rows = tasks.of(data_card(name)), load.splits(data_card(name))
    expected = task.encode(rows[split], ladder.tokenizer(e5), e5.prefix, 96)
    _same(token_cache.encoded(task, rows, split, e5, 96), expected)
    monkeypatch.setattr(ladder, "tokenizer", lambda card: pytest.fail("tokenised again"))
    _same(token_cache.encoded(task, rows, split, e5, 96), expected)


def test_what_tokens_follow_from_is_in_the_name_of_the_file(e5, folder, monkeypatch):
    task, rows = tasks.of(data_card("topic")), load.splits(data_card("topic"))
    token_cache.encoded(task, rows, "dev", e5, 32)
    others = [(task, e5, 16), (task, e5.model_copy(update={"prefix": "passage: "}), 32)]
    others += [(tasks.of(task.card.model_copy(update={"sha256": "0" * 64})), e5, 32)]
    for number, (other, model, length) in enumerate(others, 2):
        token_cache.encoded(other, rows, "dev", model, length)
        assert len(list(folder.iterdir())) == number
    monkeypatch.setattr(token_cache.fingerprint, "of_modules", lambda modules: "other code")
    token_cache.encoded(task, rows, "dev", e5, 32)
    assert len(list(folder.iterdir())) == 5


def test_a_prefix_that_leaves_no_room_for_a_text_is_refused(e5, folder):
    """Else all inputs would be the same, and so would all predictions."""
    task, rows = tasks.of(data_card("topic")), load.splits(data_card("topic"))
    length = len(ladder.tokenizer(e5)(e5.prefix)["input_ids"])
    roomy = token_cache.encoded(task, rows, "dev", e5, length + 1)
    assert len({tuple(roomy.ids_of(i)) for i in range(len(roomy))}) > 1
    with pytest.raises(
        XlscaleError, match=f"card {e5.name}: prefix: expected a prefix that leaves room .* {length} tok"
    ):
        token_cache.encoded(task, rows, "dev", e5, length)
    assert len([*folder.iterdir()]) == 1


def test_a_broken_file_is_made_again(e5, folder):
    task, rows = tasks.of(data_card("topic")), load.splits(data_card("topic"))
    expected = token_cache.encoded(task, rows, "dev", e5, 32)
    (path,) = folder.iterdir()
    path.write_bytes(path.read_bytes()[:1000])
    _same(token_cache.encoded(task, rows, "dev", e5, 32), expected)
    _same(token_cache._read(path), expected)


def test_a_file_with_the_name_of_another_is_made_again(e5, folder):
    task, rows = tasks.of(data_card("topic")), load.splits(data_card("topic"))
    others = token_cache.encoded(task, rows, "dev", e5, 16)
    (short,) = folder.iterdir()
    expected = token_cache.encoded(task, rows, "dev", e5, 32)
    (path,) = {*folder.iterdir()} - {short}
    path.write_bytes(short.read_bytes())
    _same(token_cache.encoded(task, rows, "dev", e5, 32), expected)
    _same(token_cache.encoded(task, rows, "dev", e5, 16), others)


@pytest.mark.parametrize(("bound", "value", "whole"), [("WHOLE", 10, False), ("SHARE", 0.9, False), ("SHARE", 0, True)])
def test_no_more_is_tokenised_than_is_asked_for_of_a_large_split_or_by_a_small_cell(
    e5, folder, monkeypatch, bound, value, whole
):
    task, rows = tasks.of(data_card("squad_wiki")), load.splits(data_card("squad_wiki"))
    index = np.array([3, 7, 8, 20])
    expected = task.encode(rows["dev"], ladder.tokenizer(e5), e5.prefix, 96).of_rows(index)
    monkeypatch.setattr(token_cache, bound, value)
    encode, asked = task.encode, []
    monkeypatch.setattr(task, "encode", lambda rows, *rest: (asked.append(len(rows)), encode(rows, *rest))[1])
    for _ in range(2):
        _same(token_cache.encoded(task, rows, "dev", e5, 96, index), expected)
    token_cache.encoded(task, rows, "dev", e5, 96, index + 1)
    assert asked == ([len(rows["dev"])] if whole else [4, 4])
