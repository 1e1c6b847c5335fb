"""How gains change along the rungs on XTREME-R's own items: the rules by which the paper says so."""

import itertools

import numpy as np
import pandas as pd
import pytest

from xlscale.cards import catalogue
from xlscale.published import gains
from xlscale.published.scales import DEPENDS, GROWS, SCALES, SHRINKS
from xlscale.report.figures import style
from xlscale.report.figures import xtreme as figures
from xlscale.report.numbers import Numbers
from xlscale.report.sections import xtreme_changes as changes

TRAINED = ["xnli_dev", "udpos_without_de", "panx_dev", "xquad_shifts", "tydiqa"]
RETRIEVAL = ["tatoeba", "lareqa_four"]
RUNGS = (2, 4, 12)


def scores(gain, base=0.5, targets=(*TRAINED, *RETRIEVAL), sets=("vitaminc",), placebo=0.0):
    """As ``xtreme.scores`` has them: ``gain`` gives the difference by set, target and rung."""
    rows = []
    for target, rung in itertools.product(targets, RUNGS):
        rows.append((target, "none", rung, base))
        for name in sets:
            rows.append((target, name, rung, base + gain(name, target, rung)))
            rows.append((target, f"{name}, shuffled labels", rung, base + placebo))
    table = pd.DataFrame(rows, columns=["target", "condition", "layers", "zero_shot"])
    return table.assign(task=table["target"], score=table["zero_shot"], parameters=1e6 * table["layers"])


def of(found):
    return changes.changes(changes.rows(found)).set_index(["family", "condition", "over"])


def test_a_gain_grows_only_if_all_scales_agree_and_its_interval_needs_five_tasks():
    table = of(
        scores(lambda name, target, rung: 0.01 * rung + (0.002 * TRAINED.index(target) if target in TRAINED else 0))
    )
    trained = table.loc["trained", "vitaminc", "none"]
    assert (trained["direction"], trained["units"], trained["smallest"], trained["largest"]) == (GROWS, 5, 2, 12)
    shares = {name: 1 / (1 - catalogue.data_card(name).chance) for name in TRAINED}
    assert trained["gain"] == pytest.approx(0.1 * np.mean([*shares.values()]))
    assert trained["gain_low"] < trained["gain"] < trained["gain_high"]
    retrieval = table.loc["retrieval", "vitaminc", "none"]
    assert retrieval["units"] == 2 and np.isnan(retrieval["gain_low"]) and retrieval["direction"] == GROWS
    assert (table["direction"] == GROWS).all()  # the placebo does not move
    shrinking = of(scores(lambda name, target, rung: -0.01 * rung))
    assert (shrinking["direction"] == SHRINKS).all()


def test_a_smaller_gain_that_takes_more_of_the_error_depends_on_the_scale():
    found = scores(lambda name, target, rung: 0.0)
    at = {2: (0.5, 0.6), 4: (0.6, 0.7), 12: (0.9, 0.98)}  # of the error: a fifth, then four fifths
    for rung, (base, score) in at.items():
        for condition, value in (("none", base), ("vitaminc", score), ("vitaminc, shuffled labels", base)):
            found.loc[(found["layers"] == rung) & (found["condition"] == condition), ["score", "zero_shot"]] = value
    assert set(of(found)["direction"]) == {DEPENDS}


def test_a_target_whose_base_is_near_chance_at_any_rung_has_no_gain():
    found = scores(lambda name, target, rung: 0.01 * rung)
    low = (found["target"] == "xnli_dev") & (found["layers"] == 2)
    chance = catalogue.data_card("xnli_dev").chance
    found.loc[low, "zero_shot"] = chance + 0.9 * gains.FLOOR * (1 - chance)
    assert "xnli_dev" not in set(changes.rows(found)["target"])
    numbers = Numbers("07_xtreme_r")
    gained = changes.rows(found)
    changes.add(numbers, found, gained, changes.changes(gained))
    assert numbers.numbers["xtreme_r_near_chance"]["text"] == catalogue.data_card("xnli_dev").title
    assert numbers.numbers["xtreme_r_trained_none_tasks"]["value"] == 4


