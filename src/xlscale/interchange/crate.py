"""The record as a Workflow Run RO-Crate, w3id.org/ro/wfrun/workflow/0.5: which cell was run on what, by which notebook.

Belongs here: the metadata of a crate, as JSON-LD. The main workflow is the Snakefile; its run made all cells, and each
cell is a run of a notebook, of data, a model, parameters and perhaps the checkpoint of its parent. The record tells how
long a cell took and not when it ran, so no action has an ``endTime``.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote

from xlscale.cards.catalogue import data_card, model_card
from xlscale.core.files import NOTEBOOK, sha256_file
from xlscale.experiment.results import Result
from xlscale.interchange import croissant
from xlscale.interchange.citation import Citation

METADATA = "ro-crate-metadata.json"
CRATE = "https://w3id.org/ro/crate/1.1"
CONTEXT = [f"{CRATE}/context", "https://w3id.org/ro/terms/workflow-run/context"]
WORKFLOW_CRATE = "https://w3id.org/workflowhub/workflow-ro-crate/1.0"
PROFILES = {  # name and version by address
    "https://w3id.org/ro/wfrun/process/0.5": ("Process Run Crate", "0.5"),
    "https://w3id.org/ro/wfrun/workflow/0.5": ("Workflow Run Crate", "0.5"),
    WORKFLOW_CRATE: ("Workflow RO-Crate", "1.0"),
}
SNAKEMAKE, PYTHON = "https://w3id.org/workflowhub/workflow-ro-crate#snakemake", "https://www.python.org/"
LICENCE = "https://spdx.org/licenses/"
DATA, MODELS, PREDICTIONS, MODEL_INDEX = "data/", "models/", "predictions/", "model-index/"  # folders of a crate
WORKFLOW, CELLS, SCORES, README = "Snakefile", "cells.parquet", "scores.csv", "README.md"
FOLDERS = {
    DATA: "data sets: a Croissant manifest each, and the table where it may be passed on",
    MODELS: "the cards of the models",
    PREDICTIONS: "what each cell predicted, a row per item",
    MODEL_INDEX: "the scores of each model that was trained on a target, as the metadata of a model card has them",
}
FILES = {
    WORKFLOW: "the workflow that runs cells, analyses and paper",
    CELLS: "every recorded cell with its parameters, scores, costs and environment",
    SCORES: "the scores, a row per cell, language and metric",
    "CITATION.cff": "how to cite this",
    "CHANGELOG.md": "what changed recorded numbers, and why",
    "LICENSE": "the licence of the code",
    README: "what is in this crate",
    "requirements.lock": "the versions of all packages",
    **{f"notebooks/{path.name}": f"phase {i}, {phase}" for i, (phase, path) in enumerate(NOTEBOOK.items(), 1)},
}
FORMATS = {
    ".cff": "application/yaml",
    ".csv": "text/csv",
    ".ipynb": "application/x-ipynb+json",
    ".json": "application/ld+json",
    ".md": "text/markdown",
    ".parquet": "application/vnd.apache.parquet",
    ".yaml": "application/yaml",
}
_NAMED = ("model", "intermediate", "target")  # parameters that are entities of their own

Entity = dict[str, Any]


def metadata(folder: Path, known: Mapping[str, Result], cited: Citation) -> dict[str, Any]:
    """What METADATA holds for the files that lie in ``folder`` and the cells ``known``, all of which are recorded."""
    files = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
    parameters = {pair: _parameter(*pair) for result in known.values() for pair in _parameters(result)}
    parents = {result.parent for result in known.values() if result.parent}
    actions = [_run(known, cited), *(_cell(one, set(files), parents) for _, one in sorted(known.items()))]
    graph = [
        _descriptor(),
        _root(files, actions, cited),
        *_context(cited),
        *(_folder(name, files) for name in _folders(files)),
        *(_file(folder, name, cited) for name in files),
        *(_licence(Path(name).stem) for name in files if name.startswith(DATA) and name.endswith(".parquet")),
        *(_checkpoint(name) for name in sorted(parents)),
        *(parameters[pair] for pair in sorted(parameters)),
        *actions,
    ]
    return {"@context": CONTEXT, "@graph": graph}


def readme(cited: Citation) -> str:
    """A text for people: what is in a crate."""
    lines = [f"- `{name}`: {text}" for name, text in {**FOLDERS, **FILES}.items() if name != README]
    about = (
        f"{METADATA} says for each cell which notebook was run, on which data, model and parameters, and what it left."
    )
    return "\n".join([f"# {cited.title}", "", " ".join(cited.abstract.split()), "", about, "", *lines, ""])


def _ids(names: Iterable[str]) -> Entity | list[Entity]:
    """References; a single one is no list, as JSON-LD has it when it is compact."""
    found = [{"@id": name} for name in names]
    return found[0] if len(found) == 1 else found


def _descriptor() -> Entity:
    entity = {"@id": METADATA, "@type": "CreativeWork", "about": {"@id": "./"}}
    return entity | {"conformsTo": _ids([CRATE, WORKFLOW_CRATE])}


def _root(files: list[str], actions: list[Entity], cited: Citation) -> Entity:
    return {
        "@id": "./",
        "@type": "Dataset",
        "conformsTo": _ids(PROFILES),
        "name": cited.title,
        "description": " ".join(cited.abstract.split()),
        "license": {"@id": LICENCE + cited.license},
        "datePublished": cited.released,
        "version": cited.version,
        "keywords": cited.keywords,
        "author": {"@id": "#authors"},
        "publisher": {"@id": "#authors"},
        "mainEntity": {"@id": WORKFLOW},
        "hasPart": _ids([*_folders(files), *(name for name in files if name in FILES)]),
        "mentions": _ids(action["@id"] for action in actions),
    }


def _context(cited: Citation) -> list[Entity]:
    profiles = [
        {"@id": address, "@type": "CreativeWork", "name": name, "version": version}
        for address, (name, version) in PROFILES.items()
    ]
    licence = {"@id": LICENCE + cited.license, "@type": "CreativeWork", "name": cited.license}
    authors = {"@id": "#authors", "@type": "Organization", "name": cited.author}
    page = "https://snakemake.readthedocs.io"
    language = {"@id": SNAKEMAKE, "@type": "ComputerLanguage", "name": "Snakemake", "identifier": {"@id": page}}
    python = {"@id": PYTHON, "@type": "ComputerLanguage", "name": "Python", "url": {"@id": PYTHON}}
    return [*profiles, licence, authors, language | {"url": {"@id": page}}, python]


def _folders(files: list[str]) -> list[str]:
    return [name for name in FOLDERS if any(file.startswith(name) for file in files)]


def _folder(name: str, files: list[str]) -> Entity:
    held = [file for file in files if file.startswith(name)]
    return {"@id": name, "@type": "Dataset", "name": name, "description": FOLDERS[name], "hasPart": _ids(held)}


def _file(folder: Path, name: str, cited: Citation) -> Entity:
    path = folder / name
    entity = {
        "@id": name,
        "@type": "File",
        "name": name,
        "encodingFormat": FORMATS.get(path.suffix, "text/plain"),
        "contentSize": str(path.stat().st_size),
        "sha256": sha256_file(path),
    }
    if name in FILES:
        entity["description"] = FILES[name]
    if name == README:
        return entity | {"about": {"@id": "./"}}
    if name == WORKFLOW:
        notebooks = _ids(f"notebooks/{path.name}" for path in NOTEBOOK.values())
        kinds = {"@type": ["File", "SoftwareSourceCode", "ComputationalWorkflow"], "hasPart": notebooks}
        return entity | kinds | {"programmingLanguage": {"@id": SNAKEMAKE}, "version": cited.version}
    if path.suffix == ".ipynb":
        kinds = {"@type": ["File", "SoftwareSourceCode"], "programmingLanguage": {"@id": PYTHON}}
        return entity | kinds | {"version": cited.version}
    if name.startswith(DATA):
        return entity | _data(path)
    if name.startswith(MODELS):
        card = model_card(path.stem)
        return entity | {"description": f"{card.title}, from {card.origin}; licence of the model: {card.licence}"}
    return entity


def _data(path: Path) -> Entity:
    card = data_card(path.stem)
    if path.suffix == ".json":
        table = path.with_suffix(".parquet")
        about = {"about": {"@id": DATA + table.name}} if table.exists() else {}
        return about | {"description": f"Manifest of {card.title}", "conformsTo": {"@id": croissant.VERSION}}
    if path.suffix != ".parquet":
        return {"description": f"Licence of {card.title}"}
    return {"description": card.title, "license": {"@id": f"#licence-{card.name}"}, "citation": card.citation}


def _licence(name: str) -> Entity:
    return {"@id": f"#licence-{name}", "@type": "CreativeWork", "name": data_card(name).licence}


def _checkpoint(name: str) -> Entity:
    text = "the weights that it left, which are not kept: they follow from what it was run on"
    return {"@id": f"#checkpoint-{name}", "@type": "CreativeWork", "name": f"checkpoint of {name}", "description": text}


def _parameters(result: Result) -> list[tuple[str, str]]:
    """Names and values of a cell's parameters that are set and are no entity of their own."""
    own = {name: value for name, value in result.parameters.items() if value is not None and name not in _NAMED}
    return sorted((name, json.dumps(value).strip('"')) for name, value in own.items())


