"""Healed rungs on disk: the difference to the cut rung, in blocks of four bits, as the packaged weights themselves are.

A difference of every parameter but the word embeddings. In blocks of BLOCK values along the rows, each block with a
float16 scale and values from -7 to 7, two to a byte. Parameters too small for that (biases, layer norms) are float16.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load_file, save

from xlscale.core.files import XlscaleError, atomic, relative

if TYPE_CHECKING:
    from transformers import BertModel

BLOCK = 32
MOST = 7  # largest value of a block, in units of its scale
VALUES, SCALES, PLAIN = ".values", ".scales", ".plain"


def pack(difference: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Float32 of any shape, a multiple of BLOCK values -> uint8 (values / 2,) and float16 scales (values / BLOCK,)."""
    blocks = difference.reshape(-1, BLOCK)
    scales = (np.abs(blocks).max(1) / MOST).astype(np.float16)
    units = np.where(scales > 0, scales.astype(np.float32), 1.0)[:, None]
    whole = np.clip(np.rint(blocks / units), -MOST, MOST).astype(np.int8).ravel() + 8
    return (whole[0::2] | whole[1::2] << 4).astype(np.uint8), scales


def unpack(values: np.ndarray, scales: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """What ``pack`` kept: float32 of the given shape."""
    whole = np.stack([values & 15, values >> 4], axis=1).astype(np.float32).reshape(-1, BLOCK) - 8
    return (whole * scales.astype(np.float32)[:, None]).reshape(shape)


def write(cut: BertModel, healed: BertModel, path: Path, frozen: str, about: dict[str, str]) -> None:
    """Write what has to be added to ``cut`` to get ``healed``, for all parameters but the one called ``frozen``.

    ``about`` is kept in the file's header.
    """
    tensors, before = {}, dict(cut.named_parameters())
    for name, parameter in healed.named_parameters():
        if name == frozen:
            continue
        difference = (parameter.detach() - before[name].detach()).numpy()
        if difference.ndim == 2 and difference.size % BLOCK == 0:
            tensors[name + VALUES], tensors[name + SCALES] = pack(difference)
        else:
            tensors[name + PLAIN] = difference.astype(np.float16)
    with atomic(path) as temporary:
        temporary.write_bytes(save(tensors, about))


def add(model: BertModel, path: Path, frozen: str) -> None:
    """Add the differences in ``path`` to a cut rung, in place.

    Raises XlscaleError when the file is missing, broken or of another rung.
    """
    import torch

    try:
        tensors = load_file(path)
    except (OSError, SafetensorError) as error:
        raise XlscaleError(f"{relative(path)}: not readable, expected a safetensors file ({error})") from None
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name == frozen:
                continue
            try:
                if name + PLAIN in tensors:
                    found = tensors.pop(name + PLAIN).astype(np.float32).reshape(parameter.shape)
                else:
                    found = unpack(tensors.pop(name + VALUES), tensors.pop(name + SCALES), tuple(parameter.shape))
                if not np.isfinite(found).all():
                    raise ValueError
            except (KeyError, ValueError, TypeError):
                expected = f"the difference of shape {tuple(parameter.shape)}, finite"
                raise XlscaleError(f"{relative(path)}: {name}: expected {expected}") from None
            parameter += torch.from_numpy(found)
    if tensors:
        raise XlscaleError(f"{relative(path)}: {min(tensors)}: not expected in this rung")