def test_a_failed_run_leaves_its_task_out_of_that_set_alone():
    found = scores(lambda name, target, rung: 0.01 * rung, sets=("vitaminc", "wordnet_class"))
    lost = (found["condition"] == "vitaminc") & (found["target"] == "tydiqa") & (found["layers"] == 12)
    found.loc[lost, ["score", "zero_shot"]] = np.nan
    table = of(found)
    units = {name: table.loc["trained", name, "none"]["units"] for name in ("vitaminc", "wordnet_class")}
    assert units == {"vitaminc": 4, "wordnet_class": 5} and np.isnan(
        table.loc["trained", "vitaminc", "none"]["gain_low"]
    )


@pytest.mark.parametrize(
    ("directions", "said"),
    [
        ([GROWS, GROWS], changes.ALL_GROW),
        ([SHRINKS], changes.ALL_SHRINK),
        ([GROWS, SHRINKS], changes.MIXED),
        ([DEPENDS, DEPENDS], changes.MIXED),
        ([], changes.NOTHING),
    ],
)
def test_sets_agree_only_if_every_one_of_them_says_so(directions, said):
    assert changes.verdict(pd.Series(directions, dtype=object)) == said


def test_clear_of_zero_needs_one_sign_on_every_scale():
    ends = {f"{name}_{end}": [1.0, -2.0, -1.0] for name in SCALES for end in ("low", "high")}
    table = pd.DataFrame(ends)
    assert changes.clear(table) == 3
    table.loc[0, "share_low"] = -0.5
    table.loc[1, ["log_odds_low", "log_odds_high"]] = [1.0, 2.0]  # clear of zero, but the other way
    assert changes.clear(table) == 1


@pytest.mark.parametrize(
    ("retrieval", "trained", "said"), [(-0.3, 0.1, "more"), (-0.05, 0.1, "no more"), (0.1, 0.0, "no more")]
)
def test_what_a_set_costs_retrieval_beside_what_one_brings_trained_tasks(retrieval, trained, said):
    found = scores(lambda name, target, rung: retrieval if target in RETRIEVAL else trained)
    assert changes.costs(changes.changes(changes.rows(found))) == said
    only = changes.changes(changes.rows(scores(lambda *_: 0.1, targets=TRAINED)))
    assert changes.costs(only) == "unknown"


def test_one_rung_or_nothing_says_nothing_and_several_are_drawn():
    found = scores(lambda name, target, rung: 0.01 * rung)
    numbers = Numbers("07_xtreme_r")
    for part in (found[found["layers"] == 2], found.iloc[:0]):
        gained = changes.rows(part)
        changes.add(numbers, part, gained, changes.changes(gained))
    assert numbers.numbers == {} and numbers.tables == {}
    fig = figures.gains(changes.rows(found))
    assert [ax.get_title() for ax in fig.axes] == [
        "targets with training (5 tasks)",
        "retrieval without training (2 tasks)",
    ]
    assert style.draw(fig)["svg"]
    gained = changes.rows(found)
    changes.add(numbers, found, gained, changes.changes(gained))
    row = numbers.tables["xtreme_r_changes"]["rows"][0]
    assert row[0] == "trained" and row[2] == "none" and row[-1] == GROWS
    assert numbers.numbers["xtreme_r_parameters_largest"]["text"] == "12.0 million"


def test_means_by_type_are_over_the_sets_of_it():
    by_name = {"vitaminc": 0.001, "wordnet_class": 0.003, "help_next": 0.01}
    found = scores(lambda name, target, rung: by_name[name] * rung, sets=tuple(by_name))
    numbers, gained = Numbers("07_xtreme_r"), changes.rows(found)
    table = changes.changes(gained)
    changes.add(numbers, found, gained, table)
    own = table.query("family == 'trained' and over == 'none'").set_index("condition")["gain"]
    for kind, names in (("general", ["vitaminc", "wordnet_class"]), ("domain", ["help_next"])):
        assert numbers.numbers[f"xtreme_r_trained_none_{kind}"]["value"] == pytest.approx(own[names].mean())
