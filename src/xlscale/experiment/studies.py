"""A study: models x intermediate tasks x targets x seeds, written in YAML and expanded into cells."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import cache, cached_property
from itertools import combinations, product
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from xlscale.cards import catalogue
from xlscale.cards.catalogue import data_card
from xlscale.core.arguments import meant
from xlscale.core.files import ROOT, STUDIES, XlscaleError, relative
from xlscale.core.lines import Title
from xlscale.core.strict import Distinct, Name, Strict, parse, read_yaml
from xlscale.experiment import cells, checks, conditions
from xlscale.experiment.cells import NONE, PREFIX, Cell, Role
from xlscale.experiment.otherwise import ALL, Arm, ModelRecipe, beside, of_card
from xlscale.experiment.recipe import Count, Length, Rate, Recipe, Seed, Share, lacking
from xlscale.experiment.tuning import Tuning, tuned

MOST = 100_000  # cells of a study: more are planned for minutes, and no one runs them
MAIN = "pilot"  # the study of the paper's local ladder, where none is named
# The paper's. A copy of one with another name is a study of one's own, and never writes where the paper lies.
PUBLISHED = (
    *("confirmatory", "pilot", "pilot_rate", "smoke", "suite", "tune_intermediate", "tune_target"),
    *("dose", "plateau", "stability", "confirmatory_2", "fixed_rates", "cut_ladder"),
    *("xtreme_r", "xtreme_r_small", "methods", "second_ladder", "second_ladder_rates"),
)


def _by_rung(one: Any) -> Any:
    """The type of a hyperparameter: one value for all rungs, or by number of layers; all those of a list are tried."""
    values = one | Annotated[list[one], Field(min_length=1), Distinct]
    return values | Annotated[dict[Count, values], Field(min_length=1)]


class StudyRecipe(Recipe):
    """A recipe for all rungs of a study; which of its fields a phase needs is checked cell by cell."""

    examples: Count | None = None
    epochs: Count | None = None
    learning_rate: _by_rung(Rate) | Literal["tuned"] | None = None  # "tuned" is what tuning chose
    steps: _by_rung(Count) | None = None
    warmup: _by_rung(Share) = Recipe.model_fields["warmup"].default
    word_layer: _by_rung(Count) = Recipe.model_fields["word_layer"].default
    batch_size: Count | None = None
    max_length: Length
    test_items: Count

    def at(self, layers: int, where: str) -> list[dict[str, Any]]:
        """The values for one rung, once for all that is tried. Raises XlscaleError when the rung lacks a value."""
        given = {name: getattr(self, name) for name in ("learning_rate", "steps", "warmup", "word_layer")}
        for name, values in given.items():
            if isinstance(values, dict) and layers not in values:
                raise XlscaleError(f"{where}: {name}: expected a value for {layers} layers, got {sorted(values)}")
        own = [values[layers] if isinstance(values, dict) else values for values in given.values()]
        tried = product(*(values if isinstance(values, list) else [values] for values in own))
        return [self.model_dump() | dict(zip(given, values, strict=True)) for values in tried]


def reference(target: str, layers: int, where: str) -> StudyRecipe:
    """The recipe of a target's card for a model with ``layers`` layers, on all training and test rows.

    Raises XlscaleError when the card has none, or does not know how many rows there are to train on.
    """
    if data_card(target).recipe is None or checks.training_rows(target) is None:
        raise XlscaleError(f"{where}: target_recipes.{target}: expected a card with recipe and training rows")
    stated = of_card(target, layers) | {"test_items": ALL}
    return parse(StudyRecipe, stated, f"{where}: target_recipes.{target}: the card's recipe")


class Study(Strict):
    """One file in ``studies/``."""

    name: Name
    title: Title
    published: bool = False  # the paper's; a study of one's own has record, figures and paper beside it, see workplace
    models: Annotated[
        dict[Name, Annotated[list[Count], Field(min_length=1), Distinct]], Field(min_length=1)
    ]  # model -> rungs
    intermediate: Annotated[list[Name], Field(min_length=1), Distinct]  # 'none' is the control
    arms: dict[Name, Arm] = {}  # beside the sets of ``intermediate``, each with what differs in it
    placebo: bool = False  # every intermediate set also with shuffled labels, those of the arms among them
    targets: Annotated[list[Name], Distinct]  # none: phase 2 is the last
    split: Literal["test", "dev"] = "test"  # of the targets
    seeds: Annotated[list[Seed], Field(min_length=1), Distinct]
    precision: Literal["auto", "bf16", "float32"] = "auto"  # auto: bf16 where the machine has it
    intermediate_recipe: StudyRecipe
    # Of sets that are trained otherwise: the fields that differ, or "reference", those that the set's card has.
    intermediate_recipes: dict[Name, dict[str, Any] | Literal["reference"]] = {}
    model_recipes: dict[Name, ModelRecipe] = {}  # of models that are trained otherwise, on every set
    target_recipes: dict[
        Name, StudyRecipe | Literal["reference"]
    ]  # reference: as the target's card has it, on all rows
    only: list[dict[str, Any]] = []  # leave out what matches none of these and is no ancestor of what does
    tuning: Tuning | None = None  # where it is not recorded, the paper says so
    recompute: list[dict[str, Any]] = []  # what `make reproduce` recomputes: cells that match one of these
    canary: list[dict[str, Any]] = []  # what `make canary` reruns, likewise

    @model_validator(mode="after")
    def _published_with_the_paper(self) -> Study:
        if self.published and self.name not in PUBLISHED:
            raise ValueError(f"published: expected true of {', '.join(PUBLISHED)} alone; leave it out")
        return self

    def cells(self) -> list[Cell]:
        """All cells, parents before children, each once; they are made at the first call and kept.

        Raises XlscaleError with one line for a faulty study.
        """
        return list(self._expanded[0])

    def conditions(self) -> dict[str, str]:
        """Cell id -> what its condition is called here: trained as the study states it, a set is called '<set>', in an
        arm '<set>, <arm>'. What several arms share, such as a target that is not trained, is that of the first."""
        return dict(self._expanded[1])

    @cached_property
    def _expanded(self) -> tuple[list[Cell], dict[str, str]]:
        found: dict[str, Cell] = {}
        called: dict[str, str] = {}
        made: dict[cells.Parameters, Cell] = {}
        where = f"studies/{self.name}.yaml"
        self.check_recipes()
        recipes = cache(self.recipes)  # the same for all seeds and conditions
        rungs = [(model, layers) for model, rungs in self.models.items() for layers in rungs]
        for (model, layers), (name, placebo, arm), seed in product(rungs, self._conditions(), self.seeds):
            values = {"model": model, "layers": layers, "intermediate": name, "placebo": placebo, "seed": seed}
            values["precision"] = self.precision
            for recipe in recipes("intermediate", name, model, layers, where, arm):
                second = values | {PREFIX["intermediate"] + field: value for field, value in recipe.items()}
                last = [("intermediate", second)] if name != NONE and not self.targets else []
                for target in self.targets:
                    third = second | {"target": target, "split": self.split}
                    last += [("target", third | own) for own in recipes("target", target, model, layers, where, arm)]
                for phase, given in last:
                    for cell in cells.make(phase, given, where, made).lineage():
                        found.setdefault(cell.id, cell)
                        condition = NONE if cell.phase == "pretrained" else conditions.named(name, arm, placebo)
                        called.setdefault(cell.id, condition)
                    if len(found) > MOST:
                        raise XlscaleError(f"{where}: expected at most {MOST:,} cells, got more")
        if self.only:
            found = {kept.id: kept for cell in self._matching(found.values(), self.only) for kept in cell.lineage()}
        order = list(cells.PARAMETERS)
        chosen = sorted(found.values(), key=lambda cell: order.index(cell.phase))
        if patterns := [*self.recompute, *self.canary]:
            self._matching(chosen, patterns)  # which are not used before somebody waits for them
        return chosen, {cell.id: called[cell.id] for cell in chosen}

    def check_recipes(self) -> None:
        """Raise XlscaleError unless every target has a recipe, every recipe a card, and every arm one that differs."""
        where = f"studies/{self.name}.yaml"
        if missing := [target for target in self.targets if target not in self.target_recipes]:
            raise XlscaleError(f"{where}: target_recipes: expected an entry for the target {missing[0]!r}")
        known = {*self.targets, *catalogue.names("data"), *catalogue.names(catalogue.SOURCES)}
        if unknown := self.target_recipes.keys() - known:
            raise XlscaleError(f"{where}: target_recipes: expected the targets of the study, got {min(unknown)!r}")
        for field, own in (("intermediate", {*self.intermediate} - {NONE}), ("model", {*self.models})):
            if unknown := getattr(self, f"{field}_recipes").keys() - own:
                raise XlscaleError(f"{where}: {field}_recipes: expected those of the study, got {min(unknown)!r}")
        stated = [("target", given) for given in self.target_recipes.values() if given != "reference"]
        for arm, (role, given) in product(self.arms, [("intermediate", self.intermediate_recipe), *stated]):
            self._of_arm(arm, role, given, where)
        if taken := (known | {NONE, *self.intermediate}) & {*self.arms}:
            raise XlscaleError(f"{where}: arms.{min(taken)}: expected another name than that of a set or none")
        for (name, one), (other, arm) in combinations(self.sets() if self.arms else [], 2):
            if name == other and self._trained(one, name, where) == self._trained(arm, name, where):
                before = f"those of arms.{one}" if one else "the study's"
                raise XlscaleError(f"{where}: arms.{arm}: expected a field that differs from {before} for {name!r}")

    def _trained(self, arm: str | None, name: str, where: str) -> list[dict[str, Any]]:
        """How a set, and the targets after it, are trained in an arm, at every rung."""
        sets: list[tuple[Role, str]] = [] if name == NONE else [("intermediate", name)]
        sets += [("target", target) for target in self.targets if data_card(target).trained]
        rungs = [(model, layers) for model, rungs in self.models.items() for layers in rungs]
        return [one for (role, own), rung in product(sets, rungs) for one in self.recipes(role, own, *rung, where, arm)]

    def _of_arm(self, arm: str | None, role: Role, given: StudyRecipe, where: str) -> StudyRecipe:
        """A recipe as it is in an arm. Raises XlscaleError naming the arm's field."""
        field = "recipe" if role == "intermediate" else "target"
        if arm is None or not (changes := getattr(self.arms[arm], field)):
            return given
        return parse(StudyRecipe, given.model_dump(exclude_unset=True) | changes, f"{where}: arms.{arm}.{field}")

    def recipes(
        self, role: Role, name: str, model: str, layers: int, where: str, arm: str | None = None
    ) -> list[dict[str, Any]]:
        """The recipe of the training on a data set at one rung, once per learning rate; ``role`` as in ``PREFIX``.

        Raises XlscaleError when the study has none for the target or the rung.
        """
        given = self._intermediate(name, layers, where) if role == "intermediate" else self.target_recipes.get(name)
        if given is None:
            raise XlscaleError(f"{where}: target_recipes: expected an entry for the target {name!r}")
        recipe = reference(name, layers, where) if given == "reference" else given
        own = self.model_recipes.get(model, ModelRecipe()).model_dump(exclude_none=True)
        recipe = self._of_arm(arm, role, recipe.model_copy(update=own), where)
        if recipe.learning_rate == "tuned":
            recipe = recipe.model_copy(update={"learning_rate": self._tuned.get(role, {}).get(model, {})})
        return recipe.at(layers, where)

    _tuned = cached_property(lambda self: tuned())

    def _intermediate(self, name: str, layers: int, where: str) -> StudyRecipe:
        """The recipe of the training on an intermediate set. Raises XlscaleError for a field that there is not."""
        changed = self.intermediate_recipes.get(name)
        if changed is None:
            return self.intermediate_recipe
        where = f"{where}: intermediate_recipes.{name}"
        if changed == "reference":
            if data_card(name).recipe is None:
                raise XlscaleError(f"{where}: expected a card with recipe")
            changed = of_card(name, layers)
        return parse(StudyRecipe, self.intermediate_recipe.model_dump(exclude_unset=True) | changed, where)

    def sets(self) -> list[tuple[str, str | None]]:
        """Every intermediate set with the arm that it is in, None for the study's own; those come first."""
        found = [(name, None) for name in self.intermediate]
        return found + [(name, arm) for arm, own in self.arms.items() for name in own.intermediate]

    def _conditions(self) -> list[tuple[str, bool, str | None]]:
        true = [(name, False, arm) for name, arm in self.sets()]
        return true + [(name, True, arm) for name, arm in self.sets() if self.placebo and name != NONE]

    def may_hold(self, cell_id: str) -> bool:
        """Whether the study has the model, rung, data sets and seed that an id names: to make all its cells takes
        seconds."""
        *named, _ = cell_id.split("-")
        rungs = {f"k{layers}" for rungs in self.models.values() for layers in rungs}
        seeds = {f"s{seed}" for seed in (0, *self.seeds)}  # 0 where nothing is trained
        known = {*cells.PARAMETERS, *self.models, *rungs, *dict(self.sets()), "shuffled", *self.targets, *seeds}
        return len(named) > 2 and known >= {*named}

    def matching(self, patterns: list[dict[str, Any]]) -> list[Cell]:
        """The cells whose phase and parameters agree with at least one pattern. Unknown names are errors."""
        return self._matching(self._expanded[0], patterns)

    def _matching(self, among: Iterable[Cell], patterns: list[dict[str, Any]]) -> list[Cell]:
        known = {"phase", *cells.TargetParameters.model_fields}
        rows = [(cell, {"phase": cell.phase, **cell.parameters.model_dump()}) for cell in among]
        for pattern in patterns:
            if unknown := set(pattern) - known:
                raise XlscaleError(f"studies/{self.name}.yaml: {sorted(unknown)[0]}: expected one of {sorted(known)}")
            lists = [(name, value) for name, value in pattern.items() if isinstance(value, list)]
            for one in [pattern, *(pattern | {name: each} for name, value in lists for each in value)]:
                if not any(_matches(facts, one) for _, facts in rows):
                    raise XlscaleError(f"studies/{self.name}.yaml: {one}: expected a pattern that matches some cell")
        return [cell for cell, facts in rows if any(_matches(facts, pattern) for pattern in patterns)]


