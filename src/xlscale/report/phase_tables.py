"""What the notebooks of the three phases show of their cell: rungs, losses, scores per language."""

from __future__ import annotations

from io import StringIO
from typing import TYPE_CHECKING

import pandas as pd

from xlscale.cards.schema import ModelCard
from xlscale.experiment.results import Result
from xlscale.models import ladder
from xlscale.training.loop import TrainingLog

if TYPE_CHECKING:
    from IPython.display import SVG


def languages(result: Result) -> pd.DataFrame:
    """Scores per language, in percent, the mean over zero-shot languages last."""
    rows = {
        code: {"items": score.items, "value (%)": 100 * score.value}
        | {f"{name} (%)": 100 * value for name, value in score.others.items()}
        for code, score in result.languages.items()
    }
    mean = {"items": sum(score.items for code, score in result.languages.items() if code != "en" or len(rows) == 1)}
    rows["mean over zero-shot languages" if len(rows) > 1 else "mean"] = mean | {"value (%)": 100 * result.value}
    return pd.DataFrame.from_dict(rows, orient="index").round(1)


def loss_figure(log: TrainingLog | None) -> SVG | None:
    """Training loss against the step, or None where nothing was trained."""
    if log is None:
        return None
    from IPython.display import SVG
    from matplotlib.figure import Figure

    figure = Figure(figsize=(5, 2.2), layout="constrained")
    axes = figure.subplots()
    axes.plot(range(1, len(log.losses) + 1), log.losses, color="0.2", linewidth=1)
    axes.set(xlabel="optimizer step", ylabel="training loss (nats)")
    buffer = StringIO()
    figure.savefig(buffer, format="svg")  # a Figure alone is shown only where pyplot has set up the notebook
    return SVG(buffer.getvalue())


def rungs(card: ModelCard) -> pd.DataFrame:
    """Every rung of a model with its counted parameters, in millions."""
    counts = {layers: ladder.parameter_counts(ladder.empty(card, layers)) for layers in card.rungs}
    table = pd.DataFrame.from_dict(counts, orient="index", columns=["total (M)", "non-embedding (M)"]) / 1e6
    return table.rename_axis("layers").round(2)
