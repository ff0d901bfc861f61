"""What every section of the configuration is made of: its base class, kinds of keys, types with limits."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field


def later(default: Any, description: str, **limits: Any) -> Any:
    """A key whose part does not exist yet: any value but the default is refused."""
    return Field(default, description=description, json_schema_extra={"not_available_yet": True}, **limits)


def choice(default: str, description: str, *available: str) -> Any:
    """A key of which only some choices exist yet: the others are refused."""
    return Field(default, description=description, json_schema_extra={"available": list(available)})


def section(kind: Callable[..., BaseModel], description: str) -> Any:
    """A section within another, all defaults when left out."""
    return Field(default_factory=kind, description=description)


Count = Annotated[int, Field(ge=1)]
Blocks = Annotated[int, Field(ge=0, le=64)]
PyramidBlocks = Annotated[int, Field(ge=0, le=12)]
AsList = Field(strict=False)  # a tuple that a file writes as a list
Positive = Annotated[float, Field(gt=0)]
NotNegative = Annotated[float, Field(ge=0)]
Share = Annotated[float, Field(ge=0, le=1)]
Pair = Annotated[tuple[float, float], AsList]


class Section(BaseModel):
    """A section of the configuration: unknown keys are errors, values keep their type and are checked when set."""

    model_config = ConfigDict(extra="forbid", validate_assignment=True, strict=True, allow_inf_nan=False)
