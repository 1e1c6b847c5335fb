"""Schemas without surprises, and how a file is held against one: one line that names file, field and expected value.

Belongs here: what every schema of the package shares. What a card, a study or a result holds stands with it.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from xlscale.core.files import XlscaleError, relative

Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Name = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*$")]


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
        first = error.errors()[0]
        field = ".".join(str(part) for part in first["loc"]) or "(whole)"
        got = "" if isinstance(first["input"], dict | BaseModel) else f", got {first['input']!r}"
        more = f" (and {error.error_count() - 1} more)" if error.error_count() > 1 else ""
        raise XlscaleError(f"{where}: {field}: {first['msg']}{got}{more}") from None


def read_yaml(path: Path) -> object:
    """Parse YAML with the safe loader; raises XlscaleError naming the file."""
    try:
        return yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise XlscaleError(f"{relative(path)}: not found") from None
    except yaml.YAMLError as error:
        raise XlscaleError(f"{relative(path)}: not valid YAML ({' '.join(str(error).split())})") from None
