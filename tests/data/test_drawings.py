"""Label maps as tools write them to a label set: what was drawn, exactly where it was drawn."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest

from boundseg.data import volume_io
from boundseg.data.check import check
from boundseg.data.dataset import Dataset
from boundseg.data.drawings import convert_drawings, parse_meaning
from boundseg.data.same_grid import placing
from boundseg.data.volume_io import Volume
from boundseg.errors import InputError
from tests.conftest import oblique_affine

MEANING = {0: "ignore", 1: "LV", 2: "background", 7: "Myo"}
CASES = ("patient1_frame01", "patient2_frame07", "patient4_frame01")


@pytest.fixture
def dataset(write_dataset: Callable[..., Path]) -> Dataset:
    return Dataset.open(write_dataset(weak=False, priors=False))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "drawings").mkdir()
    return tmp_path / "drawings"


def image_of(dataset: Dataset, case: str) -> Volume:
    return volume_io.read(dataset.image_paths(case)[0])


def scribble(dataset: Dataset, case: str) -> np.ndarray:
    """0 where nothing was drawn, 1, 2 and 7 here and there; no axis looks like another or like itself reversed."""
    rng = np.random.default_rng(len(case))
    drawn = rng.choice([0, 1, 2, 7], image_of(dataset, case).array.shape, p=[0.9, 0.05, 0.03, 0.02])
    return drawn.astype(np.uint8)


def expected(dataset: Dataset, drawn: np.ndarray) -> np.ndarray:
    """Written as a loop over voxels, class by class."""
    labels = np.full(drawn.shape, dataset.ignore, np.uint8)
    for where in np.argwhere(drawn):
        label = MEANING[int(drawn[tuple(where)])]
        labels[tuple(where)] = dataset.labels[label]
    return labels


def stored(dataset: Dataset, case: str) -> np.ndarray:
    """The written labels, which lie on the image's grid."""
    path = dataset.label_path(case, "scribble")
    volume, image = nib.load(path), nib.load(dataset.image_paths(case)[0])
    assert np.array_equal(volume.affine, image.affine)
    return np.asarray(volume.dataobj)


def nifti(path: Path, array: np.ndarray, affine: np.ndarray) -> None:
    nib.save(nib.Nifti1Image(array, affine), path)


def by_itk(path: Path, array: np.ndarray, affine: np.ndarray) -> None:
    """As ITK-SNAP, 3D Slicer and napari's ITK writer do; its world is LPS."""
    itk: Any = pytest.importorskip("SimpleITK")
    image = itk.GetImageFromArray(np.ascontiguousarray(array.transpose(2, 1, 0)))
    lps = np.diag([-1.0, -1, 1, 1]) @ affine
    spacing = np.linalg.norm(lps[:3, :3], axis=0)
    image.SetSpacing(spacing.tolist())
    image.SetDirection((lps[:3, :3] / spacing).ravel().tolist())
    image.SetOrigin(lps[:3, 3].tolist())
    itk.WriteImage(image, str(path), True)


WRITERS = {".nii.gz": nifti, ".nii": nifti, ".nrrd": by_itk, ".seg.nrrd": by_itk, ".mha": by_itk, ".mhd": by_itk}


@pytest.mark.parametrize("ending", WRITERS)
def test_what_was_drawn_is_labelled_and_the_rest_ignored(dataset: Dataset, folder: Path, ending: str) -> None:
    drawings = {case: scribble(dataset, case) for case in CASES}
    for case, drawn in drawings.items():
        WRITERS[ending](folder / f"{case}{ending}", drawn, image_of(dataset, case).affine)
    (folder / "notes.txt").write_text("no drawing")
    found = convert_drawings(folder, dataset, "scribble", MEANING)
    assert dataset.label_sets == ("scribble",)
    for case, drawn in drawings.items():
        assert np.array_equal(stored(dataset, case), expected(dataset, drawn))
    everything = np.concatenate([drawn.ravel() for drawn in drawings.values()])
    assert found.voxels == {name: int((everything == value).sum()) for value, name in MEANING.items() if value}
    assert (found.total, found.cases["LV"]) == (everything.size, 3)
    assert (found.turned, found.placed, found.empty, found.unused) == ([], [], [], [])
    assert found.missing == [case for case in dataset.training_cases if case not in CASES]
    assert check(dataset).problems == []


