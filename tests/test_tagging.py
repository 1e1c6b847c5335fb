"""Tagging: words and subwords, placebo, loss, span F1, and what the record checks."""

import re

import numpy as np
import pyarrow as pa
import pytest
import torch
from datasets import Dataset
from hypothesis import given, settings
from hypothesis import strategies as st
from seqeval.metrics import f1_score, precision_score, recall_score
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast

from xlscale import tasks
from xlscale.cards.catalogue import data_card
from xlscale.data import load, words
from xlscale.data.batches import Batch, collate
from xlscale.metrics import predictions, spans
from xlscale.models import ladder
from xlscale.tasks.tagging import ABSENT, IGNORED


@pytest.fixture(scope="module")
def card():
    return data_card("interface_tags")


@pytest.fixture(scope="module")
def tokenizer(e5):
    return ladder.tokenizer(e5)


@pytest.fixture(scope="module")
def rows(card):
    """A tenth of the test rows, of every language."""
    test = load.splits(card)["test"]
    return test.select(range(0, len(test), 10))


def test_the_tag_of_a_word_is_that_of_the_subword_with_its_first_character(card, rows, tokenizer):
    encoded = tasks.of(card).encode(rows, tokenizer, "query: ", 512)
    offsets = tokenizer(["query: " + text for text in rows["text"]], return_offsets_mapping=True)["offset_mapping"]
    for i, row in enumerate(rows):
        begins = words.starts(row["text"], row["tokens"])
        positions = encoded.targets["position"][i]
        assert (positions[len(begins) :] == ABSENT).all() and (
            encoded.targets["tag"][i, len(begins) :] == IGNORED
        ).all()
        for begin, position in zip(begins, positions, strict=False):
            first, last = offsets[i][position]
            assert first <= begin + len("query: ") < last


def _oracle(task, encoded, wrong=False):
    """Outputs that give every word with a subword of its own its gold tag, or another one."""
    outputs = [np.full((n, len(task.tags)), -5.0, np.float32) for n in encoded.lengths]
    for i, logits in enumerate(outputs):
        own = encoded.targets["tag"][i] != IGNORED
        gold = (encoded.targets["tag"][i][own] + wrong) % len(task.tags)
        logits[encoded.targets["position"][i][own], gold] = 5.0
    return outputs


def test_an_oracle_scores_one_but_where_a_span_ends_inside_a_subword(card, rows, tokenizer):
    task = tasks.of(card)
    encoded = task.encode(rows, tokenizer, "query: ", 512)
    table = task.predictions(rows, encoded, _oracle(task, encoded))
    words_of = encoded.targets["position"] != ABSENT
    whole = ((encoded.targets["tag"] != IGNORED) == words_of).all(1)
    assert whole.mean() > 0.6
    assert table.loc[whole, "correct"].all() and (table["cut"] == 0).all()
    for code, score in task.scores(table[whole]).items():
        assert score.value == score.others["token_accuracy"] == 1.0, code
    for code, score in task.scores(table).items():
        assert score.value > (0.85 if code == "ko" else 0.95)
    opposite = task.predictions(rows, encoded, _oracle(task, encoded, wrong=True))
    assert max(score.value for score in task.scores(opposite).values()) < 0.1


def test_what_does_not_fit_is_read_by_itself_and_every_word_has_a_tag(card, rows, tokenizer):
    task = tasks.of(card)
    whole, cut = (task.encode(rows, tokenizer, "query: ", length) for length in (512, 16))
    assert cut.lengths.max() == 16 and np.array_equal(np.unique(cut.row), whole.row)
    assert (np.bincount(cut.row) > 2).sum() > 50 and (np.diff(cut.row) >= 0).all()
    tables = [task.predictions(rows, one, _oracle(task, one)) for one in (whole, cut)]
    assert all((table["cut"] == 0).all() for table in tables)
    for before, after in zip(*(table["prediction"].str.split() for table in tables), strict=True):
        assert len(before) == len(after)
    # A span that two inputs share is found: its tags are those of its words. Fewer words share a subword.
    values = [{code: score.value for code, score in task.scores(table).items()} for table in tables]
    assert all(values[1][code] > value - 0.01 for code, value in values[0].items())
    opposite = task.predictions(rows, cut, _oracle(task, cut, wrong=True))
    assert max(score.value for score in task.scores(opposite).values()) < 0.1


