"""Pairs of texts as token ids: what stands between the two, so that different pairs never have the same ids.

Encoders have a token of their own for it (``[SEP]``, ``</s>``). Many decoders put nothing there, or begin the second
text like a new input, and nothing behind a text; for those the card states a ``separator`` and an ``end``, which are
part of the model's identity.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from typing import TYPE_CHECKING, Any

from xlscale.core.files import XlscaleError

if TYPE_CHECKING:
    from transformers import BatchEncoding, PreTrainedTokenizerFast


def encode(
    tokenizer: PreTrainedTokenizerFast, first: Sequence[str], second: Sequence[str], **options: Any
) -> BatchEncoding:
    """The tokenizer's encodings of pairs; ``options`` are those of its call.

    Raises XlscaleError where it does not mark the border of the two texts and the model's card states no separator, and
    for a text that spells the mark.
    """
    marks = _spelled(tokenizer, check(tokenizer, tokenizer.name_or_path))
    for text in (*first, *second) if marks else ():
        if found := next((mark for mark in marks if mark in text), None):
            got = text[max(0, text.index(found) - 20) :][:60]
            expected = f"expected no text that spells {found!r}, which marks where one ends"
            raise XlscaleError(f"{tokenizer.name_or_path}: {expected}, got {got!r}")
    return tokenizer(list(first), list(second), **options)


def check(tokenizer: PreTrainedTokenizerFast, where: str) -> list[int]:
    """The ids that the tokenizer adds around and between the texts of a pair. Raises XlscaleError, naming ``where``, if
    pairs cannot be told apart from what it makes of them."""
    before, between, after = _added(tokenizer)
    ends = {*after, tokenizer.sep_token_id, tokenizer.eos_token_id}  # one token may begin and end inputs
    begins_again = ({*before} - ends) & {*between}
    if not between or begins_again:
        put = "the token that begins an input" if begins_again else "nothing"
        wanted = tokenizer.sep_token or tokenizer.eos_token or "<a special token>"
        raise XlscaleError(
            f"{where}: separator: expected a special token such as {wanted!r} in the model's card, "
            f"its tokenizer puts {put} between two texts"
        )
    return [*dict.fromkeys([*before, *between, *after])]


def _spelled(tokenizer: PreTrainedTokenizerFast, ids: list[int]) -> list[str]:
    """Those of the special tokens ``ids`` that a text gets when it spells them."""
    names = zip(ids, tokenizer.convert_ids_to_tokens(ids), strict=True)
    return [name for one, name in names if one in tokenizer(name, add_special_tokens=False)["input_ids"]]


def marked(
    tokenizer: PreTrainedTokenizerFast, where: str, separator: str | None = None, end: str | None = None
) -> PreTrainedTokenizerFast:
    """The tokenizer with the special token ``separator`` between the two texts of a pair, and ``end`` behind a text or
    a pair, once; what is None stays as it was.

    Changed in place: all else that a text or a pair got it still gets, and where a text spells a special token, that is
    text. Raises XlscaleError, naming ``where``, for what is no special token.
    """
    from tokenizers import processors

    known = [token.content for token in tokenizer.added_tokens_decoder.values() if token.special]
    for field, token in (("separator", separator), ("end", end)):
        if token is not None and token not in known:
            expected = ", ".join(known[:8]) or "none, the tokenizer has no special token"
            raise XlscaleError(f"{where}: {field}: expected one of {expected}, got {token[:40]!r}")
    before, between, after = _added(tokenizer)
    start, close = _added(tokenizer, pair=False)
    if separator is not None:
        between = [tokenizer.convert_tokens_to_ids(separator)]
    if end is not None:
        last = [tokenizer.convert_tokens_to_ids(end)]
        after, close = (ids if ids[-1:] == last else ids + last for ids in (after, close))
    ids = {"before": before, "between": between, "after": after, "start": start, "end": close}
    ids = {name: found for name, found in ids.items() if found}
    template = processors.TemplateProcessing(
        single=[name for name in ("start", "$A", "end") if name in ids or name == "$A"],
        pair=[name for name in ("before", "$A", "between", "$B:1", "after") if name in ids or name[0] == "$"],
        special_tokens=[
            {"id": name, "ids": found, "tokens": tokenizer.convert_ids_to_tokens(found)} for name, found in ids.items()
        ],
    )
    backend = tokenizer.backend_tokenizer
    old = backend.post_processor
    first = old[0] if isinstance(old, processors.Sequence) else old
    # The byte-level one adds no token but takes the space before a word out of its offsets.
    kept = [first] if isinstance(first, processors.ByteLevel) else []
    backend.post_processor = processors.Sequence([*kept, template])
    tokenizer.split_special_tokens = True
    return tokenizer


def begin(tokenizer: PreTrainedTokenizerFast) -> int | None:
    """The id that the tokenizer puts before a text; None where it puts nothing there."""
    return next(iter(_added(tokenizer, pair=False)[0]), None)


def _added(tokenizer: PreTrainedTokenizerFast, pair: bool = True) -> list[list[int]]:
    """Ids that the tokenizer adds before the first text, between the two where it is a pair, and after the last."""
    found = tokenizer("a", "b" if pair else None)
    added: list[list[int]] = [[]]
    for text, tokens in groupby(zip(found.sequence_ids(0), found["input_ids"], strict=True), lambda one: one[0]):
        if text is None:
            added[-1] = [token for _, token in tokens]
        else:
            added.append([])
    return added
