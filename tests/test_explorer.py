"""The explorer: what is chosen is what is shown, with the values and intervals of the record; data are never markup; a
cell that is run is compared. Then all of it by hand, in JupyterLab, where there is a Chromium."""

import os
import re

import nbformat
import numpy as np
import pandas as pd
import pytest
from conftest import wait

from xlscale.cards.catalogue import data_card
from xlscale.commands import explore
from xlscale.core.files import NOTEBOOKS, ROOT, XlscaleError
from xlscale.data import load
from xlscale.engine import runner
from xlscale.report import predictions, verdicts
from xlscale.report.explorer import choice, costs, curves, items, languages, run
from xlscale.report.explorer.choice import Choice, Record
from xlscale.report.explorer.run import Run
from xlscale.report.explorer.widgets import Explorer
from xlscale.report.markup import Markup
from xlscale.stats import slopes

HOSTILE = "<img src=x onerror=hacked=1> $x^2$ & \\(y\\) <script>hacked=1</script>"


@pytest.fixture(scope="module")
def pilot():
    return Record("pilot")


@pytest.fixture(scope="module")
def shown():
    """The explorer and all its parts, which takes seconds."""
    explorer = Explorer()
    names = ("choose", "curves", "languages", "items", "costs", "run")
    return explorer, {name: getattr(explorer, name)() for name in names}


def text(part):
    """What the last widget of a part shows."""
    return (part.children[-1] if hasattr(part, "children") else part).value


def named(part, description, nth=0):
    return [one for one in part.children if getattr(one, "description", "") == description][nth]


def test_values_and_gains_are_those_of_the_record_and_of_the_paper(pilot):
    found = curves.table(pilot, Choice()).set_index(["target", "condition", "layers"])
    for key, own in pilot.done.groupby(["target", "condition", "layers"]):
        assert found.loc[key, "runs"] == len(own)
        assert found.loc[key, "estimate"] == pytest.approx(own["value"].mean())
    paper = slopes.gains(pilot.done).dropna(subset="estimate").set_index(["target", "condition", "layers"])
    gains = curves.table(pilot, Choice(), curves.GAIN).set_index(["target", "condition", "layers"])
    assert {*gains.index} == {*paper.index}
    for name in ("estimate", "low", "high"):
        np.testing.assert_allclose(gains.loc[paper.index, name].astype(float), paper[name].astype(float))


def test_an_interval_does_not_depend_on_what_else_is_shown(pilot):
    every = curves.table(pilot, Choice()).set_index(["target", "condition", "layers"])
    part = curves.table(pilot, Choice(targets=("udhr",), conditions=("squad_wiki",)))
    assert {*part["condition"]} == {"squad_wiki"} and {*part["target"]} == {"udhr"}
    for row in part.itertuples():
        kept = every.loc[(row.target, row.condition, row.layers)]
        assert (row.low, row.high) == pytest.approx((kept["low"], kept["high"]), nan_ok=True)


def test_a_value_is_the_mean_over_the_languages_that_are_chosen(pilot):
    both = pilot.valued(Choice(targets=("udhr",), languages=("ar", "he"))).set_index("cell")["value"]
    assert len(both)
    for cell, value in both.items():
        scores = pilot.results[cell].languages
        assert value == pytest.approx((scores["ar"].value + scores["he"].value) / 2)
    assert pilot.valued(Choice(targets=("topic",), languages=("yo",))).empty  # which the task does not have
    assert "over ar and he" in choice.over(Choice(languages=("ar", "he")))


def test_runs_of_other_rates_are_no_repetitions():
    found = Record("tune_target")
    rates = {name for name in found.done["condition"] if "learning_rate" in name}
    assert rates == {*found.done["condition"]} and len(rates) > 3
    assert not found.done.duplicated(["target", "condition", "layers", "seed"]).any()


@pytest.mark.parametrize("quantity", curves.QUANTITIES)
def test_a_figure_holds_what_its_table_holds(pilot, quantity):
    wanted = Choice(conditions=("none", "squad_wiki"))
    found = curves.table(pilot, wanted, quantity)
    drawn = curves.figure(pilot, wanted, found, quantity)
    heights = {round(float(y), 6) for ax in drawn.axes for line in ax.lines for y in np.atleast_1d(line.get_ydata())}
    assert {round(100 * value, 6) for value in found["estimate"]} <= heights
    assert curves.printed(found, quantity) and len(curves.printed(found, quantity)[0]) == len(curves.HEADS)


