"""What a model's card says of its size: the numbers of its configuration, and three counts of parameters."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, model_validator

from xlscale.cards.sources import Rows
from xlscale.core.strict import Distinct, Strict, Text

Numbers = int | float | bool


class Architecture(Strict):
    """The fields of a model's configuration that its size follows from, as transformers calls them.

    ``unverified``: those of them that nobody has read; when the model is fetched, all are compared with its own.
    """

    model_type: str
    config: Annotated[dict[str, Numbers | dict[str, Numbers]], Field(min_length=1)]
    read: Text  # where
    unverified: Annotated[list[str], Distinct] = []

    @model_validator(mode="after")
    def _known(self) -> Architecture:
        for name, value in self.config.items():
            if name.endswith("_config") != isinstance(value, dict):
                raise ValueError(f"config: {name}: expected fields below a name that ends in _config, else a number")
        if unknown := {*self.unverified} - {*self.config, *self.reads}:
            raise ValueError(f"unverified: expected fields of config, got {min(unknown)!r}")
        return self

    @property
    def reads(self) -> dict[str, Numbers]:
        """The fields of the part that reads, of a model that also sees."""
        return self.config.get("text_config", self.config)


class Parameters(Strict):
    """Numbers of parameters: all that were published, as a number or with the digits that were; those that are trained
    here, without a head of its own and without what sees; and of these, those outside the word embeddings."""

    published: Rows | Annotated[str, Field(pattern=r"^[0-9]+(\.[0-9]+)?[MB]$")]
    read: Text  # where
    trained: Rows
    non_embedding: Rows

    @model_validator(mode="after")
    def _part(self) -> Parameters:
        if self.non_embedding > self.trained:
            raise ValueError(f"non_embedding: expected at most {self.trained}, those trained, got {self.non_embedding}")
        return self

    def agrees(self, counted: int) -> bool:
        """Whether a number of parameters is the published one, in all digits that were published."""
        if isinstance(self.published, int):
            return counted == self.published
        digits = len(self.published[:-1].partition(".")[2])
        return self.published[:-1] == f"{counted / {'M': 1e6, 'B': 1e9}[self.published[-1]]:.{digits}f}"