TURNS = [
    (axes, flips) for axes in itertools.permutations(range(3)) for flips in itertools.product((False, True), repeat=3)
]


@pytest.mark.parametrize(("axes", "flips"), TURNS)
def test_all_48_orders_and_directions_of_axes_are_brought_back_exactly(
    axes: tuple[int, ...], flips: tuple[bool, ...]
) -> None:
    """nibabel turns the drawing; it comes back onto the image's grid, also as a box cut from it."""
    rng = np.random.default_rng(0)
    drawn = rng.integers(0, 5, (7, 6, 5), dtype=np.uint8)
    image = nib.Nifti1Image(drawn, oblique_affine())
    ornt = np.array([[axis, -1 if flip else 1] for axis, flip in zip(axes, flips, strict=True)])
    turned = image.as_reoriented(ornt)
    volume, whole = Volume(np.asarray(turned.dataobj), turned.affine), Volume(drawn, image.affine)
    assert np.array_equal(placing(Path("p.nii"), volume, whole)(volume.array, drawn.shape, 9), drawn)
    box = turned.slicer[1:4, 2:4, 1:]
    part = Volume(np.asarray(box.dataobj), box.affine)
    back = placing(Path("p.nii"), part, whole)(part.array, drawn.shape, 9)
    inside = back != 9
    assert np.array_equal(back[inside], drawn[inside])
    assert inside.sum() == part.array.size


def test_turned_and_cropped_drawings_are_told(dataset: Dataset, folder: Path) -> None:
    case, other = CASES[:2]
    drawn = scribble(dataset, case)
    affine = image_of(dataset, case).affine
    nib.save(nib.as_closest_canonical(nib.Nifti1Image(drawn, affine)), folder / f"{case}.nii.gz")
    whole = nib.Nifti1Image(scribble(dataset, other), image_of(dataset, other).affine)
    nib.save(whole.slicer[3:11, 2:9, 1:3], folder / f"{other}.nii.gz")
    found = convert_drawings(folder, dataset, "scribble", MEANING)
    assert (found.turned, found.placed) == ([case], [other])
    assert np.array_equal(stored(dataset, case), expected(dataset, drawn))
    outside = np.ones(whole.shape, bool)
    outside[3:11, 2:9, 1:3] = False
    labels = stored(dataset, other)
    assert (labels[outside] == dataset.ignore).all()
    assert np.array_equal(labels[~outside], expected(dataset, scribble(dataset, other))[~outside])


def test_folders_that_hold_label_maps_too_are_told(dataset: Dataset, folder: Path) -> None:
    case = CASES[0]
    for place in ("", "older", ".hidden"):
        (folder / place).mkdir(exist_ok=True)
        nifti(folder / place / f"{case}.nii.gz", scribble(dataset, case), image_of(dataset, case).affine)
    (folder / "notes").mkdir()
    assert convert_drawings(folder, dataset, "scribble", MEANING).folders == ["older"]


def test_0_may_mean_a_label_and_a_box_still_says_nothing_outside(dataset: Dataset, folder: Path) -> None:
    case = CASES[0]
    image = nib.Nifti1Image(np.zeros((4, 4, 2), np.float32), image_of(dataset, case).affine)
    nib.save(image, folder / f"{case}.nii.gz")
    convert_drawings(folder, dataset, "scribble", parse_meaning(["0=background", "1=LV"], dataset))
    assert (stored(dataset, case) == 0).sum() == 32
    assert (stored(dataset, case) == dataset.ignore).sum() == stored(dataset, case).size - 32