def _as_xtreme_cuts(tokens, tokenizer, max_length):
    """XTREME's utils_preprocess.py: a sentence's parts, each of as many words as fit whole."""
    parts, room = [[]], max_length - 2
    for word in tokens:
        length = len(tokenizer(word, add_special_tokens=False)["input_ids"])
        assert 0 < length <= room
        used = sum(len(tokenizer(one, add_special_tokens=False)["input_ids"]) for one in parts[-1])
        parts += [[word]] if used + length > room else []
        parts[-1] += [word] if used + length <= room else []
    return parts


@pytest.mark.parametrize("max_length", [12, 13, 14, 20, 33])
def test_inputs_are_what_xtreme_s_preprocessing_makes_of_a_sentence(card, rows, tokenizer, max_length):
    chosen = [row for row in rows if row["language"] in ("de", "ru", "fr")]
    for row in chosen:
        row["tokens"], row["tags"] = row["tokens"][:60], row["tags"][:60]
        row["text"] = " ".join(row["tokens"])
    encoded = tasks.of(card).encode(Dataset.from_list(chosen), tokenizer, "", max_length)
    made = 0
    for i, row in enumerate(chosen):
        parts = _as_xtreme_cuts(row["tokens"], tokenizer, max_length)
        inputs = np.flatnonzero(encoded.row == i)
        assert [encoded.ids_of(one).tolist() for one in inputs] == [tokenizer(" ".join(p))["input_ids"] for p in parts]
        words_of = (encoded.targets["position"][inputs] != ABSENT).sum(1)
        assert words_of.tolist() == [len(part) for part in parts]
        made += len(parts) > 1
    assert made > 10


def test_a_word_longer_than_an_input_has_a_tag_and_what_follows_it_too(card, tokenizer):
    tokens = ["a", "Donaudampfschifffahrtsgesellschaft" * 3, "Paris", "is"]
    rows = Dataset.from_list(
        [{"text": " ".join(tokens), "tokens": tokens, "tags": ["O", "B-gui", "O", "B-key"], "language": "de",
          "item": "0", "group": "0"}]
    )  # fmt: skip
    task = tasks.of(card)
    encoded = task.encode(rows, tokenizer, "", 8)
    assert (encoded.targets["position"] != ABSENT).sum(0).tolist() == [1, 1, 1, 1]
    assert task.predictions(rows, encoded, _oracle(task, encoded))["prediction"].tolist() == ["O B-gui O B-key"]


