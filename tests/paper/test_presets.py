"""What each preset comes to, beside what the paper and its code say."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from boundseg.paper.rows import PRESETS, SCALES, Preset, Scale, differences, row, tables
from boundseg.training.config import Config

DATA = Path("DATA")
PLAIN = (256, 256)


def full(key: str, preset: Preset) -> Config:
    return row(key).resolve(DATA, preset, "full", 0)


def bound(config: Config) -> Any:
    """The last entry's only constraint, which is on a size."""
    (constraint,) = config.supervision[-1].constraints
    assert constraint.size is not None
    return constraint.size


# of the published code at its own scale: network, outputs that nobody teaches, batch, augmentation
PUBLISHED = {
    "table1/common": ("enet", 2, 1, []),
    "table3/vertebrae_common": ("enet", 0, 20, []),
    "table3/prostate_common": ("residual_unet", 0, 4, ["mirror", "rotate"]),
}


@pytest.mark.parametrize("key", PUBLISHED)
@pytest.mark.parametrize("preset", ["published", "text"])
def test_the_protocol_of_each_dataset(key: str, preset: Preset) -> None:
    network, spare, batch, augment = PUBLISHED[key]
    config = full(key, preset)
    training = config.training
    assert config.data.size == PLAIN
    assert config.network.name == network
    assert config.network.spare_outputs == (spare if preset == "published" else 0)
    assert (training.batch_size, training.epochs, training.optimizer.lr) == (batch, 200, 5e-4)
    assert training.optimizer.name == "adam"
    assert [one.name for one in training.augment] == augment
    assert training.schedule.name == ("plateau_published" if preset == "published" else "plateau")
    assert config.selection.by == "slice_dice"


# λ, and the bounds of what is present: pixels of the grid, or a set of priors.csv
BOUNDS = {
    ("table1/tags", "published"): (0.01, (1, 65000)),
    ("table1/common", "published"): (0.01, (60, 2000)),
    ("table1/individual", "published"): (0.05, "individual"),
    ("table1/volume", "published"): (0.01, "volume_exact"),
    ("table3/vertebrae_tags", "published"): (0.01, (1, 65550)),
    ("table3/vertebrae_common", "published"): (0.01, (80, 1100)),
    ("table3/vertebrae_individual", "published"): (0.01, "individual"),
    ("table3/prostate_tags", "published"): (0.01, (1, 65000)),
    ("table3/prostate_common", "published"): (0.01, (60, 9000)),
    ("table3/prostate_individual", "published"): (0.01, "individual"),
    ("table1/tags", "text"): (655.36, "tags"),
    ("table1/common", "text"): (655.36, (60, 2000)),
    ("table1/individual", "text"): (655.36, "individual"),
    ("table1/volume", "text"): (655.36, "volume_px"),
    ("table3/vertebrae_common", "text"): (655.36, (80, 1100)),
    ("table3/prostate_common", "text"): (655.36, "common"),
}


@pytest.mark.parametrize(("key", "preset"), BOUNDS)
def test_bounds_and_weights(key: str, preset: Preset) -> None:
    weight, wanted = BOUNDS[key, preset]
    size = bound(full(key, preset))
    assert size.weight == weight
    assert (size.set if isinstance(wanted, str) else size.present) == wanted
    assert size.scale == "image"


def test_what_the_text_does_not_divide_is_divided_by_the_pixels_and_weighs_as_many_times_more() -> None:
    config = full("table1/common", "text")
    assert bound(config).weight / (config.data.size[0] * config.data.size[1]) == 0.01
    assert config.training.average == "sum"


def test_the_text_shows_the_files_own_pixels() -> None:
    for key in ("table1/common", "table3/vertebrae_common"):
        data = full(key, "text").data
        assert (data.fit, data.spacing_mm) == ("crop", None)


@pytest.mark.parametrize(
    ("name", "held", "of"),
    [("table1/full", 25, 200), ("table3/vertebrae_full", 5, 23), ("table3/prostate_full", 10, 50)],
)
def test_as_many_volumes_are_held_back_as_in_the_paper(name: str, held: int, of: int) -> None:
    assert round(row(name).base.held_back * of) == held


@pytest.mark.parametrize(("scale", "batch", "epochs"), [("full", 1, 200), ("half", 8, 40), ("quick", 8, 20)])
def test_the_published_preset_says_what_the_notes_say(scale: Scale, batch: int, epochs: int) -> None:
    common = row("table1/common").resolve(DATA, "published", scale, 0)
    assert (common.training.batch_size, common.training.epochs) == (batch, epochs)
    assert (common.data.fit, common.data.intensity) == ("resize", "minmax")
    assert common.network.spare_outputs == 2
    assert common.training.average == "batch"
    assert common.training.optimizer.betas == (0.9, 0.99)
    assert common.selection.by == "slice_dice"
    assert common.supervision[0].labels == "erosion_256"
    size = common.supervision[0].constraints[0].size
    assert size is not None
    assert size.weight == 0.01
    # 60 and 2000 pixels of 256 x 256 are the same share of any other grid
    shares = [bound / (common.data.size[0] * common.data.size[1]) for bound in size.present or ()]
    assert shares == pytest.approx([60 / 65536, 2000 / 65536], rel=1e-3)
    individual = row("table1/individual").resolve(DATA, "published", scale, 0).supervision[0].constraints[0].size
    assert individual is not None
    assert individual.weight == 0.05


def test_published_proposals_have_two_outputs_and_tags_alone_no_lower_bound() -> None:
    for name in ("tags", "common", "individual"):
        config = row(f"table1/{name}_ascent").resolve(DATA, "published", "full", 0)
        assert config.network.spare_outputs == 0
        assert config.method.name == "proposals"
        assert config.method.stop == "published"
        size = config.supervision[0].constraints[0].size
        assert size is not None
        if name == "tags":
            assert size.present == (None, 65000)


def test_the_honest_preset_chooses_nothing_by_masks() -> None:
    for key in {one.key for table in tables().values() for one in table.rows}:
        for scale in SCALES:
            assert row(key).resolve(DATA, "honest", scale, 0).selection.by in ("weak", "last")


@pytest.mark.parametrize("preset", PRESETS)
def test_every_preset_says_how_it_differs(preset: Preset) -> None:
    said = differences(preset)
    assert set(said) == {"chosen", "not expressed", "switch"}
    assert said["chosen"]
    assert "--preset" in said["switch"]
