"""What studies at the sizes of the question would take, and which change they could find, for ``13_designs.ipynb``."""

from __future__ import annotations

import numpy as np
import pandas as pd

from xlscale.cards.catalogue import data_card, model_card
from xlscale.core.files import XlscaleError
from xlscale.core.format import listing, percent
from xlscale.experiment.conditions import NONE
from xlscale.experiment.studies import Study
from xlscale.planning import designs
from xlscale.planning.designs import Design
from xlscale.planning.hardware import Hardware
from xlscale.report.numbers import Numbers
from xlscale.report.sections.simulation import SPREADS
from xlscale.stats import groups, primary, simulation
from xlscale.stats.slopes import FEWEST_RUNGS

MORE = {"sets": 4 / 3, "seeds": 3 / 2}  # designs that are compared with the study's own: times as many
USUAL, NOISE = simulation.Scenario().spread, simulation.Scenario().noise[0]
# Of targets with training, in points per factor of ten.
INTEREST = 100 * primary.SMALLEST["trained"]["accuracy"]
FAMILIES = len(primary.FAMILIES)  # which Holm's correction is for; where it is strictest, it is Bonferroni's


def table(study: Study, hardware: Hardware, replications: int, seed: int) -> pd.DataFrame:
    """A row per design and spread: sets, seeds, blocks, hours (of GPUs), spread (standard deviation between the slopes
    of sets) and slope: the smallest that the primary test finds in groups.POWER of simulated records, where Holm's
    correction is strictest, in points per factor of ten in parameters outside the word embeddings.

    Designs are those of ``around``. Raises XlscaleError for a study without sizes enough for a slope.
    """
    sets, parts = [name for name in study.intermediate if name != NONE], designs.parts(study, hardware)
    if len(parts) < FEWEST_RUNGS:
        raise XlscaleError(f"study: expected at least {FEWEST_RUNGS} models in {study.name}, got {len(parts)}")
    trained, rows = sum(data_card(name).trained for name in study.targets), []
    for design in around(designs.of(study)):
        runs, took = simulation.laid_out(sets, *design), designs.hours(parts, design)
        for spread in SPREADS:
            scenario = simulation.Scenario(spread=spread, noise=(NOISE,) * len(parts), targets=trained)
            rng, sizes = np.random.default_rng([seed, *design]), parts["parameters"].to_numpy(dtype=float)
            records = simulation.simulate(scenario, runs, sizes, 0.0, replications, rng)
            slope = simulation.detectable(records, 1 - (1 - groups.LEVEL) / FAMILIES)
            rows.append((*design, took, spread, slope))
    return pd.DataFrame(rows, columns=[*Design._fields, "hours", "spread", "slope"])


def around(own: Design) -> list[Design]:
    """A study's design and those that are set beside it: two thirds to five thirds of its sets, each with its seeds and
    blocks, with half as many seeds more, and with half the blocks."""
    counts = [round(own.sets * factor / 3) for factor in (2, 3, 4, 5)]
    others = [(own.seeds, own.blocks), (more(own, "seeds").seeds, own.blocks), (own.seeds, own.blocks // 2)]
    return [Design(count, *other) for other in others for count in counts]


def more(own: Design, what: str) -> Design:
    """The design with MORE of what is named."""
    return own._replace(**{what: round(getattr(own, what) * MORE[what])})


def add(numbers: Numbers, found: pd.DataFrame, study: Study, hardware: Hardware, replications: int) -> None:
    """Add the table ``designs``, and of the study's design and those with more sets or seeds what they take and find;
    in words, which of the two is worth more."""
    own, spreads = designs.of(study), [*SPREADS]
    wide = found.pivot(index=[*Design._fields, "hours"], columns="spread", values="slope").reset_index("hours")
    rows = [
        [*map(str, design), f"{row['hours']:,.0f}", f"{row['hours'] * hardware.price_per_hour:,.0f}"]
        + [f"{row[spread]:.1f}" for spread in spreads]
        for design, row in wide.iterrows()
    ]
    slopes = [f"Slope found, spread {spread:.0f}" for spread in spreads]
    header = ["Sets", "Seeds of a set", "Blocks of seeds", "GPU-hours", "US dollars", *slopes]
    numbers.table("designs", header, rows)
    named = {"own": own, "sets": more(own, "sets"), "seeds": more(own, "seeds")}
    for name, design in named.items():
        row = wide.loc[design]
        for part, value in zip(Design._fields, design, strict=True):
            numbers.count(f"design_{name}_{part}", value)
        numbers.add(f"design_{name}_hours", row["hours"], f"{row['hours']:,.0f}", "GPU-hours")
        numbers.add(f"design_{name}_slope", row[USUAL], f"{row[USUAL]:.1f}", "points")
    numbers.add("design_price", price := wide.loc[own]["hours"] * hardware.price_per_hour, f"{price:,.0f}", "dollars")
    numbers.add("design_worth", worth := _worth(wide.loc[named["sets"]], wide.loc[named["seeds"]]), worth)
    family, _ = _titled(next(iter(study.models)))
    numbers.words("design_models", f"{family} at {listing(_titled(name)[1] for name in study.models)}")
    numbers.words("design_hardware", hardware.title)
    numbers.words("design_spreads", listing(f"{spread:.0f}" for spread in spreads))
    numbers.count("design_trained", sum(data_card(name).trained for name in study.targets), "targets")
    for name, value in {"spread": USUAL, "noise": NOISE}.items():
        numbers.add(f"design_{name}", value, f"{value:.0f}", "points")
    numbers.add("design_interest", INTEREST, percent(INTEREST / 100, 0), "points")
    numbers.count("design_replications", replications, "records per design and spread")


def _worth(sets: pd.Series, seeds: pd.Series) -> str:
    """What is worth more, "sets" or "seeds": who takes no more hours and finds smaller slopes at every spread;
    "depends" if neither."""
    spreads = [*SPREADS]
    if sets["hours"] <= seeds["hours"] and (sets[spreads] < seeds[spreads]).all():
        return "sets"
    return "seeds" if seeds["hours"] <= sets["hours"] and (seeds[spreads] < sets[spreads]).all() else "depends"


def _titled(name: str) -> tuple[str, str]:
    """The family and the size of a model, by its title."""
    family, _, size = model_card(name).title.rpartition(" ")
    return family, size
