"""What a config says of augmentation, what of it is refused with which bounds, and that a training resumes with it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from boundseg.data.augment import Elastic, Even, IntensityChange, Noise, Warp, mirror, transpose
from boundseg.data.batches import collate
from boundseg.data.dataset import Dataset
from boundseg.errors import ConfigError, DatasetError
from boundseg.training.config import Config
from boundseg.training.config.augment import augmentations
from boundseg.training.loop import train
from boundseg.training.supervision import teach

from .cases import INDIVIDUAL, TAGS, entry, tiny

EVERYTHING: list[Any] = [
    "mirror",
    "transpose",
    {"rotate": 15},
    {"scale": [0.9, 1.1]},
    {"shift": {"pixels": 2, "probability": 0.5}},
    {"elastic": {"displacement": 1, "spacing": 6, "probability": 0.5}},
    {"intensity": {"gain": 0.1, "shift": 0.2, "gamma": [0.8, 1.25]}},
    {"noise": 0.05},
]


BENT = {"elastic": {"displacement": 1, "spacing": 6}}


def parsed(augment: list[Any], **data: Any) -> Config:
    content = {"data": {"folder": "hearts", **data}, "supervision": [{"labels": "seeds"}]}
    return Config.parse({**content, "training": {"augment": augment}})


def asking(folder: Path, augment: list[Any], *constraints: dict[str, Any], **data: Any) -> Config:
    return tiny(folder, entry(constraints=constraints), data=data, training={"augment": augment})


def test_short_forms_say_what_long_ones_say_and_every_default_is_written_back() -> None:
    config = parsed(EVERYTHING)
    written = yaml.safe_load(config.dump())["training"]["augment"]
    assert written == [
        "mirror",
        "transpose",
        {"rotate": {"degrees": 15.0, "probability": 1.0}},
        {"scale": {"probability": 1.0, "zoom": [0.9, 1.1]}},
        {"shift": {"probability": 0.5, "pixels": 2.0}},
        {"elastic": {"probability": 0.5, "displacement": 1.0, "spacing": 6.0}},
        {"intensity": {"probability": 1.0, "gain": 0.1, "shift": 0.2, "gamma": [0.8, 1.25]}},
        {"noise": {"probability": 1.0, "std": 0.05}},
    ]
    assert parsed(written) == config
    told = [str(step) for step in config.training.augment]
    assert told[0] == "mirror"
    assert told[4] == "shift (pixels 2.0, probability 0.5)"
    assert parsed(["mirror"]).training.augment == parsed([{"mirror": {}}]).training.augment


def test_what_is_built_is_what_was_asked_for() -> None:
    complete = (False, True)
    exact = augmentations(parsed(["transpose", "mirror"]).training.augment, 3, complete)
    assert exact == [transpose, mirror]
    first, second, warp, change, noise = augmentations(parsed(EVERYTHING).training.augment, 3, complete)
    assert (first, second) == (mirror, transpose)
    assert isinstance(warp, Warp)
    assert (warp.ignore, warp.complete) == (3, complete)
    assert (warp.turn, warp.shift, warp.elastic) == (Even(-15, 15), Even(-2, 2, 0.5), Elastic(1, 6, 0.5))
    assert warp.zoom.least == pytest.approx(-0.1053605)
    assert isinstance(change, IntensityChange)
    assert (change.gain, change.shift) == (Even(-0.1, 0.1), Even(-0.2, 0.2))
    assert change.gamma.most == pytest.approx(-change.gamma.least)
    assert noise == Noise(0.05)
    assert augmentations([], 3, complete) == []


@pytest.mark.parametrize(
    ("augment", "message"),
    [
        (
            ["miror"],
            "training.augment.0: 'miror' is no augmentation; did you mean 'mirror'? There are mirror, transpose,",
        ),
        ([{"rotat": 3}], "'rotat' is no augmentation; did you mean 'rotate'?"),
        ([{"rotate": 3, "scale": [1, 1]}], "an augmentation is headed by one name; begin a new one with '- '."),
        (["rotate"], "training.augment.0.rotate.degrees: Field required"),
        ([{"rotate": -3}], "training.augment.0.rotate.degrees: Input should be greater than 0 (given: -3)"),
        ([{"rotate": {"degree": 3}}], "unknown key 'training.augment.0.rotate.degree'; did you mean 'degrees'?"),
        ([{"scale": [1.1, 0.9]}], "training.augment.0.scale: zoom: 1.1 exceeds 0.9."),
        ([{"elastic": {"displacement": 9, "spacing": 10}}], "may fold the image: use 4.8 px at most"),
        ([{"elastic": {"displacement": 9, "spacing": 200}}], "elastic.spacing: control points 200 px apart leave none"),
        ([{"intensity": {}}], "training.augment.0.intensity: give a gain, a shift or a gamma."),
        ([{"noise": {"std": 1, "probability": 2}}], "training.augment.0.noise.probability: Input should be less than"),
        (["mirror", {"noise": 1}, "mirror"], "training.augment: mirror is named twice: say it once."),
        (["transpose"], ""),
    ],
)
def test_what_is_wrong_is_told(augment: list[Any], message: str) -> None:
    if not message:
        with pytest.raises(ConfigError, match=r"transpose needs a square grid, and images are of \(96, 64\)"):
            parsed(augment, size=[96, 64])
        return
    with pytest.raises(ConfigError) as caught:
        parsed(augment)
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("augment", "constraint", "message"),
    [
        (BENT, {"centroid": {"axis": "x"}}, "elastic bends positions and outlines, and 'centroid_x LV everywhere"),
        (BENT, {"boundary": {}}, "and 'boundary LV everywhere per slice in mm' measures them in the case."),
        ({"scale": [0.9, 1.1]}, {"size": {"unit": "grid_px"}}, "scale changes how many pixels of the grid a region"),
        ({"rotate": 10}, {"size": {}}, "rotate can move a part of 6 of 6 cases out of the grid, and 'size LV"),
        ({"shift": 9}, {"centroid": {"axis": "y"}}, "needs to see all of LV"),
        ({"rotate": 10}, {"size": {"unit": "fraction", "between": [None, 0.5]}}, "needs to see all of LV"),
    ],
)
def test_bounds_that_would_be_wrong_are_refused(
    tiny_dataset: Path, augment: dict[str, Any], constraint: dict[str, Any], message: str
) -> None:
    ((name, options),) = constraint.items()
    asked = {name: {"class": "LV", "between": [1, 9], **options}}
    with pytest.raises(ConfigError) as caught:
        teach(asking(tiny_dataset, [augment], asked), Dataset.open(tiny_dataset))
    assert message in str(caught.value)
    assert str(caught.value).count("training.augment") == 1


@pytest.mark.parametrize(
    ("augment", "constraint"),
    [
        ([{"rotate": 45}], {"size": {"class": "LV", "between": [0, 90]}}),  # a part keeps an upper bound as well
        ([{"rotate": 45}], TAGS | {"size": {"class": "LV", "present": [None, 90], "absent": [0, 0]}}),
        ([{"scale": [0.5, 1.0]}], INDIVIDUAL),
        ([BENT], INDIVIDUAL),
        ([BENT], {"ratio": {"class": "LV:Myo", "between": [0.1, 1]}}),
        (["mirror", "transpose", {"noise": 1}], {"size": {"class": "LV", "between": [1, 90], "unit": "grid_px"}}),
    ],
)
def test_bounds_that_stay_true_are_taken(tiny_dataset: Path, augment: list[Any], constraint: dict[str, Any]) -> None:
    assert teach(asking(tiny_dataset, augment, constraint), Dataset.open(tiny_dataset)).train


def test_a_grid_of_the_advised_size_loses_nothing(tiny_dataset: Path) -> None:
    dataset, turned = Dataset.open(tiny_dataset), ["transpose", {"rotate": 30}, {"shift": 2}]
    with pytest.raises(ConfigError, match=r"or set data.size: \[40, 40\], which loses nothing") as caught:
        teach(asking(tiny_dataset, turned, INDIVIDUAL), dataset)
    assert "Name LV in data.complete if it keeps clear of the corners" in str(caught.value)
    config = asking(tiny_dataset, turned, INDIVIDUAL, size=[40, 40])
    assert teach(config, dataset).train
    # and at run time, whatever is drawn
    cases = teach(config, dataset).train
    batch = collate(cases, [(i, s) for i in range(len(cases)) for s in range(5)], frozenset())
    torch.manual_seed(0)
    for step in augmentations(config.training.augment, dataset.ignore, [False] * 3):
        for _ in range(5):
            assert step(batch).frame.whole.all()


def test_a_declaration_is_tested_against_every_mask(tiny_dataset: Path) -> None:
    dataset = Dataset.open(tiny_dataset)
    assert teach(asking(tiny_dataset, [{"rotate": 30}], INDIVIDUAL, complete=["LV"]), dataset).train
    with pytest.raises(DatasetError) as caught:
        teach(asking(tiny_dataset, [{"shift": 9}], INDIVIDUAL, complete=["LV"]), dataset)
    message = str(caught.value)
    assert message.count("of LV leaves the grid, over 0.0%.") == 6, "all cases that teach, and no other"
    assert teach(asking(tiny_dataset, [{"shift": 9}], INDIVIDUAL, complete={"LV": 1.0}), dataset).train
    fraction = {"size": {"class": "LV", "between": [None, 0.5], "unit": "fraction"}}
    with pytest.raises(ConfigError, match="is a fraction of all of it"):
        teach(asking(tiny_dataset, [{"rotate": 30}], fraction, complete=["LV"]), dataset)


def test_a_training_with_everything_resumes_as_if_unbroken(
    tiny_dataset: Path, tmp_path: Path, interrupt_after: Any
) -> None:
    config = asking(tiny_dataset, EVERYTHING, INDIVIDUAL, complete=["LV"])
    unbroken = train(config, tmp_path / "unbroken", device="cpu", quiet=True)
    interrupt_after(1)
    with pytest.raises(KeyboardInterrupt):
        train(config, tmp_path / "broken", device="cpu", quiet=True)
    torch.manual_seed(4711)
    resumed = train(config, tmp_path / "broken", device="cpu", quiet=True, resume=True)
    ours, theirs = (run.checkpoint("last").weights for run in (resumed, unbroken))
    assert all(torch.equal(ours[key], theirs[key]) for key in theirs)
