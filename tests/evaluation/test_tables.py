"""Tables: means over what is defined, with counts of what is not."""

from __future__ import annotations

import math

import pandas as pd

from boundseg.evaluation.tables import Evaluation, markdown

NAN = math.nan


def evaluation(soft: bool = True) -> Evaluation:
    """Three cases of LV, whose dice is undefined in one, and one of Myo, which is nowhere."""
    volumes = pd.DataFrame(
        {
            "case": ["a", "b", "c", "a"],
            "class": ["LV", "LV", "LV", "Myo"],
            "dice": [0.8, 0.6, NAN, NAN],
            "reference_px": [100, 60, 0, 0],
            "predicted_px": [80, 72, 0, 0],
            "volume_error_ml": [-2.0, 1.2, 0.0, 0.0],
            "relative_volume_error": [-0.2, 0.2, NAN, NAN],
        }
    )
    if soft:
        volumes["soft_px"] = [110.0, 66.0, 0.0, 1.0]
    slices = pd.DataFrame({"class": ["LV"] * 4 + ["Myo"], "dice": [0.5, 0.7, NAN, NAN, NAN]})
    constraints = pd.DataFrame(
        {
            "constraint": ["size"] * 4 + ["tags"] * 2,
            "known": [True, True, True, False, False, False],
            "soft_kept": [True, True, False, True, True, True],
            "hard_kept": [True, False, False, True, True, True],
        }
    )
    return Evaluation(volumes, slices, constraints)


def test_means_are_over_what_is_defined_and_the_rest_is_counted() -> None:
    lv, myo = evaluation().summary()
    assert lv["class"] == "LV"
    assert lv["DSC (volumes)"] == "0.700 (n = 2, 1 undefined)"
    assert lv["DSC (slices)"] == "0.600 (n = 2, 2 undefined)"
    assert lv["volume error [mL]"] == "-0.3 (n = 3)"
    assert lv["absolute volume error [%]"] == "20.0 (n = 2, 1 undefined)"
    assert lv["soft / hard / true volume"] == "1.10 / 0.95 / 1"
    assert myo["DSC (volumes)"] == "NaN (n = 0)"
    assert myo["soft / hard / true volume"] == "NaN"


def test_without_probabilities_there_is_no_soft_volume() -> None:
    assert "soft / hard / true volume" not in evaluation(soft=False).summary()[0]


def test_satisfaction_is_the_share_of_known_bounds_by_hand() -> None:
    size, tags = evaluation().satisfaction()
    assert size == {"constraint": "size", "known": "3 of 4", "kept (soft)": "66.7%", "kept (argmax)": "33.3%"}
    assert tags == {"constraint": "tags", "known": "0 of 2", "kept (soft)": "NaN", "kept (argmax)": "NaN"}
    nothing = Evaluation(pd.DataFrame(), pd.DataFrame(), pd.DataFrame())
    assert nothing.satisfaction() == []


def test_markdown_has_a_head_and_a_line_a_row() -> None:
    rows = [{"a": "1", "b": "2"}, {"a": "3"}]
    assert markdown(rows) == "| a | b |\n|---|---|\n| 1 | 2 |\n| 3 |  |\n"
    assert markdown([]) == ""


def test_every_line_of_a_markdown_table_has_as_many_columns_as_its_head() -> None:
    counts = {line.count("|") for line in markdown(evaluation().summary()).splitlines()}
    assert counts == {7}
