"""The scores of a trained model as the hub's model cards hold evaluation results: ``model-index`` in their metadata."""

from __future__ import annotations

import yaml
from huggingface_hub.repocard_data import EvalResult, eval_results_to_model_index

from xlscale.cards.catalogue import data_card
from xlscale.experiment.results import Result, split_of
from xlscale.record import store
from xlscale.report.labels import METRICS

# Family -> what the hub calls such a task.
TASKS = {
    "classification": "text-classification",
    "multiple_choice": "multiple-choice",
    "mining": "sentence-similarity",
    "ranking": "text-ranking",
    "retrieval": "text-retrieval",
    "span_qa": "question-answering",
    "tagging": "token-classification",
}
SPLITS = {"dev": "validation"}  # what the hub calls a split, where that is another name


def card(result: Result) -> str:
    """The metadata of the model card of a complete target cell: a result per language, values from 0 to 1.

    The data set is called by its card, and its revision is the sha256 of its table; none is that of the hub.
    """
    found = [one for language in sorted(result.languages) for one in _of(result, language)]
    index = {"model-index": eval_results_to_model_index(result.id, found)}
    return yaml.dump(index, Dumper=getattr(yaml, "CSafeDumper", yaml.SafeDumper), sort_keys=False, allow_unicode=True)


def _of(result: Result, language: str) -> list[EvalResult]:
    name, score = store.data_set(result), result.languages[language]
    data, evaluated = data_card(name), split_of(result.phase, result.parameters)
    return [
        EvalResult(
            task_type=TASKS[data.family],
            dataset_type=name,
            dataset_name=f"{data.title} ({language})",
            dataset_config=language,
            dataset_split=SPLITS.get(evaluated, evaluated),
            dataset_revision=data.sha256,
            dataset_args={"items": score.items},
            metric_type=key,
            metric_name=METRICS.get(key, key.replace("_", " ")),
            metric_value=value,
        )
        for key, value in {data.primary_metric: score.value, **dict(sorted(score.others.items()))}.items()
    ]
