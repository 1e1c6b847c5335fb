"""What XTREME-R's tasks add to the families: pairs of texts, plain tags, unanswerable questions, MLQA's answers."""

import re
import string

import numpy as np
import pyarrow as pa
import pytest
from datasets import Dataset
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import accuracy_score, f1_score

from xlscale import tasks
from xlscale.cards import catalogue
from xlscale.core.files import XlscaleError
from xlscale.data.batches import Encoded
from xlscale.metrics.predictions import by_language
from xlscale.models import ladder
from xlscale.tasks.span_qa import NULL
from xlscale.tasks.tagging import ABSENT, IGNORED


@pytest.fixture(scope="module")
def tokenizer(e5):
    return ladder.tokenizer(e5)


def test_pairs_are_read_as_pairs_and_the_longer_side_is_cut(tokenizer):
    task = tasks.of(catalogue.documented("xnli"))
    rows = Dataset.from_list(
        [
            {"text": "A cat sleeps.", "second": "An animal rests.", "label": "entailment"},
            {"text": "water " * 100, "second": "A short one.", "label": "neutral"},
        ]
    )
    encoded = task.encode(rows, tokenizer, "query: ", 32)
    expected = tokenizer("A cat sleeps.", "An animal rests.")["input_ids"]
    assert encoded.ids_of(0).tolist() == expected  # both, with what stands between them, and no prefix
    short = tokenizer("A short one.", add_special_tokens=False)["input_ids"]
    assert len(encoded.ids_of(1)) == 32 and encoded.ids_of(1).tolist()[-len(short) - 1 : -1] == short
    assert encoded.targets["label"].tolist() == [0, 1]


def _tagged(codes=("en", "de")):
    generator = np.random.default_rng(0)
    labels = catalogue.documented("udpos").labels
    tokens = ["the", "old", "cat", "drank", "cold", "water"]
    rows = [
        {
            "language": code,
            "item": f"{code}{n}",
            "group": f"{code}{n}",
            "text": " ".join(tokens),
            "tokens": tokens,
            "tags": [labels[i] for i in generator.integers(0, 4, len(tokens))],
        }
        for code in codes
        for n in range(8)
    ]
    return Dataset.from_list(rows)


def test_plain_tags_are_scored_by_word(tokenizer):
    task = tasks.of(catalogue.documented("udpos"))
    rows = _tagged()
    encoded = task.encode(rows, tokenizer, "", 64)
    generator = np.random.default_rng(1)
    outputs = [generator.normal(size=(n, len(task.tags))).astype(np.float32) for n in encoded.lengths]
    for logits in outputs:
        logits[:, 4:] -= 100  # only tags that there are
    table = task.predictions(rows, encoded, outputs)
    scores = task.scores(table)
    languages = pa.array(table["language"]).dictionary_encode()
    items = pa.table({"language": languages, "matches": table["matches"], "spans": table["spans"]})
    summed = by_language("token_accuracy", items)
    for code in ("en", "de"):
        part = table[table["language"] == code]
        gold, found = (" ".join(part[name]).split(" ") for name in ("gold", "prediction"))
        assert set(found) <= set(task.tags)
        assert scores[code].value == pytest.approx(accuracy_score(gold, found))
        assert scores[code].others["macro_f1"] == pytest.approx(f1_score(gold, found, average="macro"))
        assert scores[code].others["micro_f1"] == pytest.approx(f1_score(gold, found, average="micro"))
        assert summed[code] == pytest.approx(scores[code].value)


def test_an_oracle_of_plain_tags_scores_one_and_its_placebo_keeps_the_tags(tokenizer):
    task, rows = tasks.of(catalogue.documented("udpos")), _tagged()
    encoded = task.encode(rows, tokenizer, "", 64)
    outputs = [np.zeros((n, len(task.tags)), np.float32) for n in encoded.lengths]
    for i, (positions, tags) in enumerate(zip(encoded.targets["position"], encoded.targets["tag"], strict=True)):
        for position, tag in zip(positions, tags, strict=True):
            if tag != IGNORED:
                outputs[i][position, tag] = 1
    assert all(score.value == 1 for score in task.scores(task.predictions(rows, encoded, outputs)).values())
    dealt = task.shuffled(encoded, np.random.default_rng(0)).targets["tag"]
    assert sorted(dealt[dealt != IGNORED]) == sorted(encoded.targets["tag"][encoded.targets["tag"] != IGNORED])


def test_words_without_a_position_are_wrong_and_counted(tokenizer):
    """As a tokenizer without an unknown token leaves them."""
    task, rows = tasks.of(catalogue.documented("udpos")), _tagged(("en",))
    encoded = task.encode(rows, tokenizer, "", 64)
    lost = encoded.targets["position"][:, 2:4]
    lost[:] = ABSENT
    outputs = [np.zeros((n, len(task.tags)), np.float32) for n in encoded.lengths]
    table = task.predictions(rows, encoded, outputs)
    assert (table["cut"] == 2).all() and {text.split()[2] for text in table["prediction"]} == {"O"}
    assert task.scores(table)["en"].others["words_cut"] == pytest.approx(2 / 6)


