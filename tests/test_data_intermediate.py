"""The English intermediate sets: what they have in common, and the rules by which they are made."""

import json
from collections import Counter

import pytest
from conftest import archive

from data_manifest.builders import (
    bigbench,
    debian,
    help_pages,
    intermediate,
    libreoffice,
    next_passage,
    package_role,
    squadshifts,
    wordnet,
)
from data_manifest.builders.exclusions import Exclusions
from data_manifest.builders.intermediate import Item
from xlscale.cards import catalogue
from xlscale.core.files import XlscaleError
from xlscale.data import load

BUILT = [card for card in map(catalogue.data_card, catalogue.names("data")) if card.builder]  # others are users' own
CARDS = [card for card in BUILT if card.role == "intermediate" and card.bundled]
NEW = [card for card in CARDS if card.name in intermediate.ORDER[intermediate.FIRST :]]


def by_name(card):
    return card.name


def frame(name):
    return load.table(catalogue.data_card(name)).to_pandas()


# The sets as they are


def test_every_format_holds_both_types():
    kinds = Counter((card.family, card.type) for card in CARDS)
    assert {family for family, _ in kinds} == {"span_qa", "classification", "multiple_choice"}
    assert all((family, kind) in kinds for family, _ in list(kinds) for kind in ("general", "domain"))
    assert all(sum(n for (_, kind), n in kinds.items() if kind == wanted) >= 5 for wanted in ("general", "domain"))


def test_target_tasks_come_before_the_sets_that_keep_away_from_them():
    assert len(set(intermediate.ORDER)) == len(intermediate.ORDER)
    assert all(catalogue.data_card(name).role == "intermediate" for name in intermediate.ORDER[intermediate.FIRST :])
    assert {card.name for card in BUILT if card.role == "target"} <= {*intermediate.ORDER[: intermediate.FIRST]}


@pytest.mark.parametrize("card", CARDS, ids=by_name)
def test_sizes_are_equal_but_where_the_source_ends(card):
    expected = {"train": {"en": 2000}, "dev": {"en": 400 if card.family == "span_qa" else 300}}
    if card.name in bigbench.SIZES:
        expected = {split: {"en": rows} for split, rows in bigbench.SIZES[card.name].items()}
    assert card.splits == expected and not card.languages


@pytest.mark.parametrize("card", NEW, ids=by_name)
def test_labels_and_places_of_answers_are_even(card):
    for split, part in frame(card.name).groupby("split"):
        if card.family == "span_qa":
            continue
        counts = part["label" if card.family == "classification" else "answer"].value_counts()
        if card.family == "multiple_choice":
            sizes = part["choices"].map(len)
            assert sizes.nunique() == 1 and card.chance == pytest.approx(1 / sizes.iloc[0])
            assert part["choices"].map(lambda choices: len(set(choices)) == len(choices)).all()
            assert len(counts) == sizes.iloc[0]
        else:
            assert set(counts.index) == set(card.labels) and card.chance == pytest.approx(1 / len(card.labels))
        # No class is more than twice as frequent as it would be if all were even.
        assert counts.max() <= 2 * len(part) / len(counts), (split, counts)


@pytest.mark.parametrize("card", NEW, ids=by_name)
def test_splits_share_no_group(card):
    rows = frame(card.name)
    train, dev = (set(rows.loc[rows["split"] == split, "group"]) for split in ("train", "dev"))
    assert train and dev and not train & dev


def test_help_sets_use_free_pages_and_share_none():
    module, following = (set(frame(name)["group"]) for name in ("help_module", "help_next"))
    assert not module & following
    assert not any(libreoffice.tested(page) for page in module | following)


def test_package_role_uses_no_source_of_a_target():
    mine = set(frame("package_role")["group"])
    for card in map(catalogue.data_card, catalogue.names("data")):
        if card.role == "target" and any(package.file == "debian-12.15-Packages" for package in card.packages):
            assert not mine & set(frame(card.name)["group"])