def _matches(facts: dict[str, Any], pattern: dict[str, Any]) -> bool:
    absent = object()
    asked = {name: value if isinstance(value, list) else [value] for name, value in pattern.items()}
    return all(any(_equal(facts.get(name, absent), one) for one in values) for name, values in asked.items())


def _equal(one: Any, other: Any) -> bool:
    """Whether two values are the same: to Python, true is 1."""
    return one == other and isinstance(one, bool) == isinstance(other, bool)


def names() -> list[str]:
    """Names of all studies, sorted; hidden files, which some systems leave beside others, are none."""
    return sorted(path.stem for path in STUDIES.glob("[!.]*.yaml"))


def load(name: str) -> Study:
    """Read and check ``studies/<name>.yaml``; raises XlscaleError with one line naming file and field."""
    path = STUDIES / f"{name}.yaml"
    if name not in names():  # and not a path that leads elsewhere
        raise XlscaleError(f"unknown study {name!r}: expected one of {', '.join(names())}{meant(str(name), names())}")
    study = parse(Study, read_yaml(path), relative(path))
    if study.name != name:
        raise XlscaleError(f"{relative(path)}: name: expected {name!r} as in the file's name, got {study.name!r}")
    study.check_recipes()
    return study


def published() -> Iterator[Study]:
    """The studies of the paper, by name; each is read when it is its turn. Others may be broken."""
    return (study for study in map(load, sorted({*names()} & {*PUBLISHED})) if study.published)