def test_tags_that_training_never_saw_are_not_learned_and_never_correct(tokenizer):
    card = catalogue.documented("ccg").model_copy(update={"labels": ["N", "NP"]})
    task = tasks.of(card)
    row = {"language": "en", "item": "1", "group": "1", "text": "a cat", "tokens": ["a", "cat"], "tags": ["NP/N", "N"]}
    encoded = task.encode(Dataset.from_list([row]), tokenizer, "", 32)
    assert encoded.targets["tag"].tolist() == [[IGNORED, 0]]


def _questions(answered):
    context = "My cat sleeps in the old house near the water."
    rows = [
        {
            "language": "en",
            "item": str(n),
            "group": str(n),
            "question": "Where does the cat sleep?",
            "context": context,
            "answers": ["the old house"] if yes else [],
            "answer_starts": [context.index("the old")] if yes else [],
        }
        for n, yes in enumerate(answered)
    ]
    return Dataset.from_list(rows)


def _oracle(encoded: Encoded) -> list[np.ndarray]:
    outputs = [np.zeros((n, 2), np.float32) for n in encoded.lengths]
    for i, (start, end) in enumerate(zip(encoded.targets["start"], encoded.targets["end"], strict=True)):
        outputs[i][start, 0] = outputs[i][end, 1] = 9
    return outputs


def test_a_question_without_an_answer_points_to_the_first_token(tokenizer):
    task, rows = tasks.of(catalogue.documented("squad_v2")), _questions([True, False, False, True])
    encoded = task.encode(rows, tokenizer, "", 64)
    assert encoded.targets["start"].tolist()[1:3] == encoded.targets["end"].tolist()[1:3] == [NULL, NULL]
    assert len(task.training_inputs(encoded, np.random.default_rng(0))) == 4  # they are trained on
    table = task.predictions(rows, encoded, _oracle(encoded))
    said = [task.answer(*one) for one in zip(table["prediction"], rows["context"], strict=True)]
    assert said == ["the old house", "", "", "the old house"] and table["prediction"].tolist()[1:3] == ["0:0", "0:0"]
    assert table["correct"].tolist() == table["f1"].tolist() == [1, 1, 1, 1]
    # Always answering, and never: SQuAD 2.0 gives each the share of its questions.
    flat = [
        np.where(np.arange(n)[:, None] == NULL, -9, o) for n, o in zip(encoded.lengths, _oracle(encoded), strict=True)
    ]
    assert task.predictions(rows, encoded, flat)["f1"].tolist()[1:3] == [0, 0]
    mute = [
        np.where(np.arange(n)[:, None] == NULL, 99, o) for n, o in zip(encoded.lengths, _oracle(encoded), strict=True)
    ]
    assert task.predictions(rows, encoded, mute)["correct"].tolist() == [0, 1, 1, 0]


def test_a_context_of_which_a_tokenizer_leaves_nothing_is_one_line(tokenizer):
    rows = _questions([True, False]).to_list()
    rows[1] |= {"context": "\x01", "answers": [], "answer_starts": []}
    with pytest.raises(
        XlscaleError, match="context: item '1': expected a text of which the tokenizer leaves something"
    ):
        tasks.of(catalogue.documented("squad_v2")).encode(Dataset.from_list(rows), tokenizer, "", 64)


def test_a_set_whose_questions_all_have_answers_never_gives_none(tokenizer):
    rows = _questions([True])
    task = tasks.of(catalogue.documented("squad"))
    encoded = task.encode(rows, tokenizer, "", 64)
    mute = [np.where(np.arange(n)[:, None] == NULL, 99, 0).astype(np.float32).repeat(2, 1) for n in encoded.lengths]
    (prediction,), (context,) = task.predictions(rows, encoded, mute)["prediction"], rows["context"]
    assert task.answer(prediction, context) != ""


def test_the_placebo_of_an_unanswerable_question_has_no_answer_either(tokenizer):
    task, rows = tasks.of(catalogue.documented("squad_v2")), _questions([True, False] * 10)
    encoded = task.encode(rows, tokenizer, "", 64)
    dealt = task.shuffled(encoded, np.random.default_rng(0)).targets
    assert (dealt["start"] == NULL).sum() == 10 and ((dealt["start"] == NULL) == (dealt["end"] == NULL)).all()
    assert not np.array_equal(dealt["start"], encoded.targets["start"])