def test_differences_by_language_are_of_the_two_conditions(pilot):
    pair = languages.Pair("e5_small", "udhr", 4, "squad_wiki", "none")
    found = languages.table(pilot, pair).set_index("language")
    for code in ("ar", "sw"):
        mine = {
            name: np.mean([
                pilot.results[row.cell].languages[code].value
                for row in pilot.done.itertuples()
                if (row.target, row.layers, row.condition) == ("udhr", 4, name)
            ])
            for name in ("squad_wiki", "none")
        }  # fmt: skip
        assert found.loc[code, "one"] == pytest.approx(mine["squad_wiki"])
        assert found.loc[code, "estimate"] == pytest.approx(mine["squad_wiki"] - mine["none"])
        assert found.loc[code, "low"] < found.loc[code, "estimate"] < found.loc[code, "high"]
    plain = slopes.gains(pilot.done).set_index(["target", "condition", "layers"]).loc[("udhr", "squad_wiki", 4)]
    assert found.loc[languages.MEAN, "low"] == pytest.approx(plain["low"])
    assert (found["adjusted"].dropna() >= found.loc[found["adjusted"].notna(), "p"]).all()
    assert np.isnan(found.loc[languages.MEAN, "adjusted"])
    assert "less no intermediate training" in str(pair)
    with pytest.raises(XlscaleError, match="none at this rung"):
        languages.table(pilot, languages.Pair("e5_small", "udhr", 7, "squad_wiki", "none"))


def test_items_are_filtered_by_what_two_cells_said(pilot):
    first, *_, last = items.cells(pilot, "topic").values()
    sides = [items.predictions(pilot, one).set_index(items.KEY)["correct"] == 1 for one in (first, last)]
    wanted = {items.EVERY: 0, items.WRONG: ~sides[0], items.LOST: sides[0] & ~sides[1], items.WON: ~sides[0] & sides[1]}
    for only, which in wanted.items():
        found = items.selected(pilot, items.Page(first, last, "", only))
        expected = {*sides[0].index} if only == items.EVERY else {*sides[0].index[which]}
        assert {*zip(found["language"], found["item"], strict=True)} == expected and expected
    german = items.selected(pilot, items.Page(first, "", "de"))
    assert {*german["language"]} == {"de"} and len(german) == pilot.results[first].languages["de"].items


def test_an_item_is_shown_with_its_text_its_gold_and_both_predictions(pilot):
    first, *_, last = items.cells(pilot, "topic").values()
    page = items.table(pilot, items.Page(first, last, "zh", items.WON, 1))
    rows = load.splits(data_card("topic"))["test"].to_pandas().set_index(["language", "item"])
    both = items.selected(pilot, items.Page(first, last, "zh", items.WON)).iloc[items.SIZE :][: items.SIZE]
    assert len(both)
    for row in both.itertuples():
        known = rows.loc[("zh", row.item)]
        assert known["text"].split("\n")[0] in page.replace("&#x27;", "'").replace("&quot;", '"').replace("&amp;", "&")
        assert row.item in page and row.prediction in page
        assert row.prediction_other == known["label"]  # right in the second
    assert "<b>wrong</b>" in page and "<b>right</b>" in page and "mathjax_ignore" in page


def test_texts_that_are_not_here_are_told_of_and_items_shown_by_their_ids(monkeypatch, tmp_path):
    record = Record("xtreme_r_small")
    items.texts.cache_clear()
    monkeypatch.setattr(load, "_file", lambda card: (_ for _ in ()).throw(XlscaleError("x: not found; run `make y`")))
    page = items.Page(next(iter(items.cells(record, "xnli_dev").values())), "", "sw")
    shown = items.table(record, page)
    items.texts.cache_clear()
    assert "run `make y`" in shown
    assert items.selected(record, page)["item"].iloc[0] in shown


