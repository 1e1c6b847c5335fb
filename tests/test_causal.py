"""Models in which a token has seen only what comes before it: where their tasks read, and that they can be learnt."""

import numpy as np
import pytest
import torch
from conftest import recipe
from datasets import Dataset

from xlscale import tasks
from xlscale.acquire import ensure
from xlscale.cards import catalogue
from xlscale.cards.catalogue import data_card, documented
from xlscale.cards.schema import ModelCard
from xlscale.core.files import XlscaleError
from xlscale.core.strict import parse
from xlscale.data.batches import Encoded, collate
from xlscale.experiment import cells
from xlscale.models import ladder, pairs
from xlscale.tasks.tagging import ABSENT, IGNORED
from xlscale.training import evaluate, loop
from xlscale.training.backends.cpu import CPU
from xlscale.training.model import Model

DECODERS = ["qwen2.5", "llama-3.1", "gemma-3"]
END = 0  # id of "<end>"
LAST = "abcd"  # letters that the words of a made-up tagging task end in


@pytest.fixture(params=DECODERS)
def card(request, layout) -> ModelCard:
    return layout(request.param)


def model(card: ModelCard, task, head=True) -> Model:
    encoder = ladder.load(card, 2)
    made = task.head(encoder.config.hidden_size, torch.Generator().manual_seed(1)) if head else None
    return Model(encoder, CPU("float32"), task, made)


def outputs(model: Model, encoded: Encoded) -> torch.Tensor:
    with torch.inference_mode():
        return model.outputs(collate(encoded, np.arange(len(encoded)), 0))


def states(model: Model, encoded: Encoded, i: int = 0) -> torch.Tensor:
    with torch.inference_mode():
        return model.hidden_states(collate(encoded, np.array([i]), 0))[0]


def tagged(texts: list[str]) -> Dataset:
    """Rows of which a word's tag is its last letter."""
    rows = [{"text": text, "tokens": text.split(), "tags": [w[-1] for w in text.split()]} for text in texts]
    columns = {"language": "en", "item": "1", "group": "1"}
    return Dataset.from_list([row | columns for row in rows])


def letters():
    return documented("udpos").model_copy(update={"labels": [*LAST], "tags": "plain"})


def words(rows: int, seed: int) -> list[str]:
    generator = np.random.default_rng(seed)
    beginnings = ["".join(generator.choice([*"mnopqrs"], 3)) for _ in range(rows * 6)]
    found = [beginning + generator.choice([*LAST]) for beginning in beginnings]
    return [" ".join(found[i : i + 6]) for i in range(0, len(found), 6)]


@pytest.mark.parametrize("name", DECODERS)
def test_a_tag_that_a_word_s_last_letter_tells_is_learnt(layout, name):
    """At a word's first subword nobody can know it; chance is a quarter."""
    card = layout(name)
    task = tasks.of(letters(), card)
    train, test = tagged(words(200, 1)), tagged(words(40, 2))
    encoded = [task.encode(rows, ladder.tokenizer(card), "", 64) for rows in (train, test)]
    made = model(card, task)
    steps = recipe(examples=200, epochs=8, learning_rate=1e-2, batch_size=16, max_length=64)
    loop.finetune(made, encoded[0], steps, np.random.default_rng(1))
    found = task.predictions(test, encoded[1], evaluate.run(made, encoded[1]))
    assert found["matches"].sum() / found["spans"].sum() > 0.95


def test_a_word_is_read_at_its_last_subword(card):
    texts = ["cat watermelon 水猫b", "gatos 水c x é́d"]
    tokenizer = ladder.tokenizer(card)
    encoded = tasks.of(letters(), card).encode(tagged(texts), tokenizer, "", 64)
    for i, text in enumerate(texts):
        positions = encoded.targets["position"][i]
        seen = [
            tokenizer.decode(encoded.ids_of(i)[: p + 1], skip_special_tokens=True) for p in positions if p != ABSENT
        ]
        assert seen == [" ".join(text.split()[: n + 1]) for n in range(len(text.split()))]


