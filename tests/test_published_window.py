"""Published gains from 7B to 70B as a whole: several tests at once, one base, one model, the selection, the figure."""

import json
import re
from itertools import pairwise

import numpy as np
import pandas as pd
import pytest
import test_published_changes as made
from scipy import stats

from xlscale.core.files import PAPER
from xlscale.published import changes, gains, multilevel, regression, scale, scales, scores, selection, tables, within
from xlscale.report.figures import by_kind, style, window
from xlscale.report.figures import published as figures
from xlscale.report.numbers import Numbers
from xlscale.report.sections import published as sections
from xlscale.report.sections import window as section

rows = made.rows
TITLES = {"one": "One", "two": "Two"}
UP = (0.04, 0.06, 0.08, 0.05, 0.07)


@pytest.fixture(scope="module")
def table():
    return scores.table()


@pytest.fixture(scope="module")
def inside(table):
    return changes.tested(changes.changes(gains.estimable(gains.pairs(table))))


def series(training, *gained, study="one", family="f"):
    """A series with a task for each of ``gained``, at 7B and 70B, whose gain changes by that."""
    cells = [(size, task, "sw", 0.4, 0.5 + (at and more)) for task, more in zip("abcdefg", gained, strict=False)
             for at, size in enumerate((7e9, 70e9))]  # fmt: skip
    return rows(*cells, training=training, study=study, family=family)


def test_p_is_that_of_a_t_test_on_the_scale_that_says_least():
    pairs = pd.concat([series("x", *UP), series("y", 0.01, -0.03, 0.05, 0.0, -0.01)], ignore_index=True)
    found = changes.tested(changes.changes(pairs)).set_index("training")
    odds = [np.log((0.5 + more) / (0.5 - more)) for more in UP]
    least = max(stats.ttest_1samp(values, 0).pvalue for values in (UP, odds))
    assert found.loc["x", "p"] == pytest.approx(least)
    assert found["holm"].tolist() == pytest.approx([2 * least, found.loc["y", "p"]])
    assert found["bh"].tolist() == pytest.approx([2 * least, found.loc["y", "p"]])


def test_a_change_whose_sign_depends_on_the_scale_is_none_and_one_without_interval_has_no_p():
    cells = [(size, task, "sw", base, base + 0.1 + sign * more) for size, base, sign in ((7e9, 0.2, 1), (70e9, 0.8, -1))
             for task, more in zip("abcde", (0.001, 0.002, 0.003, 0.002, 0.001), strict=True)]  # fmt: skip
    assert changes.tested(changes.changes(rows(*cells)))["p"].tolist() == [1.0]
    one = changes.tested(changes.changes(rows(*(cell for cell in cells if cell[1] == "a"))))
    assert one[["p", "holm", "bh"]].isna().all(axis=None)


def test_a_study_that_turns_a_mean_is_named():
    pairs = pd.concat([series("x", 0.01, 0.01, 0.01, study="two"), series("y", -0.03, -0.03, -0.03, study="one")])
    found = changes.without_a_study(changes.changes(pairs))
    assert found["left_out"].tolist() == ["one"]
    assert found[["gain", "whole", "units"]].iloc[0].tolist() == pytest.approx([0.01, -0.01, 1])
    numbers = Numbers("06_published")
    section.add_left_out(numbers, found, TITLES)
    said = "−1.0 with all, +1.0 without One (left: 1 series in 1 study, one family in a study)"
    assert said in numbers.numbers["published_groups_without"]["text"]


def test_the_change_beside_the_score_of_the_base():
    known = pd.DataFrame({"study": list("aabb"), "family": list("xyxx"), "base_small": [0.1, 0.2, 0.3, 0.5],
                          "gain": [0.3, 0.2, 0.1, 0.3]})  # fmt: skip
    found = changes.with_base(known)
    assert (found["series"], found["units"], found["studies"]) == (4, 3, 2)
    numbers = Numbers("06_published")
    section.add_base(numbers, found)
    assert numbers.numbers["published_base_says"]["text"] == "no relation that both units show"
    section.add_base(numbers := Numbers("06_published"), found | {"r": found["r_units"]})
    assert numbers.numbers["published_base_says"]["text"] == "of one sign over both"
    assert found["r"] == pytest.approx(stats.pearsonr(known["base_small"], known["gain"])[0])
    assert found["r_units"] == pytest.approx(stats.pearsonr([0.1, 0.2, 0.4], [0.3, 0.2, 0.2])[0])