FAMILY = {
    "classification": ({"text": HOSTILE, "label": HOSTILE}, HOSTILE),
    "multiple_choice": ({"text": HOSTILE, "choices": [HOSTILE, "b"], "answer": 0}, "0"),
    "tagging": ({"text": HOSTILE, "tokens": HOSTILE.split(), "tags": ["B-X"] * len(HOSTILE.split())}, None),
    "span_qa": (
        {"question": HOSTILE, "context": HOSTILE, "answers": [HOSTILE[:9]], "answer_starts": [0]},
        HOSTILE,
    ),
    "retrieval": ({"text": HOSTILE}, HOSTILE),
    "mining": ({"text": HOSTILE, "pool": "test-de"}, HOSTILE),
    "ranking": ({"text": HOSTILE, "role": "query", "relevant": []}, f"de:{HOSTILE}"),
    "lexicon": ({"text": HOSTILE, "source": HOSTILE}, HOSTILE),
}


@pytest.mark.parametrize("family", FAMILY)
def test_data_of_every_family_are_text(family):
    row, said = FAMILY[family]
    said = said or " ".join(row["tags"])
    card = data_card("topic").model_copy(update={"family": family, "tags": "bio", "source": None})
    texts = object.__new__(predictions.Texts)
    texts.card, texts._rows = card, {("de", "1"): row | {"language": "de", "item": "1", "group": HOSTILE}}
    texts._task = type("Plain", (), {"answer": lambda self, prediction, context: prediction})()
    texts._show, texts._say = predictions._FAMILIES[family]
    for part in (*texts.item("de", "1"), texts.said("de", "1", said)):
        assert isinstance(part, Markup)
        assert "<img" not in part and "<script" not in part
    assert "&lt;img" in texts.item("de", "1").text


def test_right_answers_and_predictions_are_told_by_their_texts():
    udhr = predictions.Texts(data_card("udhr"))
    rows = load.splits(data_card("udhr"))["test"].to_pandas()
    english = rows[rows["language"] == "en"].set_index("group")["text"]
    row, other = (rows[rows["language"] == "ar"].iloc[i] for i in (0, 5))
    assert english[row["group"]][:30] in udhr.item("ar", row["item"]).gold
    assert english[other["group"]][:30] in udhr.said("ar", row["item"], other["group"])
    choices = predictions.Texts(data_card("summary_choice"), "dev")
    [key, row] = next(iter(choices._rows.items()))
    assert choices.item(*key).gold == choices.said(*key, str(row["answer"]))
    assert row["choices"][1][:20].split("'")[0] in choices.said(*key, "1") and choices.said(*key, "1").startswith("2. ")
    tagged = predictions.Texts(data_card("interface_tags"), "dev")
    key, row = next((k, r) for k, r in tagged._rows.items() if {*r["tags"]} != {"O"})
    assert "<mark>" in tagged.item(*key).gold and "<mark>" not in tagged.said(*key, " ".join("O" for _ in row["tags"]))
    plain = predictions._each_tagged(["a", "b"], ["X", "Y"], ["X", "Z"])
    assert plain.count("<mark>") == 1 and "<mark>b<sub>Y" in plain


def test_costs_are_of_both_trainings(pilot):
    found = costs.table(pilot, Choice(targets=("topic",))).set_index(["condition", "layers"])
    own = pilot.done[(pilot.done["target"] == "topic") & (pilot.done["condition"] == "squad_wiki")]
    mine = [pilot.results[one] for one in own.loc[own["layers"] == 4, "cell"]]
    before = [pilot.results[one.parent] for one in mine]
    row = found.loc[("squad_wiki", 4)]
    assert row["before"] == pytest.approx(np.mean([one.seconds["train"] for one in before]))
    assert row["training"] == pytest.approx(np.mean([one.seconds["train"] for one in mine]))
    assert row["operations"] == pytest.approx(
        np.mean([a.train_flops + b.train_flops for a, b in zip(mine, before, strict=True)])
    )
    assert found.loc[("none", 4), "before"] == 0
    assert len(costs.printed(found.reset_index().assign(target="topic"))[0]) == len(costs.HEADS)


def test_the_parts_follow_the_choice_and_their_own_lists(shown):
    explorer, parts = shown
    explorer.study.value, explorer.lists["targets"].value = "pilot", ()
    assert not re.search(r"<b>[^<]*expected", "".join(map(text, parts.values())))
    before = {name: text(part) for name, part in parts.items()}
    explorer.lists["targets"].value = ("udhr",)
    assert {name for name, part in parts.items() if text(part) != before[name]} == {"curves", "costs"}
    assert "UDHR" in text(parts["costs"]) and "Package topic" not in text(parts["costs"])
    parts["curves"].children[0].value = curves.GAIN
    assert curves.GAIN in text(parts["curves"]) and curves.INTERVALS in text(parts["curves"])
    named(parts["languages"], "Task").value = "udhr"
    assert "UDHR-50" in text(parts["languages"])
    named(parts["items"], "Task").value = "udhr"
    named(parts["items"], "Language").value = "ar"
    back, on = parts["items"].children[-2].children
    assert "1 to 10 of 50 items in ar" in text(parts["items"]) and back.disabled and not on.disabled
    on.click()
    assert "11 to 20 of 50" in text(parts["items"]) and not back.disabled
    named(parts["items"], "Show").value = items.WRONG
    assert "1 to 10 of" in text(parts["items"])