def test_the_placebo_keeps_inputs_and_tags_and_breaks_the_tie(card, tokenizer):
    task = tasks.of(card)
    encoded = task.encode(load.splits(card)["train"].select(range(400)), tokenizer, "query: ", 96)
    placebo = task.shuffled(encoded, np.random.default_rng(0))
    true, fake = encoded.targets["tag"], placebo.targets["tag"]
    assert np.array_equal(encoded.ids, placebo.ids) and np.array_equal(
        encoded.targets["position"], placebo.targets["position"]
    )
    assert np.array_equal(true == IGNORED, fake == IGNORED)
    kinds = lambda tags: np.bincount((tags[tags != IGNORED] + 1) // 2, minlength=7)  # noqa: E731
    assert np.array_equal(kinds(true), kinds(fake))
    found = [[spans.of([task.tags[tag] for tag in row[row != IGNORED]]) for row in tags] for tags in (true, fake)]
    counts = [sum(map(len, part)) for part in found]
    assert counts[0] <= counts[1] <= 1.1 * counts[0]  # spans that end an input are cut in two
    inside = fake[np.arange(len(fake)), (fake != IGNORED).argmax(1)]
    assert not ((inside > 0) & (inside % 2 == 0)).any()
    both = sum(len(set(a) & set(b)) for a, b in zip(*found, strict=True))
    assert both < 0.1 * counts[0]
    assert not np.array_equal(fake, task.shuffled(encoded, np.random.default_rng(1)).targets["tag"])


def test_loss_gradient_equals_finite_differences_and_words_alone_count(card):
    task = tasks.of(card)
    generator = torch.Generator().manual_seed(0)
    hidden = torch.randn(3, 6, 8, dtype=torch.float64, generator=generator).requires_grad_()
    mask = torch.tensor([[True] * 6, [True] * 4 + [False] * 2, [True] * 5 + [False]])
    head = task.head(8, generator)
    assert head.out_features == 13
    weight, bias = (p.detach().double().requires_grad_() for p in (head.weight, head.bias))
    position = torch.tensor([[1, 2, 4, 4], [1, 3, ABSENT, ABSENT], [2, 3, 4, ABSENT]], dtype=torch.int16)
    tag = torch.tensor([[0, 1, 2, IGNORED], [3, 0, *[IGNORED] * 2], [12, 0, 0, IGNORED]], dtype=torch.int16)
    batch = Batch(torch.zeros(3, 6), mask, np.arange(3), {"position": position, "tag": tag})

    def loss(hidden, weight, bias):
        apply = lambda x: torch.nn.functional.linear(x.double(), weight, bias)  # noqa: E731
        return task.loss(task.outputs(apply, hidden, mask).double(), batch)

    # The families compute in float32, so the step and the tolerance are float32's.
    assert torch.autograd.gradcheck(loss, (hidden, weight, bias), eps=1e-2, atol=2e-3, rtol=2e-2, nondet_tol=0)
    # A token's own part: what it has beyond the mean of its input, in units of its standard deviation.
    own = torch.stack([row - row[inside].mean(0) for row, inside in zip(hidden, mask, strict=True)])
    own = (own - own.mean(-1, keepdim=True)) / own.std(-1, correction=0, keepdim=True)
    logits = torch.nn.functional.linear(own, weight, bias).log_softmax(-1)
    chosen = [(0, 1, 0), (0, 2, 1), (0, 4, 2), (1, 1, 3), (1, 3, 0), (2, 2, 12), (2, 3, 0), (2, 4, 0)]
    expected = -torch.stack([logits[i] for i in chosen]).mean()
    assert loss(hidden, weight, bias).item() == pytest.approx(expected.item(), abs=1e-5)
    (gradient,) = torch.autograd.grad(loss(hidden, weight, bias), hidden)
    assert not gradient[~mask].any()  # what is padded has no say, not even in the mean


def test_what_all_tokens_of_a_sentence_share_does_not_matter(card):
    task, generator = tasks.of(card), torch.Generator().manual_seed(0)
    hidden, shared = torch.randn(2, 5, 8, generator=generator), 30 * torch.randn(2, 1, 8, generator=generator)
    mask = torch.tensor([[True] * 5, [True] * 3 + [False] * 2])
    head = task.head(8, generator)
    alone, together = task.outputs(head, hidden, mask), task.outputs(head, hidden + shared, mask)
    assert torch.allclose(alone[mask], together[mask], atol=1e-4)


def test_batches_carry_positions_and_tags(card, rows, tokenizer):
    task = tasks.of(card)
    encoded = task.encode(rows, tokenizer, "query: ", 64)
    batch = collate(encoded, np.array([5, 2]), 1)
    assert batch.targets["position"].shape == batch.targets["tag"].shape
    assert int(batch.targets["position"].max()) < batch.ids.shape[1]
    assert task.loss(torch.zeros(2, batch.ids.shape[1], 13), batch).item() == pytest.approx(np.log(13))


TAGS = ["O", "B-a", "I-a", "B-b", "I-b"]
PAIRS = st.lists(
    st.integers(1, 8).flatmap(lambda n: st.tuples(*[st.lists(st.sampled_from(TAGS), min_size=n, max_size=n)] * 2)),
    min_size=1,
    max_size=6,
)


def _independent(tags):
    """Spans by looking at every pair of ends, instead of from left to right."""

    def begins(i):
        return tags[i] != "O" and (i == 0 or tags[i][0] == "B" or tags[i - 1][1:] != tags[i][1:])

    found = set()
    for a in range(len(tags)):
        for b in range(a + 1, len(tags) + 1):
            inside = all(t == f"I{tags[a][1:]}" for t in tags[a + 1 : b])
            longer = b < len(tags) and tags[b] == f"I{tags[a][1:]}"
            if begins(a) and inside and not longer:
                found.add((tags[a][2:], a, b))
    return found


@settings(max_examples=200, deadline=None)
@given(PAIRS)
@pytest.mark.filterwarnings("ignore")  # seqeval warns of 0/0
def test_span_f1_equals_seqeval_and_an_independent_count(pairs):
    predicted, gold = map(list, zip(*pairs, strict=True))
    assert all(set(spans.of(tags)) == _independent(tags) for tags in [*predicted, *gold])
    f1, precision, recall = spans.scores(predicted, gold)
    assert f1 == pytest.approx(f1_score(gold, predicted))
    assert precision == pytest.approx(precision_score(gold, predicted))
    assert recall == pytest.approx(recall_score(gold, predicted))
    sides = [[_independent(tags) for tags in side] for side in (predicted, gold)]
    rows = [(len(a & b), len(a), len(b)) for a, b in zip(*sides, strict=True)]
    assert spans.counts(predicted, gold).tolist() == [list(row) for row in rows]


def test_values_follow_from_the_columns_of_the_predictions(card, rows, tokenizer):
    task = tasks.of(card)
    encoded = task.encode(rows, tokenizer, "query: ", 48)
    outputs = _oracle(task, encoded)
    for logits in outputs[::2]:
        logits[4:7, 1] += 10.5  # more than the oracle gives
    table = task.predictions(rows, encoded, outputs)
    scores = task.scores(table)
    items = pa.Table.from_pandas(table).set_column(0, "language", pa.array(table["language"]).dictionary_encode())
    follow = predictions.by_language("span_f1", items)
    assert follow == pytest.approx({code: score.value for code, score in scores.items()})
    assert min(follow.values()) > 0.2 and np.mean(list(follow.values())) < 0.95
    mean = predictions.by_language("accuracy", items)
    assert mean == pytest.approx(table.groupby("language")["correct"].mean().to_dict())
    with pytest.raises(ValueError, match="column 'f1' is missing, expected by the metric f1"):
        predictions.by_language("f1", items)


# Of these characters nothing is left in XLM-R's vocabulary: spaces, marks of direction, joiners, controls.
SILENT = [*range(0x2000, 0x2010), 0xA0, 0x1680, 0x2028, 0x2029, 0x202F, 0x205F, 0x2581, 0x3000, 0xFEFF, 0xFFFD]
SILENT = [*map(chr, [*SILENT, 0x01, 0x08, 0x0E, 0x1F, 0x7F, 0x8F, 0x9F])]


def _wordpiece():
    pieces = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "a", "paris", "is"]
    made = Tokenizer(models.WordPiece({w: i for i, w in enumerate(pieces)}))
    made.normalizer, made.pre_tokenizer = normalizers.BertNormalizer(), pre_tokenizers.BertPreTokenizer()
    made.post_processor = processors.TemplateProcessing("[CLS] $A [SEP]", None, [("[CLS]", 2), ("[SEP]", 3)])
    return PreTrainedTokenizerFast(tokenizer_object=made, unk_token="[UNK]", pad_token="[PAD]")


