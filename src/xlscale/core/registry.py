"""The parts that are chosen by name: task families, objectives, methods, backends and readers of models.

One line for each part: ``"module:Class"``, or a module alone. A part is imported when it is used and not before, and
the code of a cell is fingerprinted with the parts that its parameters name and no others. To add a part: one file in
its room, one name here.
"""

from __future__ import annotations

import os
from importlib import import_module
from typing import Any, Literal

from xlscale.core.files import XlscaleError

DEVICE = "XLSCALE_DEVICE"  # environment variable: the backend that computes; no part of a cell's identity
SHARDED = "sharded"  # the backend of several processes, each with a device
Kind = Literal["task", "objective", "method", "backend", "reader"]
PARTS: dict[Kind, dict[str, str]] = {
    "task": {
        "classification": "xlscale.tasks.classification:Classification",
        "lexicon": "xlscale.tasks.lexicon:Lexicon",
        "mining": "xlscale.tasks.mining:Mining",
        "multiple_choice": "xlscale.tasks.multiple_choice:MultipleChoice",
        "ranking": "xlscale.tasks.ranking:Ranking",
        "retrieval": "xlscale.tasks.retrieval:Retrieval",
        "span_qa": "xlscale.tasks.span_qa:SpanQA",
        "tagging": "xlscale.tasks.tagging:Tagging",
        "text": "xlscale.tasks.text:Text",
    },
    "objective": {
        "supervised": "xlscale.training.objectives.supervised:Supervised",
        "distillation": "xlscale.training.objectives.distillation:Distillation",
        "adversarial": "xlscale.training.objectives.adversarial:Adversarial",
        "augmentation": "xlscale.training.objectives.augmentation:Augmentation",
        "lexical": "xlscale.training.objectives.lexical:Lexical",
        "masked_lm": "xlscale.training.objectives.masked_lm:MaskedLM",
        "mlm_cotraining": "xlscale.training.objectives.mlm_cotraining:Cotraining",
        "translation_lm": "xlscale.training.objectives.translation_lm:TranslationLM",
        "smoothing": "xlscale.training.objectives.smoothing:Smoothing",
    },
    "method": {
        "full": "xlscale.training.methods.full:Full",
        "lora": "xlscale.training.methods.lora:LoRA",
        "qlora": "xlscale.training.methods.qlora:QLoRA",
    },
    "backend": {
        "cpu": "xlscale.training.backends.cpu:CPU",
        "cuda": "xlscale.training.backends.cuda:CUDA",
        "sharded": "xlscale.training.backends.sharded:Sharded",
    },
    "reader": {"e5_wheel": "xlscale.models.e5_wheel", "hf": "xlscale.models.hf"},
}


def backend() -> str:
    """The name of the backend that computes here: the processor's, unless DEVICE says otherwise; each rank of a
    ``SHARDED`` one computes on it, too. Raises XlscaleError for a name that is none."""
    name, known = os.environ.get(DEVICE) or "cpu", [one for one in PARTS["backend"] if one != SHARDED]
    if name not in known:
        raise XlscaleError(f"{DEVICE}: expected one of {', '.join(known)}, got {name!r}")
    return name


def module(kind: Kind, name: str) -> str:
    """The module of a part. Raises XlscaleError with the known names for an unknown one."""
    return _entry(kind, name).partition(":")[0]


def get(kind: Kind, name: str) -> Any:
    """The class of a part (of a reader, which is a module, the module), imported now. Raises as ``module`` does."""
    path, _, attribute = _entry(kind, name).partition(":")
    found = import_module(path)
    return getattr(found, attribute) if attribute else found


def _entry(kind: Kind, name: str) -> str:
    if name not in PARTS[kind]:
        raise XlscaleError(f"{kind}: expected one of {', '.join(PARTS[kind])}, got {name!r}")
    return PARTS[kind][name]
