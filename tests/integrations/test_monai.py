"""Frames against MONAI's own resampling of coordinates and of ones; the loss in MONAI's trainer."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import torch
from monai.data import DataLoader, Dataset, MetaTensor, list_data_collate
from monai.engines import SupervisedTrainer
from monai.handlers import MeanDice
from monai.losses import DeepSupervisionLoss, DiceCELoss
from monai.metrics import DiceMetric
from monai.networks.nets import BasicUNet, SegResNetDS
from monai.transforms import (
    Affined,
    AsDiscreted,
    CenterSpatialCropd,
    Compose,
    EnsureChannelFirstd,
    Flipd,
    LoadImaged,
    Orientationd,
    RandAffined,
    RandZoomd,
    Resized,
    Rotate90d,
    Spacingd,
    SpatialCropd,
    SpatialPadd,
    SqueezeDimd,
    Transform,
    Transposed,
)
from monai.utils import set_determinism

from boundseg.constraints import Centroid, Constraint, Size
from boundseg.data import priors
from boundseg.data.priors import Prior
from boundseg.errors import InputError, PriorsError
from boundseg.integrations.batch import frame_of
from boundseg.integrations.monai import (
    AddBoundsd,
    AddFramed,
    BoundedLoss,
    BoundsLoss,
    Sought,
    StartFramed,
    from_bounded,
    prepare_batch,
)

# MONAI looks for a decoder of DICOM files wherever pydicom is installed, and warns that there is none
pytestmark = pytest.mark.filterwarnings("ignore:NvImgCodecPydicomReader:UserWarning")

SHAPE, SPACING_MM = (20, 26, 8), (1.5, 1.2, 4.0)
# an oblique scan: 20 degrees about the third axis, and an origin
TURN = np.array([[np.cos(0.35), -np.sin(0.35), 0], [np.sin(0.35), np.cos(0.35), 0], [0, 0, 1]])
AFFINE = np.eye(4)
AFFINE[:3, :3] = TURN @ np.diag(SPACING_MM)
AFFINE[:3, 3] = (-30, 12, 7)
MOVES: dict[str, Transform] = {
    "nothing": Flipd("image", 0, allow_missing_keys=True),
    "spacing": Spacingd("image", (1.0, 2.0, 4.0)),
    "resize": Resized("image", (31, 18, 8), mode="trilinear"),
    "orientation": Orientationd("image", "LPS", labels=None),
    "quarter turn": Rotate90d("image", 1),
    "pad": SpatialPadd("image", (32, 32, 12)),
    "crop": CenterSpatialCropd("image", (10, 30, 4)),
    "affine": RandAffined(
        "image", prob=1, rotate_range=0.4, scale_range=0.2, translate_range=3, padding_mode="zeros"
    ),
    "zoom out": RandZoomd("image", prob=1, min_zoom=0.6, max_zoom=0.7, mode="trilinear", padding_mode="constant"),
}  # fmt: skip


def coordinates() -> MetaTensor:
    """Channels: a one for each voxel, and where it lies in the case."""
    content = np.concatenate([np.ones((1, *SHAPE)), np.indices(SHAPE)]).astype(np.float32)
    return MetaTensor(torch.from_numpy(content), affine=torch.from_numpy(AFFINE))


@pytest.mark.parametrize("name", MOVES)
def test_the_frame_says_where_a_voxel_was_and_how_much_it_stands_for(name: str) -> None:
    set_determinism(3)
    moved = Compose([StartFramed("image"), MOVES[name], AddFramed("image")])({"image": coordinates()})
    ones, where = moved["image"].as_tensor()[0], moved["image"].as_tensor()[1:]
    frame = frame_of({key: value.unsqueeze(0) for key, value in moved["frame"].items()}, classes=2)
    position = frame.coordinates(ones.shape)[0]
    clear = ones > 0.999  # beside the border, MONAI's interpolation mixes in what lies outside
    shape = torch.tensor(SHAPE).reshape(3, 1, 1, 1)
    clear &= ((position > 0) & (position < shape - 1)).all(0)
    assert clear.float().mean() > 0.1
    torch.testing.assert_close(position[:, clear], where[:, clear], atol=2e-2, rtol=0)
    filled = ones < 1e-3
    assert (frame.weight[0][filled] == 0).sum() >= 0.95 * filled.sum(), "what MONAI fills is padding"
    assert (frame.weight[0][clear] > 0).all()
    whole = bool(frame.whole is not None and frame.whole.all())
    if name != "affine":  # which may leave the grid or not
        assert whole == (name != "crop")
    if whole:
        assert float(frame.weight.sum()) == pytest.approx(np.prod(SHAPE), rel=0.12)
    torch.testing.assert_close(frame.spacing_mm, torch.tensor([SPACING_MM]))


def test_sizes_are_those_of_the_case_whatever_moved_it() -> None:
    set_determinism(0)
    z = np.indices(SHAPE) * np.reshape(SPACING_MM, (3, 1, 1, 1))
    ball = (((z - z.reshape(3, -1).mean(1).reshape(3, 1, 1, 1)) ** 2).sum(0) < 10**2).astype(np.float32)
    data = {"image": MetaTensor(torch.from_numpy(ball[None]), affine=torch.from_numpy(AFFINE))}
    steps = [StartFramed("image"), Spacingd("image", (1.0, 1.0, 2.0)), SpatialPadd("image", (48, 48, 24)),
             RandAffined("image", prob=1, rotate_range=0.5, scale_range=0.2, translate_range=2, padding_mode="zeros"),
             AddFramed("image")]  # fmt: skip
    for _ in range(3):
        moved = Compose(steps)(data)
        frame = frame_of({key: value.unsqueeze(0) for key, value in moved["frame"].items()}, classes=1)
        for unit, factor in (("px", 1.0), ("mL", np.prod(SPACING_MM) / 1000)):
            size = Size(unit)(moved["image"].as_tensor().unsqueeze(0), frame)
            assert float(size) == pytest.approx(ball.sum() * factor, rel=0.02)


def test_a_slice_of_a_loaded_file_is_a_slice_of_its_case(tmp_path: Path) -> None:
    path = tmp_path / "patient1_0000.nii.gz"
    nib.save(nib.Nifti1Image(np.indices(SHAPE)[2].astype(np.float32), AFFINE), path)
    steps = [LoadImaged("image"), EnsureChannelFirstd("image"), Spacingd("image", (1.5, 2.4, 4.0)),
             SpatialCropd("image", roi_start=(0, 0, 5), roi_end=(40, 40, 6)), AddFramed("image", slice_axis=2),
             SqueezeDimd("image", dim=3)]  # fmt: skip
    moved = Compose(steps)({"image": path})
    frame = frame_of({key: value.unsqueeze(0) for key, value in moved["frame"].items()}, classes=2)
    space = moved["image"].shape[1:]
    position = frame.coordinates(space)[0]
    assert torch.allclose(position[2], torch.tensor(5.0))
    assert torch.allclose(moved["image"].as_tensor(), torch.tensor(5.0))
    assert frame.whole is not None
    assert frame.whole.all(), "all of its slice is there"
    assert float(frame.weight.sum()) == pytest.approx(SHAPE[0] * SHAPE[1], rel=0.06)
    assert moved["slice"] == 5


@pytest.mark.parametrize("flip", [False, True])
def test_a_frame_numbers_its_slice_and_bounds_behind_it_are_those_of_the_slice(flip: bool, tmp_path: Path) -> None:
    steps = [StartFramed("image"), *([Flipd("image", 2)] if flip else []), SpatialPadd("image", (-1, -1, 12)),
             SpatialCropd("image", roi_start=(0, 0, 6), roi_end=(40, 40, 7)), AddFramed("image", slice_axis=2),
             AddBoundsd(table(tmp_path), [Sought(AREA, "LV", "individual")], case_key="case",
                        slice_key="slice")]  # fmt: skip
    moved: Any = Compose(steps)({"image": coordinates(), "case": "patient1"})
    assert moved["slice"] == int(moved["image"][3].max()) == (3 if flip else 4)
    assert moved["bounds"]["area"].tolist() == ([[1, 2]] if flip else [[-np.inf, np.inf]])


@pytest.mark.parametrize(
    ("move", "fact"),
    [
        (Spacingd("image", (1.5, 1.2, 2.0)), "was resampled between its slices"),
        (Resized("image", (20, 26, 12), mode="trilinear"), "was resampled between its slices"),
        (Affined("image", rotate_params=(0, 0.4, 0)), "was turned out of its slices"),
    ],
)
def test_what_is_no_slice_of_its_case_is_refused(move: Transform, fact: str) -> None:
    data: Any = {"image": coordinates()}
    with pytest.raises(InputError, match=fact):
        for step in (
            StartFramed("image"), move, CenterSpatialCropd("image", (-1, -1, 1)), AddFramed("image", slice_axis=2)
        ):  # fmt: skip
            data = step(data)


@pytest.mark.parametrize("move", [Flipd("image", 0), Rotate90d("image", 1), SpatialPadd("image", (30, 30))])
def test_lazy_transforms_of_slices_are_those_that_are_not(move: Transform) -> None:
    data = {"image": MetaTensor(torch.arange(12 * 14.0).reshape(1, 12, 14))}
    frames = [
        Compose([StartFramed("image"), move, AddFramed("image")], lazy=lazy)(data)["frame"] for lazy in (False, True)
    ]
    for name, value in frames[0].items():
        torch.testing.assert_close(frames[1][name], value)


@pytest.mark.parametrize("source", ["array", "file"])
def test_the_frame_is_right_however_an_image_came_in(source: str, tmp_path: Path) -> None:
    """MONAI 1.6 counts the axes of an array before it has channels, which StartFramed makes good."""
    set_determinism(1)
    nib.save(nib.Nifti1Image(np.indices(SHAPE)[1].astype(np.float32), AFFINE), tmp_path / "case.nii.gz")
    turn = RandAffined("image", prob=1, rotate_range=0.3, padding_mode="border")
    if source == "array":
        data: Any = {"image": np.indices(SHAPE[:2])[1].astype(np.float32)}
        start = [EnsureChannelFirstd("image", channel_dim="no_channel"), StartFramed("image")]
    else:
        data = {"image": tmp_path / "case.nii.gz"}
        start = [LoadImaged("image"), EnsureChannelFirstd("image")]
    moved = Compose([*start, turn, AddFramed("image")])(data)
    frame = frame_of({key: value.unsqueeze(0) for key, value in moved["frame"].items()}, classes=2)
    column = moved["image"].as_tensor()[0]
    position = frame.coordinates(column.shape)[0]
    clear = (position > 0).all(0) & (
        position < torch.tensor(SHAPE[: column.ndim]).reshape(-1, *[1] * column.ndim) - 1
    ).all(0)
    assert clear.float().mean() > 0.3
    torch.testing.assert_close(position[1][clear], column[clear], atol=1e-3, rtol=0)


@pytest.mark.parametrize(
    ("steps", "message"),
    [
        ([AddFramed("image")], "nothing says where the image 'image' lay before"),
        ([StartFramed("image"), AddFramed("image", slice_axis=2)], "axis 2 of an image of 20x26x8 voxels is not that"),
        ([StartFramed("image"), SpatialCropd("image", roi_start=(0, 0, 5), roi_end=(40, 40, 6)),
          SqueezeDimd("image", dim=3), AddFramed("image")], "has 2 axes, and its case 3"),
        ([StartFramed("image"), Transposed("image", [0, 2, 1, 3]), AddFramed("image")], "'image' was transposed"),
    ],
)  # fmt: skip
def test_a_grid_that_is_not_known_is_refused(steps: list[Transform], message: str) -> None:
    data: Any = {"image": coordinates()}
    with pytest.raises((InputError, RuntimeError)) as found:
        for step in steps:  # one by one: Compose wraps what is raised
            data = step(data)
    assert message in str(found.value)


AREA = Constraint("area", Size("px"), ((1,),), weight=1e-2)


def table(folder: Path) -> Path:
    rows = [
        Prior("patient1", None, "LV", "size", 10, 20, "px", "volume", "typed"),
        Prior("patient1", 3, "LV", "size", 1, 2, "px", "individual", "typed"),
    ]
    priors.write(folder / "priors.csv", rows)
    return folder / "priors.csv"


def test_bounds_are_looked_up_by_the_file_and_the_slice(tmp_path: Path) -> None:
    nib.save(nib.Nifti1Image(np.zeros(SHAPE, np.float32), AFFINE), tmp_path / "patient1_0000.nii.gz")
    of_volume = AddBoundsd(table(tmp_path), [Sought(AREA, "LV", "volume")])
    loaded = LoadImaged("image")({"image": tmp_path / "patient1_0000.nii.gz"})
    assert of_volume(loaded)["bounds"]["area"].tolist() == [[10, 20]]
    of_slices = AddBoundsd(table(tmp_path), [Sought(AREA, "LV", "individual")], case_key="case", slice_key="slice")
    assert of_slices({"case": "patient1", "slice": 3})["bounds"]["area"].tolist() == [[1, 2]]
    assert of_slices({"case": "patient1", "slice": 4})["bounds"]["area"].tolist() == [[-np.inf, np.inf]]
    with pytest.raises(
        PriorsError, match=r"no size of LV in the set 'individual', px, per volume; there is px, per sl"
    ):
        AddBoundsd(table(tmp_path), [Sought(AREA, "LV", "individual")])
    with pytest.warns(UserWarning, match="knows nothing of the case 'patient2'"):
        assert of_slices({"case": "patient2", "slice": 3})["bounds"]["area"].tolist() == [[-np.inf, np.inf]]
    with pytest.raises(InputError, match="nothing says which case the image 'image' is"):
        of_volume({"image": torch.zeros(1, 2, 2)})


def of_one_slice(folder: Path, constraint: Constraint, **options: Any) -> list[Transform]:
    return [StartFramed("image"), AddBoundsd(table(folder), [Sought(constraint, "LV", **options)], case_key="case"),
            CenterSpatialCropd("image", (-1, -1, 1)), AddFramed("image", slice_axis=2)]  # fmt: skip


@pytest.mark.parametrize("behind", [False, True])
def test_bounds_of_a_volume_are_not_those_of_its_slices(behind: bool, tmp_path: Path) -> None:
    start, look_up, crop, framed = of_one_slice(tmp_path, AREA, set="volume")
    data: Any = {"image": coordinates(), "case": "patient1"}
    with pytest.raises(
        InputError, match=r"bounds of 'area' are of volumes, and the image is one of 8 slices[\s\S]*sco"
    ):
        for step in (start, crop, framed, look_up) if behind else (start, look_up, crop, framed):
            data = step(data)
    alone = MetaTensor(coordinates().as_tensor()[..., :1], affine=torch.from_numpy(AFFINE))
    data = Compose([start, look_up, crop, framed])({"image": alone, "case": "patient1"})
    assert data["bounds"]["area"].tolist() == [[10, 20]], "of one slice it is"


def test_a_volume_in_a_batch_that_holds_some_of_its_slices_is_a_part(tmp_path: Path) -> None:
    of_volume = Constraint("area", Size("px"), ((1,),), scope="volume")
    start, look_up, middle, framed = of_one_slice(tmp_path, of_volume, set="volume")
    first = SpatialCropd("image", roi_start=(0, 0, 0), roi_end=(*SHAPE[:2], 1))
    steps = [Compose([start, look_up, crop, framed, SqueezeDimd("image", dim=3)]) for crop in (first, middle)]
    content = list_data_collate([step({"image": coordinates(), "case": "patient1"}) for step in steps])
    assert content["frame"]["slices"].tolist() == [8, 8]
    content |= {"label": torch.full((2, *SHAPE[:2]), 255), "volume": ["patient1"] * 2}
    content["bounds"] = {"area": content["bounds"]["area"][:1]}
    _, target = prepare_batch(content)
    loss = BoundedLoss([of_volume])
    loss(torch.full((2, 2, *SHAPE[:2]), -9.0).index_fill(1, torch.tensor([0]), 9.0), target)
    assert torch.isnan(loss.found["area/lower"])
    assert loss.found["area/upper"] == 20


def test_labels_are_looked_at_before_they_are_moved() -> None:
    content = {"image": torch.zeros(1, 1, 4, 4), "label": torch.full((1, 1, 4, 4), 0.5)}
    with pytest.raises(InputError, match="labels lie between classes"):
        prepare_batch(content, device="meta")


def test_outputs_of_deep_supervision_are_refused() -> None:
    with pytest.raises(InputError, match=r"the network gave a list, and no logits[\s\S]*full resolution"):
        BoundedLoss([AREA])([torch.zeros(1, 2, 4, 4)], {"label": torch.zeros(1, 4, 4)})


@pytest.mark.parametrize("decollate", [False, True])
def test_a_metric_of_the_training_finds_labels_in_the_target(decollate: bool) -> None:
    """Decollated or not, MONAI's MeanDice is what its DiceMetric gives by hand."""
    set_determinism(0)
    steps = [StartFramed(["image", "label"]), AddFramed("image")]
    cases = [{**one, "label": np.abs(one["image"]).round().clip(0, 1)} for one in discs(4)]
    network = BasicUNet(2, 1, 2, features=(8, 8, 16, 16, 16, 8))
    with torch.no_grad():
        scores = network.train()(torch.from_numpy(np.stack([one["image"] for one in cases])))
    labels = torch.from_numpy(np.stack([one["label"] for one in cases]))
    by_hand = DiceMetric(num_classes=2)(scores.argmax(1, keepdim=True), labels).nanmean()
    trainer = SupervisedTrainer(
        device=torch.device("cpu"),
        max_epochs=1,
        train_data_loader=DataLoader(Dataset(cases, Compose(steps)), batch_size=4),
        network=network,
        optimizer=torch.optim.SGD(network.parameters(), 0.0),
        loss_function=BoundedLoss([AREA]),
        prepare_batch=prepare_batch,
        decollate=decollate,
        postprocessing=AsDiscreted("pred", argmax=True) if decollate else None,
        key_train_metric={"dice": MeanDice(num_classes=2, output_transform=from_bounded() if decollate else argmaxed)},
    )
    trainer.run()
    assert trainer.state.metrics["dice"] == pytest.approx(float(by_hand), rel=1e-5)