def _as_xtreme_reads(tokens, tokenizer):
    """Ids of a sentence and where its words begin, word by word: of a word without tokens, the unknown one."""
    ids, begins = [], []
    for word in tokens:
        begins.append(len(ids) + 1)
        own = tokenizer(word, add_special_tokens=False)["input_ids"]
        ids += own if tokenizer.decode(own).strip() else [tokenizer.unk_token_id]
    start, end = tokenizer("")["input_ids"]
    return [start, *ids, end], begins


@pytest.mark.parametrize("made", ["e5", "wordpiece"])
@pytest.mark.parametrize("silent", SILENT, ids=lambda character: f"{ord(character):04x}")
def test_a_word_that_leaves_nothing_takes_no_other_word_s_place(card, tokenizer, made, silent):
    """Where spaces part the words; an oracle finds every span, and what the model reads is what XTREME's does."""
    tokenizer = tokenizer if made == "e5" else _wordpiece()
    if tokenizer.decode(tokenizer(silent, add_special_tokens=False)["input_ids"]).strip():
        pytest.skip("this tokenizer has a token for it")
    sentences = [
        [silent, "Paris"],
        ["a", silent, "Paris"],
        [silent, silent, "a", silent, silent, silent, "Paris", "is"],
    ]
    sentences += [[silent, "a", silent, "Paris"], ["a", "Paris", "is"]]
    tags = [[f"B-{card.labels[0]}" if token in ("Paris", silent) else "O" for token in tokens] for tokens in sentences]
    rows = Dataset.from_list(
        [
            {
                "text": " ".join(tokens),
                "tokens": tokens,
                "tags": gold,
                "language": "de",
                "item": str(i),
                "group": str(i),
            }
            for i, (tokens, gold) in enumerate(zip(sentences, tags, strict=True))
        ]
    )
    task = tasks.of(card)
    encoded = task.encode(rows, tokenizer, "", 64)
    for i, tokens in enumerate(sentences):
        ids, begins = _as_xtreme_reads(tokens, tokenizer)
        assert encoded.ids_of(i).tolist() == ids
        assert encoded.targets["position"][i, : len(tokens)].tolist() == begins
    (score,) = task.scores(task.predictions(rows, encoded, _oracle(task, encoded))).values()
    assert score.value == 1 and score.others["words_cut"] == 0


