"""The paper's section of XTREME-R's own test items: what is shown, beside what, and nothing where nothing is there."""

import pandas as pd
import pytest

from xlscale.cards import catalogue
from xlscale.experiment import studies
from xlscale.published import scores
from xlscale.record import store
from xlscale.report.figures import xtreme as figures
from xlscale.report.labels import label
from xlscale.report.numbers import Numbers
from xlscale.report.sections import xtreme

PLAN = [cell for cell in studies.load(xtreme.STUDY).cells() if cell.phase == "target"]


def _recorded(cells):
    """As ``store.languages`` has it: English 0.9, every other language 0.1 for each layer over 20."""
    rows = []
    for cell in cells:
        card = catalogue.data_card(cell.parameters.target)
        about = {"cell": cell.id, "target": card.name, "condition": cell.condition, "layers": cell.parameters.layers}
        value = 0.05 * cell.parameters.layers + (0.02 if cell.condition != "none" else 0)
        rows += [about | {"language": code, "value": value} for code in card.languages]
        rows += [about | {"language": "en", "value": 0.9}] if "en" in card.splits["test"] else []
    return pd.DataFrame(rows)


def _record(monkeypatch, known, failed=()):
    monkeypatch.setattr(store, "results", lambda folder: {cell.id: None for cell in known})
    monkeypatch.setattr(store, "languages", lambda folder: _recorded([cell for cell in known if cell not in failed]))


@pytest.fixture
def others():
    return xtreme.beside(scores.table())


def test_scores_are_means_over_all_languages_and_stand_beside_those_of_the_original(monkeypatch, others):
    known = [cell for cell in PLAN if cell.parameters.target in ("xnli_dev", "tatoeba")]
    _record(monkeypatch, known)
    found, numbers = xtreme.scores(), Numbers("07_xtreme_r")
    xtreme.add(numbers, found, others, xtreme.in_floats(scores.table()))
    own = found.set_index(["target", "condition", "layers"])["score"]
    assert own["xnli_dev", "none", 12] == pytest.approx((14 * 0.6 + 0.9) / 15)  # English is one of the fifteen
    assert numbers.numbers["xtreme_r_cells"]["text"] == str(len(known)) and len(known) < len(PLAN)
    (xnli, tatoeba) = numbers.tables["xtreme_r"]["rows"]
    assert xnli[:2] == ["XNLI, trained on its English development rows", "accuracy"]
    published = scores.table().query("source_key == 'mgte_xtreme_r' and model == 'XLM-R-base' and task == 'xnli'")
    assert f"{100 * published['score'].iloc[0]:.1f}" in xnli and tatoeba[-1] == "missing"  # mmBERT's has no Tatoeba
    assert [row[0] for row in numbers.tables["xtreme_r_differs"]["rows"]] == [xnli[0]]
    gains = numbers.tables["xtreme_r_gains"]
    assert gains["header"] == ["Intermediate training", "XNLI*", "Tatoeba"]
    assert len(gains["rows"]) == 8 and {row[2] for row in gains["rows"]} == {"+2.0"}
    texts = {key: numbers.numbers[key]["text"] for key in ("xtreme_r_tatoeba", "xtreme_r_tatoeba_floats")}
    assert texts == {"xtreme_r_tatoeba": "60.7", "xtreme_r_tatoeba_floats": "86.7"}
    drawn = figures.tasks(found, others)
    assert [text.get_text() for text in drawn.axes[0].get_yticklabels()] == [xnli[0], tatoeba[0]]
    assert drawn.get_suptitle().startswith("local layer")


def test_gains_are_shown_of_conditions_whose_runs_are_all_recorded(monkeypatch, others):
    """A run that failed is recorded, one that is yet to be run is not."""
    known = [cell for cell in PLAN if cell.parameters.target in ("xnli_dev", "tatoeba")]
    top = [cell for cell in known if cell.parameters.layers == 12 and cell.condition != "none"]
    absent, failed = top[0], next(cell for cell in top if cell.condition != top[0].condition)
    _record(monkeypatch, [cell for cell in known if cell != absent], [failed])
    found, numbers = xtreme.scores(), Numbers("07_xtreme_r")
    xtreme.add(numbers, found, others, 0.5)
    rows = numbers.tables["xtreme_r_gains"]["rows"]
    assert len(found) == len(known) - 1 and len(rows) == 7
    assert [row for row in rows if "missing" in row] == [[label(failed.condition), *_but(failed, "missing")]]
    _record(monkeypatch, [cell for cell in known if cell not in top])
    numbers = Numbers("07_xtreme_r")
    xtreme.add(numbers, xtreme.scores(), others, 0.5)
    assert "xtreme_r" in numbers.tables and "xtreme_r_gains" not in numbers.tables


def _but(failed, text):
    return [text if failed.parameters.target == name else "+2.0" for name in ("xnli_dev", "tatoeba")]


def test_nothing_is_shown_of_what_is_not_recorded(monkeypatch, others, tmp_path):
    found, numbers = xtreme.scores(tmp_path), Numbers("07_xtreme_r")
    xtreme.add(numbers, found, others, 0.5)
    assert numbers.tables == {} and numbers.numbers["xtreme_r_cells"]["text"] == "0"


def test_every_task_of_the_study_has_a_published_score_beside_it(others):
    tasks = {catalogue.data_card(name).variant_of or name for name in studies.load(xtreme.STUDY).targets}
    assert len(tasks) == 9 and tasks <= set(others["task"])
    assert set(others["model"]) == set(xtreme.BESIDE.values())
