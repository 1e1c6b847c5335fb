"""Summary choice: which of four texts goes on from a package's one-line synopsis.

English rows to train on, descriptions translated by volunteers (DDTP) in the languages of ``topic`` to test on. A
choice is what a description's long part says after its first sentence, which most often repeats the synopsis. The
other choices belong to packages of the same archive section, and every text of a split and language is the correct
choice of one row and a distractor of three: a choice alone, its length, its style, tells nothing.

Split by source package, as ``topic`` is and against ``topic``: no tested text is, or is a near-duplicate of, what
either set trains or tunes on.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from scipy.optimize import linear_sum_assignment

from data_manifest.builders import debian
from data_manifest.builders.exclusions import drop_near_duplicates
from data_manifest.builders.topic import INDEX, STUB
from xlscale.cards.catalogue import data_card
from xlscale.cards.schema import DataCard
from xlscale.core.files import XlscaleError
from xlscale.data import load, overlap
from xlscale.data.schema import Row, shuffled
from xlscale.data.similarity import NEAR, containment, normal

# Sections of programs; those of libraries, bindings and documentation hold texts from templates.
SECTIONS = (
    *("admin", "comm", "database", "devel", "editors", "electronics", "games", "gnome", "graphics", "hamradio", "kde"),
    *("mail", "math", "misc", "net", "science", "sound", "text", "utils", "video", "web", "x11"),
)
SEED = "summary_choice 1"
ROWS = {"train": 2000, "dev": 300, "test": 300}  # of one language
CHOICES = 4
FEWEST = CHOICES + 2  # sources of one section in a split and language: from fewer there is little to choose
LIMIT = 240  # characters of a choice
DENSE = ("ja", "zh")  # a character says about as much as three in other scripts
SHORTEST = {"text": 20, "choice": 90}  # characters, a third of it in dense scripts
MOST_SHARED = 0.5  # of a synopsis, by weight, that its own English text may repeat, or another synopsis of its row
MASK = "…"  # stands for the package's own name
_END = re.compile(r"([^\s]*)[.!?][\"')»”]*\s+|[。！？]\s*")


class Source(NamedTuple):
    """A source package: its name, the binary package that speaks for it, section, (synopsis, text) per language."""

    name: str
    package: str
    section: str
    texts: dict[str, tuple[str, str]]


def tested_sources() -> frozenset[str]:
    """Names of all source packages with a text in a test split of ``topic`` or ``summary_choice``, as any choice."""
    return _groups("topic", "test") | _groups("summary_choice", "test")


def build(card: DataCard, files: Sequence[Path]) -> list[Row]:
    """Rows of the bundle from Debian's indexes; group = source package, item = source package/binary package."""
    sources = _sources(files)
    trained = _topic_texts("train"), _topic_texts("dev")
    barred = _groups("topic", "train") | _groups("topic", "dev")
    fresh = [source for source in sources if source.name not in barred]
    tests = _tests(drop_near_duplicates(fresh, _english_texts, {*trained[0], *trained[1]}))
    rows = [row for language, part in tests.items() for row in _rows("test", language, part)]

    tested = _groups("topic", "test") | {source.name for part in tests.values() for source in part}
    seen = {text for row in rows for text in (row["text"], *row["choices"], row["original"] or "")}
    left = [source for source in sources if source.name not in tested]
    left = drop_near_duplicates(left, _english_texts, seen.union(_topic_texts("test")))
    barred = _groups("topic", "train")
    fresh = [source for source in left if source.name not in barred]
    dev = _chosen(drop_near_duplicates(fresh, _english_texts, trained[0]), "en", ROWS["dev"])
    taken = {source.name for source in dev} | _groups("topic", "dev")
    tuned = {text for source in dev for text in source.texts["en"]}.union(trained[1])
    rest = [source for source in left if source.name not in taken]
    train = _chosen(drop_near_duplicates(rest, _english_texts, tuned), "en", ROWS["train"])
    for split, part in (("dev", dev), ("train", train)):
        if len(part) < ROWS[split]:
            raise XlscaleError(f"{card.name}: {split}: expected {ROWS[split]} rows, got {len(part)}")
        rows += _rows(split, "en", part)
    return rows


