"""The verb ``plan``: what a study takes on GPUs."""

from __future__ import annotations

from xlscale.cards.catalogue import data_card
from xlscale.core.lines import each_bounded
from xlscale.experiment import studies
from xlscale.experiment.studies import Study

SEEDS = [1, 2, 3]  # of a study by reference recipes


def plan(study: str, method: str | None, hardware: str | None, reference: bool) -> None:
    """Print what a study takes: see ``planning``. Raises XlscaleError for a model whose shape nobody has stated."""
    from xlscale.planning import hardware as hardware_
    from xlscale.planning import plan as plan_
    from xlscale.planning import report

    machine, chosen = hardware_.load(hardware or hardware_.DEFAULT), studies.load(study)
    title = f"{study}, {chosen.title}"
    if reference:
        chosen, title = by_reference(chosen), f"{title}; by the recipes of the targets' cards, {len(SEEDS)} seeds"
    if method:
        title += f"; all by {method}"
    print(each_bounded("\n".join(report.lines(title, plan_.table(chosen.cells(), machine, method), machine))))


def by_reference(study: Study) -> Study:
    """The study with the recipes that the cards of its targets have, on all rows, and with SEEDS."""
    known = {name: "reference" for name in study.targets if data_card(name).recipe}
    return study.model_copy(update={"target_recipes": study.target_recipes | known, "seeds": SEEDS})