def test_a_passage_alone_tells_nothing():
    for name in ("help_next", "review_next"):
        for _, part in frame(name).groupby("split"):
            right = [choices[answer] for choices, answer in zip(part["choices"], part["answer"], strict=True)]
            shown = Counter(choice for choices in part["choices"] for choice in choices)
            assert len(set(right)) == len(right) and set(right) == set(shown)
            assert max(shown.values()) <= 6 and shown.total() == 4 * len(right)


# The rules


def items(*texts, group="g{}", **fields):
    return [Item(f"i{n}", group.format(n), text, dict(fields)) for n, text in enumerate(texts)]


def words(start, count=10):
    return " ".join(f"word{i}" for i in range(start, start + count))


def known(*texts, groups=(), short=()):
    return Exclusions(frozenset(groups), frozenset(texts), frozenset(short))


def test_what_is_excluded_is_dropped_by_group_equal_texts_and_near_duplicates():
    given = items(words(0), words(104), words(20), "save AS", words(96))
    avoided = known(words(100), "Save as", groups=["g0"])
    assert [item.name for item in intermediate.drop_excluded(given, avoided)] == ["i2"]


def test_choices_are_compared_as_in_the_proof():
    def offered(choice):
        return items(words(0), choices=[choice, words(30)], answer=1)

    assert intermediate.drop_excluded(offered(words(102)), known(words(100))) == []
    assert intermediate.drop_excluded(offered("save AS"), known("Save as")) == []
    # Words in a row that two short texts share mean little, and two questions may have the same short choice.
    for kept, avoided in ((words(102, 7), known(words(100))), ("Save as", known(short=["Save as"]))):
        assert intermediate.drop_excluded(offered(kept), avoided) == offered(kept)
    assert intermediate.drop_excluded(items("Save as"), known(short=["Save as"])) == []


def card(name="new", **changes):
    return catalogue.data_card("wordnet_class").model_copy(update={"name": name} | changes)