def _groups(name: str, split: str) -> frozenset[str]:
    rows = load.table(data_card(name)).select(["split", "group"]).to_pandas()
    return frozenset(rows.loc[rows["split"] == split, "group"])


def _topic_texts(split: str) -> list[str]:
    """All texts of a split of ``topic``, the English originals of translated ones among them."""
    rows = load.table(data_card("topic")).to_pandas()
    rows = rows[rows["split"] == split]
    return sorted({*rows["text"], *rows["original"].dropna()})


def _sources(files: Sequence[Path]) -> list[Source]:
    """Every usable source package, in an order that only SEED decides.

    One binary package speaks for it: the one translated into most languages, then the first by name. Sources whose
    text or synopsis equals an earlier one's, or whose English text repeats too much of the synopsis, are left out.
    """
    index, english, translated, members = debian.by_source(files, INDEX, SECTIONS)
    found, seen = [], set()
    for name in shuffled(members, SEED):
        best = None
        for package in sorted(members[name]):
            key = (package, index[package].description)
            texts = _texts((name, package), english[key], {c: d[key] for c, d in translated.items() if key in d})
            if texts and (best is None or len(texts) > len(best.texts)):
                best = Source(name, package, index[package].section, texts)
        if best and not seen & (same := {normal(text) for text in best.texts["en"]}):
            seen |= same
            found.append(best)
    parts = ([overlap.runs(source.texts["en"][i]) for source in found] for i in (0, 1))
    return [found[i] for i in np.flatnonzero(overlap.own_share(*parts) <= MOST_SHARED)]


def _texts(names: Iterable[str], english: str, translations: Mapping[str, str]) -> dict[str, tuple[str, str]]:
    """Language -> (synopsis, text), English among them, or nothing where the English text is of no use.

    Translations that leave the synopsis or the long part in English are left out.
    """
    if STUB.search(english):
        return {}
    original = debian.short_and_long(english)
    texts = {"en": _pair(names, *original)}
    if not _long_enough("en", *texts["en"]):
        return {}
    for code, translation in translations.items():
        short, long = debian.short_and_long(translation)
        # "<trans>" marks what nobody has translated yet.
        if "<trans>" in translation or normal(short) == normal(original[0]) or normal(long) == normal(original[1]):
            continue
        pair = _pair(names, short, long)
        if _long_enough(code, *pair):
            texts[code] = pair
    return texts


def _pair(names: Iterable[str], synopsis: str, long: str) -> tuple[str, str]:
    """Synopsis and text, with the package's own names masked: in every language they are the same letters."""
    either = "|".join(re.escape(name) for name in sorted(set(names), key=len, reverse=True))
    own = re.compile(rf"(?<![A-Za-z0-9])(?:{either})(?![A-Za-z0-9])", re.IGNORECASE)
    return own.sub(MASK, synopsis), debian.cut(own.sub(MASK, after_first_sentence(long)), LIMIT)


def after_first_sentence(text: str) -> str:
    """What follows the first sentence; nothing where no end of a sentence is found.

    A full stop ends a sentence unless what stands before it looks like an abbreviation (fewer than three letters or a
    stop inside it) or a small letter follows.
    """
    for end in _END.finditer(text):
        before, after = end.group(1), text[end.end() :]
        if before is None or (len(before.strip("()\"'«»“”")) > 2 and "." not in before and not after[:1].islower()):
            return after
    return ""


def _long_enough(language: str, synopsis: str, text: str) -> bool:
    scale = 3 if language in DENSE else 1
    meaning = synopsis.replace(MASK, "").strip()
    return len(meaning) * scale >= SHORTEST["text"] and len(text) * scale >= SHORTEST["choice"]


def _english_texts(source: Source) -> tuple[str, str]:
    """What of a source is compared: its English synopsis and text."""
    return source.texts["en"]