def test_data_of_one_domain_less_general_data_on_one_base_as_the_source_prints_them(table):
    printed = tables.load().results
    own = printed[(printed["source_key"] == "flan_palm_t3") & (printed["task"].str.contains("mgsm"))]
    at = own.groupby(["params", "intermediate_task"])["value"].first()
    several = [name for name in at["8B"].index if name != "none" and "CoT (9 tasks)" not in name]
    found = within.levels(within.breadth(table))
    mgsm = found[(found["family"] == "PaLM") & found["protocol"].str.contains("native")].set_index("size")
    for size, params in ((8e9, "8B"), (62e9, "62B")):
        one = at[params][[name for name in at[params].index if "CoT (9 tasks)" in name]].iloc[0]
        assert 100 * mgsm.loc[size, "gain"] == pytest.approx(one - at[params][several].mean())
    assert len(several) == len(mgsm.loc[8e9, "other"].split("), ")) == 3


def test_on_one_base_only_what_all_have_is_compared(table):
    found = within.breadth(table)
    olmo = found[(found["family"] == "OLMo 3") & (found["size"] > 3e10)]
    tuned = gains.matched(table)
    for name in ("SFT (Dolci)", "Think (OLMo 3)"):
        own = tuned[(tuned["family"] == "OLMo 3") & (tuned["training"] == name) & (tuned["size"] > 3e10)]
        items = set(own[[*gains.ITEM, "metric"]].itertuples(index=False, name=None))
        assert set(olmo[[*gains.ITEM, "metric"]].itertuples(index=False, name=None)) <= items
    assert set(olmo["other"]) == {"SFT (Dolci), SFT + DPO (Dolci), SFT + DPO + RL (OLMo 3)"}
    row = changes.changes(found).set_index("family").loc["OLMo 3"]
    assert (round(100 * row["gain_small"], 1), round(100 * row["gain_large"], 1)) == (13.5, 9.0)
    single = within.levels(found).query("study == 'camels'").set_index("training")["gain"]
    assert single.round(3).to_dict() == {"CoT": 0.091, "Code-Alpaca": 0.002}  # twelve single sets, 13B


def test_recipes_differ_between_each_other_and_with_size():
    pairs = pd.concat([series("x", 0.02, 0.02, 0.02), series("y", 0.0, 0.0, 0.0)], ignore_index=True)
    row = within.recipes(pairs).iloc[0]
    assert row[["trainings", "between", "across"]].tolist() == pytest.approx([2, 0.01, 0.01])


def test_variance_components_of_a_balanced_design_are_those_of_the_analysis_of_variance():
    generator, groups, each = np.random.default_rng(3), 12, 8
    data = pd.DataFrame({"g": np.repeat(range(groups), each), "whole": 1})
    data["y"] = np.repeat(generator.normal(0, 2, groups), each) + generator.normal(0, 1, groups * each)
    means = data.groupby("g")["y"].mean()
    inner = ((data["y"] - data["g"].map(means)) ** 2).sum() / (groups * (each - 1))
    found = regression.components("y ~ 1", data, {"g": "0 + C(g)"})
    assert found.spread["rest"] ** 2 == pytest.approx(inner, rel=1e-3)
    assert found.spread["g"] ** 2 == pytest.approx(means.var(ddof=1) - inner / each, rel=1e-2)
    assert found.values["Intercept"] == pytest.approx(data["y"].mean())
    assert found.covariance.iloc[0, 0] == pytest.approx(means.var(ddof=1) / groups, rel=1e-2)
    flat = regression.components("y ~ 1", data.assign(y=generator.permutation(data["y"])), {"g": "0 + C(g)"})
    assert set(flat.spread) <= {"g", "rest"}