def test_a_word_that_does_not_fit_whole_has_no_place(card):
    task, tokenizer = tasks.of(letters(), card), ladder.tokenizer(card)
    text = "mno pqrsmnopqrsc"
    whole = task.encode(tagged([text]), tokenizer, "", 64)
    length = int(whole.lengths[0])
    assert (whole.targets["position"] != ABSENT).all()
    cut = task.encode(tagged([text]), tokenizer, "", length - 1)
    assert cut.lengths[0] == length - 1 and cut.ids_of(0)[-1] == END
    assert cut.targets["position"][0, 0] == whole.targets["position"][0, 0] and cut.targets["position"][0, 1] == ABSENT
    assert cut.targets["tag"][0].tolist()[1] == IGNORED


def test_a_token_s_logits_do_not_change_when_later_text_does(card):
    task, tokenizer = tasks.of(letters(), card), ladder.tokenizer(card)
    encoded = task.encode(tagged(["mnoa pqrb cat house", "mnoa pqrb gato agua libro kat"]), tokenizer, "", 64)
    same = int(encoded.targets["position"][0, 1]) + 1
    assert encoded.ids_of(0)[:same].tolist() == encoded.ids_of(1)[:same].tolist()
    one, other = outputs(model(card, task), encoded)
    torch.testing.assert_close(one[:same], other[:same], atol=1e-5, rtol=1e-4)
    assert not torch.allclose(one[same : same + 2], other[same : same + 2], atol=1e-3)


def asked(context: str, answer: str = "") -> dict:
    found = {"answers": [answer] if answer else [], "answer_starts": [context.index(answer)] if answer else []}
    named = {"language": "en", "item": context, "group": context}
    return {"question": "what is it?", "context": context} | found | named


def test_no_answer_is_told_by_a_state_that_has_seen_the_context(card):
    task = tasks.of(documented("squad_v2"), card)
    contexts = ["cat house water", "gato agua libro book", "cat house water book tree"]
    rows = Dataset.from_list([asked(contexts[0]), asked(contexts[1]), asked(contexts[2], "water")])
    encoded = task.encode(rows, ladder.tokenizer(card), "", 64)
    places = [encoded.targets["start"][i] for i in range(2)]
    assert places == [*(encoded.lengths[:2] - 1)] == [encoded.targets["end"][i] for i in range(2)]
    assert all(encoded.ids_of(i)[place] == END for i, place in enumerate(places))
    made = model(card, task)
    (first, second), beginnings = (
        [states(made, encoded, i)[place] for i, place in enumerate(where)] for where in (places, [0, 0])
    )
    assert (first - second).abs().max() > 1e-3
    assert torch.equal(*beginnings)  # which is what it would be told by at the first token, as an encoder's is


def test_no_answer_is_predicted_from_the_closing_token_and_dealt_out_to_it(card):
    task = tasks.of(documented("squad_v2"), card)
    rows = Dataset.from_list([asked("cat house water"), asked("gato agua libro book", "agua")] * 5)
    encoded = task.encode(rows, ladder.tokenizer(card), "", 64)
    for height, empty in ((99.0, True), (-99.0, False)):
        logits = [np.zeros((length, 2), np.float32) for length in encoded.lengths]
        for one in logits:
            one[-1] = height
        found = task.predictions(rows, encoded, logits)
        spans = [
            task.answer(prediction, context)
            for prediction, context in zip(found["prediction"], rows["context"], strict=True)
        ]
        assert [text == "" for text in spans] == [empty] * len(rows)
    dealt = task.shuffled(encoded, np.random.default_rng(1))
    none = dealt.targets["start"] == dealt.lengths - 1
    assert none.sum() == 5 and (dealt.targets["end"][none] == dealt.lengths[none] - 1).all()
    assert (none != (encoded.targets["start"] == encoded.lengths - 1)).any()
    for i in np.flatnonzero(~none):
        assert (dealt.spans_of(i)[dealt.targets["start"][i] : dealt.targets["end"][i] + 1, 0] >= 0).all()
    batch = collate(dealt, np.arange(len(dealt)), 0)
    made = model(card, task)
    assert torch.isfinite(task.loss(made.outputs(batch), batch))
    assert all(np.isfinite(one).all() for one in evaluate.run(made, encoded))


