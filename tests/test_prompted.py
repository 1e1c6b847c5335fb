"""Prompting what a cell left: which weights the language model has, what goes wrong outside, and the real harness."""

import json
import os
import shutil
import signal
import subprocess
import sys
from functools import cache
from hashlib import sha256
from importlib.util import find_spec

import pytest
import torch
from conftest import FIXTURES, wait
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, AutoTokenizer

from xlscale.cards import catalogue
from xlscale.commands import look, prompt
from xlscale.core.files import XlscaleError, read_json, write_json
from xlscale.engine import harness, left, phase, processes, runner
from xlscale.experiment import cells
from xlscale.experiment.results import CHECKPOINT
from xlscale.models import hub_files, language_model
from xlscale.training.methods.full import Full
from xlscale.training.methods.lora import LoRA

sys.path.append(str(FIXTURES))
import phases

HERE = torch.device("cpu")
IDS = torch.tensor([[5, 6, 7, 8, 9, 2], [5, 7, 9, 8, 6, 2]])
ADAPTERS = {"rank": 4, "alpha": 12.0, "adapted": "linear"}
METHODS = {"full": {}, "lora": ADAPTERS, "qlora": ADAPTERS}
TRAINED = {"examples": 24, "max_length": 16, "batch_size": 8, "epochs": 2, "learning_rate": 2e-2, "test_items": 4}
DECODERS = ["qwen2.5", "llama-3.1", "gemma-3"]


@pytest.fixture
def runs(tmp_path, monkeypatch):
    for module in (cells, runner, look, phase):
        monkeypatch.setattr(module, "RUNS", tmp_path / "runs")
    return tmp_path / "runs"


@pytest.fixture
def known(layout, runs, monkeypatch):
    """``layout``, and the catalogue has the card."""

    def card(name, **fields):
        found, load = layout(name, **fields), catalogue._load
        monkeypatch.setattr(
            catalogue, "_load", cache(lambda kind, folder, one: found if one == found.name else load(kind, folder, one))
        )
        catalogue.clear_caches()
        return found

    return card


def _made(card, method="lora", layers=2, **values) -> cells.Cell:
    own = {"method": method} | METHODS[method] | TRAINED | values
    chosen = {"model": card.name, "layers": layers, "intermediate": "vitaminc", "placebo": False, "seed": 1}
    flat = {f"intermediate_{name}": value for name, value in own.items()}
    return cells.make("intermediate", chosen | {"precision": "float32"} | flat)


def _run(cell: cells.Cell) -> cells.Cell:
    """The cell, run by the code of its notebook."""
    phases.complete(cell)
    return cell


def _tensors(folder) -> dict[str, torch.Tensor]:
    return {name: one for file in hub_files.weights(folder) for name, one in load_file(folder / file).items()}