def test_files_may_be_called_otherwise(dataset: Dataset, folder: Path) -> None:
    case = CASES[0]
    nifti(folder / f"seg_{case}-label.nii.gz", scribble(dataset, case), image_of(dataset, case).affine)
    found = convert_drawings(folder, dataset, "scribble", MEANING | {9: "LV"}, "seg_{case}-label")
    assert found.unused == [9]
    assert np.array_equal(stored(dataset, case), expected(dataset, scribble(dataset, case)))


def segmentation(path: Path, array: np.ndarray, affine: np.ndarray, names: dict[int, str]) -> None:
    """A .seg.nrrd with the header fields that 3D Slicer writes."""
    by_itk(path, array, affine)
    content = path.read_bytes()
    header, data = content.split(b"\n\n", 1)
    fields = [
        f"Segment{i}_{what}:={value}"
        for i, (number, name) in enumerate(names.items())
        for what, value in (("ID", f"Segment_{i}"), ("LabelValue", number), ("Layer", 0), ("Name", name))
    ]
    path.write_bytes(b"\n".join([header, *(field.encode() for field in fields)]) + b"\n\n" + data)


def test_segments_of_slicer_are_known_by_their_names(dataset: Dataset, folder: Path) -> None:
    """Their values are those of the order in which they were made."""
    meaning = parse_meaning(["ventricle=LV,around it=background,wall=Myo"], dataset)
    orders = {
        CASES[0]: {1: "ventricle", 2: "around it", 7: "wall"},
        CASES[1]: {7: "ventricle", 1: "wall", 2: "around it"},
    }
    for case, names in orders.items():
        drawn, affine = scribble(dataset, case), image_of(dataset, case).affine
        segmentation(folder / f"{case}.seg.nrrd", drawn, affine, names)
    convert_drawings(folder, dataset, "scribble", meaning)
    for case, names in orders.items():
        drawn, labels = scribble(dataset, case), stored(dataset, case)
        assert (labels[drawn == 0] == dataset.ignore).all()
        for value, name in names.items():
            assert (labels[drawn == value] == dataset.labels[meaning[name]]).all()
    segmentation(
        folder / f"{CASES[2]}.seg.nrrd", scribble(dataset, CASES[2]), image_of(dataset, CASES[2]).affine, {7: "x"}
    )
    with pytest.raises(
        InputError, match=r"holds 1, 2, 7 \('x'\), of which --map says nothing\.\n.*1=ignore,2=ignore,x="
    ):
        convert_drawings(folder, dataset, "scribble", meaning)


def test_a_number_never_overrides_the_name_of_a_segment(dataset: Dataset, folder: Path) -> None:
    case = CASES[0]
    drawn, affine = scribble(dataset, case), image_of(dataset, case).affine
    path = folder / f"{case}.seg.nrrd"
    meaning = parse_meaning(["1=LV,2=background,7=Myo"], dataset)
    segmentation(path, drawn, affine, {1: "Background", 2: "LV", 7: "wall"})
    message = r"segment 1 is called 'Background', .*\n.*Map by names: --map \"Background=background,LV=LV,wall=Myo"
    with pytest.raises(InputError, match=message) as error:
        convert_drawings(folder, dataset, "scribble", meaning)
    assert [problem.what for problem in error.value.problems] == [
        f"{path.name}: segment 1 is called 'Background', and --map says LV.",
        f"{path.name}: segment 2 is called 'LV', and --map says background.",
    ]
    # a name that says the same, or nothing of this dataset, does no harm
    segmentation(path, drawn, affine, {1: "lv", 2: "around it", 7: "wall"})
    convert_drawings(folder, dataset, "scribble", meaning)
    assert np.array_equal(stored(dataset, case), expected(dataset, drawn))