def argmaxed(output: Any) -> Any:
    prediction, labels = from_bounded()(output)
    return prediction.argmax(1, keepdim=True), labels


def test_a_name_with_dots_is_a_name(tmp_path: Path) -> None:
    priors.write(tmp_path / "priors.csv", [Prior("p.2", None, "LV", "size", 10, 20, "px", "volume", "typed")])
    nib.save(nib.Nifti1Image(np.zeros(SHAPE, np.float32), AFFINE), tmp_path / "p.2_0000.nii.gz")
    look_up = AddBoundsd(tmp_path / "priors.csv", [Sought(AREA, "LV", "volume")])
    assert look_up(LoadImaged("image")({"image": tmp_path / "p.2_0000.nii.gz"}))["bounds"]["area"].tolist() == [
        [10, 20]
    ]


@pytest.mark.parametrize(
    ("constraint", "options", "message"),
    [
        (AREA, {"unit": "mL"}, r"'area' measures Size\(unit='px'\), and size in mL is Size\(unit='mL'\)"),
        (AREA, {"quantity": "centroid_x"}, "and centroid_x in px is Centroid"),
        (Constraint("two", Size(), ((1,), (2,))), {}, "'two' measures 2 regions, and the bounds of LV are of one"),
    ],
)
def test_bounds_of_something_else_are_refused(constraint: Constraint, options: dict[str, str], message: str) -> None:
    with pytest.raises(InputError, match=message):
        Sought(constraint, "LV", "volume", **options)


