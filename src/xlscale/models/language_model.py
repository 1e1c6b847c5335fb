"""A decoder with its LM head as a folder in the layout of ``transformers``: the published one with other weights in it.

Tensors keep the names and files that they were published with, and what is not replaced keeps its bytes, among it the
LM head, which a rung has not. Configuration and tokenizer are copied as they are.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from xlscale.cards.schema import ModelCard
from xlscale.core.files import XlscaleError, read_json, write_json
from xlscale.core.needs import check_disk
from xlscale.models.hub_files import ALONE, INDEX, checked, files, reading, weights

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import PreTrainedModel


def check(card: ModelCard, layers: int) -> None:
    """Raise XlscaleError unless a rung is all of a decoder, whose LM head is in its folder."""
    if card.attention != "causal":
        raise XlscaleError(f"model {card.name}: expected a decoder, which has an LM head, got an encoder")
    model, missing = _shapes(path := checked(card))
    if layers != (whole := model.config.get_text_config().num_hidden_layers):
        expected = f"expected all {whole}, since the LM head was trained behind them, got {layers}"
        raise XlscaleError(f"model {card.name}: layers: {expected}")
    if missing:
        raise XlscaleError(f"{path}: {min(missing)}: expected a model with its LM head, this tensor is missing")


def write(card: ModelCard, folder: Path, replaced: Mapping[str, Tensor], as_published: bool) -> None:
    """Write the model of ``card`` into ``folder``, a new one, with the weights ``replaced``, which have their names in
    the rung. ``as_published``: in the type of those that they replace, else in their own.

    Where the LM head shares the word embeddings, they are replaced in both places. A file of weights in which nothing
    is replaced is a link to the published one. Raises XlscaleError where a weight has no place, or the disk no room.
    """
    path = checked(card)
    places = _places(path, replaced)
    here = files(path)
    linked = {name for name in weights(path) if places.keys().isdisjoint(_stored(here[name]))}
    needed = sum(one.stat().st_size for name, one in here.items() if name not in linked)
    needed += 0 if as_published else sum(replaced[name].nbytes for name in places.values())
    check_disk(folder, needed)
    folder.mkdir(parents=True)
    for name, source in here.items():
        if name in linked:
            (folder / name).symlink_to(source.resolve())
        elif name in weights(path):
            _rewrite(source, folder / name, places, replaced, as_published)
        else:
            shutil.copyfile(source, folder / name)
    if INDEX in here:
        _state_size(folder)


def _shapes(path: Path) -> tuple[PreTrainedModel, set[str]]:
    """The whole model without values, and the names of those weights that its folder lacks."""
    import torch
    from transformers import MODEL_FOR_CAUSAL_LM_MAPPING, AutoConfig

    shapes = {name: shape for one in weights(path) for name, shape in _stored(files(path)[one]).items()}
    with reading(path):
        config = AutoConfig.from_pretrained(path, local_files_only=True, trust_remote_code=False)
        model, report = MODEL_FOR_CAUSAL_LM_MAPPING[type(config)].from_pretrained(
            None,
            config=config,
            state_dict={name: torch.empty(shape, device="meta") for name, shape in shapes.items()},
            device_map="meta",
            output_loading_info=True,
        )
    return model, set(report["missing_keys"])


def _places(path: Path, replaced: Mapping[str, Tensor]) -> dict[str, str]:
    """Names of tensors in a folder -> of what replaces them. Raises XlscaleError for a weight that has no place."""
    model, _ = _shapes(path)

    def called(name: str) -> str:
        """What a tensor of the folder or of the whole model is called in a rung."""
        for pattern, new in ALONE.items():
            name = re.sub(pattern, new, name)
        return name.removeprefix(f"{model.base_model_prefix}.")

    tied = {called(one): called(other) for one, other in model.all_tied_weights_keys.items()}
    names = [name for one in weights(path) for name in _stored(files(path)[one])]
    found = {name: tied.get(called(name), called(name)) for name in names}
    if lost := sorted(replaced.keys() - {called(name) for name in names}):
        raise XlscaleError(f"{path}: {lost[0]}: expected a tensor of this name, which a trained one is to replace")
    return {name: other for name, other in found.items() if other in replaced}


def _stored(path: Path) -> dict[str, list[int]]:
    """The shapes of the tensors in a file; no weight is read."""
    from safetensors import safe_open

    with reading(path), safe_open(path, "pt") as file:
        return {name: file.get_slice(name).get_shape() for name in file.keys()}  # noqa: SIM118


def _rewrite(
    source: Path, target: Path, places: Mapping[str, str], replaced: Mapping[str, Tensor], as_published: bool
) -> None:
    from safetensors import safe_open
    from safetensors.torch import save_file

    with safe_open(source, "pt") as file:
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        about = file.metadata()
    for name in tensors.keys() & places.keys():
        new = replaced[places[name]].detach()
        # A copy, since a file does not take two names for the same memory.
        tensors[name] = new.to(tensors[name].dtype if as_published else new.dtype, copy=True).contiguous()
    save_file(tensors, target, about)


def _state_size(folder: Path) -> None:
    """Have the index say how many bytes of weights there are."""
    from safetensors import safe_open

    size = 0
    for name in weights(folder):
        with safe_open(folder / name, "pt") as file:
            size += sum(file.get_tensor(key).nbytes for key in file.keys())  # noqa: SIM118
    index = read_json(folder / INDEX)
    write_json(folder / INDEX, index | {"metadata": (index.get("metadata") or {}) | {"total_size": size}})
