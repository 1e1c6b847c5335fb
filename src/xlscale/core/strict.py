"""Schemas without surprises, and how a file is held against one: one line that names file, field and expected value.

Belongs here: what every schema of the package shares, and YAML as its files are written. What a card, a study or a
result holds stands with it.
"""

from __future__ import annotations

import math
import re
import reprlib
import unicodedata
from collections import Counter
from collections.abc import Callable, Hashable, Sequence
from functools import partial
from pathlib import Path
from typing import Annotated, Any, TypeVar

import yaml
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError
from pydantic_core import ErrorDetails

from xlscale.core.files import HIDDEN, XlscaleError, inside, one_line, read_text, relative

# What nobody sees in a text, or takes for a plain space: controls and marks of direction, other spaces, separators of
# lines, fillers, joiners, selectors of a variant, tags. With one of them a text looks like another one.
UNSEEN = re.compile(
    HIDDEN.pattern + r"|[\xa0\xad\u034f\u061c\u115f\u1160\u1680\u17b4\u17b5\u180b-\u180f\u2000-\u200f\u2028\u2029\u202f"
    r"\u205f-\u206f\u2800\u3000\u3164\ufe00-\ufe0f\ufeff\uffa0\ufff0-\ufffb\U0001bca0-\U0001bca3\U0001d173-\U0001d17a"
    r"\U000e0000-\U000e0fff]"
)


def unseen(text: str) -> str:
    """What is wrong with a text that holds something that nobody sees; nothing if it shows all."""
    found = UNSEEN.search(text)
    return f"expected text that shows all it holds, got U+{ord(found[0]):04X}" if found else ""


def _shown(text: str) -> str:
    if fault := unseen(text):
        raise ValueError(fault)
    return text


def _visible(text: str) -> str:
    if not _shown(text).strip():
        raise ValueError("expected a text that is not empty")
    return text


def _below(name: str) -> str:
    _shown(name)
    if not inside(name):
        raise ValueError(f"expected the path of a file below a folder, without '..', got {SHORT.repr(name)}")
    return name


def _distinct(values: Sequence[Hashable]) -> Sequence[Hashable]:
    same = Counter(unicodedata.normalize("NFC", value) if isinstance(value, str) else value for value in values)
    if twice := [value for value, count in same.items() if count > 1]:
        raise ValueError(f"expected each once, got {SHORT.repr(twice[0])} again")
    return values


Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Name = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*$", max_length=64)]
Text = Annotated[str, Field(min_length=1), AfterValidator(_visible)]
Below = Annotated[str, AfterValidator(_below)]  # a path in a folder; ``files.below`` opens it
Distinct = AfterValidator(_distinct)  # of a list: no value twice, also where its accents are written otherwise

SHORT = reprlib.Repr()  # a value as a message holds it, whatever its size
SHORT.maxstring = SHORT.maxother = SHORT.maxlong = 80
SHORT.maxlevel, SHORT.maxlist, SHORT.maxdict = 2, 4, 4


def _one_zero(number: float) -> float:
    return number + 0.0


OneZero = AfterValidator(_one_zero)  # of a number: -0.0 is 0.0, as another text it would be another identity