def test_a_number_of_two_names_is_refused(dataset: Dataset, folder: Path) -> None:
    orders = {CASES[0]: {1: "ventricle", 2: "x", 7: "wall"}, CASES[1]: {1: "x", 2: "ventricle", 7: "wall"}}
    for case, names in orders.items():
        drawn, affine = scribble(dataset, case), image_of(dataset, case).affine
        segmentation(folder / f"{case}.seg.nrrd", drawn, affine, names)
    message = rf"{CASES[1]}.seg.nrrd: segment 1 is called 'x', in {CASES[0]}.seg.nrrd 'ventricle'\.\n.*Map by names"
    with pytest.raises(InputError, match=message):
        convert_drawings(folder, dataset, "scribble", parse_meaning(["1=LV,2=background,7=Myo"], dataset))
    convert_drawings(folder, dataset, "scribble", parse_meaning(["ventricle=LV,x=background,wall=Myo"], dataset))


def test_an_empty_segmentation_of_slicer_is_one_voxel_anywhere(dataset: Dataset, folder: Path) -> None:
    by_itk(folder / f"{CASES[0]}.seg.nrrd", np.zeros((1, 1, 1), np.uint8), np.eye(4))
    assert convert_drawings(folder, dataset, "scribble", MEANING).empty == [CASES[0]]
    assert (stored(dataset, CASES[0]) == dataset.ignore).all()


def test_segments_that_overlap_are_refused(dataset: Dataset, folder: Path) -> None:
    itk: Any = pytest.importorskip("SimpleITK")
    layers = itk.GetImageFromArray(np.zeros((3, 4, 5, 2), np.uint8), isVector=True)
    itk.WriteImage(layers, str(folder / f"{CASES[0]}.seg.nrrd"))
    with pytest.raises(InputError, match=r"seg.nrrd holds segments that overlap\.\n.*as a label map"):
        convert_drawings(folder, dataset, "scribble", MEANING)


def test_a_segment_whose_value_is_no_number_is_refused(dataset: Dataset, folder: Path) -> None:
    case = CASES[0]
    drawn, affine = scribble(dataset, case), image_of(dataset, case).affine
    segmentation(folder / f"{case}.seg.nrrd", drawn, affine, {1: "ventricle"})
    content = (folder / f"{case}.seg.nrrd").read_bytes()
    (folder / f"{case}.seg.nrrd").write_bytes(content.replace(b"LabelValue:=1", b"LabelValue:=one"))
    with pytest.raises(InputError, match=r"seg\.nrrd: Segment0_LabelValue is 'one', which is no whole number"):
        convert_drawings(folder, dataset, "scribble", MEANING)


def test_what_reaches_beyond_the_image_may_hold_nothing_there(dataset: Dataset, folder: Path) -> None:
    """3D Slicer may save a box that begins before the image's first voxel."""
    case = CASES[0]
    drawn, affine = scribble(dataset, case), image_of(dataset, case).affine
    wider = np.pad(drawn, ((2, 1), (0, 3), (1, 0)))
    nifti(folder / f"{case}.nii.gz", wider, shifted(affine, (-2, 0, -1)))
    convert_drawings(folder, dataset, "scribble", MEANING)
    assert np.array_equal(stored(dataset, case), expected(dataset, drawn))
    wider[0, 0, 0] = wider[-1, -1, -1] = 1
    nifti(folder / f"{case}.nii.gz", wider, shifted(affine, (-2, 0, -1)))
    with pytest.raises(InputError, match=r"has 2 labelled voxels outside of its image\.\n.*Is it of this case"):
        convert_drawings(folder, dataset, "scribble", MEANING)
    nifti(folder / f"{case}.nii.gz", wider, shifted(affine, (100, 0, 0)))
    with pytest.raises(InputError, match=r"labelled voxels outside of its image"):
        convert_drawings(folder, dataset, "scribble", MEANING)


def test_a_set_of_that_name_is_replaced_case_by_case(dataset: Dataset, folder: Path) -> None:
    for case in CASES[:2]:
        nifti(folder / f"{case}.nii.gz", scribble(dataset, case), image_of(dataset, case).affine)
    convert_drawings(folder, dataset, "scribble", MEANING)
    (folder / f"{CASES[0]}.nii.gz").unlink()
    nifti(folder / f"{CASES[1]}.nii.gz", 0 * scribble(dataset, CASES[1]), image_of(dataset, CASES[1]).affine)
    found = convert_drawings(folder, dataset, "scribble", MEANING)
    assert (found.empty, found.kept) == ([CASES[1]], [CASES[0]])
    assert CASES[0] not in found.missing
    assert np.array_equal(stored(dataset, CASES[0]), expected(dataset, scribble(dataset, CASES[0])))
    assert (stored(dataset, CASES[1]) == dataset.ignore).all()