def _loaded(folder):
    call = {"dtype": torch.float32, "attn_implementation": "eager", "local_files_only": True}
    model, report = AutoModelForCausalLM.from_pretrained(folder, output_loading_info=True, **call)
    assert not any(report[kind] for kind in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    return model.eval()


def _logits(model) -> torch.Tensor:
    with torch.no_grad():
        return model(input_ids=IDS, attention_mask=torch.ones_like(IDS)).logits


def _beside(card, cell) -> tuple[torch.nn.Module, torch.Tensor]:
    """The encoder as it was left, adapters beside the published weights, and its logits by the published head."""
    recipe, method = (
        cell.parameters.recipe("intermediate"),
        Full() if cell.parameters.intermediate_method == "full" else LoRA(),
    )
    encoder = method.load(card, 2, HERE, recipe, cell.folder / CHECKPOINT).float()
    head = _loaded(hub_files.checked(card)).lm_head
    with torch.no_grad():
        return encoder, head(encoder(input_ids=IDS, attention_mask=torch.ones_like(IDS)).last_hidden_state)


@pytest.mark.again
@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("name", DECODERS)
def test_logits_are_those_of_the_trained_encoder_and_the_published_head(known, tmp_path, name, method):
    card = known(name)
    cell = _run(_made(card, method))
    left.write(cell, tmp_path / "model")
    found, published = _logits(_loaded(tmp_path / "model")), _logits(_loaded(hub_files.checked(card)))
    _, expected = _beside(card, cell)
    moved = (expected - published).abs().max()
    if method == "full":
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)
    else:  # merged weights are rounded to the published type
        assert (found - expected).abs().max() < 0.1 * moved
    assert moved > 0.1 * published.abs().max()


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("name", DECODERS)
def test_what_was_trained_is_replaced_and_all_else_is_as_published_bit_for_bit(known, tmp_path, name, method):
    card = known(name)
    cell = _run(_made(card, method))
    source = hub_files.checked(card)
    before = {path.name: sha256(path.read_bytes()).hexdigest() for path in source.iterdir()}
    said = left.write(cell, tmp_path / "model")
    assert before == {path.name: sha256(path.read_bytes()).hexdigest() for path in source.iterdir()}
    assert ("four bits" in said, "trained weights" in said) == (method == "qlora", method == "full")
    published, found = _tensors(source), _tensors(tmp_path / "model")
    assert published.keys() == found.keys()
    weights = hub_files.weights(source)
    assert [load_file(source / one).keys() for one in weights] == [
        load_file(tmp_path / "model" / one).keys() for one in weights
    ]
    assert {one.name for one in (tmp_path / "model").iterdir()} == hub_files.files(source).keys()
    for one in hub_files.files(source).keys() - {*weights, hub_files.INDEX}:
        assert (tmp_path / "model" / one).read_bytes() == (source / one).read_bytes()
    checkpoint = {one.removeprefix("model."): tensor for one, tensor in load_file(cell.folder / CHECKPOINT).items()}
    trained = {one.partition(".lora_")[0] + ".weight" if ".lora_" in one else one for one in checkpoint}
    kept = 0
    for place, tensor in found.items():
        own = place.removeprefix("model.").removeprefix("language_model.").removeprefix("model.")
        if own not in trained or "vision" in place:
            kept += torch.equal(tensor, published[place]) and tensor.dtype == published[place].dtype
        elif method == "full":
            assert torch.equal(tensor, checkpoint[own])
        else:
            stem = own.removesuffix(".weight")
            product = checkpoint[f"{stem}.lora_B.default.weight"] @ checkpoint[f"{stem}.lora_A.default.weight"]
            merged = published[place].float() + product * (ADAPTERS["alpha"] / ADAPTERS["rank"])
            assert torch.equal(tensor, merged.to(published[place].dtype)), place
            assert not torch.equal(tensor, published[place])
    assert kept == len(found) - len(trained) > 0
    assert all(torch.equal(found[one], published[one]) for one in found if "lm_head" in one)


def test_a_file_in_which_nothing_was_trained_is_a_link(known, tmp_path):
    card = known("llama-3.1")
    cell = _run(cells.make("pretrained", {"model": card.name, "layers": 2}))
    assert left.write(cell, tmp_path / "model") == left.PUBLISHED
    weights = hub_files.weights(tmp_path / "model")
    assert len(weights) > 1 and all((tmp_path / "model" / one).is_symlink() for one in weights)
    assert torch.equal(_logits(_loaded(tmp_path / "model")), _logits(_loaded(hub_files.checked(card))))


@pytest.mark.parametrize("twice", [False, True])
def test_a_head_that_shares_the_word_embeddings_shares_the_trained_ones(known, tmp_path, monkeypatch, twice):
    """Also where the published file has it once more, as some do."""
    card = known("qwen2.5")
    cell = _run(_made(card, "full", frozen="nothing"))
    source = shutil.copytree(hub_files.checked(card), tmp_path / "published")
    if twice:
        index = read_json(source / hub_files.INDEX)
        file = source / index["weight_map"]["model.embed_tokens.weight"]
        tensors = load_file(file)
        save_file(tensors | {"lm_head.weight": tensors["model.embed_tokens.weight"].clone()}, file, {"format": "pt"})
        index["weight_map"]["lm_head.weight"] = file.name
        write_json(source / hub_files.INDEX, index)
    monkeypatch.setattr(language_model, "checked", lambda _: source)
    left.write(cell, tmp_path / "model")
    model = _loaded(tmp_path / "model")
    words = load_file(cell.folder / CHECKPOINT)["model.embed_tokens.weight"]
    assert torch.equal(model.lm_head.weight, words) and model.lm_head.weight is model.model.embed_tokens.weight
    assert not torch.equal(words, _loaded(source).lm_head.weight)


def test_the_index_says_how_large_the_model_is(known, tmp_path):
    card = known("llama-3.1")
    left.write(_run(_made(card, "full")), tmp_path / "model")
    stated = read_json(tmp_path / "model" / hub_files.INDEX)["metadata"]["total_size"]
    assert stated == sum(tensor.nbytes for tensor in _tensors(tmp_path / "model").values())