class Strict(BaseModel):
    """A schema without surprises: unknown fields, silent conversions and infinite numbers are errors, objects do not
    change."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False)


Schema = TypeVar("Schema", bound=BaseModel)


def parse(schema: type[Schema], value: object, where: str) -> Schema:
    """Check ``value`` against ``schema``; raises XlscaleError with one line that names ``where`` and the field."""
    try:
        return schema.model_validate(value)
    except ValidationError as error:
        errors = [(_path(one, value), one) for one in error.errors(include_url=False)]
        # Every branch of a union has something to say; the one that goes deepest into the value was meant.
        place = errors[0][0]
        same = [(path, one) for path, one in errors if path[: len(place)] == place]
        path, first = max(same, key=lambda pair: (len(pair[0]), _is_kind(pair[1])))
        field = ".".join(map(str, path))
        message = ": ".join(filter(None, (field, first["msg"].removeprefix("Value error, "))))
        got = "" if isinstance(first["input"], dict | BaseModel) else f", got {SHORT.repr(first['input'])}"
        more = f" (and {len(errors) - len(same)} more)" if len(errors) > len(same) else ""
        raise XlscaleError(f"{where}: {message}{got}{more}") from None


def _path(error: ErrorDetails, value: Any) -> list[int | str]:
    """The keys and indices that lead to what is wrong, without the branches of unions, which pydantic names too."""
    path: list[int | str] = []
    for part in error["loc"]:
        try:
            value = value[part] if isinstance(value, dict | list | tuple) else {}[part]
        except (LookupError, TypeError):
            if error["type"] != "missing":
                continue
        path.append(part)
    return path


def _is_kind(error: ErrorDetails) -> bool:
    """Whether the value is of the kind that was expected there, and wrong all the same."""
    return not error["type"].endswith("_type")


TAG = "tag:yaml.org,2002:"
YAML_LIMIT = 2**16  # bytes: of the worst of them PyYAML reads 30,000 in a second
MOST, DEEPEST = 200_000, 40  # values of a file with its aliases written out, and levels of them


class _Loader(yaml.CBaseLoader):
    """YAML as people read it, which is the core schema of YAML 1.2 with decimal numbers alone: 010 is ten, and ``no``,
    1:30, 1_0, 0x1 and a date are texts. Of tags there are those of these types, and a key stands once in a mapping."""

    def flat(self, node: yaml.Node | None) -> Any:
        """The value of a document. Raises YAMLError where aliases make it large or endless."""
        if node is None:
            return None
        self._count(node, {}, 0)
        return self.construct_document(node)

    def _count(self, node: yaml.Node, known: dict[yaml.Node, int], level: int) -> int:
        """Values at and below a node, every alias written out."""
        if level > DEEPEST:
            raise _at(node, f"expected at most {DEEPEST} levels")
        if node not in known:
            inner = node.value if isinstance(node, yaml.CollectionNode) else []
            parts = [part for one in inner for part in (one if isinstance(one, tuple) else (one,))]
            known[node] = 1 + sum(self._count(part, known, level + 1) for part in parts)
        if known[node] > MOST:
            raise _at(node, f"expected at most {MOST:,} values, aliases written out")
        return known[node]


def _at(node: yaml.Node, message: str) -> yaml.YAMLError:
    return yaml.constructor.ConstructorError(None, None, message, node.start_mark)


def _mapping(loader: _Loader, node: yaml.MappingNode) -> dict[Hashable, Any]:
    found = loader.construct_mapping(node, deep=True)
    if len(found) < len(node.value):
        keys = [loader.construct_object(key, deep=True) for key, _ in node.value]
        twice = next(key for index, (key, _) in enumerate(node.value) if keys[index] in keys[:index])
        raise _at(twice, f"expected the key {SHORT.repr(twice.value)} once")
    return found


def _text(loader: _Loader, node: yaml.ScalarNode) -> str:
    value = loader.construct_scalar(node)
    if fault := unseen(value):  # written as an escape
        raise _at(node, fault)
    return value


def _unknown(loader: _Loader, node: yaml.Node) -> None:
    raise _at(node, f"expected no tag, got {SHORT.repr(node.tag)}")


def _finite(text: str) -> float:
    if not math.isfinite(value := float(text)):
        raise ValueError("not finite")
    return value


def _scalar(pattern: re.Pattern[str], make: Callable[[str], Any], loader: _Loader, node: yaml.ScalarNode) -> Any:
    text = loader.construct_scalar(node)
    try:
        if pattern.match(text):  # which a tag, as in ``!!int x``, does not look at
            return make(text)
    except ValueError:  # infinite, or of thousands of digits
        pass
    raise _at(node, f"expected {node.tag.removeprefix(TAG)}, got {SHORT.repr(text)}")


for _kind, _pattern, _first, _make in (
    ("null", r"~|null|Null|NULL|", ["~", "n", "N", ""], lambda text: None),
    ("bool", r"true|True|TRUE|false|False|FALSE", list("tTfF"), lambda text: text.lower() == "true"),
    ("int", r"[-+]?[0-9]+", list("-+0123456789"), int),
    ("float", r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?", list("-+.0123456789"), _finite),
):
    _shape = re.compile(rf"(?:{_pattern})\Z", re.ASCII)
    _Loader.add_implicit_resolver(TAG + _kind, _shape, _first)
    _Loader.add_constructor(TAG + _kind, partial(_scalar, _shape, _make))
_Loader.add_constructor(TAG + "str", _text)
_Loader.add_constructor(TAG + "seq", lambda loader, node: loader.construct_sequence(node, deep=True))
_Loader.add_constructor(TAG + "map", _mapping)
_Loader.add_constructor(None, _unknown)


def read_yaml(path: Path) -> object:
    """Parse YAML as ``_Loader`` says; raises XlscaleError naming the file, and the line of what is not YAML."""
    loader = None
    text = read_text(path, YAML_LIMIT).replace("\r\n", "\n")
    for number, line in enumerate(text.split("\n"), 1):
        if fault := unseen(line):  # in a comment too, which to PyYAML alone some of these end
            raise XlscaleError(f"{relative(path)}: not valid YAML (line {number}: {fault})")
    try:
        loader = _Loader(text)
        return loader.flat(loader.get_single_node())
    except RecursionError:
        raise XlscaleError(f"{relative(path)}: not valid YAML (nested too deep)") from None
    except yaml.YAMLError as error:
        mark, problem = getattr(error, "problem_mark", None), getattr(error, "problem", None)
        where = f"line {mark.line + 1}: " if mark else ""
        raise XlscaleError(f"{relative(path)}: not valid YAML ({where}{problem or one_line(error)})") from None
    finally:
        if loader:
            loader.dispose()