def simulated(one, many, seed=0, noise=0.004):
    """Series of five families with gains that go with log10 size by ``one`` and ``many``."""
    generator, parts = np.random.default_rng(seed), []
    for family in "fghij":
        for breadth, slope in (("one", one), ("many", many)):
            cells = []
            for task in "abc":
                for size in (7e9, 22e9, 70e9):
                    base = generator.uniform(0.3, 0.5)
                    gain = 0.1 + slope * np.log10(size / regression.CENTRE) - 0.2 * base + generator.normal(0, noise)
                    cells.append((size, task, "sw", base, base + gain))
            own = rows(*cells, family=family, study=f"s{family}", training=breadth)
            parts.append(own.assign(data_language="English", data_breadth=breadth))
    return pd.concat(parts, ignore_index=True)


def test_the_multilevel_model_finds_slopes_their_difference_and_the_effect_of_the_base():
    table = multilevel.rows(simulated(0.05, -0.02))
    found = multilevel._fit(table, "gain").set_index("term")
    truth = {"English, one": 5.0, "English, many": -2.0, multilevel.ONE_LESS_MANY: 7.0, "base": -0.2}
    for term, value in truth.items():
        assert found.loc[term, "low"] < value < found.loc[term, "high"]
        assert found.loc[term, "value"] == pytest.approx(value, rel=0.15)
    counts = found.loc["English, one", ["units", "series", "studies"]].tolist()
    assert counts == [5, 5, 5] and found.loc[multilevel.ONE_LESS_MANY, "series"] == 10
    assert found.loc["base", "rows"] == len(table)


def test_the_multilevel_model_leaves_out_each_study_and_says_which_signs_turn(monkeypatch, tmp_path):
    monkeypatch.setattr("xlscale.core.cache.CACHE", tmp_path)
    pairs = simulated(0.0, 0.05)
    pairs.loc[(pairs["family"] == "f") & (pairs["data_breadth"] == "one"), "score"] += 0.1 * np.log10(
        pairs["size"] / regression.CENTRE
    )
    pairs["gain"] = pairs["score"] - pairs["base_score"]
    found = multilevel.fits(pairs)
    assert set(found["left_out"]) == {"", "sf", "sg", "sh", "si", "sj"}
    assert set(found.loc[found["left_out"] == "", "model"]) == {*scales.SCALES, multilevel.BY_LANGUAGE}
    # A family's data of two kinds are one unit of what speaks of all kinds.
    units = found[found["left_out"] == ""].set_index(["model", "term"])["units"]
    assert units["gain", "base"] == pairs.groupby(["family", "study"]).ngroups
    assert units["gain"][["English, one", "English, many"]].sum() > units["gain", "base"]
    numbers = Numbers("06_published")
    section.add_multilevel(numbers, found, {})
    of = {key: number["text"] for key, number in numbers.numbers.items()}
    assert (
        "without sf (left: 8 series in 4 studies)" in of["published_multilevel_without"] or found["value"].notna().all()
    )
    assert of["published_multilevel_contrast_gain"].startswith("−")
    assert of["published_multilevel_known"] == of["published_multilevel_kinds"] == "2"
    slopes = found[(found["left_out"] == "") & (found["model"] == "gain")].set_index("term")["value"]
    groups = pd.DataFrame({"data_language": "English", "data_breadth": ["one", "many"]})
    for signs, expected in (([1, 1], 0), ([1, -1], 1), ([-1, -1], 2)):
        gain = np.sign(slopes[["English, one", "English, many"]].to_numpy()) * signs
        assert section._other_sign(groups.assign(gain=gain), found) == expected


def test_a_model_that_does_not_converge_falls_back_and_says_so(monkeypatch):
    real, pairs = regression.components, simulated(0.05, -0.02, noise=0.02)
    # Families and tasks that differ, and studies of two families: else there is nothing to tell the effects apart by.
    of = {"family": dict(zip("fghij", (-0.04, -0.01, 0, 0.02, 0.03), strict=True)), "task": {"a": -0.02, "c": 0.02}}
    shift = sum(pairs[name].map(values).fillna(0) for name, values in of.items())
    study = pairs["family"].map(dict(zip("fghij", "11223", strict=True)))
    table = multilevel.rows(pairs.assign(score=pairs["score"] + shift, gain=pairs["gain"] + shift, study=study))

    def no_slopes(formula, data, effects):
        return None if any("slope" in name for name in effects) else real(formula, data, effects)

    monkeypatch.setattr(multilevel, "components", no_slopes)
    found = multilevel._fit(table, "gain")
    assert set(found["note"]) == {"did not converge with random slopes"}
    assert set(found["fitted"]) == {"family, study, task"}
    monkeypatch.setattr(multilevel, "components", lambda *given: real(*given) if not given[2] else None)
    found = multilevel._fit(table, "gain")
    assert set(found["note"]) == {"did not converge with random effects"} and set(found["fitted"]) == {"none"}


