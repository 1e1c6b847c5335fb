"""Pairs of texts in every kind of tokenizer: its own separators, or that of the model's card."""

import re

import pytest
from datasets import Dataset
from hypothesis import given as drawn
from hypothesis import settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast

from xlscale import tasks
from xlscale.acquire import ensure
from xlscale.cards.catalogue import data_card, documented
from xlscale.cards.schema import ModelCard
from xlscale.core.files import XlscaleError
from xlscale.core.strict import parse
from xlscale.experiment import cells
from xlscale.models import ladder, pairs

WORDS = ["cat house water book", "tree river stone cat house", "猫 水 gato casa"]
ALIKE = [("cat house", "water book"), ("cat housewater", " book"), ("cat", " housewater book"), ("cat house ", "book")]
BYTES = pre_tokenizers.ByteLevel(add_prefix_space=False)


def decoder(processor=None) -> PreTrainedTokenizerFast:
    """A byte-level tokenizer as decoders have them; <s> is 0, <end> is 1."""
    made = Tokenizer(models.BPE())
    made.pre_tokenizer, made.decoder = BYTES, decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=320,
        special_tokens=["<s>", "<end>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    made.train_from_iterator(WORDS * 5, trainer)
    if processor:
        made.post_processor = processor
    return PreTrainedTokenizerFast(tokenizer_object=made, bos_token="<s>", eos_token="<end>", pad_token="<end>")


def template(single: str, pair: str):
    return processors.TemplateProcessing(single, pair, [("<s>", 0), ("<end>", 1)])


PLAIN = {
    "nothing": None,
    "bytes": processors.ByteLevel(trim_offsets=True),
    "begins": template("<s> $A", "<s> $A <s> $B:1"),
    "both": processors.Sequence([processors.ByteLevel(trim_offsets=True), template("<s> $A", "<s> $A <s> $B:1")]),
    "closes": template("<s> $A <end>", "<s> $A <end> <s> $B:1 <end>"),
}
OWN = {
    "one": template("<s> $A <end>", "<s> $A <end> $B:1 <end>"),
    "two": template("<s> $A <end>", "<s> $A <end> <end> $B:1 <end>"),
    "ends": template("$A <end>", "$A <end> $B:1 <end>"),
    "begins and ends alike": template("<end> $A", "<end> $A <end> $B:1"),
}


@pytest.mark.parametrize("kind", PLAIN)
def test_what_marks_no_border_is_refused_in_one_line_without_a_separator(kind):
    with pytest.raises(XlscaleError, match="separator: expected a special token such as '<end>' in the model") as error:
        pairs.encode(decoder(PLAIN[kind]), ["cat"], ["house"])
    assert "\n" not in str(error.value) and len(str(error.value)) < 300


@pytest.mark.parametrize("kind", PLAIN)
def test_the_separator_stands_between_and_nowhere_else(kind):
    plain, made = decoder(PLAIN[kind]), pairs.marked(decoder(PLAIN[kind]), "card", "<end>")
    starts = [0] if plain("a")["input_ids"][0] == 0 else []
    ends = [1] if plain("a")["input_ids"][-1] == 1 else []
    for first, second in [*ALIKE, ("", "book"), ("cat", "")]:
        alone = [plain(text, add_special_tokens=False)["input_ids"] for text in (first, second)]
        found = pairs.encode(made, [first], [second])["input_ids"][0]
        assert found == [*starts, *alone[0], 1, *alone[1], *ends]
        assert made(first)["input_ids"] == plain(first)["input_ids"]
        assert made(first, add_special_tokens=False)["input_ids"] == alone[0]
    assert made.num_special_tokens_to_add(pair=True) == len(starts) + 1 + len(ends)
    assert len({*map(str, pairs.encode(made, *zip(*ALIKE, strict=True))["input_ids"])}) == len(ALIKE)


@pytest.mark.parametrize("kind", PLAIN)
def test_offsets_stay_those_of_the_tokenizer(kind):
    plain, made = decoder(PLAIN[kind]), pairs.marked(decoder(PLAIN[kind]), "card", "<end>")
    text = "cat house  water"
    assert made(text, return_offsets_mapping=True) == plain(text, return_offsets_mapping=True)
    found = pairs.encode(made, ["cat"], [text], return_offsets_mapping=True)
    spans = [
        offset for offset, side in zip(found["offset_mapping"][0], found.sequence_ids(0), strict=True) if side == 1
    ]
    assert spans == plain(text, return_offsets_mapping=True, add_special_tokens=False)["offset_mapping"]


PIECES = st.lists(
    st.sampled_from(["cat", " house", "wa", "ter", " ", "<end>", "<s>", "<en", "d>", "水", "e\u0301", "\n"])
)
TEXT = PIECES.map("".join) | st.text(max_size=8)
SEPARATED = pairs.marked(decoder(), "card", "<end>")


@settings(max_examples=400, deadline=None)
@drawn(TEXT, TEXT, st.data())
def test_different_pairs_have_different_ids(first, second, data):
    """Also where the texts spell the separator: the same characters, parted elsewhere."""
    whole = first + second
    cut = data.draw(st.integers(0, len(whole)))
    other = whole[:cut], whole[cut:]
    ids = pairs.encode(SEPARATED, [first, other[0]], [second, other[1]])["input_ids"]
    assert (ids[0] == ids[1]) == (other == (first, second))
    assert ids[0].count(1) == 1 and 0 not in ids[0]
    border = ids[0].index(1)
    assert (SEPARATED.decode(ids[0][:border]), SEPARATED.decode(ids[0][border + 1 :])) == (first, second)


@pytest.mark.parametrize("kind", OWN)
def test_a_tokenizer_s_own_pair_encoding_is_the_library_s(kind):
    tokenizer = decoder(OWN[kind])
    sides = [*zip(*ALIKE, strict=True)]
    assert pairs.encode(tokenizer, *sides)["input_ids"] == tokenizer(*map(list, sides))["input_ids"]


def test_the_ladder_s_pair_encoding_is_that_of_xlm_r(e5):
    tokenizer = ladder.tokenizer(e5)
    found = pairs.encode(tokenizer, ["cat house"], ["water book"])["input_ids"][0]
    alone = [tokenizer(text, add_special_tokens=False)["input_ids"] for text in ("cat house", "water book")]
    assert found == [0, *alone[0], 2, 2, *alone[1], 2]


def test_a_separator_is_one_of_the_special_tokens():
    for separator in ("\n", "", "cat", "</s>"):
        with pytest.raises(
            XlscaleError, match=re.escape(f"card x: separator: expected one of <s>, <end>, got {separator!r}")
        ):
            pairs.marked(decoder(), "card x", separator)
    with pytest.raises(XlscaleError, match="puts the token that begins an input between"):
        pairs.encode(pairs.marked(decoder(PLAIN["begins"]), "card", "<s>"), ["a"], ["b"])


CHOICES = [{"text": "cat house", "choices": ["water book", "book"], "answer": 0}]
QUESTIONS = [{"question": "cat", "context": "house water book " * 30, "answers": ["water"], "answer_starts": [6]}]
SECONDS = [{"text": "cat house", "second": "water book", "label": "neutral"}]


def known(name):
    return documented(name) if name == "xnli" else data_card(name)


@pytest.mark.parametrize(("name", "rows"), [("social_iqa", CHOICES), ("squad_v1", QUESTIONS), ("xnli", SECONDS)])
def test_every_family_of_pairs_marks_the_border_or_refuses(name, rows):
    task, given = tasks.of(known(name)), Dataset.from_list(rows)
    encoded = task.encode(given, SEPARATED, "prefix ", 64)
    for i in range(len(encoded)):
        ids = encoded.ids_of(i).tolist()
        assert ids.count(1) == 1 and SEPARATED.decode(ids[: ids.index(1)]) == rows[0].get("question", "cat house")
    with pytest.raises(XlscaleError, match="separator: expected a special token such as '<end>'"):
        task.encode(given, decoder(), "prefix ", 64)


def test_windows_point_at_the_context_behind_the_separator():
    encoded = tasks.of(data_card("squad_v1")).encode(Dataset.from_list(QUESTIONS), SEPARATED, "", 64)
    start, end = (int(encoded.targets[side][0]) for side in ("start", "end"))
    spans = encoded.spans_of(0)
    assert QUESTIONS[0]["context"][spans[start, 0] : spans[end, 1]].strip() == "water"
    assert len(encoded) > 1 and encoded.lengths.max() <= 64


@pytest.fixture
def tiny(given) -> ModelCard:
    source = {"kind": "hub", "repository": "xlscale-fixtures/tiny-decoder", "schema_read": "tests"}
    names = {"name": "tiny_decoder", "title": "tiny", "reader": "hf", "rungs": [1], "prefix": "", "source": source}
    names |= {"attention": "causal", "end": "<end>"}
    made = parse(ModelCard, names | dict.fromkeys(("licence", "origin", "trained_on"), ""), "card")
    ensure.fetch(made)
    return made


def test_a_decoder_beside_a_set_of_pairs_is_refused_before_anything_runs(tiny):
    ensure.fetch(data_card("xnli"))
    single, paired = data_card("udhr"), [data_card(name) for name in ("social_iqa", "squad_v1", "xnli")]
    ensure.ensure([single], [tiny])
    for card in paired:
        with pytest.raises(XlscaleError, match="card tiny_decoder: separator: expected a special token"):
            ensure.ensure([single, card], [tiny])
    ensure.ensure(paired, [tiny.model_copy(update={"separator": "<end>"})])


def test_the_separator_is_part_of_the_identity_where_there_is_one(monkeypatch):
    card = cells.model_card("e5_small")
    values = {"model": "e5_small", "layers": 2}
    plain = cells.make("pretrained", values)
    assert "separator" not in dict(plain.reads)
    found = set()
    for separator in ("</s>", "<s>"):
        stated = card.model_copy(update={"separator": separator})
        monkeypatch.setattr(cells, "model_card", lambda name, stated=stated: stated)
        found.add(cells.make("pretrained", values).id)
    assert len(found | {plain.id}) == 3


def test_a_text_that_spells_the_mark_between_two_texts_is_refused(e5):
    own = ladder.tokenizer(e5)
    assert own("cat</s></s>house", "water")["input_ids"] == own("cat", "house</s></s>water")["input_ids"]
    for first, second in (("cat</s></s>house", "water"), ("cat", "house</s></s>water"), ("<s>", "cat")):
        with pytest.raises(
            XlscaleError, match=r"expected no text that spells '</?s>', which marks where one ends, got"
        ):
            pairs.encode(own, [first], [second])
    pairs.encode(own, ["<pad> [SEP] <mask>"], ["< /s>"])  # these mark nothing, and "<end>" not where it is text:
    split = pairs.marked(decoder(), "x", "<end>")
    one, other = (pairs.encode(split, *pair)["input_ids"] for pair in ((["a<end>b"], ["c"]), (["a"], ["b<end>c"])))
    assert one != other
