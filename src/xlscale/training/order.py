"""What comes when: the inputs of every step of a training, on one data set or on several mixed.

Of several, a step is on a batch of one of them, which is drawn in proportion to how many examples each has, those above
a limit K not being counted: examples-proportional mixing, Raffel et al. 2020 (arXiv:1910.10683), section 3.5.2,
r_m = min(e_m, K) / sum over n of min(e_n, K). Phang et al. 2020 (arXiv:2005.13013) mix the intermediate tasks of their
multi-task training like this; whether with a limit, and with which, could not be read, so there is none by default.
All examples of a set come once before any comes again. OURS is how long an epoch is: as many batches as the sets would
make of the examples that are counted.
"""

from __future__ import annotations

import numpy as np

from xlscale.data.batches import Encoded, token_order, training_order
from xlscale.experiment.recipe import Recipe

PART = "part"  # the target that tells which set an input of a mixture is from


def epoch(encoded: Encoded, recipe: Recipe, generator: np.random.Generator) -> list[np.ndarray]:
    """The inputs of every step of one epoch: int64 index arrays."""
    if recipe.batch_tokens is not None:
        return token_order(encoded.lengths, recipe.batch_tokens, generator, row=encoded.row)
    return training_order(encoded.lengths, recipe.batch_size, generator, row=encoded.row)


def batches(encoded: Encoded, recipe: Recipe, generator: np.random.Generator) -> list[np.ndarray]:
    """The inputs of every step: int64 index arrays, epoch after epoch, until the recipe's epochs or steps are done."""
    if PART in encoded.targets:
        return mixed(encoded, recipe, generator)
    found: list[np.ndarray] = []
    for _ in range(recipe.epochs or recipe.steps):
        found += epoch(encoded, recipe, generator)
        if recipe.steps is not None and len(found) >= recipe.steps:
            break
    return found[: recipe.steps]


def mixed(encoded: Encoded, recipe: Recipe, generator: np.random.Generator) -> list[np.ndarray]:
    """``batches`` of a mixture, see ``training.mixture``: each of one set. Of one set they are that set's own."""
    parts = [np.flatnonzero(encoded.targets[PART] == part) for part in np.unique(encoded.targets[PART])]

    def another(part: np.ndarray) -> list[np.ndarray]:
        return [part[index] for index in epoch(encoded.take(part), recipe, generator)]

    waiting = [[batch for _ in range(recipe.epochs or 1) for batch in another(part)] for part in parts]
    shares = counted([len(np.unique(encoded.row[part])) for part in parts], recipe.mixing_cap)
    weights = np.array([len(own) for own in waiting]) * shares
    steps = recipe.steps or max(1, round(weights.sum()))
    found = []
    # Drawn apart from the batches, which are so those of a training on one set where there is one.
    for part in generator.spawn(1)[0].choice(len(parts), steps, p=weights / weights.sum()):
        waiting[part] = waiting[part] or another(parts[part])
        found.append(waiting[part].pop(0))
    return found


def counted(examples: list[int], limit: int | None) -> np.ndarray:
    """Float64 (sets,): the share of each set's ``examples`` that counts in the mixture."""
    several = np.array(examples, float)
    return np.minimum(several, np.inf if limit is None else limit) / several