def test_every_criterion_leaves_fewer_and_the_last_are_the_rows_of_the_changes(table, inside):
    flow = selection.flow(table)
    assert flow["scores"].iloc[0] == len(table) and (flow["left_out"] >= 0).all()
    assert (flow["scores"].iloc[:-1].to_numpy() - flow["left_out"].iloc[1:].to_numpy() == flow["scores"].iloc[1:]).all()
    assert len(scores.usable(table)) == flow["scores"].iloc[len(scores.criteria(table))]
    last = flow.iloc[-1]
    assert (last["series"], last["studies"]) == (len(inside), inside["study"].nunique())


def test_every_study_of_a_source_is_cited_in_the_paper():
    text = (PAPER / "refs.bib").read_text(encoding="utf-8")
    known = {"phang2020_v1": "phang2020", "tli": "ngugi2025"}
    for study in set(tables.load().sources["study"]):
        assert f"{{{known.get(study, study)}," in text, study


@pytest.fixture(scope="module")
def figure(table, inside):
    contrasts = within.inside(within.levels(within.breadth(table)))
    return window.headline(inside, contrasts[contrasts["data_language"] == "English"])


def arrows(fig):
    return [text for ax in fig.axes[:2] for text in ax.texts if text.arrow_patch is not None]


def test_the_headline_has_an_arrow_per_series_from_the_small_to_the_large_size(figure, inside):
    found = sorted((round(text.xyann[0], 6), round(text.xy[0], 6)) for text in arrows(figure))
    ends = 100 * inside[["gain_small", "gain_large"]]
    assert found == sorted((round(a, 6), round(b, 6)) for a, b in ends.itertuples(index=False))
    names = [label.get_text() for ax in figure.axes[:2] for label in ax.get_yticklabels()]
    assert sum(label.get_fontweight() == "normal" for ax in figure.axes[:2] for label in ax.get_yticklabels()) == len(
        inside
    )
    assert all(len(line) <= 60 for name in names for line in name.split("\n"))
    assert names[0] == "English, one domain" and "English, many domains" in names
    assert not any("local" in text.get_text() for text in figure.findobj(lambda a: hasattr(a, "get_text")))


def test_within_a_group_series_are_sorted_by_the_score_of_the_base(inside):
    listed = [row["series"] for row in window._lines(inside)]
    groups = [(row.data_language, row.data_breadth, row.base_small) for row in listed if row is not None]
    for (*before, low), (*after, high) in pairwise(groups):
        assert before != after or low <= high


def test_names_and_legend_of_the_headline_lie_inside_the_page_and_apart(figure):
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    style.draw(figure)
    figure.set_dpi(720)  # where letters are as wide as in print
    renderer = FigureCanvasAgg(figure).get_renderer()
    page = figure.bbox
    for ax in figure.axes:
        boxes = [label.get_window_extent(renderer) for label in ax.get_yticklabels() if label.get_text()]
        assert all(page.x0 - 1 <= box.x0 and box.x1 <= page.x1 + 1 for box in boxes)
    (legend,) = figure.legends
    box = legend.get_window_extent(renderer)
    assert page.x0 <= box.x0 and box.x1 <= page.x1 and page.y0 <= box.y0


def test_the_headline_holds_many_more_series_and_none(inside):
    many = pd.concat([inside.assign(study=f"s{n}", training=f"t{n}") for n in range(4)], ignore_index=True)
    fig = window.headline(many, pd.DataFrame(columns=["study", "family", "training", "protocol", "size", "gain"]))
    assert fig.get_figheight() < 9.7 and len(arrows(fig)) == 4 * len(inside)
    none = window.headline(inside.iloc[:0], pd.DataFrame(columns=["study", "family", "training", "protocol", "size"]))
    assert style.draw(none)["svg"]


