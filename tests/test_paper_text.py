"""What the paper's text must hold, whatever the numbers are: a sentence for every word that a rule can say, limits of
its form, references that were read, and a LaTeX frame that names what exists."""

import json
import re

import pytest

from xlscale.cards import catalogue
from xlscale.core.files import PAPER
from xlscale.published.scales import GROWS, SHRINKS
from xlscale.report import behind, typeset
from xlscale.report.sections import window, xtreme_changes

TEXTS = {path.relative_to(PAPER).as_posix(): path.read_text(encoding="utf-8") for path in sorted(PAPER.rglob("*.typ"))}
WORDS = {
    "published_verdict": {GROWS, SHRINKS, window.OPEN, window.UNKNOWN},
    "published_breadth_verdict": {window.MORE, window.LESS, window.OPEN, window.UNKNOWN},
    "xtreme_r_trained_none_verdict": {
        xtreme_changes.ALL_GROW, xtreme_changes.ALL_SHRINK, xtreme_changes.MIXED, xtreme_changes.NOTHING,
    },
    "xtreme_r_retrieval_costs": {"more", "no more", "unknown"},
    "beta_verdict": {"change", "null", "open"},
    "design_worth": {"sets", "seeds", "depends"},
}  # fmt: skip


def chosen(text):
    """Every ``says`` of a text: its key, and its sentences by word."""
    for found in re.finditer(r'#says\("(\w+)"', text):
        depth, at = 1, found.end()
        while depth:
            depth += {"(": 1, "[": 1, ")": -1, "]": -1}.get(text[at], 0)
            at += 1
        call = text[found.end() : at - 1]
        names, level = [], 0
        for part in re.finditer(r"[\[\]]|([a-z-]+):", call):
            level += {"[": 1, "]": -1}.get(part[0], 0)
            names += [part[1]] if part[1] and level == 0 else []
        yield found[1], names


def test_every_word_that_a_rule_can_say_has_a_sentence_and_no_other():
    found = [(name, key, names) for name, text in TEXTS.items() for key, names in chosen(text)]
    assert {key for _, key, _ in found} == WORDS.keys()
    for name, key, names in found:
        assert {one.replace(" ", "-") for one in WORDS[key]} == {*names} and len(names) == len(WORDS[key]), (name, key)


def test_a_word_without_a_sentence_is_an_error(tmp_path, monkeypatch):
    sources = tmp_path / "paper"
    sources.mkdir()
    (sources / "fonts").symlink_to(PAPER / "fonts")
    for name in ("refs.bib", "layout.typ"):
        (sources / name).write_text((PAPER / name).read_text())
    (sources / "paper.typ").write_text('#import "layout.typ": *\n#says("rates", same: [x], rise: [y])')
    monkeypatch.setattr(typeset, "PAPER", sources)
    folder = tmp_path / "made" / "generated"
    folder.mkdir(parents=True)
    number = {"value": "same", "text": "bent", "unit": ""}
    words = dict.fromkeys(("rates", "targets", "sets"), number)
    (folder / "04_scaling.json").write_text(json.dumps({"numbers": words, "tables": {}, "figures": {}}))
    with pytest.raises(typeset.XlscaleError, match="no sentence of the paper for rates: bent"):
        typeset.build(tmp_path / "made")


def test_no_semicolon_ends_an_expression_instead_of_a_clause():
    """Behind code typst takes one for the end of it, and prints none."""
    for name, text in TEXTS.items():
        found = re.findall(r'#[a-z-]+\("[^"]*"\);.*|\];(?= *\S).*', text)
        assert not found, (name, found)


def test_no_number_of_a_target_is_asked_for_that_a_study_of_ones_own_may_lack():
    targets = "|".join(name for name in catalogue.names("data") if catalogue.data_card(name).role == "target")
    for path, text in TEXTS.items():
        for name in re.findall(rf'\bn\("((?:{targets})_\w+)"', text):
            assert f'has("number", "{name}")' in text, (path, name)


