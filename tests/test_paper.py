"""From numbers to the PDF: one source per key, nothing half-written, the same bytes for the same inputs."""

import json
import re
import zlib

import numpy as np
import pandas as pd
import pytest
import simulate

from xlscale.cards import catalogue
from xlscale.core.files import PAPER, XlscaleError
from xlscale.experiment import studies
from xlscale.report import labels, typeset
from xlscale.report.figures import by_group as group_figure
from xlscale.report.figures import ladder
from xlscale.report.numbers import Numbers
from xlscale.report.sections import checks, design, results
from xlscale.stats import by_group, slopes


def collect(cells, languages, study=None, drawn=None):
    """The Numbers of the two analysis notebooks for these cells, with figures that were drawn before."""
    scaling, significance = Numbers("04_scaling"), Numbers("05_significance")
    design.add_design(scaling, cells, languages)
    design.add_tuning(scaling, study)
    results.add_results(scaling, cells)
    checks.add_manipulation(scaling, cells)
    checks.add_english(scaling, cells)
    checks.add_collapsed(scaling, cells)
    results.add_gains(scaling, cells)
    if drawn is None:
        scaling.figure("scaling", ladder.scaling(cells))
        scaling.figure("gains", ladder.gain(cells))
        by_target = {target: by_group.of_seeds(cells, languages, target) for target in slopes.targets(cells)}
        scaling.figure("languages", group_figure.by_group(by_target, group_figure.OF_SEEDS))
    else:
        scaling._figures |= drawn
    results.add_slopes(significance, cells)
    results.add_tolerances(significance, cells)
    return scaling, significance


def simulated(seed=1, **options):
    generator = np.random.default_rng(seed)
    cells = simulate.cells(generator, **options)
    parts = [
        simulate.languages(rows, generator, catalogue.data_card(target).languages)
        for target, rows in cells.groupby("target")
    ]
    return pd.concat([cells, simulate.intermediate(cells, generator)], ignore_index=True), pd.concat(parts)


@pytest.fixture(scope="module")
def collected():
    return collect(*simulated())


@pytest.fixture(scope="module")
def drawn(collected):
    """The figures of a simulated record, as ``style.draw`` gives them."""
    return collected[0]._figures


@pytest.fixture(scope="module")
def made(collected, tmp_path_factory):
    """A built paper of a simulated record."""
    out = tmp_path_factory.mktemp("made")
    for numbers in collected:
        numbers.write(out)
    typeset.build(out)
    return out


@pytest.fixture
def small(tmp_path):
    numbers = Numbers("04_scaling")
    numbers.add("a_1", 0.5, "50%", unit="%")
    numbers.write(tmp_path)
    return tmp_path


@pytest.mark.again
def test_the_same_record_gives_the_same_bytes_in_another_folder(made, tmp_path):
    for numbers in collect(*simulated()):
        numbers.write(tmp_path)
    typeset.build(tmp_path)
    names = [
        "numbers.json",
        "numbers.tex",
        "paper.pdf",
        *(f"figures/{n}.svg" for n in ("scaling", "gains", "languages")),
    ]
    names += [name.replace("svg", "pdf") for name in names if name.endswith("svg")]
    for name in names:
        assert (tmp_path / name).read_bytes() == (made / name).read_bytes(), name


def test_numbers_name_their_source(made):
    numbers = json.loads((made / "numbers.json").read_text())
    entry = numbers["numbers"]["topic_squad_wiki_k12"]
    assert entry["source"] == "04_scaling" and entry["unit"] == "%" and entry["text"] == f"{100 * entry['value']:.1f}"
    assert numbers["figures"]["scaling"]["source"] == "04_scaling"
    assert numbers["tables"]["gamma"]["source"] == "05_significance"


def test_only_the_shipped_fonts_are_in_the_pdf(made):
    raw = (made / "paper.pdf").read_bytes()
    streams = [raw]
    for found in re.finditer(rb"stream\r?\n(.*?)\r?\nendstream", raw, re.DOTALL):
        try:
            streams.append(zlib.decompress(found[1]))
        except zlib.error:
            continue
    fonts = {name for text in streams for name in re.findall(rb"/BaseFont\s*/([A-Za-z0-9+-]+)", text)}
    assert fonts and all(b"SourceSerif4" in name for name in fonts), fonts