@pytest.mark.parametrize(
    ("name", "language", "f1"), [("mlqa", "es", 1.0), ("xquad", "es", 2 / 3), ("mlqa", "en", 2 / 3)]
)
def test_answers_are_normalised_as_the_card_says(name, language, f1):
    task = tasks.of(catalogue.documented(name))
    # "la" is an article in Spanish, for MLQA's evaluation alone.
    assert task._score("la casa", ["casa"], language) == pytest.approx((float(f1 == 1), f1))


def _squad_v2(prediction, answers):
    """Exact match and F1 as SQuAD 2.0's script defines them (evaluate-v2.0.py), written down anew."""

    def words_of(text):
        kept = "".join(character for character in text.lower() if character not in string.punctuation)
        return re.sub(r"\b(a|an|the)\b", " ", kept).split()

    wanted = [words_of(answer) for answer in answers if words_of(answer)] or [[]]
    found = words_of(prediction)
    exact, f1 = [], []
    for gold in wanted:
        same = sum(min(gold.count(word), found.count(word)) for word in {*gold})
        exact.append(float(gold == found))
        # Where either side is nothing they agree or they do not; else the harmonic mean of same/found and same/gold.
        f1.append(float(gold == found) if not gold or not found else 2 * same / (len(gold) + len(found)))
    return max(exact), max(f1)


ANSWERS = st.lists(
    st.sampled_from(["the", "The", ".", "a", "an", "cat", "cats", "sat", " ", "!?", "«", "the-cat", "x"])
)
ANSWERS = ANSWERS.map(" ".join)


@pytest.mark.parametrize("nothing", ["", "the", ".", " ", "A!", "an the a"])
@pytest.mark.parametrize("answers", [[], ["the"], [".", "a"]])
def test_an_unanswerable_question_wants_what_normalises_to_nothing(nothing, answers):
    task = tasks.of(catalogue.documented("squad_v2"))
    assert task._score(nothing, answers, "en") == (1, 1) == _squad_v2(nothing, answers)
    assert task._score("cat", answers, "en") == (0, 0) == _squad_v2("cat", answers)
    # A true answer beside those counts alone, so that no answer is wrong.
    assert task._score(nothing, [*answers, "cat"], "en") == (0, 0) == _squad_v2(nothing, [*answers, "cat"])


@settings(max_examples=500, deadline=None)
@given(ANSWERS, st.lists(ANSWERS, max_size=3))
def test_unanswerable_sets_are_scored_as_squad_v2_is(prediction, answers):
    task = tasks.of(catalogue.documented("squad_v2"))
    assert task._score(prediction, answers, "en") == pytest.approx(_squad_v2(prediction, answers))


def test_sets_whose_questions_all_have_answers_are_scored_as_squad_v1_is():
    task = tasks.of(catalogue.documented("squad"))
    assert task._score("the", ["."], "en") == (1, 0)  # equal after normalisation, and without a token in common
    assert task._score("", ["cat", "the"], "en") == (1, 0)


def test_answers_of_sets_that_are_not_here_are_told_by_their_place(tokenizer):
    here, elsewhere = (tasks.of(card) for card in (catalogue.data_card("squad_wiki"), catalogue.documented("xquad")))
    answers = ["two cats ", "a dog"]
    rows = [
        {
            "language": "en", "item": f"q{n}", "group": f"q{n}", "question": "who?", "article": "",
            "context": f"There were {answer} in it.", "answers": [answer], "answer_starts": [11],
        }
        for n, answer in enumerate(answers)
    ]  # fmt: skip
    rows = Dataset.from_list(rows)
    encoded = here.encode(rows, tokenizer, "", 64)
    generator = np.random.default_rng(0)
    outputs = [generator.normal(size=(n, 2)).astype(np.float32) for n in encoded.lengths]
    texts, places = (task.predictions(rows, encoded, outputs) for task in (here, elsewhere))
    assert [elsewhere.answer(*one) for one in zip(places["prediction"], rows["context"], strict=True)] == [
        here.answer(*one) for one in zip(texts["prediction"], rows["context"], strict=True)
    ]
    assert all(re.fullmatch(r"\d+:\d+", one) for one in places["prediction"])
    assert texts[["score", "correct", "f1"]].equals(places[["score", "correct", "f1"]])
    for wrong in ("5:4", "0:99", "-1:2", "a:b", "3", "", "two cats"):
        with pytest.raises(ValueError, match="prediction: expected the first and last character"):
            elsewhere.answer(wrong, rows["context"][0])


def test_metrics_of_new_families_follow_from_sums():
    languages = pa.array(["de", "de", "sw"]).dictionary_encode()
    items = pa.table(
        {"language": languages, "average_precision": [1.0, 0.5, 0.25], "matches": [2, 0, 2], "spans": [2, 1, 4]}
    )
    assert by_language("map_at_20", items) == {"de": 0.75, "sw": 0.25}
    assert by_language("mining_f1", items) == pytest.approx({"de": 2 / 3, "sw": 0.5})
