"""The claims audit: verdicts follow from checks, and new numbers decide what was undecidable."""

import numpy as np
import pandas as pd
import pytest
import simulate
import yaml

from xlscale.core.files import XlscaleError
from xlscale.published import claims, scores
from xlscale.report import typeset
from xlscale.report.numbers import Numbers
from xlscale.report.sections import claims as section
from xlscale.stats import slopes

NOTHING = pd.DataFrame(columns=["condition", "estimate", "low", "high"])


ABOVE = pd.DataFrame({"condition": ["a"], "estimate": [0.1], "low": [0.05], "high": [0.2]})
BELOW = pd.DataFrame({"condition": ["a"], "estimate": [-0.1], "low": [-0.2], "high": [-0.05]})


def evidence(rows=(), gains=NOTHING):
    columns = ["training", "task", "model", "metric", "score", "measure"]
    return claims.Evidence(pd.DataFrame(rows, columns=columns), gains)


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
LOCAL = {"kind": "local_gains"}


def test_what_a_small_ladder_does_not_show_is_not_contradicted():
    for checks, verdict in (([LOCAL], claims.NOT_REPRODUCED), ([FAILS, LOCAL], claims.CONTRADICTED)):
        found = section.audit(claims.Claims(papers={"p": "P"}, claims=[claim(*checks)]), evidence(GAINS, BELOW))
        assert found.loc[0, "verdict"] == verdict


@pytest.mark.parametrize(
    ("checks", "verdict"),
    [
        ([HOLDS], claims.SUPPORTED),
        ([HOLDS, FAILS], claims.CONTRADICTED),
        ([EMPTY, FAILS], claims.CONTRADICTED),
        ([HOLDS, EMPTY], claims.UNDECIDABLE),
        ([HOLDS, {**FAILS, "role": "context"}], claims.SUPPORTED),
        ([HOLDS, LOCAL], f"{claims.SUPPORTED}; {claims.REPRODUCED}"),
        ([LOCAL], claims.REPRODUCED),
        ([FAILS, LOCAL], claims.CONTRADICTED),
    ],
)
def test_what_follows_from_the_findings(checks, verdict):
    found = section.audit(claims.Claims(papers={"p": "P"}, claims=[claim(*checks)]), evidence(GAINS, ABOVE))
    assert found.loc[0, "verdict"] == verdict
    assert found.loc[0, "would_decide"] == ("numbers" if verdict == claims.UNDECIDABLE else "")


def test_local_gains_are_reproduced_only_if_some_are_above_and_none_below():
    frame = pd.DataFrame({"condition": ["a", "b"], "estimate": [0.1, -0.1], "low": [0.05, -0.2], "high": [0.2, 0.05]})
    check = claims.Check(kind="local_gains")
    assert claims.run(check, evidence(gains=frame)).holds is True
    assert claims.run(check, evidence(gains=frame.assign(high=[0.2, -0.01]))).holds is False
    cells = simulate.cells(np.random.default_rng(1), truth=simulate.effects(-0.2, {}), sd=0.001)
    found = claims.run(check, evidence(gains=slopes.gains(cells)))
    assert section.sentence(check, found).startswith("local ladder: of ")


@pytest.fixture(scope="module")
def audited():
    return section.audit(claims.load(), claims.Evidence(scores.table(), ABOVE)).set_index("id")


def test_the_audit_of_the_public_numbers(audited):
    verdicts = audited["verdict"].to_dict()
    assert verdicts["improves_on_average"] == claims.REPRODUCED
    assert all(verdicts[name] == claims.SUPPORTED for name in ("best_per_target", "xtreme_r_mt5", "xtreme_r_ten"))
    assert verdicts["injection_output"] == verdicts["injection_early_layer"] == claims.CONTRADICTED
    assert claims.UNDECIDABLE not in verdicts.values()  # there is no verdict on what was not read
    assert "+6.1 points" in audited.loc["best_per_target", "found"]


def test_no_claim_is_tested_against_the_table_that_it_summarises():
    own = {"phang2020": "phang2020_v1", "ruder2021": "ruder2021"}
    for one in claims.load().claims:
        deciding = [check for check in one.checks if check.role == "decides"]
        assert all(check.select.get("source_key") != own.get(one.paper, "") for check in deciding), one.id