def _asked(cell, **values) -> str:
    call = {"shots": None, "limit": None, "batch": 4, "include": "", "fetch": False, "keep": False}
    return prompt.prompt(cell.id, values.pop("tasks", ["tiny_sw"]), **call | values)


@pytest.fixture
def without(monkeypatch):
    """No harness is needed for what is refused before it."""
    monkeypatch.setattr(harness, "installed", lambda: "0")
    monkeypatch.setattr(harness, "check", lambda *_: None)


def test_what_has_no_language_model_is_refused(known, without, target_values):
    with pytest.raises(XlscaleError, match="model xlm_r: expected a decoder, which has an LM head, got an encoder"):
        left.check(_made(known("xlm-r")))
    card = known("qwen2.5")
    with pytest.raises(XlscaleError, match=r"model qwen2_5: layers: expected all 2, since .*, got 1"):
        left.check(_made(card, layers=1))
    cell = _made(card)
    with pytest.raises(XlscaleError, match=f"{cell.id}: expected a cell that has been run here; run `make cell ID="):
        left.check(cell)
    target = cells.make("target", target_values | {"model": card.name, "intermediate": "none"})
    with pytest.raises(XlscaleError, match=r"expected a pretrained or an intermediate cell, .* got a target"):
        left.check(target)
    _run(cell)
    (cell.folder / CHECKPOINT).unlink()
    with pytest.raises(XlscaleError, match=r"checkpoint.safetensors: expected what the cell left, found nothing"):
        left.check(cell)


def test_a_folder_without_an_lm_head_is_refused(known, tmp_path, monkeypatch):
    card = known("llama-3.1")
    source = shutil.copytree(hub_files.checked(card), tmp_path / "published")
    tensors = {name: one for name, one in _tensors(source).items() if name != "lm_head.weight"}
    for file in (*hub_files.weights(source), hub_files.INDEX):
        (source / file).unlink()
    save_file(tensors, source / hub_files.WEIGHTS, {"format": "pt"})
    monkeypatch.setattr(language_model, "checked", lambda _: source)
    with pytest.raises(XlscaleError, match=r"lm_head.weight: expected a model with its LM head"):
        left.check(_made(card))


def test_a_disk_without_room_is_told_before_anything_is_written(known, tmp_path, monkeypatch):
    cell = _run(_made(known("qwen2.5")))
    monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(10**6, 10**6 - 10, 10))
    with pytest.raises(XlscaleError, match=r"model: expected 0\.\d GB free on this disk, got 0\.0 GB"):
        left.write(cell, tmp_path / "model")
    assert not (tmp_path / "model").exists()


def test_a_weight_without_a_place_is_told(known, tmp_path):
    with pytest.raises(XlscaleError, match="extra.weight: expected a tensor of this name"):
        language_model.write(known("qwen2.5"), tmp_path / "model", {"extra.weight": torch.zeros(2)}, True)


def test_who_has_not_installed_the_harness_is_told_how(monkeypatch):
    monkeypatch.setattr(harness, "PACKAGE", "xlscale-no-such-package")
    with pytest.raises(XlscaleError, match=r"not installed; run `.venv/bin/pip install -e '.\[prompted\]'`"):
        prompt.prompt("x", ["xnli_sw"], None, None, 8, "", False, False)


@pytest.mark.parametrize("name", ["/etc/passwd", "../x", "a*", "mine.yaml", "--model", ""])
def test_what_is_no_name_of_a_task_is_refused(name):
    with pytest.raises(XlscaleError, match="--tasks: expected names of tasks of lm_eval, got"):
        harness.check(["xnli_sw", name], None)


HASH = "0" * 64
WRITTEN = {
    "results": {
        "tiny_sw": {"alias": "tiny", "sample_len": 4, "acc,none": 0.75, "acc_stderr,none": 0.25},
        "mt": {"alias": "mt", "bleu,none": 31.5, "bleu_stderr,none": "N/A"},
        "both": {"alias": "both", "acc,none": 0.5},
    },
    "group_subtasks": {"both": ["tiny_sw", "mt"]},
    "versions": {"tiny_sw": 1.0, "mt": "2", "both": None},
    "n-shot": {"tiny_sw": 3, "mt": 0, "both": 0},
    "n-samples": {"tiny_sw": {"original": 9, "effective": 4}, "mt": {"original": 3, "effective": 3}},
    "task_hashes": {"tiny_sw": HASH, "mt": HASH},
    "config": {"model_dtype": "torch.float32", "model_num_parameters": 1234, "device": "cpu"}
    | {f"{name}_seed": 0 for name in ("random", "numpy", "torch", "fewshot")},
    "lm_eval_version": "0",
}