def test_kinds_of_data_are_drawn_with_all_their_units(inside):
    groups = changes.grouped(inside)
    fig = by_kind.by_kind(inside, groups)
    assert len(fig.axes) == len(scales.SCALES) and len(fig.axes[0].get_yticks()) == len(groups)
    ticks = [line for line in fig.axes[0].lines if line.get_marker() == "|"]
    units = inside.groupby([*changes.GROUP, "study", "family"]).ngroups
    assert sum(len(line.get_xdata()) for line in ticks) == units == groups["units"].sum()
    bars = [line for line in fig.axes[0].lines if line.get_linewidth() == 1.4]
    assert len(bars) == groups["gain_low"].notna().sum() > 0
    assert style.draw(by_kind.by_kind(inside.iloc[:0], groups.iloc[:0]))["svg"]


def answered(table, fits, languages=None):
    numbers = Numbers("06_published")
    languages = changes.grouped(table, ["data_language"]) if languages is None else languages
    section.add_answer(numbers, table, languages, changes.grouped(table), fits)
    said = {key: number["text"] for key, number in numbers.numbers.items()}
    long = {section.GROWS: "data grows (", section.SHRINKS: "data shrinks (", section.OPEN: "shows no direction"}
    assert long.get(said["published_verdict"], "no published series") in said["published_answer"]
    differ = {section.MORE: "grows more", section.LESS: "grows less", section.OPEN: "no clear difference"}
    if said["published_verdict"] != section.UNKNOWN:
        assert differ.get(said["published_breadth_verdict"], "cannot be said") in said["published_answer"]
    return [said[key] for key in ("published_answer", "published_answer_breadths")]


def test_the_answer_names_window_series_studies_unit_and_scale(inside):
    languages = changes.grouped(inside, ["data_language"])
    columns = ["model", "left_out", "term", "value", "low", "high", "units", "series", "studies"]
    fits = pd.DataFrame([(name, "", multilevel.ONE_LESS_MANY, -2.0, -9.0, 5.0, 5, 23, 7) for name in scales.SCALES],
                        columns=columns)  # fmt: skip
    answer, breadths = answered(inside, fits)
    row = languages.set_index("data_language").loc["English"]
    said = ["shows no direction that is clear of zero", "no clear difference is seen", "of prompted models"]
    count = {name: int(row[name]) for name in ("series", "studies")}
    counts = f"{count['series']} series in {count['studies']} studies"
    for part in ("from 7B to 70B", "points above chance", "all three scales", counts, "families in studies", *said):
        assert part in answer
    assert (
        "−2.0 (−9.0 to +5.0) points above chance per factor of ten" in breadths and "23 series in 7 studies" in breadths
    )
    sure = languages.assign(**{f"{name}_low": 0.1 for name in scales.SCALES})
    answer, _ = answered(inside, fits.assign(low=1.0), sure)
    assert "English data grows (" in answer and "it grows more after data of one domain" in answer
    falling = languages.assign(**{f"{name}_high": -0.1 for name in scales.SCALES})
    answer, _ = answered(inside, fits.assign(high=-1.0), falling)
    assert "English data shrinks (" in answer and "it grows less after data of one domain" in answer
    # One scale that does not say so is enough to say nothing.
    answer, _ = answered(inside, fits.assign(low=fits["model"].map({"gain": 1.0, "share": 1.0, "log_odds": -1.0})))
    assert "no clear difference is seen" in answer
    assert "cannot be said" in answered(inside, fits.assign(low=np.nan))[0]
    tuned = inside.assign(group=inside["group"].where(inside["data_language"] != "English", "finetuned"))
    assert f"{count['series']} series of them fine-tuned" in answered(tuned, fits)[0]
    assert "no published series" in answered(inside, fits, languages.iloc[:0])[0]


# What a sentence with an estimate has to say, and how that may be said.
_SAID = {
    "window": r"7B|window|\d+(\.\d+)?[MB]\b|all (of its )?sizes",
    "unit": r"over (\d|one|tasks|the tasks|languages|families|the \d+ series)|of each kind|families in studies"
    r"|\d tasks?\b|languages of",
    "series": r"\d+ series|one series|pairs of a tuned model",
    "studies": r"\d+ stud(y|ies)|one study",
    "scale": r"points above chance|three scales|percent of the error",
}
_RESULT = re.compile(r"[+−]\d|\bgrows\b|\b(above|below|clear of) zero\b|\bdiffer more\b")