def test_captions_name_no_notebook_and_no_key():
    for name, text in TEXTS.items():
        if name not in ("layout.typ", "appendix/provenance.typ"):
            assert not re.search(r"From notebook|\b\d\d_[a-z]+\b(?!\.)", re.sub(r'"[^"]*"', "", text)), name


def entries():
    text = (PAPER / typeset.BIBLIOGRAPHY).read_text(encoding="utf-8")
    return dict(re.findall(r"(?ms)^@\w+\{([^,]+),\n(.*?)^\}", text))


def test_every_reference_says_what_of_it_was_read_and_is_cited():
    found, text = entries(), "\n".join(TEXTS.values())
    assert len(found) > 50
    cited = {*re.findall(r"#cite\(<([\w.]+)>", text), *re.findall(r"@([a-z][\w.]*\w)", text)}
    sources = (PAPER.parent / "data_manifest" / "published" / "sources.csv").read_text(encoding="utf-8")
    for key, body in found.items():
        assert re.search(r"annotation = \{.{20,}\}", body), key
        assert key in cited or f",{key}," in sources, key


FRAME = (PAPER / "acl" / "main.tex").read_text(encoding="utf-8")


def test_the_latex_frame_names_numbers_figures_and_references_that_exist():
    numbers = json.loads((PAPER / "numbers.json").read_text(encoding="utf-8"))["numbers"]
    body = FRAME[FRAME.index(r"\begin{document}") :]
    keys = re.findall(r"\\xlnumber\{([^}]*)\}", body)
    assert keys and not {*keys} - numbers.keys()
    drawn = re.findall(r"\\includegraphics\[[^]]*\]\{([^}]*)\}", body)
    assert drawn and all((PAPER / "figures" / name).is_file() for name in drawn)
    assert {*re.findall(r"\\citep\{([^}]*)\}", body)} <= entries().keys()
    assert r"\input{../numbers.tex}" in FRAME and not re.search(r"\d\.\d", body)


def test_the_committed_paper_keeps_within_the_form_of_the_venue():
    (body,) = typeset.marked("body")
    assert body["pages"] <= 9 and body["tables"] <= 7 and body["figures"] <= 6


def test_the_abstract_has_150_to_200_words():
    made = json.loads((PAPER / "numbers.json").read_text(encoding="utf-8"))
    text = TEXTS["paper.typ"]
    text = text[text.index("#abstract[") : text.index('#include "sections/introduction.typ"')]
    text = re.sub(r"(?s)#if has-primary \[.*?\]\n", "" if "primary" not in made["tables"] else " ", text)
    text = re.sub(r"(?s)\] else \[(?!has|#|have|no family).*?\n  \]|\] else \[Published.*?\]", "]", text)
    for key in WORDS:  # of several sentences the longest
        for found in re.finditer(rf'(?s)#says\("{key}",(.*?)\]\)', text):
            longest = max(re.findall(r"\[(.*?)(?=\],|$)", found[1], re.DOTALL), key=lambda one: len(one.split()))
            text = text.replace(found[0], longest)
    text = re.sub(r'#(?:n|few)\("(\w+)"\)', lambda key: made["numbers"][key[1]]["text"], text)
    text = re.sub(r"#if [^\[]*\[|#abstract\[|\] else \[|[\[\]*]", " ", text)
    assert 150 <= len(text.split()) <= 200, len(text.split())


def test_tables_and_figures_name_the_study_whose_runs_they_rest_on():
    made = json.loads((PAPER / "numbers.json").read_text(encoding="utf-8"))
    assert made["tables"]["xtreme_r_changes"]["runs"] == "xtreme_r_small"
    assert made["figures"]["scaling"]["runs"] == behind.OWN
    assert not {"runs"} & {*made["tables"]["published_flow"], *made["tables"]["compute"], *made["tables"]["proof"]}