@pytest.fixture
def pretended(known, without, monkeypatch, tmp_path):
    """``pretended(code)``: the harness is a program of ours, which has the model before it, ``W`` and ``write``."""
    lead = f"""import json, os, sys
from pathlib import Path
W = json.loads({json.dumps(json.dumps(WRITTEN))})
assert (Path("model") / "config.json").exists() and "trust_remote_code" not in str(sys.argv)
assert os.environ["HF_HUB_OFFLINE"] == os.environ["HF_DATASETS_OFFLINE"] == "1"
def write(text):
    Path("output/model").mkdir(parents=True)
    Path("output/model/results_2026.json").write_text(text)
"""

    def stub(code):
        (tmp_path / "stub.py").write_text(lead + code)
        monkeypatch.setattr(harness, "_command", lambda *given: [sys.executable, str(tmp_path / "stub.py"), *given])

    cell = _run(_made(known("qwen2.5")))
    return cell, stub


@pytest.mark.parametrize(
    ("code", "line"),
    [
        (
            "raise ValueError('no such\\n\\nthing')",
            r"lm_eval: ended with code 1 \(thing\); all that it said: .*log.txt",
        ),
        ("import os; print('so far'); sys.stdout.flush(); os.kill(os.getpid(), 9)", r"ended with code -9 \(so far\)"),
        ("", r"wrote no results \(it said nothing\)"),
        ("write('{')", "not valid JSON"),
        ('write(\'{"results": {}, "results": {}}\')', "not valid JSON"),
        ("write('[]')", "results_2026.json: "),
        ("del W['n-samples']['mt']; write(json.dumps(W))", "n-samples: expected mt among them"),
        ("del W['task_hashes']; write(json.dumps(W))", "task_hashes: Field required"),
        ("W['n-shot']['mt'] = -1; write(json.dumps(W))", "n-shot.mt: Input should be greater than or equal to 0"),
        ("W['results']['mt'] = {'alias': 'mt'}; write(json.dumps(W))", "mt: expected a metric, got alias"),
        ("W['results']['mt']['bleu,none'] = 'x'; write(json.dumps(W))", "bleu,none: value: Input should be a valid"),
        ("W['config']['model_dtype'] = 'torch.int8'; write(json.dumps(W))", "expected torch.float32, got 'torch.int8'"),
    ],
)
def test_a_fault_outside_is_one_line_and_leaves_the_cell_as_it_was(pretended, code, line):
    cell, stub = pretended
    stub(code)
    before = {path.name for path in cell.folder.iterdir()}
    with pytest.raises(XlscaleError, match=line) as error:
        _asked(cell)
    assert len(str(error.value).splitlines()) == 1
    assert {path.name for path in cell.folder.iterdir()} - before <= {"prompted", ".prompted.lock"}
    assert not (cell.folder / "prompted" / "model").exists() and (cell.folder / "prompted" / harness.LOG).exists()


def test_who_is_asked_to_end_takes_the_harness_along(pretended, monkeypatch):
    cell, stub = pretended
    stub("Path('pid').write_text(str(os.getpid())); os.kill(os.getppid(), 15); import time; time.sleep(300)")
    before = signal.getsignal(signal.SIGTERM)
    try:
        with pytest.raises(SystemExit) as ended:
            _asked(cell)
    finally:
        signal.signal(signal.SIGTERM, before)
    assert ended.value.code == processes.TERMINATED
    assert processes.ended(int((cell.folder / "prompted" / "pid").read_text()))
    assert not (cell.folder / "prompted" / "model").exists()


def test_whoever_kills_the_command_takes_the_harness_along(tmp_path):
    (tmp_path / "lm_eval").mkdir()
    work = "import os, sys, time, pathlib; pathlib.Path(sys.argv[1]).write_text(str(os.getpid())); time.sleep(300)"
    (tmp_path / "lm_eval" / "__main__.py").write_text(work)
    (tmp_path / "lm_eval" / "__init__.py").touch()
    code = "import subprocess, sys; from xlscale.engine import harness; "
    code += "subprocess.run(harness._command(sys.argv[1]), env=harness._environment(False))"
    command = [sys.executable, "-c", code, str(tmp_path / "pid")]
    process = subprocess.Popen(command, env=os.environ | {"PYTHONPATH": str(tmp_path)})
    wait(lambda: (tmp_path / "pid").exists() and (tmp_path / "pid").read_text())
    harness_ = int((tmp_path / "pid").read_text())
    process.kill()
    process.wait()
    wait(lambda: processes.ended(harness_))