def test_a_centroid_is_sought_whatever_its_axis_is_called() -> None:
    # of a file that is cut along x, y is the first axis of a slice
    at = Constraint("at", Centroid("mm", 0), ((1,),))
    assert Sought(at, "LV", "volume", quantity="centroid_y", unit="mm").constraint is at


def discs(count: int) -> list[dict[str, Any]]:
    """Images of a disc on noise, one labelled pixel, and the disc's area to 10 %."""
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:32, :32]
    found = []
    for _ in range(count):
        row, column, radius = rng.integers(11, 21), rng.integers(11, 21), rng.integers(4, 8)
        disc = (y - row) ** 2 + (x - column) ** 2 <= radius**2
        label = np.full((1, 32, 32), 255.0, np.float32)
        label[0, row, column] = 1
        image = (disc + 0.2 * rng.standard_normal(disc.shape)).astype(np.float32)[None]
        area = float(disc.sum())
        bounds = {"area": torch.tensor([[0.9 * area, 1.1 * area]])}
        found.append({"image": image, "label": label, "bounds": bounds})
    return found


def test_bounds_alone_are_what_they_add_to_cross_entropy() -> None:
    area = Constraint("area", Size("px"), ((1,),), weight=5e-2)
    batch = list_data_collate(discs(3))
    logits = torch.randn(3, 2, 32, 32, generator=torch.Generator().manual_seed(0), requires_grad=True)
    alone, without = BoundsLoss([area]), {key: value for key, value in batch.items() if key != "label"}
    wanted = BoundedLoss([area])(logits, batch) - BoundedLoss()(logits, batch["label"])
    for target in (batch, without):
        found = alone(logits, target)
        torch.testing.assert_close(found, wanted)
    ours, theirs = (torch.autograd.grad(loss, logits, retain_graph=True)[0] for loss in (found, wanted))
    torch.testing.assert_close(ours, theirs, atol=1e-7, rtol=1e-4)
    assert set(alone.found) >= {"area/value", "area/cost"}
    with pytest.raises(InputError, match=r"labels alone say nothing of bounds"):
        alone(logits, batch["label"])


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_bounds_in_a_loop_of_deep_supervision_and_mixed_precision(dtype: torch.dtype) -> None:
    """The loop of MONAI's Auto3DSeg: a loss of masks at every depth, autocast; bounds beside it."""
    sizes = {}
    for weight in (0.0, 5e-2):
        set_determinism(0)
        network = SegResNetDS(spatial_dims=2, init_filters=8, in_channels=1, out_channels=2, dsdepth=2)
        masks = DeepSupervisionLoss(DiceCELoss(to_onehot_y=True, softmax=True))
        bounds = BoundsLoss([Constraint("area", Size("px"), ((1,),), weight=weight)])
        optimizer = torch.optim.AdamW(network.parameters(), 2e-3)
        masked = [{**one, "label": torch.ones(1, 32, 32)} for one in discs(16)]  # of masks that are far too large
        for _ in range(6):
            for batch in DataLoader(Dataset(masked), batch_size=4):
                optimizer.zero_grad()
                with torch.autocast("cpu", dtype=torch.bfloat16, enabled=dtype is torch.bfloat16):
                    outputs = network(batch["image"])
                    assert len(outputs) == 2
                    loss = masks(outputs, batch["label"]) + bounds(outputs[0], batch)
                loss.backward()
                optimizer.step()
        sizes[weight] = float(bounds.found["area/value"])
    assert sizes[5e-2] < 0.5 * sizes[0.0]


