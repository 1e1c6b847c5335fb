"""Metrics against independent references: scikit-learn, and recorded outputs of another SQuAD evaluation."""

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import accuracy_score, f1_score
from sklearn.neighbors import NearestNeighbors

from xlscale.metrics import answers

labels = st.lists(st.tuples(st.sampled_from("abcd"), st.sampled_from("abcd")), min_size=1, max_size=60)


@given(labels)
def test_accuracy_and_macro_f1_equal_scikit_learn(pairs):
    predicted, gold = zip(*pairs, strict=True)
    assert answers.accuracy(predicted, gold) == pytest.approx(accuracy_score(gold, predicted))
    assert answers.macro_f1(predicted, gold) == pytest.approx(
        f1_score(gold, predicted, average="macro", zero_division=0)
    )


def test_span_metrics_equal_the_recorded_reference():
    reference = json.loads((Path(__file__).parent / "fixtures" / "squad_reference.json").read_text(encoding="utf-8"))
    assert {case["exact_match"] for case in reference["cases"]} == {0.0, 1.0}
    for case in reference["cases"]:
        assert answers.exact_match(case["prediction"], case["answers"]) == case["exact_match"]
        assert answers.token_f1(case["prediction"], case["answers"]) == pytest.approx(case["f1"], abs=1e-6)


def test_precision_at_1_equals_exact_nearest_neighbours():
    generator = np.random.default_rng(0)
    candidates, queries = generator.normal(size=(50, 16)), generator.normal(size=(200, 16))
    candidates /= np.linalg.norm(candidates, axis=1, keepdims=True)
    queries /= np.linalg.norm(queries, axis=1, keepdims=True)
    gold = generator.integers(50, size=200)
    nearest = NearestNeighbors(n_neighbors=1, metric="cosine").fit(candidates).kneighbors(queries)[1][:, 0]
    share, best, cosine = answers.precision_at_1(queries, candidates, gold)
    assert (best == nearest).all()
    assert share == np.mean(nearest == gold)
    assert cosine == pytest.approx((queries * candidates[best]).sum(1))


def test_perfect_retrieval_scores_one_and_permuted_gold_scores_chance():
    generator = np.random.default_rng(1)
    vectors = generator.normal(size=(400, 32))
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    gold = np.arange(400)
    assert answers.precision_at_1(vectors, vectors, gold)[0] == 1
    assert answers.precision_at_1(vectors, vectors, generator.permutation(gold))[0] < 0.02
