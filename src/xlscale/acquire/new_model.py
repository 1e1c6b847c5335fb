"""The card of a model of the user's, from its folder in the layout of ``transformers``.

Belongs here: what of a card follows from configuration, tokenizer and weights. That the folder can be read at all:
``models.hf``. Its lock: ``models``, by ``make data-fetch``.
"""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from xlscale.acquire import new_card
from xlscale.cards import catalogue
from xlscale.cards.schema import ModelCard
from xlscale.cards.sources import Repository
from xlscale.core import manifest
from xlscale.core.files import MANIFEST, SETTINGS, XlscaleError, read_json, relative, write_text
from xlscale.core.strict import parse
from xlscale.models import hf, hub_files, ladder

if TYPE_CHECKING:
    from transformers import PreTrainedModel

STATED = new_card.STATED["model"]
FIELDS = ("name", "title", "rungs", "prefix", "separator", "end", "variable", *STATED)
_SIZELESS = ("dropout", "use_cache", "is_decoder", "add_cross_attention")  # in names of other numbers


def add(folder: Path, given: Mapping[str, str]) -> str:
    """Examine a model's folder and write its card; a report in lines.

    ``given``: what the folder does not say, by FIELDS. Raises XlscaleError with what is wrong with the folder, and
    where there is a card of that name.
    """
    new_card.check_fields(given, FIELDS)
    if not (folder / hub_files.CONFIG).is_file():
        raise XlscaleError(f"{folder}: expected a folder with {', '.join(hub_files.NEEDED)} and safetensors")
    with manifest.alone(manifest.LOCKS):  # nobody else writes a card of this name meanwhile
        return _add(folder, given)


def _add(folder: Path, given: Mapping[str, str]) -> str:
    name = new_card.name(folder, given)
    if name in catalogue.names("data") + catalogue.names(catalogue.SOURCES):
        raise XlscaleError(f"SET: name: expected one that no card has, got {name!r}")
    path = new_card.free(MANIFEST / "models" / f"{name}.yaml")
    variable = given.get("variable") or "XLSCALE_" + "".join(one for one in name.upper() if one.isalpha())
    _check_variable(variable)
    hub_files.hashes(folder)  # raises for a folder that is not whole
    fields = _fields(folder, name, variable, given)
    card = parse(ModelCard, fields, relative(path))
    hf.examine(folder, card)
    hf.check_weights(folder, card)
    write_text(path, new_card.as_yaml(fields))
    catalogue.clear_caches()
    counts = card.parameters
    said = [
        f"{relative(path)}: {card.architecture.model_type}, {max(card.rungs)} layers, {counts.trained:,} parameters",
        f"before every command that reads it: export {variable}={shlex.quote(str(folder.resolve()))}",
        f"then, once: make data-fetch CARD={name}",
    ]
    return "\n".join([*said, *new_card.reminder(card)])


def _check_variable(variable: str) -> None:
    """Raise XlscaleError where commands read a variable otherwise, or another card's files are looked for in the same
    folder."""
    owners = dict.fromkeys(SETTINGS, "commands")
    for name in catalogue.names(catalogue.SOURCES):
        owners |= {origin.variable: name for origin in catalogue.documented(name).source.origins.values()}
    for name in catalogue.names("models"):
        source = catalogue.model_card(name).source
        owners |= {source.variable: name} if isinstance(source, Repository) else {}
    if variable in owners:
        expected = f'one that nothing else has, as in SET="variable={variable}B"'
        raise XlscaleError(f"SET: variable: expected {expected}, got {variable}, which is that of {owners[variable]}")


def _fields(folder: Path, name: str, variable: str, given: Mapping[str, str]) -> dict[str, Any]:
    config = found if isinstance(found := read_json(folder / hub_files.CONFIG), dict) else {}
    numbers = _numbers(config)
    reads = numbers.get("text_config", numbers)
    layers, kind = reads.get("num_hidden_layers"), config.get("model_type")
    if not isinstance(layers, int) or layers < 1 or not isinstance(kind, str):
        expected = "model_type, a name, and num_hidden_layers, a number of at least 1"
        raise XlscaleError(f"{folder / hub_files.CONFIG}: expected {expected}, of a model that transformers implements")
    fields = new_card.head(name, given) | {"reader": "hf", "source": {"kind": "folder", "variable": variable}}
    fields |= {"rungs": _rungs(given.get("rungs"), layers), "prefix": given.get("prefix", "")}
    fields |= {field: given[field] for field in ("separator", "end") if given.get(field)}
    read = f"{hub_files.CONFIG} of the folder"
    fields |= {"architecture": {"model_type": kind, "config": numbers, "read": read}}
    fields |= {field: given.get(field) or new_card.NOT_STATED for field in STATED}
    fields = _attending(fields, folder)
    whole = sum(tensor.numel() for _, tensor in hub_files.tensors_of(folder))
    trained, rest = ladder.parameter_counts(_shapes(fields, layers, folder))
    counts = {"published": whole, "read": "all weights of the folder", "trained": trained, "non_embedding": rest}
    return fields | {"parameters": counts}


def _numbers(values: dict[str, Any]) -> dict[str, Any]:
    """The numbers of a configuration that a size may follow from, those of its parts below their names."""
    found: dict[str, Any] = {}
    for name, value in values.items():
        if name.endswith("_config") and isinstance(value, dict):
            found[name] = _numbers(value)
        elif isinstance(value, int) and not name.endswith("_config") and not any(part in name for part in _SIZELESS):
            found[name] = value
    return {name: value for name, value in found.items() if value != {}}


def _rungs(text: str | None, layers: int) -> list[int]:
    """Numbers of layers, all of them where none is given."""
    try:
        found = [int(one) if one.isascii() else 0 for one in text.split()] if text else [layers]
    except ValueError:
        found = []
    if not found or not all(1 <= one <= layers for one in found):
        raise XlscaleError(f'SET: rungs: expected numbers from 1 to {layers}, as in SET="rungs=1 2", got {text!r}')
    return found


def _shapes(fields: dict[str, Any], layers: int, folder: Path) -> PreTrainedModel:
    """The model that a card describes, on the meta device. Raises XlscaleError for a card that is none."""
    with hub_files.reading(folder):
        return hf.described(parse(ModelCard, fields, fields["name"]), layers)


def _attending(fields: dict[str, Any], folder: Path) -> dict[str, Any]:
    """The fields with how the model attends; of a causal one, with the tokens that close an input and part two texts,
    which are the tokenizer's end of a text where nothing else is given."""
    layers = fields["architecture"]["config"].get("text_config", fields["architecture"]["config"])["num_hidden_layers"]
    try:
        _shapes(fields, layers, folder)
        return fields
    except XlscaleError as error:
        if "attention: expected causal" not in str(error):
            raise
    told = folder / "tokenizer_config.json"
    stop = read_json(told).get("eos_token") if told.exists() else None
    stop = stop.get("content") if isinstance(stop, dict) else stop
    tokens = {name: fields.get(name) or stop for name in ("end", "separator")}
    if not all(isinstance(one, str) and one for one in tokens.values()):
        raise XlscaleError(f"SET: end, separator: expected special tokens, as {told} has no eos_token")
    return fields | {"attention": "causal"} | tokens
