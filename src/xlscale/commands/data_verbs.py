"""The verbs about data, models and published scores, as ``verbs`` has all of them. Imports next to nothing, too."""

from __future__ import annotations

from xlscale.commands.options import CARDS, FIELDS, OF_STUDY, Verb

VERBS = [
    Verb(
        "new-data",
        "check a flat file of yours and make a data set of it: a card and a Parquet file in data_manifest/",
        "new-data mine.csv --family classification",
        "commands.new:data",
        (
            (
                "path",
                {
                    "metavar": "FILE",
                    "help": ".csv, .tsv, .jsonl, .parquet or .conll file, or a folder of them, train-en.csv and so on; "
                    "its columns: data_manifest/ADDING.md",
                },
            ),
            (
                "--family",
                {"required": True, "help": "of tasks: classification, tagging, span_qa, multiple_choice, ..."},
            ),
            FIELDS,
        ),
    ),
    Verb(
        "new-model",
        "examine a model's folder in the layout of transformers and write its card, with its parameters counted",
        "new-model newt --set licence=MIT",
        "commands.new:model",
        (
            ("path", {"metavar": "FOLDER", "help": "with config.json, tokenizer.json and safetensors"}),
            FIELDS,
        ),
    ),
    Verb(
        "add-source",
        "check published scores and add them to data_manifest/published/",
        "add-source mine.csv",
        "commands.data:add_source",
        (
            (
                "path",
                {
                    "metavar": "FILE",
                    "help": ".csv or .csv.gz file with the columns of data_manifest/published/, "
                    "or .json or .jsonl of lm-evaluation-harness, EuroEval or MTEB",
                },
            ),
            FIELDS,
            ("--replace", {"action": "store_true", "help": "in the place of all rows that its sources have"}),
        ),
    ),
    Verb(
        "withdraw-source",
        "take a source and its scores out of data_manifest/published/",
        "withdraw-source mine",
        "commands.data:withdraw_source",
        (("key", {"metavar": "KEY", "help": "a source_key of data_manifest/published/sources.csv"}),),
    ),
    Verb(
        "data fetch",
        "download, convert and lock data and models that are not in this repository",
        "data fetch xnli xcopa",
        "commands.data:fetch",
        (CARDS, OF_STUDY),
    ),
    Verb(
        "data check",
        "say whether data and models are reachable, and of the revision, hash and size that is locked",
        "data check --study xtreme_r",
        "commands.data:check",
        (CARDS, OF_STUDY),
    ),
    Verb(
        "data cost",
        "write into the cards of tasks what they cost: tokens, and operations of an epoch and of a test",
        "data cost topic",
        "commands.cost:main",
        (("names", {"nargs": "*", "metavar": "CARD", "help": "name of a card (default: all tasks)"}),),
    ),
]