def test_another_study_is_offered_whole_and_one_without_runs_is_a_line(shown):
    explorer, parts = shown
    assert "tune_target" in explorer.study.options and "xtreme_r" not in explorer.study.options
    explorer.study.value = "pilot_rate"
    assert {value for _, value in explorer.lists["conditions"].options} == {*Record("pilot_rate").done["condition"]}
    assert "expected" not in text(parts["languages"])
    empty = Explorer("suite")
    assert "make record STUDY=suite" in empty.told.value
    assert "make record STUDY=suite" in text(empty.curves()) and "make record" in text(empty.items())
    offered = Explorer("plateau").run()
    kind, start = offered.children[0], offered.children[2].children[0]
    kind.value = "intermediate"  # of which nothing is recorded there
    assert start.disabled and "intermediate training: expected a recorded cell, there is none" in text(offered)
    kind.value = kind.options[0][1]
    assert not start.disabled and "on the machine of the record" in text(offered)
    with pytest.raises(XlscaleError, match="unknown study"):
        Explorer("nothing")


@pytest.fixture(scope="module")
def ran(tmp_path_factory, pilot):
    """A recorded cell of phase 1, run to its end."""
    one = Run(pilot, next(iter(items.cells(pilot, "pretrained").values())), tmp_path_factory.mktemp("explore"))
    assert one.expected() > 1
    one.start()
    first = one.progress()
    assert 0 <= first.share < 1 and not first.ended and "cell 1 of 1, phase pretrained" in first.text
    wait(lambda: runner.running(one.cell, one.runs) or one.progress().ended)
    with pytest.raises(XlscaleError, match="is being run already"):
        Run(pilot, one.cell.id, one.runs).start()
    wait(lambda: one.progress().ended, 240)
    return one


@pytest.mark.slow
def test_a_cell_that_is_run_is_compared_with_the_record(ran, pilot):
    assert ran.progress().text == "complete" and ran.progress().share == 1
    [row] = ran.compared().to_dict("records")
    assert row["cell"] == ran.cell.id and row["recorded"] == pilot.results[ran.cell.id].value
    assert row["agrees"] and row["verdict"] in ("equal", "within tolerance")
    assert (ran.runs / ran.cell.id / "executed.ipynb").exists()
    assert "% here" in verdicts.sentence(ran.compared().iloc[0])


@pytest.mark.slow
def test_a_run_that_breaks_or_is_stopped_says_so(pilot, tmp_path, monkeypatch):
    cell = next(iter(items.cells(pilot, "topic").values()))
    one = Run(pilot, cell, tmp_path)
    one.start()
    one.stop()
    assert one.progress().ended and "stopped" in one.progress().text
    with pytest.raises(XlscaleError, match="expected a complete run"):
        one.compared()
    monkeypatch.setenv("XLSCALE_DEVICE", "abacus")
    one.start()
    wait(lambda: one.progress().ended)
    assert one.progress().text.startswith("failed: ") and "XLSCALE_DEVICE" in one.progress().text


def test_what_a_cell_starts_from_is_run_once_and_again_where_its_code_has_changed(pilot, tmp_path, monkeypatch):
    cell = next(one for one in items.cells(pilot, "topic").values() if "squad_wiki" in one)
    one = Run(pilot, cell, tmp_path)
    *before, own = [member.id for member in one.cell.lineage()]
    known, whole = {}, one.expected()
    monkeypatch.setattr(run, "result_of", lambda member, runs: known.get(member.id))
    assert [left.id for left in one.left()] == [*before, own] and len(before) == 2
    known.update({name: pilot.results[name] for name in before})
    assert [left.id for left in one.left()] == [own]
    assert run.OVERHEAD < one.expected() < whole
    monkeypatch.setattr(run.canary, "accepted", lambda result: False)
    assert [left.id for left in one.left()] == [*before, own]
    assert one.expected() == whole


