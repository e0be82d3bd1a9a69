"""From pydantic's errors to problems that name the key, what is wrong, and the nearest key that is known."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from types import UnionType
from typing import Annotated, Any, Union, get_args, get_origin

from pydantic import BaseModel

from boundseg.errors import Problem
from boundseg.nearest import did_you_mean


def problem(detail: Any, where: str, root: type[BaseModel], kinds: Collection[str] = ()) -> Problem:
    """One of pydantic's errors.

    Args:
        detail: As pydantic lists it.
        where: The file.
        root: What was read.
        kinds: Names of kinds of ``method``, which pydantic puts into the location.
    """
    location: tuple[str | int, ...] = detail["loc"]
    # pydantic names the kind of method as if it were a key
    path = ".".join(str(step) for i, step in enumerate(location) if not (step in kinds and location[:i] == ("method",)))
    if detail["type"] == "extra_forbidden":
        known = [field.alias or name for name, field in _section_at(location[:-1], root).model_fields.items()]
        near = did_you_mean(str(location[-1]), known)
        return Problem(f"unknown key {path!r}{near}", where, f"The keys there are: {', '.join(known)}.")
    message = detail["msg"].removeprefix("Value error, ")
    path = f"{path}: " if path else ""
    given = "" if detail["type"] in ("missing", "value_error") else f" (given: {detail['input']!r})"
    return Problem(f"{path}{message}{given}", where)


def _section_at(location: Sequence[str | int], root: type[BaseModel]) -> type[BaseModel]:
    """The section of the config to which a location of pydantic's leads."""
    sections: list[type[BaseModel]] = [root]
    for step in location:
        # the kind of a method is a step of its own
        named = [
            s for s in sections if "name" in s.model_fields and step in get_args(s.model_fields["name"].annotation)
        ]
        field = next((f for n, f in sections[0].model_fields.items() if step in (n, f.alias)), None)
        sections = named or (_sections_in(field.annotation) if field is not None else []) or sections
    return sections[0]


def _sections_in(annotation: Any) -> list[type[BaseModel]]:
    if get_origin(annotation) in (list, tuple, Union, UnionType, Annotated):
        return [found for part in get_args(annotation) for found in _sections_in(part)]
    return [annotation] if isinstance(annotation, type) and issubclass(annotation, BaseModel) else []