def test_drawings_of_test_cases_are_passed_over_and_named(dataset: Dataset, folder: Path) -> None:
    affine, of_test = image_of(dataset, CASES[0]).affine, ["patient5_frame01", "patient5_frame07"]
    for case in (CASES[0], *of_test):
        nifti(folder / f"{case}.nii.gz", scribble(dataset, CASES[0]), affine)
    assert convert_drawings(folder, dataset, "Übung", MEANING).of_test == of_test
    assert dataset.label_sets == ("Übung",)
    assert [path.name for path in dataset.label_path("", "Übung").parent.iterdir()] == [f"{CASES[0]}.nii.gz"]
    (folder / f"{CASES[0]}.nii.gz").unlink()
    with pytest.raises(InputError, match=r"all drawings are of test cases, which teach nothing\.\n.*Draw on others"):
        convert_drawings(folder, dataset, "scribble", MEANING)
    assert dataset.label_sets == ("Übung",)


def test_everything_that_is_wrong_is_listed_at_once_and_nothing_is_written(dataset: Dataset, folder: Path) -> None:
    first, second, third = CASES
    affine = image_of(dataset, first).affine
    drawn = scribble(dataset, first)
    nifti(folder / f"{first}.nii.gz", drawn, affine)  # nothing is wrong with it
    nifti(folder / f"{first}.nii", drawn, affine)
    nifti(folder / "patient1_frame1.nii.gz", drawn, affine)
    nifti(folder / "patient5_frame01.nii.gz", drawn, affine)
    nifti(folder / f"{second}.nii.gz", drawn + 3, affine)
    nifti(folder / f"{third}.nii.gz", np.full(image_of(dataset, third).array.shape, 0.5, np.float32), affine)
    (folder / "patient3_frame01.nii.gz").write_bytes(b"x")
    (folder / "patient3_frame07.tif").write_bytes(b"x")
    (folder / "patient4_frame01.nhdr").write_bytes(b"x")
    with pytest.raises(InputError) as caught:
        convert_drawings(folder, dataset, "scribble", MEANING)
    facts = [problem.what for problem in caught.value.problems]
    for start in (
        f"{first}.nii.gz and {first}.nii are both of {first}.",
        f"patient1_frame1.nii.gz is of no case of {dataset.folder}; did you mean 'patient1_frame01'?",
        f"{second}.nii.gz holds 3, 4, 5, 10, of which --map says nothing.",
        f"{second}.nii.gz does not lie on its image's grid: voxels are up to",
        f"{third}.nii.gz holds values that are no whole numbers.",
        "patient3_frame01.nii.gz cannot be read as NIfTI",
        "patient3_frame07.tif is no label map that boundseg reads.",
        "patient4_frame01.nhdr is no label map that boundseg reads.",
    ):
        assert any(fact.startswith(start) for fact in facts), (start, facts)
    assert all(problem.where and problem.remedy for problem in caught.value.problems)
    assert dataset.label_sets == ()
    assert not list(dataset.folder.glob(".*"))


def shifted(affine: np.ndarray, by: tuple[float, float, float]) -> np.ndarray:
    return affine @ np.block([[np.eye(3), np.reshape(by, (3, 1))], [np.zeros((1, 3)), np.ones((1, 1))]])