def _tests(sources: Sequence[Source]) -> dict[str, list[Source]]:
    """Language -> the sources to test on, at most ROWS["test"].

    Languages with little text choose first. Sources that are tested in another language already come first, then
    those that ``topic`` tests, then those that exist in most languages, so that languages and tasks share test items
    as far as possible. The English test holds the sources that most languages are tested on.
    """
    of_topic = _groups("topic", "test")
    available = {code: [source for source in sources if code in source.texts] for code in INDEX}
    used: Counter[str] = Counter()
    tests = {}
    for code in [*sorted(INDEX, key=lambda code: (len(available[code]), code)), "en"]:
        candidates = [source for source in sources if source.name in used] if code == "en" else available[code]
        ranked = sorted(candidates, key=lambda s: (-used[s.name], s.name not in of_topic, -len(s.texts)))
        tests[code] = _chosen(ranked, code, ROWS["test"])
        used.update(source.name for source in tests[code])
    return tests


def _chosen(ranked: Sequence[Source], language: str, size: int) -> list[Source]:
    """The first ``size`` of the sources for whose rows there are enough distractors among the chosen ones."""
    left = list(ranked)
    while True:
        chosen = left[:size]
        sections = Counter(source.section for source in chosen)
        few = {source.name for source in chosen if sections[source.section] < FEWEST}
        if not few:
            few = {chosen[i].name for part in _by_section(chosen) for i in _distractors(part, chosen, language)[1]}
        if not few:
            return chosen
        left = [source for source in left if source.name not in few]


def _by_section(sources: Sequence[Source]) -> list[list[int]]:
    """Indices into ``sources``, section by section."""
    return [[i for i, source in enumerate(sources) if source.section == section] for section in SECTIONS]


def _distractors(
    part: Sequence[int], sources: Sequence[Source], language: str
) -> tuple[dict[int, list[int]], list[int]]:
    """Source -> the CHOICES - 1 sources whose texts are its distractors; and sources that have too few.

    ``part``: indices into ``sources`` of the sources of one section. Each round gives every source another one's text,
    each text once, such that the runs of characters that synopses share with the texts weigh most (an assignment).
    No text is a distractor beside a near-duplicate that is the correct choice, or for a synopsis that is much like its
    own, in English or in ``language``.
    """
    texts = {code: [sources[i].texts[code] for i in part] for code in ("en", language)}
    barred = np.eye(len(part), dtype=bool)
    for pairs in texts.values():
        synopses, choices = ([overlap.runs(pair[i]) for pair in pairs] for i in (0, 1))
        weight = overlap.shared(synopses, synopses).toarray()
        alike = 2 * weight > np.minimum.outer(weight.diagonal(), weight.diagonal())
        barred |= alike | (containment(*[[pair[1] for pair in pairs]] * 2).toarray() >= NEAR)
    cost = -overlap.shared(synopses, choices).toarray().astype(float)
    found: dict[int, list[int]] = {i: [] for i in part}
    for _ in range(CHOICES - 1):
        cost[barred] = 1e9
        lines, columns = linear_sum_assignment(cost)
        if barred[lines, columns].any():
            # The source that most others cannot stand beside makes room.
            return {}, [part[max(lines[barred[lines, columns]], key=lambda line: (barred[line].sum(), line))]]
        for line, column in zip(lines, columns, strict=True):
            found[part[line]].append(part[column])
        barred[lines, columns] = True
    return found, []


def _rows(split: str, language: str, sources: Sequence[Source]) -> list[Row]:
    """Rows of the bundle, one per source; the correct choice stands equally often at every index.

    ``original`` of a translated row: the English synopsis and text, on two lines.
    """
    distractors: dict[int, list[int]] = {}
    for part in _by_section(sources):
        distractors |= _distractors(part, sources, language)[0]
    answers = {s.name: i % CHOICES for i, s in enumerate(shuffled(sources, f"{SEED} {language}", lambda s: s.name))}
    rows = []
    for i, source in enumerate(sources):
        synopsis, text = source.texts[language]
        others = shuffled(distractors[i], f"{SEED} {language} {source.name}", lambda j: sources[j].name)
        choices = [sources[j].texts[language][1] for j in others]
        choices.insert(answers[source.name], text)
        rows.append(
            {
                "split": split,
                "language": language,
                "item": f"{source.name}/{source.package}",
                "group": source.name,
                "text": synopsis,
                "choices": choices,
                "answer": answers[source.name],
                "original": None if language == "en" else "\n".join(source.texts["en"]),
            }
        )
    return rows
