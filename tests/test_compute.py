"""What the recorded runs took, and whose data they read: what the appendix of the paper says of both."""

from xlscale.cards import catalogue
from xlscale.record import store
from xlscale.report.numbers import Numbers
from xlscale.report.sections import compute, data


def test_every_recorded_run_of_a_published_study_counts_once():
    table, cells = compute.costs(), store.cells()
    assert 0 < table["cells"].sum() <= len(cells) and (table["hours"] > 0).all()
    assert table["hours"].sum() <= cells["wall_seconds"].sum() / 3600 + 1e-9
    pilot = table.set_index("study").loc["Pilot on the cut ladder"]
    assert pilot["cells"] == 112  # whole, though other studies share some of its runs
    numbers = Numbers("10_design")
    compute.add(numbers, table)
    assert numbers.numbers["compute_cells"]["value"] == table["cells"].sum()
    assert [row[0] for row in numbers.tables["compute"]["rows"]] == [*table["study"]]


def test_an_empty_record_took_nothing(tmp_path):
    numbers = Numbers("10_design")
    compute.add(numbers, compute.costs(tmp_path))
    assert numbers.tables["compute"]["rows"] == [] and numbers.numbers["compute_hours"]["text"] == "0.0"


def test_every_data_set_names_its_source_and_its_licence():
    cards = [catalogue.data_card(name) for name in ("udhr", "medical_reviews", "tatoeba")]
    numbers = Numbers("00_data")
    data.add_sources(numbers, cards)
    rows = {row[0]: row[1:] for row in numbers.tables["data_sources"]["rows"]}
    assert rows["UDHR-50"][0].startswith("Universal Declaration of Human Rights") and rows["UDHR-50"][1] == "MIT"
    assert {rows[card.title][1] for card in cards[1:]} == {"not verified, so not bundled", "not verified here"}
