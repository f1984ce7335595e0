"""The base of all payload types: frozen, versioned, JSON in and out. Knows no particular payload."""

from abc import abstractmethod
from typing import Annotated, ClassVar

from pydantic import BaseModel, ConfigDict, Field

from kite_common.money import UNLIMITED

Count = Annotated[int, Field(ge=0, le=UNLIMITED)]
Amount = Annotated[int, Field(ge=0, le=UNLIMITED)]
SignedAmount = Annotated[int, Field(ge=-UNLIMITED, le=UNLIMITED)]
UnixMs = Annotated[int, Field(ge=0, lt=1 << 48)]


class Fact(BaseModel):
    """One record's payload. `kind` is the header `kite-record`, `v` the payload's version, written into the JSON.

    Readers ignore fields they do not know; a field that changes meaning is a new version with an upcaster.
    """

    model_config = ConfigDict(frozen=True, extra="ignore", strict=True)

    kind: ClassVar[str]
    version: ClassVar[int] = 1

    v: int = 1

    @property
    @abstractmethod
    def key(self) -> str:
        """The record key; decides the partition."""

    def to_json(self) -> bytes:
        """The record value."""
        return self.__pydantic_serializer__.to_json(self)


class TeamFact(Fact):
    """A payload about one team, keyed by it."""

    team_id: str

    @property
    def key(self) -> str:
        return self.team_id