def test_a_verdict_is_a_sentence():
    row = {"cell": "x", "recorded": 0.5, "yours": 0.5, "difference": 0.0, "tolerance": 0.02}
    said = {
        "equal": "x: 50.00% here, as in the record.",
        "within tolerance": "x: 50.00% here, 50.00% in the record: within the tolerance of 2.00 points.",
        "differs": "x: 50.00% here, 50.00% in the record: this differs, by 0.00 points; allowed is 2.00 points.",
        "failed": "x: failed here, 50.00% in the record.",
        "failed both times": "x: failed here, as in the record.",
        "not in the record": "x: 50.00% here; this cell is not in the record.",
    }
    for verdict, expected in said.items():
        assert verdicts.sentence(pd.Series(row | {"verdict": verdict})) == expected
    exact = verdicts.sentence(pd.Series(row | {"verdict": "differs", "tolerance": 0.0}))
    assert exact.endswith("On a machine of the record's type predictions have to be equal.")


def _root(monkeypatch, container=False, user=1000, **environment):
    monkeypatch.setattr(explore, "CONTAINERS", (ROOT / "README.md",) if container else (ROOT / "none",))
    monkeypatch.setattr(os, "geteuid", lambda: user)
    for name in ("DISPLAY", "WAYLAND_DISPLAY"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)


def test_jupyterlab_is_started_for_root_and_in_a_container(monkeypatch):
    _root(monkeypatch, DISPLAY=":0")
    assert explore.arguments([]) == [str(ROOT / explore.START), f"--ServerApp.root_dir={ROOT}"]
    _root(monkeypatch, container=True, user=0)
    assert {"--allow-root", "--ip=0.0.0.0", "--no-browser"} <= {*explore.arguments([])}
    assert str(ROOT / explore.START) in explore.arguments(["--port", "8899"])  # which is no file to open
    own = explore.arguments(["--ip=127.0.0.1", "notebooks/04_scaling.ipynb"])
    assert "--ip=0.0.0.0" not in own and str(ROOT / explore.START) not in own


def _model(name, **changes):
    content = nbformat.read(NOTEBOOKS / name, as_version=4)
    for cell in content["cells"]:
        cell["metadata"] |= {"execution": {"start": "now"}, "scrolled": True}
        if cell["cell_type"] == "code":
            cell |= {"outputs": [{"output_type": "stream", "name": "stdout", "text": "x"}], "execution_count": 3}
    content["metadata"] |= {"widgets": {}, "language_info": {"name": "python", "version": "3.99"}}
    return {"type": "notebook", "content": content} | changes


@pytest.mark.parametrize("name", sorted(path.name for path in NOTEBOOKS.glob("*.ipynb")))
def test_a_tracked_notebook_that_was_run_is_saved_as_it_was(name, monkeypatch):
    monkeypatch.setattr(explore, "tracked", lambda: {NOTEBOOKS / name})
    model = _model(name)
    explore.strip(model, f"/notebooks/{name}")
    saved = nbformat.writes(nbformat.from_dict(model["content"])) + "\n"
    assert saved == (NOTEBOOKS / name).read_text(encoding="utf-8")
    model["content"]["cells"][2]["source"] += "\n# an edit"
    explore.strip(model, f"/notebooks/{name}")
    assert model["content"]["cells"][2]["source"].endswith("# an edit")


def test_what_is_not_tracked_is_saved_with_its_outputs(monkeypatch):
    monkeypatch.setattr(explore, "tracked", lambda: {NOTEBOOKS / "04_scaling.ipynb"})
    model = _model("04_scaling.ipynb")
    explore.strip(model, "notebooks/mine.ipynb")
    explore.strip({"type": "file", "content": ""}, "notebooks/04_scaling.ipynb")
    assert model == _model("04_scaling.ipynb")


def test_the_notebooks_that_git_tracks_are_known_or_those_that_are_there(monkeypatch):
    every = {*NOTEBOOKS.glob("*.ipynb")}
    explore.tracked.cache_clear()
    assert explore.tracked() <= every and NOTEBOOKS / "04_scaling.ipynb" in explore.tracked()
    explore.tracked.cache_clear()
    monkeypatch.setenv("PATH", "")
    assert explore.tracked() == every
    explore.tracked.cache_clear()
