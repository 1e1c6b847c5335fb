"""Unlabelled text in all languages of the suite, even over languages and registers, apart from whatever is tested.

For distilling cut models and for training them on text as it is. How well that went can be judged on the dev split:
on other texts of the registers that are trained on, on a register that is not (``UNSEEN``), and in languages that are
not (``HELD_OUT``). Whole groups (a message, a paragraph, a source package, in whatever language) go to one split.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

from data_manifest.builders import registers
from data_manifest.builders.exclusions import Exclusions, drop_near_duplicates, from_all_tasks, page_of
from data_manifest.builders.registers import Text
from xlscale.cards.schema import DataCard
from xlscale.data.schema import Row, sampled, shuffled
from xlscale.data.similarity import NEAR, containment, normal, shingles

SEED = "unlabelled 1"
ROWS = {"train": 450, "dev": 30}  # of one language, at most
UNSEEN, UNSEEN_ROWS = "tuxpaint", 20  # the register that is in dev only, and its rows of one language there
# Languages without a train split: six families, four scripts, half of them with relatives in train.
HELD_OUT = ("et", "he", "ka", "te", "vi", "yo")
SHARE = 0.15  # of the groups that are kept for dev
LENGTH = (40, 300)  # characters
DENSE, SHORTEST = ("ja", "zh"), 20  # where a character says about as much as three in other scripts
FEWEST_WORDS = 5
# Where every character counts as a word, runs of four say less: texts of one split may be more alike.
CHARACTERS, ALIKE = ("ja", "my", "th", "zh"), 0.6
# Lists of keywords rather than text, and shared with the lexicon: in train only, and there few of them, but where
# there is nothing else.
FILLER, FEW = "symbols", 60
# Near-duplicates of what is tuned on in a set that is not bundled, so that this one can be built without it.
LEFT_OUT = frozenset({"mediawiki:extensions-core/OATHAuth/notification-header-oathauth-disable"})
POOL = {"train": 450, "dev": 90}  # candidates of one language and register that are compared with each other


def build(card: DataCard, files: Sequence[Path]) -> list[Row]:
    """Rows of the bundle: dev, then train, which keeps away from it. Raises XlscaleError when a package is missing."""
    texts = registers.read(files)
    rows: list[Row] = []
    for split in ("dev", "train"):
        excluded = from_all_tasks(split)
        excluded = excluded._replace(texts=excluded.texts.union(row["text"] for row in rows))
        parts = _drop_excluded(_candidates(texts, split), excluded)
        for code in registers.LANGUAGES:
            chosen = _chosen([part for (language, _), part in parts.items() if language == code], split, code)
            rows += [_row(split, code, text) for text in chosen]
    return rows


def in_dev(text: Text) -> bool:
    """Whether a text belongs to dev: its page or group alone decides, but for two registers."""
    return text.register == UNSEEN or (text.register != FILLER and sampled(page_of(text.group), SEED, SHARE))


def _candidates(texts: Mapping[str, Sequence[Text]], split: str) -> dict[tuple[str, str], list[Text]]:
    """(language, register) -> the first POOL texts of the split that can be read, none twice."""
    wanted = split == "dev"
    found = {}
    for code, of_language in texts.items():
        if split == "train" and code in HELD_OUT:
            continue
        by_register = defaultdict(list)
        for text in of_language:
            if in_dev(text) == wanted and text.group not in LEFT_OUT:
                by_register[text.register].append(text)
        for register, part in sorted(by_register.items()):
            ranked = shuffled(part, f"{SEED} {code}", key=lambda text: text.item)
            found[code, register] = _first(ranked, POOL[split], lambda text, code=code: _readable(text, code))
    return found


def _first(texts: Iterable[Text], size: int, fit: Callable[[Text], bool]) -> list[Text]:
    """The first ``size`` texts that ``fit``, of each text one."""
    found: dict[str, Text] = {}
    for text in texts:
        if len(found) == size:
            break
        if (key := normal(text.text)) not in found and fit(text):
            found[key] = text
    return list(found.values())


def _readable(text: Text, language: str) -> bool:
    """Whether a text is long enough, no code and no names of translators, mostly in letters of its language's script,
    and not left in English."""
    shortest = SHORTEST if language in DENSE else LENGTH[0]
    if not shortest <= len(text.text) <= LENGTH[1] or len(normal(text.text).split()) < FEWEST_WORDS:
        return False
    if text.text.startswith(("#", "/*")) or normal(text.english).startswith("translator credits"):
        return False
    if registers.in_script(text.text, language) < 0.6 * len(text.text.replace(" ", "")):
        return False
    ours, theirs = shingles(text.english), shingles(text.text)
    return language == "en" or len(ours & theirs) < NEAR * min(len(ours), len(theirs))


def _drop_excluded(
    parts: Mapping[tuple[str, str], Sequence[Text]], excluded: Exclusions
) -> dict[tuple[str, str], list[Text]]:
    """The candidates that are not excluded, by name, or near-duplicates by their text or English original."""
    flat = [(key, text) for key, part in parts.items() for text in part if excluded.names.isdisjoint(_names(text))]
    found = defaultdict(list)
    for key, text in drop_near_duplicates(flat, lambda pair: (pair[1].text, pair[1].english), excluded.texts):
        found[key].append(text)
    return dict(found)


def _names(text: Text) -> tuple[str, str, str]:
    return text.item, text.group, page_of(text.item)


def _drop_near_repeats(texts: Sequence[Text], language: str) -> list[Text]:
    """The texts that are no near-duplicates of an earlier one."""
    own = [text.text for text in texts]
    close = containment(own, own) >= (ALIKE if language in CHARACTERS else NEAR)
    dropped: set[int] = set()
    for i in range(len(texts)):
        if i not in dropped:
            dropped.update(j for j in close[i].indices.tolist() if j > i)
    return [text for i, text in enumerate(texts) if i not in dropped]


def _chosen(parts: Sequence[Sequence[Text]], split: str, language: str) -> list[Text]:
    """The rows of one language: dealt in turn from its registers, and in dev those of the unseen register besides."""
    turns = [
        (text.register == FILLER and turn >= FEW, turn, index, text)
        for index, part in enumerate(parts)
        for turn, text in enumerate(part)
    ]
    dealt = _drop_near_repeats([text for *_, text in sorted(turns, key=lambda ranked: ranked[:3])], language)
    unseen = [text for text in dealt if text.register == UNSEEN]
    return [text for text in dealt if text.register != UNSEEN][: ROWS[split]] + unseen[:UNSEEN_ROWS]


def _row(split: str, language: str, text: Text) -> Row:
    return {
        "split": split,
        "language": language,
        "item": text.item,
        "group": text.group,
        "register": text.register,
        "text": text.text,
    }
