"""Metrics against independent references: scikit-learn, recorded outputs of another SQuAD evaluation, plain code."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import accuracy_score, f1_score, precision_recall_fscore_support
from sklearn.neighbors import NearestNeighbors

from xlscale.metrics import answers
from xlscale.metrics.classification import accuracy, f1_precision_recall, macro_f1
from xlscale.metrics.predictions import SINGLE, VALUE, by_language
from xlscale.metrics.retrieval import top_k

labels = st.lists(st.tuples(st.sampled_from("abcd"), st.sampled_from("abcd")), min_size=1, max_size=60)


@given(labels)
def test_accuracy_and_macro_f1_equal_scikit_learn(pairs):
    predicted, gold = zip(*pairs, strict=True)
    assert accuracy(predicted, gold) == pytest.approx(accuracy_score(gold, predicted))
    assert macro_f1(predicted, gold) == pytest.approx(f1_score(gold, predicted, average="macro", zero_division=0))


@given(st.lists(st.tuples(st.booleans(), st.booleans()), min_size=1, max_size=60))
def test_f1_precision_and_recall_equal_scikit_learn(pairs):
    predicted, gold = (np.array(side) for side in zip(*pairs, strict=True))
    theirs = precision_recall_fscore_support(gold, predicted, average="binary", zero_division=0)
    ours = f1_precision_recall(int((predicted & gold).sum()), int(predicted.sum()), int(gold.sum()), scale=100)
    assert ours == pytest.approx(tuple(100 * theirs[i] for i in (2, 0, 1)))


def test_span_metrics_equal_the_recorded_reference():
    reference = json.loads((Path(__file__).parent / "fixtures" / "squad_reference.json").read_text(encoding="utf-8"))
    assert {case["exact_match"] for case in reference["cases"]} == {0.0, 1.0}
    for case in reference["cases"]:
        exact, f1 = answers.match(case["prediction"], case["answers"], answers.normalise_squad)
        assert exact == case["exact_match"] and f1 == pytest.approx(case["f1"], abs=1e-6)


def _plain_f1(predicted: list[str], gold: list[str]) -> float:
    shared = sum(min(predicted.count(token), gold.count(token)) for token in set(predicted))
    return 2 * shared / (len(predicted) + len(gold)) if shared else 0.0


@given(st.text("a b.x—", max_size=8), st.lists(st.text("a b.x—", max_size=8), min_size=1, max_size=3))
def test_answers_match_as_by_plain_code(prediction, golds):
    predicted, *others = map(answers.normalise_squad, (prediction, *golds))
    expected = (float(predicted in others), max(_plain_f1(predicted.split(), gold.split()) for gold in others))
    assert answers.match(prediction, golds, answers.normalise_squad) == pytest.approx(expected)


def test_the_nearest_equal_exact_nearest_neighbours():
    generator = np.random.default_rng(0)
    candidates, queries = generator.normal(size=(50, 16)), generator.normal(size=(200, 16))
    candidates /= np.linalg.norm(candidates, axis=1, keepdims=True)
    queries /= np.linalg.norm(queries, axis=1, keepdims=True)
    nearest = NearestNeighbors(n_neighbors=1, metric="cosine").fit(candidates).kneighbors(queries)[1][:, 0]
    best, cosine = (found[:, 0] for found in top_k(queries, candidates, 1))
    assert (best == nearest).all()
    assert cosine == pytest.approx((queries * candidates[best]).sum(1))


def test_perfect_retrieval_scores_one_and_permuted_gold_scores_chance():
    generator = np.random.default_rng(1)
    vectors = generator.normal(size=(400, 32))
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    gold = np.arange(400)
    nearest = top_k(vectors, vectors, 1)[0][:, 0]
    assert (nearest == gold).all()
    assert np.mean(nearest == generator.permutation(gold)) < 0.02


@pytest.mark.parametrize("metric", VALUE)
def test_the_value_of_a_language_is_that_of_its_items(metric):
    generator = np.random.default_rng(2)
    above, below = VALUE[metric]
    table = pd.DataFrame({"language": generator.choice(["de", "en", "sw"], 500)})
    table[above] = generator.integers(0, 5, 500).astype(np.float32) / (4 if below is None else 1)
    if below:
        table[below] = table[above].astype(np.int32) + 2
    found = by_language(metric, table)
    for language, part in table.groupby("language"):
        mean = part[above].sum() / part[below].sum() if below else part[above].mean()
        assert found[language] == (mean if metric in SINGLE else pytest.approx(mean))