def test_split_is_even_and_keeps_groups_and_near_duplicates_together():
    given = [Item(f"i{n}", f"g{n // 2}", words(20 * n), {"label": "ab"[n // 2 % 2]}) for n in range(40)]
    given += [Item(f"copy{n}", f"other{n}", words(20 * n + 1), {"label": "a"}) for n in range(40)]
    rows = intermediate.split(card(), given, "seed", rows={"dev": 8, "train": 16})
    train, dev = ([row for row in rows if row["split"] == split] for split in ("train", "dev"))
    assert (len(train), len(dev)) == (16, 8)
    assert Counter(row["label"] for row in dev) == {"a": 4, "b": 4}
    near = {row["text"].split()[2] for row in dev} & {word for row in train for word in row["text"].split()}
    assert not near and not {row["group"] for row in train} & {row["group"] for row in dev}


def test_split_says_what_it_lacks():
    with pytest.raises(XlscaleError, match="new: train: expected 5 rows, got 4"):
        intermediate.split(
            card(), items(*(words(20 * n) for n in range(6)), label="a"), "s", rows={"dev": 2, "train": 5}
        )


def test_scarce_items_are_saved_for_train():
    # Two groups of one that nothing resembles, and four that resemble each other.
    given = items(words(100), words(200), *(words(n) for n in range(4)), label="a")
    rows = intermediate.split(card(), given, "seed", rows={"dev": 2, "train": 4}, scarce=True)
    assert {row["item"] for row in rows if row["split"] == "dev"} == {"i0", "i1"}


def test_what_comes_before_is_excluded():
    topic = frame("topic")
    assert intermediate.from_earlier_sets(catalogue.data_card("squad_wiki"), "train") == known()
    assert intermediate.from_earlier_sets(card("unknown"), "train") == known()
    shared = intermediate.from_earlier_sets(catalogue.data_card("package_role"), "train")
    # From the same package: avoided whole.
    assert set(topic["group"]) <= shared.names
    assert set(topic["text"]) <= shared.texts
    other = intermediate.from_earlier_sets(catalogue.data_card("squad_v1"), "train")
    trained, unseen = (set(topic.loc[topic["split"].isin(splits), "text"]) for splits in (["train"], ["dev", "test"]))
    assert not other.names and unseen <= other.texts and not trained & other.texts
    assert trained <= intermediate.from_earlier_sets(catalogue.data_card("squad_v1"), "dev").texts


def task(tmp_path, folder, examples, canary=None):
    name = f"{bigbench.FOLDER}/{folder}/task.json"
    canary = canary or catalogue.data_card("social_iqa").canary
    return archive(tmp_path / "bb.tar.gz", {name: json.dumps({"canary": canary, "examples": examples})})


def test_choices_are_placed_by_the_item_alone():
    fields = [intermediate.multiple_choice("right", ["wrong", "worse"], f"key {n}") for n in range(300)]
    assert all(field["choices"][field["answer"]] == "right" for field in fields)
    assert min(Counter(field["answer"] for field in fields).values()) > 70
    assert fields[0] == intermediate.multiple_choice("right", ["worse", "wrong"], "key 0")


def test_questions_without_the_usual_number_of_choices_are_left_out():
    scores = [{"a": 0, "b": 1}, {"a": 0, "b": 1, "c": 0}, {"a": 1, "b": 1, "c": 0}]
    examples = [{"input": f"Why {n}? ", "target_scores": score} for n, score in enumerate(scores)]
    (found,) = bigbench._social("social_iqa", examples)
    assert found.text == "Why 1?" and found.fields["choices"][found.fields["answer"]] == "b"


def test_wikihow_says_what_is_given():
    scores = {"A": 0, "B": 1, "C": 0, "D": 0}
    (goal,) = bigbench._wikihow(
        "goal_inference", [{"input": "The most reasonable goal of 'Chop it' is ", "target_scores": scores}]
    )
    (step,) = bigbench._wikihow(
        "step_inference", [{"input": "The most reasonable step of 'Cook' is ", "target_scores": scores}]
    )
    assert (goal.text, step.text) == ("Step: Chop it", "Goal: Cook")


def test_claims_are_few_of_each_page():
    scores = {"True": 1, "False": 0, "Neither": 0}
    examples = [{"input": f"Page: It is {n}.\nClaim: It was {n} .", "target_scores": scores} for n in range(9)]
    examples.append({"input": "Other: lost \ufffd\nClaim: x", "target_scores": scores})
    found = list(bigbench._claims("vitaminc", examples))
    assert len(found) == bigbench.CLAIMS and {item.group for item in found} == {"Page"}
    assert all(item.text.startswith("Claim: It was ") and "\nPassage: Page: It is " in item.text for item in found)


def test_bigbench_says_what_is_wrong(tmp_path):
    given = catalogue.data_card("social_iqa")
    with pytest.raises(XlscaleError, match="social_iqa: canary: expected 'other'"):
        bigbench.build(given, [task(tmp_path, "social_iqa", [], "other")])
    with pytest.raises(XlscaleError, match=r"bb\.tar\.gz: expected a file .*social_iqa/task\.json, found none"):
        bigbench.build(given, [task(tmp_path, "another", [])])


def test_every_context_of_a_single_article_is_an_article():
    one = [{"title": "All", "paragraphs": ["p", "q"]}]
    assert [article["title"] for article in squadshifts._single(one)] == ["All/0", "All/1"]
    assert squadshifts._single(one * 2) == one * 2


def test_glosses_of_the_chosen_files():
    gloss = "a gloss that is long enough to say what kind of a thing it is about"
    lines = [
        "  1 This software and database is being provided to you, the LICENSEE, by  ",
        f"00001740 05 n 01 cat 0 000 | {gloss}  ",
        f"00001741 03 n 01 entity 0 000 | {gloss}  ",
        "00001742 05 n 01 dog 0 000 | short  ",
    ]
    assert [(item.name, item.text, item.fields) for item in wordnet._items(lines)] == [
        ("n00001740", gloss, {"label": "animal"})
    ]


def test_wordnet_says_what_it_lacks(tmp_path):
    path = archive(tmp_path / "wn.tgz", {"package/other": ""})
    with pytest.raises(XlscaleError, match=r"wn\.tgz: expected a file package/dict/data\.noun, found none"):
        wordnet.build(card(), [path])


@pytest.mark.parametrize(
    ("tags", "expected"),
    [
        ({"role::shared-lib", "use::viewing"}, "library"),
        ({"role::program", "interface::commandline"}, "command line"),
        ({"role::program", "interface::x11", "interface::graphical"}, "graphical"),
        ({"role::program", "interface::commandline", "interface::x11"}, ""),
        ({"role::program", "interface::text-mode"}, ""),
        ({"role::program"}, ""),
        ({"role::program", "role::documentation"}, ""),
        ({"role::metapackage"}, ""),
        ({"interface::daemon"}, ""),
    ],
)
def test_role_of_a_package(tags, expected):
    assert package_role.role(tags) == expected


def test_tags_that_go_over_several_lines(tmp_path):
    path = tmp_path / "Packages"
    known = "Section: x\nDescription-md5: 0\n"
    path.write_text(f"Package: a\nTag: use::viewing,\n role::plugin\n{known}\nPackage: b\n{known}")
    roles = {package: package_role.role(entry.tags) for package, entry in debian.packages(path).items()}
    assert roles == {"a": "plugin", "b": ""}


def test_sentences_and_runs():
    text = 'It works. "Really!" I said so.As for the lid, v1.5 is better.\nGood'
    assert next_passage.sentences_of(text) == [
        "It works.",
        '"Really!"',
        "I said so.",
        "As for the lid, v1.5 is better.",
        "Good",
    ]
    assert list(next_passage.runs("abcdef", 1, lambda run: True)) == [0, 2, 4]
    assert list(next_passage.runs("abcdef", 2, lambda run: run != "abc")) == [1]


def test_wrong_passages_come_from_other_groups():
    given = [next_passage.continued(f"i{n}", f"g{n // 2}", f"text {n}", f"passage {n}") for n in range(12)]
    done = next_passage.with_distractors(given, 1)
    assert sorted(item.name for item in done) == sorted(item.name for item in given)
    assert Counter(item.fields["answer"] for item in done) == dict.fromkeys(range(4), 3)
    for item in done:
        numbers = [int(choice.split()[1]) for choice in item.fields["choices"]]
        assert numbers[item.fields["answer"]] == int(item.name[1:])
        assert len({number // 2 for number in numbers}) == 4
    with pytest.raises(XlscaleError, match="expected items of more than 3 groups"):
        next_passage.with_distractors(given[:6], 1)


def test_wrong_passages_are_those_that_share_most_with_the_text():
    given = [next_passage.continued(f"i{n}", f"g{n}", words(10 * (n // 4)), words(10 * (n // 4), 5)) for n in range(16)]
    for item in next_passage.with_distractors(given, next_passage.DISTRACTORS):
        assert {int(choice.split()[0][4:]) for choice in item.fields["choices"]} == {10 * (int(item.name[1:]) // 4)}


def test_every_passage_is_the_right_one_once():
    given = [
        next_passage.continued(f"i{n}", f"g{n}", f"text {n}", passage) for n, passage in enumerate(["A b.", "a B", "c"])
    ]
    assert [item.name for item in next_passage.once(given)] == ["i0", "i2"]


def test_help_paragraphs_that_continue_a_page():
    told = {"hd_1": "Inserting a table into a text document", "par_2": "Choose Table - Insert Table."}
    page = told | {"par_3": "Enter the number of rows and columns.", "par_4": "10", "hd_5": "See also the other pages."}
    (found,) = help_pages._continued("swriter/a", page)
    assert found.text == "\n".join(told.values()) and found.fields["choices"] == [page["par_3"]]
    short = {"par_1": "x" * 38 + ".", "par_2": "x" * 39 + ".", "hd_3": "y" * 50 + ".", "par_4": "z" * 50}
    assert [item.name for item in help_pages._paragraphs("swriter/a", short)] == ["swriter/a#par_2"]


def test_pages_of_small_modules_are_for_help_module():
    assert help_pages.of_module("smath/main") and not help_pages.of_module("shared/main")
    share = sum(help_pages.of_module(f"scalc/{n}") for n in range(400)) / 400
    assert abs(share - help_pages.SHARE) < 0.05