def test_no_verdict_is_written_in_the_file():
    text = claims.FILE.read_text()
    data = yaml.safe_load(text)
    assert all("verdict" not in claim for claim in data["claims"])
    told = [line for line in text.splitlines() if not line.startswith("#")]
    assert not any(words in line for line in told for words in (claims.SUPPORTED, claims.CONTRADICTED))


def test_new_numbers_decide_what_was_undecidable():
    it = claim({"kind": "count", "select": {"training": "[!M]*"}, "by": "training", "expected": 3})
    found = claims.Claims(papers={"p": "P"}, claims=[it])
    for rows, verdict in (((), claims.UNDECIDABLE), (GAINS, claims.CONTRADICTED),
                          ([*GAINS, ("CCG", "avg", "m", "acc", 0.0, "difference")], claims.SUPPORTED)):  # fmt: skip
        assert section.audit(found, evidence(rows)).loc[0, "verdict"] == verdict


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (("kind: local_gains", "kind: guess"), "claims.1.checks.0.kind"),
        (("by: task, expected: 10", "by: task"), "xtreme_r_ten: expected: expected one in a check of kind 'count'"),
        (("id: xtreme_r_ten", "id: xtreme_r_mt5"), "xtreme_r_mt5: id: expected every id once"),
        (("paper: ngugi2025", "paper: ngugi"), "injection_trained: paper: expected one of phang2020"),
        (
            ("- {kind: local_gains}", "- {kind: local_gains, role: context}"),
            "improves_on_average: checks: expected at least one that decides",
        ),
        (
            (", expected: 0.3211, tolerance: 0.00005}", "}"),
            "injection_trained: expected: expected one, at_least or at_most in a check that decides",
        ),
        *(
            ((f"model: XLM-R}}, at_least: {old}", f"model: XLM-R}}, {new}"), f"best_per_target: {said}")
            for old, new, said in (
                ("0.0", "at_least: 10", "at_least: expected a number from -1 to 1, got 10.0"),
                ("0.0", "expected: 68.2", "expected: expected a number from -1 to 1, got 68.2"),
                ("0.0", "expected: 0.1, tolerance: -1", "tolerance: expected a number from 0 to 1, got -1.0"),
                ("0.0", "at_least: 0.0, tolerance: 0.1", "tolerance: expected none without the value in 'expected'"),
                ("0.0", "at_least: 0.5, at_most: 0.1", "at_least: expected at most at_most, 0.1, got 0.5"),
                ("0.0", "at_least: 0.0, pattern: x", "pattern: expected none in a check of kind 'difference', which"),
            )
        ),
        (
            ("task: avg, measure: difference}}", "task: avg, measure: difference}, at_least: -0.1}"),
            "improves_on_average: at_least: expected a number from 0 to 1, got -0.1",
        ),
        (
            ("{kind: local_gains}", "{kind: local_gains, at_least: 0.1}"),
            "improves_on_average: at_least: expected none in",
        ),
        (
            ("expected: 10}", "expected: 10, tolerance: 0.5}"),
            "xtreme_r_ten: tolerance: expected none in a check of kind",
        ),
        (("expected: 10}", "expected: 9.5}"), "xtreme_r_ten: expected: expected a whole number from 1, got 9.5"),
        (("expected: 10}", "expected: 0}"), "xtreme_r_ten: expected: expected a whole number from 1, got 0"),
        (("column: metric,", "column: score,"), "injection_output: column: expected a column of texts in a check of"),
        (
            ("{kind: local_gains}", "{kind: largest, select: {task: xnli}, by: size, name: x}"),
            "improves_on_average: by: expected a column of texts in a check of kind 'largest', got 'size'",
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


def test_columns_that_hold_no_texts_are_known():
    table = scores.table()
    assert {name for name in table if not pd.api.types.is_string_dtype(table[name])} == {*scores.NOT_TEXT}


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
    parts = ("supported", "reproduced", "not_reproduced", "contradicted", "undecidable")
    assert sum(numbers.numbers[f"claims_{part}"]["value"] for part in parts) == len(audited)
    assert len(numbers.tables["claims"]["rows"]) == len(audited)
    typeset.check_glyphs(cell for row in numbers.tables["claims"]["rows"] for cell in row)