def test_the_paper_builds_from_other_results_and_from_an_incomplete_record(tmp_path):
    cells, languages = simulated(seed=9, truth=simulate.effects(-0.1, {"squad_wiki": 0.0}))
    lost = (cells["condition"] == "squad_amazon") & (cells["layers"] == 12) & (cells["phase"] == "target")
    cells.loc[lost, ["status", "reason"]] = ["failed", "diverged"]
    cells.loc[lost, ["value", "english"]] = np.nan
    cells = cells[(cells["seed"] < 2) & ~((cells["condition"] == "squad_wiki") & (cells["layers"] < 4))]
    for numbers in collect(cells, languages[languages["cell"].isin(cells["cell"])]):
        numbers.write(tmp_path)
    typeset.build(tmp_path)
    made = json.loads((tmp_path / "numbers.json").read_text())
    texts = {key: entry["text"] for key, entry in made["numbers"].items()}
    assert texts["topic_squad_amazon_k12"] == "missing" and texts["cells_failed"] == "2"
    assert texts["gainslope_topic_squad_amazon_interval"] == "none"
    assert texts["gainslope_topic_squad_wiki"] == "missing"  # two rungs left
    rungs = {(row[0], row[1]): row[-1] for row in made["tables"]["slopes_topic"]["rows"]}
    assert rungs[(labels.label("squad_amazon"), "none")] == "1, 2, 4"
    assert rungs[(labels.label("squad_amazon, shuffled labels"), "none")] == "1, 2, 4, 12"
    assert rungs[(labels.label("squad_wiki"), "shuffled")] == "4, 12"
    assert {row[-1] for row in made["tables"]["gamma"]["rows"]} == {"4"}
    assert texts["gain_topic_squad_amazon_largest"] == "missing"


def test_a_number_that_no_notebook_made_stops_the_build_and_changes_nothing(made, tmp_path, monkeypatch):
    sources = tmp_path / "paper"
    sources.mkdir()
    (sources / "fonts").symlink_to(PAPER / "fonts")
    for name in ("refs.bib", "layout.typ"):
        (sources / name).write_text((PAPER / name).read_text())
    (sources / "paper.typ").write_text('#import "layout.typ": *\n#n("no_such_number")')
    monkeypatch.setattr(typeset, "PAPER", sources)
    before = (made / "paper.pdf").read_bytes()
    with pytest.raises(XlscaleError, match=r"^paper/paper.typ: number 'no_such_number' is made by no notebook$"):
        typeset.build(made)
    assert (made / "paper.pdf").read_bytes() == before


def test_a_character_without_a_glyph_is_named():
    typeset.check_glyphs(["Zażółć γ − × ≤"])
    with pytest.raises(XlscaleError, match=r"no glyph for 語 \(U\+8A9E\)"):
        typeset.check_glyphs(["日本語".replace("日本", "")])


def test_a_number_in_a_text_is_checked_for_glyphs(small):
    numbers = Numbers("05_significance")
    numbers.add("b", None, "ไทย")
    numbers.write(small)
    with pytest.raises(XlscaleError, match="no glyph"):
        typeset.build(small)


FIGURE = {"file": "figures/a.svg", "sha256": "0" * 64}


@pytest.mark.parametrize(
    ("content", "field"),
    [
        *((one, "") for one in ([], None, 5)),
        ({}, "numbers"),
        ({"numbers": [], "tables": {}, "figures": {}}, "numbers"),
        ({"numbers": {"a": 1}, "tables": {}, "figures": {}}, "numbers.a"),
        ({"numbers": {"a": {"value": 1, "text": 1, "unit": ""}}, "tables": {}, "figures": {}}, "numbers.a.text"),
        ({"numbers": {"}": {"value": 1, "text": "1", "unit": ""}}, "tables": {}, "figures": {}}, "numbers.}"),
        ({"numbers": {}, "tables": {"a": {"header": "a", "rows": []}}, "figures": {}}, "tables.a.header"),
        ({"numbers": {}, "tables": {}, "figures": {"a": {}}}, "figures.a.file"),
        ({"numbers": {}, "tables": {}, "figures": {"a": FIGURE | {"file": "../a.svg"}}}, "figures.a.file"),
        ({"numbers": {}, "tables": {}, "figures": {"a": FIGURE | {"sha256": None}}}, "figures.a.sha256"),
    ],
)
def test_what_no_notebook_has_left_so_is_one_line(small, content, field):
    (small / "generated" / "05_significance.json").write_text(json.dumps(content))
    with pytest.raises(XlscaleError, match=rf"generated/05_significance\.json: {re.escape(field)}") as told:
        typeset.merge(small)
    assert "\n" not in str(told.value)


