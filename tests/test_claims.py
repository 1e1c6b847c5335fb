"""The claims audit: verdicts follow from checks, and new numbers decide what was undecidable."""

import shutil

import numpy as np
import pandas as pd
import pytest
import simulate
import test_published as source
import yaml

from xlscale.core.files import XlscaleError
from xlscale.published import claims, scores, sources, tables
from xlscale.record import store
from xlscale.report import typeset
from xlscale.report.numbers import Numbers
from xlscale.report.sections import claims as section
from xlscale.stats import slopes

NOTHING = pd.DataFrame(columns=["condition", "estimate", "low", "high"])


def evidence(rows=(), cells=None, gains=NOTHING):
    columns = ["training", "task", "model", "metric", "score", "measure"]
    return claims.Evidence(pd.DataFrame(rows, columns=columns), store.table({}) if cells is None else cells, gains)


GAINS = [("SQuAD", "avg", "m", "acc", 0.08, "difference"), ("QQP", "avg", "m", "acc", -0.02, "difference")]
SQUAD, ALL = {"training": "SQuAD"}, {"task": "avg"}


@pytest.mark.parametrize(
    ("check", "holds", "text"),
    [
        ({"kind": "value", "select": SQUAD, "expected": 0.08}, True, "+8.0 points (claimed +8.0 points)"),
        ({"kind": "value", "select": SQUAD, "expected": 0.082}, False, "+8.0 points (claimed +8.2 points)"),
        ({"kind": "value", "select": {"training": "MNLI"}, "expected": 0.075}, None, ""),
        (
            {"kind": "difference", "select": {"training": "S*"}, "than": {"training": "Q*"}, "at_least": 0.1},
            True,
            "+10.0 points (at least +10.0 points)",
        ),
        ({"kind": "difference", "select": SQUAD, "than": {"training": "none"}, "at_least": 0}, None, ""),
        ({"kind": "share", "select": ALL, "at_most": 0.5}, True, "1 of 2 above zero (−2.0 points to +8.0)"),
        ({"kind": "share", "select": ALL, "at_least": 0.6}, False, "1 of 2 above zero (−2.0 points to +8.0)"),
        (
            {"kind": "largest", "select": ALL, "by": "training", "name": "QQP"},
            False,
            "QQP is number 2 of 2 (−2.0 points); first is SQuAD (+8.0 points)",
        ),
        ({"kind": "largest", "select": ALL, "by": "training", "name": "CCG"}, None, ""),
        ({"kind": "count", "select": ALL, "by": "training", "expected": 2}, True, "2 (claimed 2)"),
        ({"kind": "matches", "select": ALL, "column": "metric", "pattern": "F1*"}, False, "0 of 2; not so: acc"),
        ({"kind": "phases"}, None, ""),
        ({"kind": "local_gains"}, None, ""),
    ],
)
def test_what_a_check_finds(check, holds, text):
    check = claims.Check(**check)
    found = claims.run(check, evidence(GAINS))
    assert (found.holds, section.sentence(check, found)) == (holds, text)


def claim(*checks):
    made = [claims.Check(**check) for check in checks]
    return claims.Claim(id="it", paper="p", version="both", claim="It is.", would_decide="numbers", checks=made)


HOLDS = {"kind": "value", "select": {"training": "SQuAD"}, "expected": 0.08}
FAILS = {**HOLDS, "expected": 0.5}
EMPTY = {**HOLDS, "select": {"training": "MNLI"}}


@pytest.mark.parametrize(
    ("checks", "verdict"),
    [
        ([HOLDS], claims.SUPPORTED),
        ([HOLDS, FAILS], claims.CONTRADICTED),
        ([EMPTY, FAILS], claims.CONTRADICTED),
        ([HOLDS, EMPTY], claims.UNDECIDABLE),
        ([HOLDS, {**FAILS, "role": "context"}], claims.SUPPORTED),
        ([HOLDS, {"kind": "phases"}], f"{claims.SUPPORTED}; {claims.REPRODUCED}"),
        ([{"kind": "phases"}], claims.REPRODUCED),
    ],
)
def test_what_follows_from_the_findings(checks, verdict):
    cells = pd.DataFrame({"phase": list(claims.PHASES), "status": "complete"})
    found = section.audit(claims.Claims(papers={"p": "P"}, claims=[claim(*checks)]), evidence(GAINS, cells))
    assert found.loc[0, "verdict"] == verdict
    assert found.loc[0, "would_decide"] == ("numbers" if verdict == claims.UNDECIDABLE else "")


def test_local_gains_are_reproduced_only_if_some_are_above_and_none_below():
    frame = pd.DataFrame({"condition": ["a", "b"], "estimate": [0.1, -0.1], "low": [0.05, -0.2], "high": [0.2, 0.05]})
    check = claims.Check(kind="local_gains")
    assert claims.run(check, evidence(gains=frame)).holds is True
    assert claims.run(check, evidence(gains=frame.assign(high=[0.2, -0.01]))).holds is False
    cells = simulate.cells(np.random.default_rng(1), truth=simulate.effects(-0.2, {}), sd=0.001)
    found = claims.run(check, evidence(cells=cells, gains=slopes.gains(cells)))
    assert section.sentence(check, found).startswith("local ladder: of ")


@pytest.fixture(scope="module")
def audited():
    cells = pd.DataFrame({"phase": list(claims.PHASES), "status": "complete"})
    return section.audit(claims.load(), claims.Evidence(scores.table(), cells, NOTHING)).set_index("id")