def sentences(name):
    """The sentences of a file of the paper that have numbers of the published layer, as they are printed."""
    text = (PAPER / name).read_text(encoding="utf-8")
    numbers = json.loads((PAPER / "numbers.json").read_text(encoding="utf-8"))["numbers"]
    text = re.sub(r"(?m)^//.*$|^#import.*$", "", text)
    text = re.sub(r"(?ms)^#let .*?^[)}].*?$", "", text)
    text = re.sub(r"(?ms)^#(grid-of|drawing)\(.*?\)$", "", text)  # captions are no sentences of the text
    text = re.sub(r"(?s)#for row in shown-changes \[.*?\n\]", "", text)
    text = re.sub(r'#group-of\("(\w+)"\)', r'#n("published_group_\1_says")', text)
    text = re.sub(r'#(?:n|few)\("(\w+)"\)', lambda key: numbers[key[1]]["text"], text)
    text = re.sub(r"#if .*?== \"[\w ]+\" \[|\] else \[", " ", text)
    return [" ".join(one.split()) for one in re.split(r"(?<=[a-z0-9)\]])\.(?=\s)", text)]


@pytest.mark.parametrize("name", ["sections/published.typ", "appendix/published.typ"])
def test_every_result_says_window_unit_series_studies_and_scale(name):
    found = [one for one in sentences(name) if _RESULT.search(one)]
    lacks = {one: [name for name, said in _SAID.items() if not re.search(said, one)] for one in found}
    assert found and not {one: names for one, names in lacks.items() if names}


def test_every_source_says_its_licence_and_where_that_was_read_or_is_marked():
    layer = tables.load()
    for licence in layer.sources["licence"]:
        assert re.fullmatch(r"not verified|[^()]+ \([^()]{3,}\)", licence), licence
    numbers = Numbers("06_published")
    sections.add_sources(numbers, layer, scores.table(layer))
    shown = [row[6] for row in numbers.tables["published_sources"]["rows"]]
    of = {key: number["value"] for key, number in numbers.numbers.items()}
    marked = [text for text in shown if text.endswith("‡")]
    assert set(marked) == {"not verified ‡"} and len(marked) == of["published_unverified_licences"] < len(shown)
    assert sum(text.startswith("none stated (") for text in shown) == of["published_unstated_licences"]


LONG = "A family with adapters, mixture weights and a curriculum over forty-two domains of text "


def test_long_names_leave_room_for_what_is_drawn(table, inside):
    """Names wrap or are cut: they neither push panels together nor run over the edge of the page."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    untuned = scale.levels(table).query("type == 'none' and group != 'finetuned'")
    slopes = scale.slopes(untuned, scale.LEVELS, "corrected", window=True)
    published = gains.published(table)
    fewer = published[published["panel"] == "published, prompted zero-shot"]
    for fig in (
        figures.forest(slopes.assign(family=LONG + slopes["family"], protocol=LONG + slopes["protocol"])),
        figures.by_regime(fewer.assign(family=LONG + fewer["family"], panel=LONG + fewer["panel"])),
        window.headline(inside.assign(family=LONG + inside["family"]), pd.DataFrame(columns=["gain", *SORTED])),
    ):
        style.draw(fig)  # a layout that does not fit is a warning, and so an error
        renderer = FigureCanvasAgg(fig).get_renderer()
        for ax in fig.axes:
            assert not ax.axison or ax.get_window_extent(renderer).width > fig.bbox.width / 6
        for legend in fig.legends:
            box = legend.get_window_extent(renderer)
            assert fig.bbox.x0 <= box.x0 and box.x1 <= fig.bbox.x1


SORTED = ["study", "family", "training", "protocol", "size"]


def test_no_two_names_are_drawn_alike():
    looks = style.markers([f"r{n}" for n in range(40)])
    assert len({(look["marker"], look["color"]) for look in looks.values()}) == 40


def test_a_fine_tuned_series_and_one_that_is_not_coded_say_so(inside):
    tuned = inside.head(1).assign(group="finetuned", protocol="fine-tuned in English")
    new = inside.tail(1).assign(data_language="not coded", data_breadth="not coded")
    texts = [row["text"] for row in window._lines(pd.concat([tuned, new], ignore_index=True))]
    assert any("fine-tuned in" in text for text in texts) and "data not coded" in texts