def test_in_monais_trainer_a_bound_is_kept_that_is_broken_without_it() -> None:
    kept = {}
    for weight in (0.0, 5e-2):
        set_determinism(0)
        turn = RandAffined(
            ["image", "label"], prob=1, rotate_range=1.0, scale_range=0.15, mode=["bilinear", "nearest"],
            padding_mode=["border", "border"],
        )  # fmt: skip
        steps = [StartFramed(["image", "label"]), turn, AddFramed("image")]
        network = BasicUNet(2, 1, 2, features=(8, 8, 16, 16, 16, 8))
        loss = BoundedLoss([Constraint("area", Size("px"), ((1,),), weight=weight)])
        trainer = SupervisedTrainer(
            device=torch.device("cpu"),
            max_epochs=8,
            train_data_loader=DataLoader(Dataset(discs(16), Compose(steps)), batch_size=4, shuffle=True),
            network=network,
            optimizer=torch.optim.Adam(network.parameters(), 1e-2),
            loss_function=loss,
            prepare_batch=prepare_batch,
        )
        trainer.run()
        kept[weight] = float(loss.found["area/value"]), float(loss.found["area/upper"])
    assert kept[0.0][0] > 3 * kept[0.0][1], "without it everything is disc"
    assert kept[5e-2][0] < 1.5 * kept[5e-2][1]