def test_unknown_words_count_towards_the_length(card, tokenizer):
    tokens = ["a", "\u200f", "b", "\u200f", "c", "d", "\u3000", "e"]
    rows = Dataset.from_list([{"text": " ".join(tokens), "tokens": tokens, "tags": ["O"] * len(tokens)}])
    whole, begins = _as_xtreme_reads(tokens, tokenizer)
    for length in range(3, len(whole) + 2):
        encoded = tasks.of(card).encode(rows, tokenizer, "", length)
        assert encoded.ids_of(0).tolist() == [*whole[: min(length, len(whole)) - 1], whole[-1]]
        expected = [begin if begin < length - 1 else ABSENT for begin in begins]
        assert encoded.targets["position"][0].tolist() == expected
        room = length - 2
        assert [one for i in range(len(encoded)) for one in encoded.ids_of(i)[1:-1].tolist()] == whole[1:-1]
        assert encoded.lengths.tolist()[:-1] == [length] * (-(-len(tokens) // room) - 1)
        assert (encoded.targets["position"] != ABSENT).sum(0).tolist() == [1] * len(tokens)


@pytest.mark.parametrize(
    "text", ["\u200fParis", "a\u200f is", "a \u200f", "\x01a", "a\x01 is", "a \x01", "\u200f\u200e"]
)
def test_words_without_spaces_between_and_the_last_word(card, tokenizer, text):
    tokens = re.findall(r"\w+|[^\w ]", text)
    rows = Dataset.from_list([{"text": text, "tokens": tokens, "tags": ["O"] * len(tokens)}])
    encoded = tasks.of(card).encode(rows, tokenizer, "", 64)
    positions = encoded.targets["position"][0].tolist()
    assert positions == sorted({*positions}) and min(positions) > 0 and (encoded.targets["tag"][0] != IGNORED).all()
    for token, position in zip(tokens, positions, strict=True):
        piece = tokenizer.convert_ids_to_tokens(int(encoded.ids_of(0)[position]))
        # A space at the end of a text is a subword in this tokenizer, so that the last word has one.
        assert piece in (("<unk>", "\u2581") if token in "\u200f\u200e\x01" else ("\u2581" + token,))


@pytest.mark.parametrize("made", ["e5", "wordpiece"])
@pytest.mark.parametrize("control", [*map(chr, range(1, 32)), *map(chr, range(0x7F, 0xA0))], ids=ascii)
def test_a_control_character_that_a_text_begins_with_takes_no_other_word_s_place(card, tokenizer, made, control):
    """Whether the vocabulary has it, as XLM-R's has most from U+0080 on, or not."""
    tokenizer = tokenizer if made == "e5" else _wordpiece()
    tokens = [control, "Paris", "is"]
    rows = Dataset.from_list([{"text": " ".join(tokens), "tokens": tokens, "tags": ["O"] * 3}])
    encoded = tasks.of(card).encode(rows, tokenizer, "", 64)
    first, *rest = encoded.targets["position"][0].tolist()
    pieces = tokenizer.convert_ids_to_tokens(encoded.ids_of(0).tolist())
    assert 0 < first < rest[0] and [pieces[position].strip("\u2581").lower() for position in rest] == [
        "paris",
        "is",
    ]


def test_without_an_unknown_token_such_a_word_has_no_place(card):
    tokenizer = _wordpiece()
    tokenizer.unk_token = None
    rows = Dataset.from_list([{"text": "\x01 paris", "tokens": ["\x01", "paris"], "tags": ["O", "O"]}])
    encoded = tasks.of(card).encode(rows, tokenizer, "", 64)
    assert encoded.targets["position"][0].tolist() == [ABSENT, 1] and encoded.targets["tag"][0].tolist() == [IGNORED, 0]