def test_the_audit_of_the_public_numbers(audited):
    verdicts = audited["verdict"].to_dict()
    undecided = {"three_tasks", "multi_task_best", "best_per_target", "beats_mlm_and_translation", "nine_tasks"}
    assert {name for name in undecided if verdicts[name] == claims.UNDECIDABLE} == undecided
    assert verdicts["three_phases"] == claims.REPRODUCED
    assert all(verdicts[name] == claims.SUPPORTED for name in ("bucc_tatoeba", "tydiqa_xnli", "xlmr_large"))
    assert verdicts["injection_output"] == verdicts["injection_early_layer"] == claims.CONTRADICTED
    assert all(text for text in audited.loc[audited["verdict"] == claims.UNDECIDABLE, "would_decide"])
    assert "+8.3 points (claimed +8.2 points)" in audited.loc["three_tasks", "found"]
    assert "+8.1 points" in audited.loc["best_per_target", "found"]


def test_all_nine_claims_and_all_four_papers_are_there(audited):
    counts = audited["paper"].value_counts()
    assert counts["Phang et al. 2020"] == 10 and len(counts) == 4
    assert set(audited["verdict"]) <= {claims.SUPPORTED, claims.REPRODUCED, claims.CONTRADICTED, claims.UNDECIDABLE}


def test_no_verdict_is_written_in_the_file():
    text = claims.FILE.read_text()
    data = yaml.safe_load(text)
    assert all("verdict" not in claim for claim in data["claims"])
    told = [line for line in text.splitlines() if not line.startswith("#")]
    assert not any(words in line for line in told for words in (claims.SUPPORTED, claims.CONTRADICTED))


def test_the_final_versions_numbers_would_decide(tmp_path):
    folder = shutil.copytree(tables.FOLDER, tmp_path / "published")
    like = {
        "source_key": "phang2020_final",
        "model": "XLM-R Large",
        "model_family": "XLM-R",
        "params": "560M",
        "task": "avg",
        "language": "avg",
        "metric": "avg; DELTA vs baseline",
        "regime": "zero-shot-finetuned",
    }
    values = {"SQuAD": "8.2", "MNLI": "7.5", "HellaSwag": "7.0", "Multi-task": "8.7"}
    rows = [{**like, "intermediate_task": f"{name} (No MLM)", "value": value} for name, value in values.items()]
    sources.add(source.write(tmp_path / "final.csv", *rows), folder)
    table = scores.table(tables.load(folder))
    found = section.audit(claims.load(), claims.Evidence(table, store.table({}), NOTHING)).set_index("id")["verdict"]
    assert found["three_tasks"] == found["multi_task_best"] == claims.SUPPORTED
    assert found["nine_tasks"] == claims.CONTRADICTED  # three of them are there


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (("kind: phases", "kind: guess"), "claims.7.checks.0.kind"),
        (
            ("by: training, expected: 9", "by: training"),
            "nine_tasks: expected: expected one in a check of kind 'count'",
        ),
        (("id: nine_tasks", "id: three_phases"), "three_phases: id: expected every id once"),
        (("paper: ngugi2025", "paper: ngugi"), "injection_trained: paper: expected one of phang2020"),
        (
            ("- {kind: phases}", "- {kind: phases, role: context}"),
            "three_phases: checks: expected at least one that decides",
        ),
        (
            (", expected: 0.087, tolerance: 0.0005}", "}"),
            "multi_task_best: expected: expected one, at_least or at_most in a check that decides",
        ),
    ],
)
def test_a_broken_file_of_claims_is_one_line(tmp_path, change, said):
    path = tmp_path / "claims.yaml"
    text = claims.FILE.read_text()
    assert change[0] in text
    path.write_text(text.replace(*change))
    with pytest.raises(XlscaleError, match=said.replace(".", r"\.")) as caught:
        claims.load(path)
    assert "\n" not in str(caught.value)


def test_an_unknown_column_is_named():
    with pytest.raises(XlscaleError, match="unknown column 'colour'"):
        claims.chosen(evidence(GAINS).scores, {"colour": "red"})
    for given in ({"kind": "largest", "by": "colour", "name": "x"}, {"kind": "count", "by": "colour", "expected": 1},
                  {"kind": "matches", "column": "colour", "pattern": "*"}):  # fmt: skip
        with pytest.raises(XlscaleError, match="claims.yaml: by, column: unknown column 'colour'"):
            claims.run(claims.Check(select={"training": "*"}, **given), evidence(GAINS))


def test_of_equals_each_is_the_largest():
    rows = pd.DataFrame({"training": list("abc"), "score": [0.1, 0.3, 0.3], "measure": "score"})
    check = claims.Check(kind="largest", select={"training": "*"}, by="training", name="a")
    found = [claims.run(check.model_copy(update={"name": name}), evidence(rows)) for name in "abc"]
    assert [one.facts["rank"] for one in found] == [3, 1, 1] and [one.holds for one in found] == [False, True, True]


def test_what_the_paper_prints_counts_every_claim(audited):
    numbers = Numbers("09_claims")
    section.add(numbers, audited.reset_index())
    parts = ("supported", "reproduced", "contradicted", "undecidable")
    assert sum(numbers.numbers[f"claims_{part}"]["value"] for part in parts) == len(audited)
    assert len(numbers.tables["claims"]["rows"]) == len(audited)
    typeset.check_glyphs(cell for row in numbers.tables["claims"]["rows"] for cell in row)