def test_a_metric_that_is_not_finite_is_left_out_and_the_others_are_kept(pretended, capsys):
    cell, stub = pretended
    stub("write(json.dumps(W).replace('0.75', 'NaN').replace('0.25', 'Infinity'))")
    _asked(cell)
    assert "left out: tiny_sw: acc,none: expected a finite number\n" in capsys.readouterr().out
    (run,) = read_json(cell.folder / prompt.PROMPTED)["runs"]
    assert [score["asked"] for score in run["scores"]] == ["mt"]


def test_the_same_task_in_other_words_is_another_run(pretended):
    cell, stub = pretended
    for one in ("0", "1", "1"):
        stub(f"W['task_hashes']['mt'] = '{one}' * 64; write(json.dumps(W))")
        _asked(cell)
    runs = read_json(cell.folder / prompt.PROMPTED)["runs"]
    assert [run["scores"][1]["prompts_sha256"][0] for run in runs] == ["0", "1"]


def test_what_is_kept_says_how_each_task_was_asked(pretended):
    cell, stub = pretended
    stub("write(json.dumps(W))")
    said = _asked(cell, shots=3)
    found = read_json(cell.folder / prompt.PROMPTED)
    (run,) = found["runs"]
    assert (found["cell"], found["model"]) == (cell.id, "qwen2_5")
    assert run["asked"]["shots"] == 3 and run["harness"] == "lm_eval 0" and run["weights"] == left.MERGED
    common = {"prompts_sha256": HASH}
    assert run["scores"] == [
        {"asked": "tiny_sw", "version": "1.0", "task": "tiny", "language": "sw", "regime": "few-shot-3"}
        | {"metric": "acc (fraction, lm-eval-harness)", "value": 0.75, "stderr": 0.25, "items": 4}
        | common,
        {"asked": "mt", "version": "2", "task": "mt", "language": "", "regime": "zero-shot-prompted"}
        | {"metric": "bleu (lm-eval-harness)", "value": 31.5, "stderr": None, "items": 3}
        | common,
    ]
    lines = said.splitlines()
    assert lines[1].split() == [
        "tiny",
        "sw",
        "few-shot-3",
        "acc",
        "(fraction,",
        "lm-eval-harness)",
        *["0.7500", "0.2500", "4"],
    ]
    assert not (cell.folder / "prompted").exists()


def test_another_way_of_asking_is_kept_beside_and_the_same_replaced(pretended):
    cell, stub = pretended
    stub("write(json.dumps(W))")
    _asked(cell)
    _asked(cell, tasks=["tiny_sw,mt", "mt"], keep=True)
    stub("write(json.dumps(W).replace('0.75', '0.5'))")
    _asked(cell)
    runs = read_json(cell.folder / prompt.PROMPTED)["runs"]
    assert [run["asked"]["tasks"] for run in runs] == [["tiny_sw", "mt"], ["tiny_sw"]]
    assert [run["scores"][0]["value"] for run in runs] == [0.75, 0.5]


def test_the_model_is_kept_if_that_is_wanted(pretended):
    cell, stub = pretended
    stub("write(json.dumps(W))")
    assert "model kept in " in _asked(cell, keep=True)
    assert _loaded(cell.folder / "prompted" / "model")
    assert {path.name for path in (cell.folder / "prompted").glob("[!.]*")} == {"model", harness.LOG}


def test_scores_are_called_as_the_reader_of_published_ones_calls_them(pretended, tmp_path):
    from xlscale.published import formats

    cell, stub = pretended
    stub("write(json.dumps(W))")
    _asked(cell)
    write_json(tmp_path / "results.json", WRITTEN | {"configs": {}, "model_name": "m"})
    rows, _ = formats.read(tmp_path / "results.json")
    ours = read_json(cell.folder / prompt.PROMPTED)["runs"][0]["scores"][0]
    assert [{key: row[key] for key in ("task", "language", "regime", "metric")} for row in rows] == [
        {key: ours[key] for key in ("task", "language", "regime", "metric")}
    ]


# The harness itself: `.venv/bin/pip install -e '.[prompted]'`.
real = pytest.mark.skipif(find_spec("lm_eval") is None, reason="lm-evaluation-harness is not installed")
ITEMS = [("moja mbili", 1), ("tatu nne tano", 0), ("sita", 1), ("saba nane", 0), ("tisa kumi", 1), ("mia", 0)]
CHOICES = ["ndiyo", "hapana"]


