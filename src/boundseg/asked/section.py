"""What all parts of a config have in common."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

Share = Annotated[float, Field(ge=0, le=1)]
Positive = Annotated[float, Field(gt=0)]
NotNegative = Annotated[float, Field(ge=0)]
Count = Annotated[int, Field(gt=0)]
# None is unknown; what float32 cannot hold would be unknown as well, without having said so
Side = Annotated[float, Field(ge=-1e30, le=1e30)] | None


class Section(BaseModel):
    """A part of a config: unknown keys are errors, nothing changes after it was read."""

    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True, protected_namespaces=())
