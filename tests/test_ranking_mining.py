"""Dual-encoder ranking and bitext mining, against plain code that looks at everything."""

import numpy as np
import pandas as pd
import pytest
import torch
from datasets import Dataset

from xlscale import tasks
from xlscale.cards import catalogue
from xlscale.core.files import XlscaleError
from xlscale.data.batches import Batch, Encoded
from xlscale.metrics.retrieval import average_precision
from xlscale.tasks import mining, ranking


def unit(generator, rows, width=8):
    vectors = generator.normal(size=(rows, width)).astype(np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


@pytest.fixture
def ranked():
    """A ranking test set: 12 queries in two languages about 6 groups, 60 candidates in three languages."""
    queries = [
        {"language": code, "item": f"q{n}", "group": f"g{n}", "role": "query", "relevant": []}
        for code in ("de", "sw")
        for n in range(6)
    ]
    candidates = [
        {
            "language": code,
            "item": f"c{n}",
            "group": f"c{n}",
            "role": "candidate",
            "relevant": [f"g{n}"] if n < 6 else [],
        }
        for code in ("de", "en", "sw")
        for n in range(20)
    ]
    rows = [row | {"text": row["item"], "second": None} for row in [*queries, *candidates]]
    side = np.array([ranking.QUERY] * len(queries) + [ranking.CANDIDATE] * len(candidates))
    encoded = Encoded.of([[1]] * len(rows), targets={"side": side, "text": np.zeros(len(rows), np.int64)})
    return tasks.of(catalogue.documented("lareqa")), Dataset.from_list(rows), encoded


def test_map_is_that_of_all_candidates_at_once(ranked):
    task, rows, encoded = ranked
    vectors = unit(np.random.default_rng(3), len(rows))
    table = task.predictions(rows, encoded, list(vectors))
    products = vectors[:12] @ vectors[12:].T
    names = [f"{row['language']}:{row['item']}" for row in rows][12:]
    for i, row in table.iterrows():
        relevant = {f"{code}:c{row['group'][1:]}" for code in ("de", "en", "sw")}
        best = [names[j] for j in np.argsort(-products[i], kind="stable")]
        assert row["prediction"].split() == best[:20] and set(row["gold"].split()) == relevant
        assert row["average_precision"] == pytest.approx(average_precision(best, relevant, 20))
    scores = task.scores(table)
    assert set(scores) == {"de", "sw"}
    assert scores["de"].value == pytest.approx(table[table["language"] == "de"]["average_precision"].mean())


def test_a_perfect_ranking_scores_one_and_chance_nearly_nothing(ranked):
    task, rows, encoded = ranked
    basis = np.eye(32, dtype=np.float32)
    perfect = [basis[int(row["group"][1:]) if row["role"] == "query" else int(row["item"][1:])] for row in rows]
    assert all(score.value == 1 for score in task.scores(task.predictions(rows, encoded, perfect)).values())
    opposite = [-vector if row["role"] == "query" else vector for row, vector in zip(rows, perfect, strict=True)]
    assert all(score.value == 0 for score in task.scores(task.predictions(rows, encoded, opposite)).values())


def test_a_query_without_a_relevant_candidate_is_one_line(ranked):
    task, rows, encoded = ranked
    lost = rows.map(lambda row: {"relevant": [one for one in row["relevant"] if one != "g3"]})
    with pytest.raises(XlscaleError, match="relevant: expected a candidate for group 'g3', found none"):
        task.predictions(lost, encoded, list(unit(np.random.default_rng(0), len(rows))))


def _pairs(texts):
    rows = [
        {
            "language": "en",
            "item": str(i),
            "group": f"g{i}",
            "role": "pair",
            "text": f"q{i}",
            "second": s,
            "relevant": [],
        }
        for i, s in enumerate(texts)
    ]
    number = {text: i for i, text in enumerate(dict.fromkeys(texts))}
    side = np.array([ranking.QUERY, ranking.CANDIDATE] * len(rows))
    same = np.array([number[text] for text in texts for _ in range(2)])
    owners = [i for i in range(len(rows)) for _ in range(2)]
    return Dataset.from_list(rows), Encoded.of([[1]] * len(owners), owners, {"side": side, "text": same})


def test_equal_candidates_of_pairs_are_one_and_relevant_for_both():
    task = tasks.of(catalogue.documented("lareqa"))
    rows, encoded = _pairs(["a", "b", "a"])
    basis = np.eye(4, dtype=np.float32)
    outputs = [basis[n] for n in (0, 0, 1, 1, 0, 0)]
    table = task.predictions(rows, encoded, outputs)
    assert (table["correct"] == 1).all() and (table["average_precision"] == 1).all()
    assert [len(row.split()) for row in table["prediction"]] == [2, 2, 2]


def test_the_loss_takes_the_batch_s_other_candidates_but_not_equal_ones():
    task = tasks.of(catalogue.documented("mewslix"))
    _, encoded = _pairs(["a", "b", "a"])
    vectors = torch.from_numpy(unit(np.random.default_rng(5), 6)).requires_grad_()
    targets = {name: torch.from_numpy(values) for name, values in encoded.targets.items()}
    loss = task.loss(vectors, Batch(None, None, None, targets))
    q, c = vectors[0::2], vectors[1::2]
    logits = ranking.SCALE * q @ c.T
    # The first and the third pair have the same candidate: neither is the other's distractor.
    allowed = [[0, 1], [0, 1, 2], [1, 2]]
    expected = [torch.logsumexp(logits[i, kept], 0) - logits[i, i] for i, kept in enumerate(allowed)]
    assert loss.item() == pytest.approx(torch.stack(expected).mean().item(), rel=1e-5)
    loss.backward()
    assert torch.isfinite(vectors.grad).all()


def test_the_placebo_moves_candidates_and_keeps_inputs():
    task = tasks.of(catalogue.documented("lareqa"))
    _, encoded = _pairs([f"t{i}" for i in range(50)])
    encoded.ids[:] = np.arange(100)
    dealt = task.shuffled(encoded, np.random.default_rng(0))
    assert np.array_equal(dealt.row, encoded.row) and np.array_equal(dealt.targets["side"], encoded.targets["side"])
    queries, candidates = dealt.targets["side"] == ranking.QUERY, dealt.targets["side"] == ranking.CANDIDATE
    assert np.array_equal(dealt.ids[queries], encoded.ids[queries])
    assert sorted(dealt.ids[candidates]) == sorted(encoded.ids[candidates])
    assert (dealt.ids[candidates] != encoded.ids[candidates]).mean() > 0.8


def _corpora(noise, seed=0, rows=40):
    """Two pools of sentences, half of which have a translation: a nearby vector."""
    generator = np.random.default_rng(seed)
    lines, vectors = [], []
    for kind in ("dev", "test"):
        base = unit(generator, rows, 24)
        for n in range(rows):
            lines.append({"language": "de", "item": f"{kind}{n}", "group": f"{kind}-{n}", "pool": f"{kind}-de"})
            vectors.append(base[n])
            group = f"{kind}-{n}" if n % 2 == 0 else f"{kind}-alone-{n}"
            lines.append({"language": "en", "item": f"{kind}-en{n}", "group": group, "pool": f"{kind}-de"})
            other = base[n] if n % 2 == 0 else unit(generator, 1, 24)[0]
            moved = other + noise * unit(generator, 1, 24)[0]
            vectors.append((moved / np.linalg.norm(moved)).astype(np.float32))
    rows = [line | {"text": f"{line['language']} {line['item']}"} for line in lines]
    return Dataset.from_list(rows), vectors


def test_mining_finds_translations_and_nothing_else():
    task = tasks.of(catalogue.documented("bucc2018"))
    rows, vectors = _corpora(0.0)
    table = task.predictions(rows, None, vectors)
    assert len(table) == 40 and set(table["language"]) == {"de"}
    scores = task.scores(table)["de"]
    assert scores.value == 1 and scores.others == {"precision": 1, "recall": 1}
    assert (table["gold"] == mining.NOTHING).sum() == 20


def test_f1_is_that_of_the_sets_of_pairs():
    task = tasks.of(catalogue.documented("bucc2018"))
    rows, vectors = _corpora(1.2)
    table = task.predictions(rows, None, vectors)
    found = {(row["group"], row["prediction"]) for _, row in table.iterrows() if row["prediction"]}
    wanted = {(row["group"], row["gold"]) for _, row in table.iterrows() if row["gold"]}
    expected = 2 * len(found & wanted) / (len(found) + len(wanted))
    value = task.scores(table)["de"].value
    assert 0.2 < value < 1 and value == pytest.approx(expected)
    assert value == pytest.approx(table["matches"].sum() / table["spans"].sum())


def test_the_margin_is_the_ratio_to_both_neighbourhoods():
    generator = np.random.default_rng(2)
    x, y = unit(generator, 9), unit(generator, 11)
    match, score = mining.mine(x, y)
    cosine = x @ y.T
    near = np.sort(cosine, axis=1)[:, -4:].mean(1)
    back = np.sort(cosine, axis=0)[-4:].mean(0)
    for i, j in enumerate(match):
        if j >= 0:
            assert score[i] == pytest.approx(2 * cosine[i, j] / (near[i] + back[j]), rel=1e-4)
    used = match[match >= 0]
    assert len(set(used)) == len(used)


def test_the_threshold_is_the_best_of_all():
    generator = np.random.default_rng(4)
    gold = np.where(generator.random(60) < 0.5, "a", mining.NOTHING)
    mined = pd.DataFrame({"gold": gold, "candidate": np.where(generator.random(60) < 0.6, gold, "b")})
    mined["score"] = generator.integers(0, 12, 60).astype(np.float32)  # many equal ones
    mined.loc[:4, ["candidate", "score"]] = mining.NOTHING, -np.inf

    def f1(threshold):
        kept = mined["score"] >= threshold
        hits = (kept & (mined["candidate"] == mined["gold"])).sum()
        return 2 * hits / (kept.sum() + (mined["gold"] != mining.NOTHING).sum())

    best = max(f1(threshold) for threshold in range(12))
    assert f1(mining.threshold(mined)) == pytest.approx(best)


def test_a_test_pool_without_its_development_pool_is_one_line():
    rows, vectors = _corpora(0.0)
    kept = [i for i, row in enumerate(rows) if row["pool"] == "test-de"]
    task = tasks.of(catalogue.documented("bucc2018"))
    with pytest.raises(XlscaleError, match="pool: expected 'dev-de' beside 'test-de', found none"):
        task.predictions(rows.select(kept), None, [vectors[i] for i in kept])


@pytest.mark.parametrize(
    ("pool", "english", "missing"), [("test-de", True, "sentences that are not English"), ("dev-de", False, "English")]
)
def test_a_pool_of_one_side_is_one_line(pool, english, missing):
    rows, vectors = _corpora(0.0)
    kept = [i for i, row in enumerate(rows) if row["pool"] != pool or (row["language"] == "en") == english]
    with pytest.raises(XlscaleError, match=rf"bucc2018\.parquet: pool: expected {missing}.* in '{pool}', found none"):
        tasks.of(catalogue.data_card("bucc2018")).predictions(rows.select(kept), None, [vectors[i] for i in kept])


def test_the_search_is_given_the_vectors_themselves(monkeypatch):
    """A pool of BUCC has up to a million of them."""
    seen, mine = [], mining.mine
    monkeypatch.setattr(mining, "mine", lambda *sides: seen.extend(sides) or mine(*sides))
    rows, vectors = _corpora(0.0)
    tasks.of(catalogue.documented("bucc2018")).predictions(rows, None, vectors)
    held = {id(vector) for vector in vectors}
    assert len(seen) == 4 and all(id(vector) in held for side in seen for vector in side[:40])


def test_fewer_test_items_leave_the_threshold_as_it_is():
    task = tasks.of(catalogue.documented("bucc2018"))
    rows, vectors = _corpora(1.2)
    whole = task.predictions(rows, None, vectors)
    for items in (1, 3, 1000):
        kept = task.test_rows(rows, items)
        table = task.predictions(rows.select(kept), None, [vectors[i] for i in kept])
        assert len(table) == min(items, 40) and len(kept) == 120 + len(table)
        assert set(table["threshold"]) == set(whole["threshold"])


def test_equal_texts_are_one_sentence_and_in_no_pair():
    """Against the same corpora without the copies; the search must not see the copies, neither as neighbours."""
    task = tasks.of(catalogue.documented("bucc2018"))
    rows, vectors = _corpora(0.8, rows=12)
    table = task.predictions(rows, None, vectors).set_index("item")
    found = table[(table["prediction"] == table["gold"]) & (table["gold"] != mining.NOTHING)].index
    query, other = found[0], f"test-en{found[1].removeprefix('test')}"
    index = {row["item"]: i for i, row in enumerate(rows)}
    copies = [(name, f"{name}, copy {n}") for name in (query, other) for n in range(5)]
    more = [rows[index[name]] | {"item": new, "group": new} for name, new in copies]
    again = task.predictions(
        Dataset.from_list([*rows, *more]), None, vectors + [vectors[index[name]] for name, _ in copies]
    ).set_index("item")
    lost = [query, found[1]]
    assert (again.loc[lost, "prediction"] == mining.NOTHING).all() and (again.loc[lost, "gold"] != mining.NOTHING).all()
    kept = table.index.drop(lost)
    pd.testing.assert_frame_equal(again.loc[kept], table.loc[kept])
    assert (again["prediction"] != mining.NOTHING).sum() == (table["prediction"] != mining.NOTHING).sum() - 2


def test_pools_of_tatoeba_are_searched_apart():
    task = tasks.of(catalogue.documented("tatoeba"))
    rows = [
        {"language": code, "item": f"{pool}{n}{code}", "group": f"{pool}{n}", "pool": pool}
        for pool in ("de", "sw")
        for code in (pool, "en")
        for n in range(3)
    ]
    basis = np.eye(3, dtype=np.float32)
    # Every pool has the same vectors: in one pool for all, half of the queries would find the other's candidates.
    table = task.predictions(Dataset.from_list(rows), None, [basis[int(row["group"][-1])] for row in rows])
    assert (table["correct"] == 1).all() and len(table) == 6