@pytest.fixture
def tiny(tmp_path):
    """A folder with a task of ours, whose data are beside it."""
    folder = tmp_path / "tasks"
    folder.mkdir()
    rows = [json.dumps({"question": question, "label": label}) for question, label in ITEMS]
    (folder / "rows.jsonl").write_text("\n".join(rows))
    about = {"task": "tiny_sw", "dataset_path": "json", "test_split": "test", "output_type": "multiple_choice"}
    about |= {"dataset_kwargs": {"data_files": {"test": str(folder / "rows.jsonl")}}, "fewshot_split": "test"}
    about |= {"doc_to_text": "{{question}}:", "doc_to_target": "{{label}}", "doc_to_choice": CHOICES}
    about |= {"metric_list": [{"metric": "acc"}], "metadata": {"version": 1.5}}
    (folder / "tiny.yaml").write_text(json.dumps(about))
    return folder


@real
@pytest.mark.slow
@pytest.mark.parametrize("name", ["qwen2.5", "gemma-3"])
def test_the_harness_finds_what_log_likelihoods_of_the_trained_model_say(known, tiny, name):
    cell = _run(_made(known(name)))
    said = _asked(cell, include=str(tiny), keep=True)
    model = _loaded(cell.folder / "prompted" / "model")
    tokenizer = AutoTokenizer.from_pretrained(cell.folder / "prompted" / "model")

    def likelihood(context, text):
        before, whole = (tokenizer(one, return_tensors="pt")["input_ids"] for one in (context, context + text))
        with torch.no_grad():
            logs = model(whole).logits.log_softmax(-1)[0]
        return sum(logs[i - 1, whole[0, i]] for i in range(before.shape[1], whole.shape[1])).item()

    found = [max((0, 1), key=lambda i, q=question: likelihood(f"{q}:", f" {CHOICES[i]}")) for question, _ in ITEMS]
    expected = sum(one == label for one, (_, label) in zip(found, ITEMS, strict=True)) / len(ITEMS)
    (run,) = read_json(cell.folder / prompt.PROMPTED)["runs"]
    (score,) = [one for one in run["scores"] if one["metric"] == "acc (fraction, lm-eval-harness)"]
    assert score["value"] == pytest.approx(expected)
    assert (score["items"], score["version"], score["language"]) == (len(ITEMS), "1.5", "sw")
    assert "tiny  sw" in said and "lm_eval" not in sys.modules


@real
@pytest.mark.slow
def test_shots_change_the_prompts_and_their_hash(known, tiny):
    cell = _run(_made(known("qwen2.5")))
    for shots in (0, 2):
        _asked(cell, include=str(tiny), shots=shots, limit=4)
    scores = [run["scores"][0] for run in read_json(cell.folder / prompt.PROMPTED)["runs"]]
    assert [one["regime"] for one in scores] == ["zero-shot-prompted", "few-shot-2"]
    assert [one["items"] for one in scores] == [4, 4]
    assert len({one["prompts_sha256"] for one in scores}) == 2


@real
@pytest.mark.slow
def test_a_task_that_the_harness_has_not_is_told_before_anything_is_written(known, tiny):
    cell = _run(_made(known("qwen2.5")))
    with pytest.raises(XlscaleError, match=r"--tasks: expected tasks of lm_eval \d\S+, got nothing_sw; "):
        _asked(cell, tasks=["tiny_sw", "nothing_sw"], include=str(tiny))
    assert not (cell.folder / "prompted").exists()


@real
@pytest.mark.slow
def test_data_that_are_not_on_the_machine_are_not_asked_for(known, tiny):
    about = read_json(tiny / "tiny.yaml") | {
        "task": "far_sw",
        "dataset_path": "nobody/xlscale-none",
        "dataset_kwargs": {},
    }
    (tiny / "far.yaml").write_text(json.dumps(about))
    cell = _run(_made(known("qwen2.5")))
    with pytest.raises(XlscaleError, match=r"lm_eval: ended with code 1 \(.*nobody/xlscale-none.*\)"):
        _asked(cell, tasks=["far_sw"], include=str(tiny))


@real
def test_the_version_is_the_one_that_is_pinned():
    import tomllib

    from xlscale.core.files import ROOT

    stated = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"][harness.EXTRA]
    assert stated == [f"lm_eval[hf]=={harness.installed()}"]