def test_a_key_has_one_source(small):
    numbers = Numbers("05_significance")
    numbers.add("a_1", 0.5, "50%")
    numbers.write(small)
    with pytest.raises(XlscaleError, match="a_1: also made by 04_scaling"):
        typeset.merge(small)


def test_a_key_has_one_value_but_a_cell_may_run_twice():
    numbers = Numbers("04_scaling")
    numbers.add("a", np.float64(0.1), "10")
    numbers.add("a", 0.1, "10")
    with pytest.raises(XlscaleError, match="04_scaling: a: given twice"):
        numbers.add("a", 0.2, "20")


@pytest.mark.parametrize("key", ["A", "a-b", "", "a b", "é"])
def test_keys_are_plain(key):
    with pytest.raises(XlscaleError, match="expected lower-case letters, digits and underscores"):
        Numbers("04_scaling").add(key, 1, "1")


def test_a_ragged_table_is_refused():
    with pytest.raises(XlscaleError, match="table t: expected 2 columns, got 1"):
        Numbers("04_scaling").table("t", ["a", "b"], [["1"]])


def test_a_value_has_the_digits_that_processors_agree_on():
    numbers = Numbers("04_scaling")
    for key, value in {"here": 0.16539373755058928, "there": 0.1653937375505893}.items():
        numbers.add(key, value, "16.5", "%")
    assert numbers.numbers["here"] == numbers.numbers["there"] == {"value": 0.1653937376, "text": "16.5", "unit": "%"}


def test_nan_is_missing_in_json(tmp_path):
    numbers = Numbers("04_scaling")
    numbers.add("a", float("nan"), "missing")
    assert json.loads(numbers.write(tmp_path).read_text())["numbers"]["a"]["value"] is None


def test_a_figure_of_another_run_is_noticed(made, tmp_path):
    numbers = Numbers("04_scaling")
    numbers.figure("scaling", ladder.scaling(simulated()[0]))
    numbers.write(tmp_path)
    (tmp_path / "figures" / "scaling.svg").write_text("<svg/>")
    with pytest.raises(XlscaleError, match="not the file that 04_scaling made"):
        typeset.merge(tmp_path)


def test_nothing_generated_is_one_line(tmp_path):
    with pytest.raises(XlscaleError, match="no generated numbers; run the notebooks first"):
        typeset.build(tmp_path)


def test_tex_has_every_number_once_escaped_and_with_its_source(made):
    tex = (made / "numbers.tex").read_text()
    numbers = json.loads((made / "numbers.json").read_text())["numbers"]
    defined = re.findall(r"^\\expandafter\\def\\csname xl@([a-z0-9_]+)\\endcsname\{(.*)\}$", tex, re.MULTILINE)
    assert [key for key, _ in defined] == sorted(numbers)
    assert tex.count("% 04_scaling: value") + tex.count("% 05_significance: value") == len(numbers)
    assert all(text.count("{") == text.count("}") for _, text in defined)
    special = {"numbers": {"a": {"value": 1, "text": "−5% of A_b & $x", "unit": "", "source": "s"}}}
    assert r"{\ensuremath{-}5\% of A\_b \& \$x}" in typeset.latex(special)


def test_comparison_with_the_built_paper(made, drawn, tmp_path):
    scaling, _ = collect(*simulated(), drawn=drawn)
    assert scaling.verdict(made).startswith("AGREES")
    assert scaling.verdict(tmp_path).endswith("nothing to compare with.")
    scaling.numbers["topic_none_k1"]["text"] = "99.9"
    del scaling.numbers["topic_none_k2"]
    assert scaling.verdict(made).startswith("DIFFERS")
    table = scaling.compare(made).set_index("key")["verdict"]
    assert (table["topic_none_k1"], table["topic_none_k2"], table["topic_none_k4"]) == ("differs", "gone", "agrees")


