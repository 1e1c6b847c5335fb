"""Variants: cards of data sets that are another one with other training or test data, and say so."""

import pyarrow as pa
import pyarrow.compute as pc
import pytest

from xlscale.acquire.external import convert
from xlscale.cards import catalogue, variants
from xlscale.cards.variants import Variant
from xlscale.core.files import MANIFEST, XlscaleError
from xlscale.core.strict import parse, read_yaml
from xlscale.data import schema

CARDS = {name: catalogue.documented(name) for name in catalogue.names(catalogue.SOURCES)}
VARIANTS = sorted(name for name, card in CARDS.items() if card.variant_of)


def _stated(name, **other):
    return read_yaml(MANIFEST / "sources" / f"{name}.yaml") | other


def _card(values, original):
    return variants.card(parse(Variant, values, "x.yaml"), CARDS[original], "x.yaml")


@pytest.mark.parametrize("name", VARIANTS)
def test_a_variant_goes_by_its_own_name_and_says_what_differs(name):
    card = CARDS[name]
    original = CARDS[card.variant_of]
    assert card.name != original.name and card.title != original.title and len(card.differs) > 40
    assert card.benchmarks == [] and original.benchmarks != []
    assert (card.family, card.metric, card.chance, card.labels) == (
        *(original.family, original.metric, original.chance, original.labels),
    )
    places = [place for part in card.source.parts for place in part.places]
    assert set(card.source.origins) == {name for one in places for name in (one.origin, one.labels_origin) if name}


@pytest.mark.parametrize("name", VARIANTS)
def test_what_a_variant_shares_with_its_original_are_the_same_rows(name, given):
    card = CARDS[name]
    mine, theirs = convert.rows(card), convert.rows(CARDS[card.variant_of])
    counts = schema.counts(mine)
    assert set(counts) == set(card.splits)
    for split, languages in card.splits.items():
        of_records = any("{" in (part.language or "") for part in card.source.parts if part.split == split)
        assert {*languages} <= {*counts[split]}  # entities are described in others, too
        assert {*languages} == {*counts[split]} or of_records
    own = {part.split for part in parse(Variant, _stated(name), name).source.parts}
    for split in set(counts) - own:
        here = pc.is_in(theirs["language"], pa.array([*counts[split]]))
        kept = pc.and_(pc.equal(theirs["split"], split), here)
        expected = theirs.filter(kept)
        found = mine.filter(pc.equal(mine["split"], split))
        columns = [column for column in expected.column_names if column not in ("item", "group", "relevant")]
        assert found.select(columns).to_pylist() == expected.select(columns).to_pylist()


def test_a_test_part_is_fetched_and_locked_alone(given):
    lock = convert.make(CARDS["lareqa_four"])
    assert set(lock.splits) == {"test"} and set(lock.splits["test"]) == {"ar", "de", "en", "zh"}
    assert {name.split("/", 1)[1] for name in lock.files} == {
        f"lareqa/xquad-r/{code}.json" for code in lock.splits["test"]
    }
    assert not catalogue.data_card("lareqa_four").trained


@pytest.mark.parametrize(
    ("other", "message"),
    [
        ({"differs": ""}, "x.yaml: differs"),
        ({"family": "ranking"}, "x.yaml: family"),
        ({"languages": ["ar", "de", "xx"]}, "x.yaml: languages"),
        ({"splits": {"dev": {"en": None}}}, "x.yaml: splits: expected test"),
        ({"source": {"parts": [{"split": "test", "languages": ["ar"], "places": [{"origin": "x", "files": "y"}]}]}},
         "x.yaml: source: parts: origin: expected one of"),
    ],
)  # fmt: skip
def test_a_faulty_variant_is_one_line(other, message):
    with pytest.raises(XlscaleError, match=message) as raised:
        _card(_stated("lareqa_four", **other), "lareqa")
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("content", ["", "5", "[variant_of]", "variant_of"])
def test_an_original_that_is_no_card_is_one_line(content, tmp_path, monkeypatch):
    (tmp_path / "sources").mkdir()
    (tmp_path / "sources" / "lareqa.yaml").write_text(content)
    monkeypatch.setattr(catalogue, "MANIFEST", tmp_path)
    variant = parse(Variant, _stated("lareqa_four"), "x.yaml")
    with pytest.raises(XlscaleError, match=r"x.yaml: variant_of: expected "):
        catalogue._original(variant, "x.yaml")


@pytest.mark.parametrize("original", ["lareqa_four", "nothing", "topic"])
def test_a_variant_is_one_of_another_card_of_sources(original):
    variant = parse(Variant, _stated("lareqa_four", variant_of=original), "x.yaml")
    with pytest.raises(XlscaleError, match=r"x.yaml: variant_of: expected "):
        catalogue._original(variant, "x.yaml")