@pytest.mark.parametrize(
    ("affine", "message"),
    [
        (shifted(oblique_affine(), (0.5, 0, 0)), r"does not lie on its image's grid: voxels are up to 0.6.* mm apart"),
        (shifted(oblique_affine(), (3, 0, 0)), r"has its image's shape, but lies \[3, 0, 0\] voxels beside it\."),
        (np.diag([1.25, 1.5, 8, 1]), r"has other axes or another spacing|does not lie on its image's grid"),
        (oblique_affine((2.5, 3.0, 8.0)), r"has other axes or another spacing than its image \(.* of 2.5x3x8 mm; the"),
        (np.diag([0.0, 1, 1, 1]), r"has no usable affine"),
    ],
    ids=["half a voxel", "three voxels", "turned otherwise", "coarser", "flat"],
)
def test_another_grid_is_refused(affine: np.ndarray, message: str) -> None:
    array = np.zeros((7, 6, 5), np.uint8)
    with pytest.raises(InputError, match=message) as caught:
        placing(Path("drawings/p.nii.gz"), Volume(array, affine), Volume(array, oblique_affine()))
    (problem,) = caught.value.problems
    assert "drawings" in problem.where
    assert "Draw on the image of the dataset" in problem.remedy


def test_an_affine_rounded_by_an_exporter_is_the_same_grid() -> None:
    array = np.arange(7 * 6 * 5).reshape(7, 6, 5)
    rounded = oblique_affine().round(3)
    assert not np.array_equal(rounded, oblique_affine())
    place = placing(Path("p.nii"), Volume(array, rounded), Volume(array, oblique_affine()))
    assert np.array_equal(place(array, array.shape, 0), array)


@pytest.mark.parametrize(
    ("texts", "messages"),
    [
        (["LV"], ["--map: 'LV' is no DRAWN=LABEL."]),
        (["1=lv,2=Myoo"], ["--map: 'lv' is no label; did you mean 'LV'?", "--map: 'Myoo' is no label; did you"]),
        (["1=LV,1=Myo"], ["--map: 1 means both 'LV' and 'Myo'."]),
        (["0=ignore"], ["--map: no value means a class."]),
        (["=LV"], ["--map: '=LV' is no DRAWN=LABEL."]),
    ],
)
def test_a_map_that_cannot_be_is_refused(dataset: Dataset, texts: list[str], messages: list[str]) -> None:
    with pytest.raises(InputError) as caught:
        parse_meaning(texts, dataset)
    for problem, message in zip(caught.value.problems, messages, strict=True):
        assert problem.what.startswith(message)
        assert problem.remedy


def test_0_means_not_drawn_unless_the_map_says_otherwise(dataset: Dataset) -> None:
    assert parse_meaning(["1 = LV, 2=background", "7=Myo"], dataset) == MEANING
    assert parse_meaning(["0=background,1=LV"], dataset) == {0: "background", 1: "LV"}
    assert parse_meaning(["-1=ignore,apex=LV"], dataset) == {0: "ignore", -1: "ignore", "apex": "LV"}


@pytest.mark.parametrize(
    ("name", "names", "message"),
    [
        ("full", "{case}", r"cannot be called 'full'\.\n.*another --name"),
        ("../x", "{case}", r"cannot be called '../x'\.\n.*another --name"),
        ("scribble", "label", r"--files 'label' does not say where the case stands\.\n.*\{case\}-label"),
        ("scribble", "{case}", r"drawings holds no drawing\.\n.*Give a folder of label maps"),
    ],
)
def test_names_that_cannot_be_are_refused(dataset: Dataset, folder: Path, name: str, names: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        convert_drawings(folder, dataset, name, MEANING, names)


def test_a_file_is_no_folder_of_drawings(dataset: Dataset, folder: Path) -> None:
    (folder / "p.nii.gz").write_bytes(b"")
    with pytest.raises(InputError, match=r"p\.nii\.gz is a file\.\n.*Give its folder, .*drawings: one file a case"):
        convert_drawings(folder / "p.nii.gz", dataset, "scribble", MEANING)


def test_drawings_are_not_read_from_where_labels_go(dataset: Dataset) -> None:
    target = dataset.folder / "labelsTr_scribble"
    target.mkdir()
    with pytest.raises(InputError, match=r"the drawings lie where the labels go\.\n.*Move the drawings elsewhere"):
        convert_drawings(target, dataset, "scribble", MEANING)