def test_a_run_differs_in_a_value_that_is_not_printed_in_a_table_and_in_a_figure(made, drawn):
    scaling, _ = collect(*simulated(), drawn=drawn)
    name, other = min(scaling.tables), min(scaling._figures)
    scaling.numbers["topic_none_k1"]["value"] += 1e-9
    scaling.tables[name]["rows"][0][-1] += "x"
    scaling._figures[other] = {"svg": b"<svg></svg>"}
    found = scaling.compare(made)
    differ = found[found["verdict"] != "agrees"].set_index(["kind", "key"])
    assert [*differ.index] == [("numbers", "topic_none_k1"), ("tables", name), ("figures", other)]
    assert set(differ["verdict"]) == {"differs"} and (differ["paper"] != differ["this run"]).all()
    assert "3 differs" in scaling.verdict(made)


@pytest.mark.parametrize("content", ["[]", "{}", '{"numbers": [1]}', '{"numbers": {"a": {"source": "x"}, "b": 3}}'])
def test_a_built_paper_without_numbers_is_one_line(made, drawn, tmp_path, content):
    scaling, _ = collect(*simulated(), drawn=drawn)
    (tmp_path / "numbers.json").write_text(content)
    with pytest.raises(XlscaleError, match=r"numbers\.json: numbers: expected source and text of each$"):
        scaling.compare(tmp_path)


# Numbers that are part of a name or of the question, none of them a result or a setting of this study.
_NAMES = (r"\bF1\b", r"\b7B\b", r"\b7[02]B\b", r"\bfloat(16|32)\b", r"\bbfloat16\b", r"multilingual-e5-small")
TEXTS = sorted(path.relative_to(PAPER).as_posix() for path in PAPER.rglob("*.typ") if path.name != "layout.typ")


def typed_digits(text):
    """Digits of a text of the paper that do not come from numbers.json: keys, labels, sizes and code left out."""
    text = re.sub(r"(?m)^//.*$", "", text)
    text = re.sub(r'"(?:[^"\\]|\\.)*"', "", text)  # strings: keys, file names, styles
    text = re.sub(r"#cite\(<\w+>|@[\w.-]*\w|<[a-z][\w.-]*>", "", text)
    text = re.sub(r"\b[\d.]+(pt|mm|em|fr|%)(?=[,)\]])", "", text)
    text = re.sub(r"(if place [>=]=? 0|\.at\(1\))", "", text)
    for name in _NAMES:
        text = re.sub(name, "", text)
    return re.findall(r".*\d.*", text)


@pytest.mark.parametrize("name", TEXTS)
def test_paper_text_has_no_typed_number(name):
    assert typed_digits((PAPER / name).read_text()) == []


@pytest.mark.parametrize("typed", ["we used 2 seeds", "a 95% interval", "rose by 1.3 points", "in 18 languages"])
@pytest.mark.parametrize("name", ["paper.typ", "sections/method.typ", "sections/limitations.typ"])
def test_a_typed_number_would_be_found(typed, name):
    text = (PAPER / name).read_text()
    place = text.index(". ", len(text) // 3)
    assert typed_digits(f"{text[:place]} {typed} {text[place:]}")


def test_the_abstract_has_no_typed_level_or_power(made):
    numbers = json.loads((made / "numbers.json").read_text())["numbers"]
    texts = [numbers[key]["text"] for key in ("level", "alpha", "power", "coverage")]
    assert texts == ["95%", "5%", "80%", "95%"]


def test_how_the_rates_were_chosen_is_in_the_paper_or_said_to_be_unknown(made, drawn, tmp_path):
    for numbers in collect(*simulated(), study=studies.load("pilot"), drawn=drawn):
        numbers.write(tmp_path)
    typeset.build(tmp_path)
    numbers = json.loads((tmp_path / "numbers.json").read_text())
    assert len(numbers["tables"]["tuning"]["rows"]) == 8 and numbers["numbers"]["tuning_seed"]["text"] == "99"
    without = json.loads((made / "numbers.json").read_text())["numbers"]
    assert without["tuning_seed"]["text"] == "not recorded"


def test_one_rung_and_one_rate_build_too(tmp_path):
    cells, languages = simulated()
    cells = cells[cells["layers"] == 1].assign(learning_rate=1e-3)
    for numbers in collect(cells, languages[languages["layers"] == 1]):
        numbers.write(tmp_path)
    typeset.build(tmp_path)
    texts = {k: v["text"] for k, v in json.loads((tmp_path / "numbers.json").read_text())["numbers"].items()}
    assert (texts["layers"], texts["rates"], texts["family"]) == ("1 layer", "are the same at every rung", "0")