def holding(cell_id: str) -> set[str]:
    """Ids of the cells of the first published study, of those that state canaries, with this cell; else none."""
    for study in published():
        ids = {cell.id for cell in study.cells()} if study.canary and study.may_hold(cell_id) else set()
        if cell_id in ids:
            return ids
    return set()


def data_sets(study: str = "") -> list[str]:
    """Names of the data sets that the published studies read, and ``study`` if it is named; sorted."""
    plans = [*published(), *([load(study)] if study else [])]
    named = {name for plan in plans for name in (*dict(plan.sets()), *plan.targets, *beside(plan))} - {NONE}
    return sorted({one for name in named for one in data_card(name).members})


def workplace(name: str) -> dict[str, str]:
    """Environment variables that move record, figures and paper of a study of one's own to a folder beside its file,
    where they are never over the published ones; none for a published study, in this checkout's ``studies/``: a copy
    elsewhere is one's own. Raises XlscaleError as ``load`` does."""
    if load(name).published and STUDIES == ROOT / "studies":
        return {}
    places = {"RESULTS": "results", "BUILT": "paper", "REPRODUCTION": "reproduction"}
    return {f"XLSCALE_{variable}": str(STUDIES / name / folder) for variable, folder in places.items()}


def completed(values: dict[str, Any], study: str) -> dict[str, Any]:
    """The parameters of a cell; what its training needs and ``values`` leave None is as the study has it at this rung.

    Raises XlscaleError when the study has no recipe for the rung or the target.
    """
    values = dict(values)
    for role, prefix in PREFIX.items():
        name = values.get(role, NONE)
        try:
            trained = name != NONE and data_card(name).trained
        except (XlscaleError, TypeError):
            continue  # told where the parameters are checked
        given = {field: values.get(prefix + field) for field in Recipe.model_fields}
        if name != NONE and (fields := lacking(given, trained)):
            plan, rung = load(study), (values["model"], values["layers"])
            arm = next((arm for one, arm in plan.sets() if (role, one) == ("intermediate", name)), None)
            known = plan.recipes(role, name, *rung, f"studies/{study}.yaml", arm)[0]
            values |= {prefix + field: known[field] for field in fields}
    return values


def find(cell_id: str) -> Cell:
    """The cell with this id in any study. Raises XlscaleError when none holds it, naming those that cannot be read."""
    broken = []
    for name in names():
        try:
            study = load(name)
            cells_here = study.cells() if study.may_hold(cell_id) else []
        except XlscaleError as error:  # of another study, for all that is known
            broken.append(f"not read: {error}")
            continue
        if found := next((cell for cell in cells_here if cell.id == cell_id), None):
            return found
    expected = f"expected the id of a cell of one of the studies {', '.join(names())}"
    raise XlscaleError("\n".join([f"ID={cell_id}: {expected}", *broken]))
