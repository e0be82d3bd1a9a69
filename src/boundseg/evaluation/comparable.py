"""Whether evaluations speak of the same things, so that their means may stand side by side."""

from __future__ import annotations

from collections.abc import Mapping

from boundseg.errors import DatasetError, Problem
from boundseg.evaluation.tables import Evaluation

KEY = ["case", "class"]


def require_comparable(evaluations: Mapping[str, Evaluation]) -> None:
    """Raises where evaluations are of other cases, classes or references than the first one, or by another convention.

    Raises:
        DatasetError: See above; all of them are listed.
    """
    (first_name, first), *others = evaluations.items()
    ours = first.volumes.set_index(KEY)["reference_px"]
    problems = []
    for name, evaluation in others:
        theirs = evaluation.volumes.set_index(KEY)["reference_px"]
        remedy = "Evaluate all of them on the same cases of one dataset: boundseg evaluate RUN... --cases test."
        fact = _difference(ours.to_dict(), theirs.to_dict())
        if not fact and first.empty != evaluation.empty:
            remedy = f"Evaluate all of them alike: boundseg evaluate RUN... --empty {first.empty}."
            fact = (
                "their DSC where reference and prediction are both empty "
                f"is {first.empty} in {first_name} and {evaluation.empty} in {name}"
            )
        if fact:
            where = f"{first_name} ({_said(first)}) and {name} ({_said(evaluation)})"
            problems.append(Problem(f"{first_name} and {name} cannot be compared: {fact}.", where, remedy))
    if problems:
        raise DatasetError.of(problems)


def _difference(ours: Mapping[tuple[str, str], int], theirs: Mapping[tuple[str, str], int]) -> str:
    our_classes, their_classes = ({class_ for _, class_ in side} for side in (ours, theirs))
    if our_classes != their_classes:
        return (
            f"they were judged on the classes {', '.join(sorted(our_classes))} and {', '.join(sorted(their_classes))}"
        )
    if ours.keys() != theirs.keys():
        apart = sorted({case for case, _ in ours.keys() ^ theirs.keys()})
        return f"{len(apart)} cases were judged in one of them only ({', '.join(apart[:3])}{' …' * (len(apart) > 3)})"
    other = sorted({case for case, class_ in ours if ours[case, class_] != theirs[case, class_]})
    if other:
        return (
            f"the references of {len(other)} cases have other sizes ({', '.join(other[:3])}{' …' * (len(other) > 3)})"
        )
    return ""


def _said(evaluation: Evaluation) -> str:
    return f"{evaluation.about.get('cases', 'cases')} of {evaluation.about.get('dataset', 'a dataset')}"