def test_a_text_s_vector_is_the_mean_without_the_token_that_begins_it_or_the_last_state(card):
    rows = Dataset.from_list([{"text": "cat house"}, {"text": "gato casa agua libro kat"}])
    for pooling in ("mean", "last"):
        task = tasks.of(data_card("udhr"), card.model_copy(update={"pooling": pooling}))
        encoded = task.encode(rows, ladder.tokenizer(card), "", 64)
        made = model(card, task, head=False)
        begins = 0 if card.title == "qwen2.5" else 1
        assert all((encoded.ids_of(i)[0] == 1) == bool(begins) and encoded.ids_of(i)[-1] == END for i in range(2))
        for i, found in enumerate(outputs(made, encoded)):
            own = states(made, encoded, i)
            expected = own[begins:].mean(0) if pooling == "mean" else own[-1]
            torch.testing.assert_close(found, expected / expected.norm(), atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("name", ["xlm-r", "mmbert"])
def test_an_encoder_s_mean_is_over_all_tokens_whatever_the_model_begins_with(layout, name):
    card = layout(name)
    task = tasks.of(data_card("udhr"), card)
    encoded = task.encode(Dataset.from_list([{"text": "cat house"}]), ladder.tokenizer(card), "", 64)
    made = model(card, task, head=False)
    expected = states(made, encoded).mean(0)
    torch.testing.assert_close(outputs(made, encoded)[0], expected / expected.norm(), atol=1e-5, rtol=1e-4)


def test_every_input_is_closed_once(card):
    tokenizer = ladder.tokenizer(card)
    begins = [] if card.title == "qwen2.5" else [1]
    plain = [tokenizer(text, add_special_tokens=False)["input_ids"] for text in ("cat house", "water <end>")]
    assert tokenizer("water <end>")["input_ids"] == [*begins, *plain[1], END]
    assert pairs.encode(tokenizer, ["cat house"], ["water <end>"])["input_ids"][0] == [
        *begins, *plain[0], END, *plain[1], END,
    ]  # fmt: skip
    assert END not in plain[1]  # where a text spells it, it is text
    again = pairs.marked(tokenizer, "card", end="<end>")
    assert again("cat house")["input_ids"] == [*begins, *plain[0], END]
    cut = tokenizer("cat house water book tree", truncation=True, max_length=4)["input_ids"]
    assert len(cut) == 4 and cut[-1] == END


def test_an_end_is_a_special_token(layout):
    with pytest.raises(XlscaleError, match=r"card qwen2_5: end: expected one of <end>, got '</s>'"):
        ladder.tokenizer(layout("qwen2.5", end="</s>"))


def test_a_card_says_how_its_model_attends(layout):
    with pytest.raises(XlscaleError, match="attention: expected causal, as that of Qwen2Model, got bidirectional"):
        layout("qwen2.5", attention="bidirectional")
    assert catalogue.lock("qwen2_5") is None  # known before weights are downloaded
    right = layout("xlm-r")
    wrong = right.model_copy(update={"attention": "causal", "end": "</s>"})
    for use in (lambda: ladder.load(wrong, 1), lambda: ladder.empty(wrong, 1)):
        with pytest.raises(XlscaleError, match="attention: expected bidirectional, as that of XLMRobertaModel"):
            use()
    values = right.model_dump() | {"attention": "causal"}
    with pytest.raises(XlscaleError, match="end: expected the token that closes an input, where attention is causal"):
        parse(ModelCard, values, "card")
    packaged = catalogue.model_card("e5_small").model_dump() | {"attention": "causal", "end": "</s>"}
    with pytest.raises(XlscaleError, match="attention: expected bidirectional of a packaged model"):
        parse(ModelCard, packaged, "card")


def test_how_a_model_reads_is_part_of_the_identity_where_it_is_not_as_before(monkeypatch):
    card = cells.model_card("e5_small")
    plain = cells.make("pretrained", {"model": "e5_small", "layers": 2})
    assert not {"attention", "pooling", "end"} & {*dict(plain.reads)}
    stated = [{"attention": "bidirectional", "pooling": "mean", "end": None}, {"attention": "causal"}]
    stated += [{"pooling": "last"}, {"end": "</s>"}, {"end": "<s>"}, {"separator": "</s>"}]
    ids = []
    for fields in stated:
        monkeypatch.setattr(cells, "model_card", lambda name, fields=fields: card.model_copy(update=fields))
        ids.append(cells.make("pretrained", {"model": "e5_small", "layers": 2}).id)
    assert ids[0] == plain.id and len({*ids}) == len(ids)


def test_a_decoder_is_ready_for_pairs(card):
    ensure.ensure([data_card("social_iqa"), data_card("squad_v1")], [card])