def _parameter(name: str, value: str) -> Entity:
    return {"@id": _id(name, value), "@type": "PropertyValue", "name": name, "value": value}


def _id(name: str, value: str) -> str:
    return f"#{name}-{quote(value)}"


def _run(known: Mapping[str, Result], cited: Citation) -> Entity:
    """The run of the workflow that all cells are of."""
    models = {f"{MODELS}{one.parameters['model']}.yaml" for one in known.values()}
    return {
        "@id": "#record",
        "@type": "CreateAction",
        "name": "the record",
        "description": f"All {len(known)} recorded cells, by `make record`, `make tune` and what they run.",
        "instrument": {"@id": WORKFLOW},
        "agent": {"@id": "#authors"},
        "object": _ids([DATA, *sorted(models)]),
        "result": _ids([CELLS, SCORES, PREDICTIONS]),
    }


def _cell(result: Result, files: set[str], parents: set[str | None]) -> Entity:
    """A recorded cell, as the run of its notebook."""
    tables = (f"{DATA}{name}.parquet" for name in sorted(result.reads) if f"{DATA}{name}.json" in files)
    read = [name if name in files else f"{name.removesuffix('parquet')}json" for name in tables]
    parent = [f"#checkpoint-{result.parent}"] if result.parent else []
    left = [name for name in (f"{PREDICTIONS}{result.id}.parquet", f"{MODEL_INDEX}{result.id}.yaml") if name in files]
    left += [f"#checkpoint-{result.id}"] if result.id in parents else []
    where, seconds = result.environment.get("machine", "an unknown machine"), sum(result.seconds.values())
    entity = {
        "@id": f"#{result.id}",
        "@type": "CreateAction",
        "name": result.id,
        "description": f"Code with the fingerprint {result.fingerprint}; on {where}; {seconds:.1f} s.",
        "instrument": {"@id": f"notebooks/{NOTEBOOK[result.phase].name}"},
        "agent": {"@id": "#authors"},
        "object": _ids(
            [f"{MODELS}{result.parameters['model']}.yaml", *read, *parent, *(_id(*one) for one in _parameters(result))]
        ),
        "actionStatus": "http://schema.org/CompletedActionStatus",
    }
    if result.status == "failed":
        return entity | {"actionStatus": "http://schema.org/FailedActionStatus", "error": result.reason}
    return entity | {"result": _ids(left)}
