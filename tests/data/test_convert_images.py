"""Pictures to dataset folders: numbers to the last bit, sizes of pixels as their tags say, masks class by class."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from boundseg.data import volume_io
from boundseg.data.check import check
from boundseg.data.convert.images import convert_images, parse_classes
from boundseg.data.dataset import Dataset
from boundseg.data.drawings import convert_drawings, parse_meaning
from boundseg.data.picture_io import count_channels, parse_spacing, read_picture, read_pixel_mm, write_picture
from boundseg.errors import InputError, VolumeError
from boundseg.training.loop import train
from boundseg.training.predict import predict
from tests.cli.cases import Result, ok, refused
from tests.conftest import CommandLine

tifffile = pytest.importorskip("tifffile")  # which wrote the files of most microscopes
SHAPE = (20, 24)


def colours(seed: int = 0, dtype: Any = np.uint8) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, np.iinfo(dtype).max, (*SHAPE, 3), endpoint=True).astype(dtype)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Five pictures in which a class is bright, and their masks of 0 and 255."""
    for name in ("pictures", "masks"):
        (tmp_path / name).mkdir()
    for number in range(5):
        mask = np.zeros(SHAPE, np.uint8)
        mask[4 + number : 12 + number, 5:14] = 255
        picture = colours(number) // 3 + mask[..., None] // 2
        Image.fromarray(picture).save(tmp_path / "pictures" / f"tile{number}.png")
        Image.fromarray(mask).save(tmp_path / "masks" / f"tile{number}_mask.png")
    return tmp_path


def converted(folder: Path, **options: Any) -> Dataset:
    options = {"masks": folder / "masks", "names": "{case}_mask", **options}
    convert_images(folder / "pictures", folder / "out", parse_classes(["255=cell"]), **options)
    return Dataset.open(folder / "out")


def test_classes_have_names_of_any_letters(folder: Path) -> None:
    meaning = parse_classes(["255=Dru\u0308se links"])
    assert meaning == {255: "Dr\u00fcse links"}
    convert_images(folder / "pictures", folder / "out", meaning, masks=folder / "masks", names="{case}_mask")
    dataset = Dataset.open(folder / "out")
    assert dataset.labels == {"background": 0, "Dr\u00fcse links": 1}
    assert not check(dataset).problems
    with pytest.raises(InputError) as caught:
        parse_classes(["1=tumour+rim", "2=GTV/CTV"])
    assert [problem.what for problem in caught.value.problems] == [
        "--map: the class 'tumour+rim' has '+' in its name.",
        "--map: the class 'GTV/CTV' has '/' in its name.",
    ]


def test_colours_become_channels_and_masks_classes(folder: Path) -> None:
    dataset = converted(folder, spacing_mm=(0.5, 0.25))
    assert (dataset.channels, dataset.labels, dataset.ignore) == (
        ("red", "green", "blue"),
        {"background": 0, "cell": 1},
        2,
    )
    assert dataset.file_ending == ".png"
    assert not check(dataset).problems
    for case in dataset.cases:
        array, image = dataset.read_image(case)
        assert np.array_equal(
            array[..., 0].transpose(1, 2, 0), np.asarray(Image.open(folder / "pictures" / f"{case}.png"))
        )
        assert np.allclose(image.spacing_mm, (0.5, 0.25, 1))
        mask = np.asarray(Image.open(folder / "masks" / f"{case}_mask.png"))
        assert np.array_equal(dataset.read_labels(case, "full", image)[..., 0], mask // 255)


def test_a_map_of_scribbles_is_refused_and_0_as_background_told(folder: Path, command_line: CommandLine) -> None:
    command = ("convert", "images", folder / "pictures", folder / "out", "--masks", folder / "masks")
    command = (*command, "--files", "{case}_mask")
    refused(
        Result(*command_line(*command, "--map", "1=cell,255=background")),
        "--map: 255 is background, and nothing says what 0 is.",
        'Is 0 "not drawn"? Use boundseg convert labels',
    )
    assert not (folder / "out").exists()
    told = "unmarked pixels (0) became background (0=ignore in --map leaves them out)\n"
    assert told in ok(Result(*command_line(*command, "--map", "255=cell"))).out
    again = (*command[:3], folder / "again", *command[4:])
    assert told not in ok(Result(*command_line(*again, "--map", "0=background,255=cell"))).out


def test_test_cases_are_drawn_among_those_with_masks(folder: Path) -> None:
    for number in (0, 1, 3):
        (folder / "masks" / f"tile{number}_mask.png").unlink()
    for seed in range(5):
        out = folder / str(seed)
        options: Any = {"masks": folder / "masks", "names": "{case}_mask", "seed": seed}
        done = convert_images(folder / "pictures", out, parse_classes(["255=cell"]), **options)
        (tests,) = Dataset.open(out).cases_of("test")
        assert tests in ("tile2", "tile4")
        assert done.split.startswith(
            f"no split.csv: a fifth of the patients tests, drawn with seed {seed} among the 2 "
        )


def test_without_masks_nobody_tests(folder: Path) -> None:
    done = convert_images(folder / "pictures", folder / "out", parse_classes(["255=cell"]))
    assert done.split.startswith(
        "no split.csv: nobody tests, for there are no masks; 1 of the 5 training patients are "
    )
    dataset = Dataset.open(folder / "out")
    assert dataset.cases_of("test") == []
    assert not check(dataset).notes or "no split" not in check(dataset).notes[0]


def test_tiles_of_one_patient_stay_on_one_side(folder: Path) -> None:
    rows = ["case,split,patient", *(f"tile{i},train,{'ab'[i > 2]}" for i in range(5))]
    (folder / "pictures" / "split.csv").write_text("\n".join(rows))
    dataset = converted(folder)
    assert dataset.splits.patients == {"a": ["tile0", "tile1", "tile2"], "b": ["tile3", "tile4"]}
    assert sorted(dataset.splits.lists["train"] + dataset.splits.lists["validation"]) == ["a", "b"]
    (folder / "pictures" / "split.csv").write_text("\n".join([*rows[:-1], "tile4,test,b"]))
    with pytest.raises(
        InputError, match=r"one patient is on 2 sides: tile4 in test, tile3 in train\.\n.*split.csv\. Keep"
    ):
        convert_images(folder / "pictures", folder / "other", parse_classes(["255=cell"]))
    (folder / "pictures" / "split.csv").write_text("\n".join([*rows, "tile4,train,a"]))
    with pytest.raises(InputError, match=r"tile4 is of two patients: b and a\.\n.*line 7\. Keep one"):
        convert_images(folder / "pictures", folder / "other", parse_classes(["255=cell"]))


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "int32", "float32"])
@pytest.mark.parametrize("channels", [1, 3])
def test_every_bit_is_kept(tmp_path: Path, dtype: str, channels: int) -> None:
    if channels == 3 and dtype in ("int32", "float32"):
        pytest.skip("no picture")
    array = (np.random.default_rng(0).random((*SHAPE, channels)) * 60_000).astype(dtype)
    (tmp_path / "in").mkdir()
    tifffile.imwrite(
        tmp_path / "in" / "a.tif", array if channels == 3 else array[..., 0], resolution=(8000, 4000), resolutionunit=3
    )
    convert_images(tmp_path / "in", tmp_path / "out", parse_classes(["1=cell"]))
    dataset = Dataset.open(tmp_path / "out")
    for channel, path in enumerate(dataset.image_paths("a")):
        written = tifffile.imread(path)
        assert written.dtype == dtype
        assert np.array_equal(written, array[..., channel])
        # 4000 rows and 8000 columns a centimetre
        assert np.allclose(volume_io.read(path).spacing_mm, (10 / 4000, 10 / 8000, 1))
    assert count_channels(tmp_path / "in" / "a.tif") == channels


def test_png_of_16_bits_and_three_colours_loses_none(tmp_path: Path) -> None:
    """Pillow would read 8 of the bits, without a word."""
    itk = pytest.importorskip("SimpleITK")
    array = colours(dtype=np.uint16)
    itk.WriteImage(itk.GetImageFromArray(array, isVector=True), str(tmp_path / "a.png"))
    assert np.array_equal(read_picture(tmp_path / "a.png").channels, array)


@pytest.mark.parametrize(
    ("options", "itemsize"),
    [
        ({"tile": (16, 16)}, 2),
        ({"planarconfig": "separate"}, 2),
        ({"extratags": [(274, "H", 1, 3, True)]}, 2),
        ({"extratags": [(274, "H", 1, 4, True)]}, 2),
        ({"tile": (16, 16)}, 1),
        ({"planarconfig": "separate"}, 1),
    ],
)
def test_colours_are_read_to_the_last_bit_or_not_at_all(tmp_path: Path, options: dict[str, Any], itemsize: int) -> None:
    """SimpleITK reads 8 of 16 bits of tiles, of planes and of what is turned."""
    pytest.importorskip("SimpleITK")
    array = colours(dtype=f"uint{8 * itemsize}")
    stored = array.transpose(2, 0, 1) if "planarconfig" in options else array
    tifffile.imwrite(tmp_path / "a.tif", np.ascontiguousarray(stored), photometric="rgb", **options)
    if itemsize == 1:
        assert np.array_equal(read_picture(tmp_path / "a.tif").channels, array)
    else:
        with pytest.raises(InputError, match=r"a\.tif has colours of more than 8 bits in a form"):
            read_picture(tmp_path / "a.tif")


@pytest.mark.parametrize("dtype", ["int8", "int16", "int32", "uint32"])
def test_integers_of_tiff_keep_their_sign(tmp_path: Path, dtype: str) -> None:
    array = np.array([[0, 1], [100, np.iinfo(dtype).min]]).astype(dtype)
    tifffile.imwrite(tmp_path / "a.tif", array)
    assert np.array_equal(read_picture(tmp_path / "a.tif").channels[..., 0], array)
    if dtype == "uint32":
        tifffile.imwrite(tmp_path / "a.tif", array + np.uint32(4_000_000_000))
        with pytest.raises(InputError, match="holds numbers above 2147483647"):
            read_picture(tmp_path / "a.tif")


# as EXIF defines them: what the stored rows and columns become
TURNS = {
    1: lambda a: a,
    2: np.fliplr,
    3: lambda a: np.rot90(a, 2),
    4: np.flipud,
    5: lambda a: a.swapaxes(0, 1),
    6: lambda a: np.rot90(a, -1),
    7: lambda a: np.rot90(a, 2).swapaxes(0, 1),
    8: np.rot90,
}


@pytest.mark.parametrize("turn", TURNS)
@pytest.mark.parametrize("ending", [".png", ".jpg", ".tif", "_deflated.tif"])
def test_a_picture_is_upright_as_every_viewer_shows_it(tmp_path: Path, turn: int, ending: str) -> None:
    """Else a mask that was drawn in a viewer would lie elsewhere than its picture."""
    array = np.kron(np.arange(0, 240, 40).reshape(2, 3), np.ones((8, 8))).astype(np.uint8)
    path = tmp_path / f"a{ending}"
    if path.suffix == ".tif":
        options: dict[str, Any] = {"compression": "deflate"} if "deflated" in ending else {}
        tag = (274, "H", 1, turn, True)
        tifffile.imwrite(path, array, resolution=(254, 508), resolutionunit=2, extratags=[tag], **options)
    else:
        exif = Image.Exif()
        exif[274] = turn
        Image.fromarray(array).save(path, exif=exif, dpi=(254, 508), quality=100)
    picture = read_picture(path)
    expected = TURNS[turn](array)
    assert picture.channels.shape == (*expected.shape, 1)
    assert np.abs(picture.channels[..., 0].astype(int) - expected).max() <= (2 if ending == ".jpg" else 0)
    # 508 rows and 254 columns an inch, as they are stored
    assert np.allclose(picture.spacing_mm, (0.05, 0.1) if turn < 5 else (0.1, 0.05), rtol=1e-3)


@pytest.mark.parametrize(
    ("options", "spacing_mm"),
    [
        ({"resolution": (254, 508), "resolutionunit": 2}, (0.05, 0.1)),
        ({"resolution": (100, 50), "resolutionunit": 3}, (0.2, 0.1)),
        ({"imagej": True, "resolution": (4, 4), "metadata": {"unit": "um"}}, (0.25e-3, 0.25e-3)),
        (
            {
                "ome": True,
                "metadata": {
                    "axes": "YX", "PhysicalSizeX": 0.65, "PhysicalSizeXUnit": "µm",
                    "PhysicalSizeY": 1300.0, "PhysicalSizeYUnit": "nm",
                },
            },
            (1.3e-3, 0.65e-3),
        ),
        ({"resolution": (4, 4), "resolutionunit": 1}, (1, 1)),
        ({}, (1, 1)),
    ],
)  # fmt: skip
def test_tags_say_the_size_of_a_pixel(tmp_path: Path, options: dict[str, Any], spacing_mm: tuple[float, float]) -> None:
    tifffile.imwrite(tmp_path / "a.tif", colours()[..., 0], **options)
    picture = read_picture(tmp_path / "a.tif")
    assert np.allclose(picture.spacing_mm, spacing_mm)
    assert bool(picture.told) == (spacing_mm != (1, 1))


@pytest.mark.parametrize("ending", [".png", ".tif"])
def test_a_pixel_of_1_mm_differs_from_one_of_which_nothing_is_known(tmp_path: Path, ending: str) -> None:
    for name, spacing_mm in (("told", (1.0, 1.0)), ("untold", None)):
        write_picture(tmp_path / f"{name}{ending}", colours()[..., 0], spacing_mm)
    told, untold = (volume_io.read(tmp_path / f"{name}{ending}") for name in ("told", "untold"))
    assert (told.measured, untold.measured) == (True, False)
    assert told.spacing_mm == untold.spacing_mm == (1, 1, 1)
    assert read_pixel_mm(tmp_path / f"told{ending}") == (1, 1)
    assert read_pixel_mm(tmp_path / f"untold{ending}") is None
    # what is written on the grid of either says as much
    for image, name in ((told, "told"), (untold, "untold")):
        volume_io.write(tmp_path / f"map_{name}{ending}", image.array, image)
        assert volume_io.read(tmp_path / f"map_{name}{ending}").measured == image.measured


def test_labels_of_a_picture_may_say_no_resolution_but_no_other_one(folder: Path) -> None:
    dataset = converted(folder, spacing_mm=(0.5, 0.5))
    case = dataset.training_cases[0]
    _, image = dataset.read_image(case)
    path, mask = dataset.label_path(case), dataset.read_labels(case, "full", image)
    for spacing_mm in ((0.5, 0.5), None):
        write_picture(path, mask[..., 0], spacing_mm)
        assert np.array_equal(dataset.read_labels(case, "full", image), mask)
    write_picture(path, mask[..., 0], (1.0, 1.0))
    with pytest.raises(VolumeError) as caught:
        dataset.read_labels(case, "full", image)
    assert str(caught.value) == (
        f"{case}.png has pixels of 1 x 1 mm, its image of 0.5 x 0.5 mm.\n  in {path.parent}. "
        "Write the image's resolution into it (TIFF's resolution tags, PNG's pHYs), or none at all."
    )


def test_a_drawing_of_a_picture_becomes_a_label_set(folder: Path) -> None:
    """A palette's picture, as napari and paint programs save: the indices are what was drawn."""
    dataset = converted(folder, spacing_mm=(0.5, 0.5))
    case = dataset.training_cases[0]
    drawn = np.zeros(SHAPE, np.uint8)
    drawn[5, 6], drawn[0, :4] = 2, 1
    image = Image.fromarray(drawn)
    image.putpalette([0, 0, 0, 255, 0, 0, 0, 255, 0])
    (folder / "drawn").mkdir()
    image.save(folder / "drawn" / f"{case}.png")
    convert_drawings(folder / "drawn", dataset, "scribble", parse_meaning(["1=background,2=cell"], dataset))
    labels = dataset.read_labels(case, "scribble", dataset.read_image(case)[1])[..., 0]
    assert labels[5, 6] == 1
    assert (labels[0, :4] == 0).all()
    assert (labels == dataset.ignore).sum() == labels.size - 5


@pytest.mark.parametrize("shape", [(10, 12), (40, 48), (24, 20)])
def test_a_drawing_of_another_size_is_refused(folder: Path, shape: tuple[int, int]) -> None:
    """It was drawn on a picture at half its size, perhaps; nothing says where its pixels lie."""
    dataset = converted(folder)
    (folder / "drawn").mkdir()
    Image.fromarray(np.ones(shape, np.uint8)).save(folder / "drawn" / f"{dataset.training_cases[0]}.png")
    with pytest.raises(InputError, match=f"has {shape[0]} x {shape[1]} pixels, its image 20 x 24"):
        convert_drawings(folder / "drawn", dataset, "scribble", parse_meaning(["1=cell"], dataset))
    assert not dataset.label_sets


def test_from_pictures_to_predictions_in_the_same_kind_of_file(folder: Path) -> None:
    """Trains on channels in files of their own; predicts pictures as they were, and as they lie in the dataset."""
    from tests.training.cases import entry, tiny

    dataset = converted(folder, spacing_mm=(0.5, 0.5))
    run = train(tiny(dataset.folder, entry("full")), folder / "run", device="cpu", quiet=True)
    names = [f"tile{number}" for number in range(5)]
    own = predict(run, [folder / "pictures"], folder / "own", probabilities=True)
    split = predict(run, [dataset.folder / "imagesTr", dataset.folder / "imagesTs"], folder / "split")
    assert sorted(path.name for path in own.written) == [f"{name}.png" for name in names]
    assert sorted(path.name for path in split.written) == [f"{name}.png" for name in names]
    for name in names:
        first, second = (np.asarray(Image.open(folder / out / f"{name}.png")) for out in ("own", "split"))
        assert first.shape == SHAPE
        assert np.array_equal(first, second)
        probability = tifffile.imread(folder / "own" / f"{name}_probability_cell.tif")
        assert np.array_equal(first, probability > 0.5)
    # the label map has the size of a pixel of its image, and PNG that of none
    assert np.allclose(read_picture(folder / "split" / "tile0.png").spacing_mm, 0.5)
    assert read_picture(folder / "own" / "tile0.png").told == ""
    grey = folder / "grey.png"
    Image.fromarray(colours()[..., 0]).save(grey)
    with pytest.raises(InputError, match=r"grey has a picture of 1 channel\(s\), the network takes 3"):
        predict(run, [grey], folder / "none")


def test_nnunets_pictures_of_colours_are_read_as_they_are(folder: Path) -> None:
    """CASE_0000.png with all three channels."""
    dataset = converted(folder)
    before = {case: dataset.read_image(case)[0] for case in dataset.cases}
    for case in dataset.cases:
        first, *others = dataset.image_paths(case)
        for path in others:
            path.unlink()
        (folder / "pictures" / f"{case}.png").replace(first)
    again = Dataset.open(dataset.folder)
    for case, array in before.items():
        assert np.array_equal(again.read_image(case)[0], array)
    Image.fromarray(colours()[..., 0]).save(first)
    with pytest.raises(InputError, match=r"has 1 channel\(s\), dataset.json names 3"):
        again.read_image(case)


def test_every_verb_takes_colours_in_one_file(folder: Path, command_line: CommandLine) -> None:
    """convert labels, convert nnunet, priors report and info need the grid of a case, not its channels."""
    dataset = converted(folder)
    (folder / "drawn").mkdir()
    for case in dataset.cases:
        first, *others = dataset.image_paths(case)
        for path in others:
            path.unlink()
        (folder / "pictures" / f"{case}.png").replace(first)
    case = dataset.cases_of("train")[0]
    Image.fromarray(np.eye(*SHAPE, dtype=np.uint8)).save(folder / "drawn" / f"{case}.png")
    (folder / "sizes.csv").write_text(f"case,cell (px)\n{case},72\n")
    out = dataset.folder
    report = ("priors", out, "report", "--table", folder / "sizes.csv", "--column", "cell (px)")
    for command in (
        ("convert", "labels", folder / "drawn", out, "--name", "drawn", "--map", "1=cell"),
        ("convert", "nnunet", out, folder / "Dataset001_cells", "--labels", "drawn"),
        report,
        ("info", out),
    ):
        ok(Result(*command_line(*command)))
    written = np.asarray(Image.open(folder / "Dataset001_cells" / "labelsTr" / f"{case}.png"))
    assert np.array_equal(written, np.where(np.eye(*SHAPE), 1, dataset.ignore))


def test_masks_may_lie_beside_their_pictures(folder: Path, command_line: CommandLine) -> None:
    apart = converted(folder)
    for path in (folder / "masks").iterdir():
        path.replace(folder / "pictures" / path.name)
    command = ("convert", "images", folder / "pictures", folder / "beside", "--masks", folder / "pictures")
    command = (*command, "--map", "255=cell")
    refused(Result(*command_line(*command)), "nothing says which is which", "--files '{case}_mask'")
    ok(Result(*command_line(*command, "--files", "{case}_mask")))
    beside = Dataset.open(folder / "beside")
    assert beside.cases == apart.cases
    for path in (path for case in apart.cases for path in (*apart.image_paths(case), apart.label_path(case))):
        assert (beside.folder / path.relative_to(apart.folder)).read_bytes() == path.read_bytes()


def test_all_that_is_wrong_is_told_at_once_and_nothing_is_written(folder: Path, command_line: CommandLine) -> None:
    pictures, masks = folder / "pictures", folder / "masks"
    transparent = np.dstack([colours(), np.full(SHAPE, 9, np.uint8)])
    Image.fromarray(transparent).save(pictures / "clear.png")
    Image.fromarray(np.dstack([colours(), np.full(SHAPE, 255, np.uint8)])).save(pictures / "opaque.png")
    Image.fromarray(colours()[..., 0]).save(pictures / "grey.png")
    (pictures / "broken.png").write_bytes(b"no picture")
    Image.fromarray(colours()).save(pictures / "other.webp")
    Image.fromarray(np.zeros(SHAPE, np.uint8)).save(masks / "tile3_mask.gif")
    pages = [Image.fromarray(colours()) for _ in range(2)]
    pages[0].save(pictures / "pages.tif", save_all=True, append_images=pages[1:])
    Image.fromarray(colours()).save(masks / "tile0_mask.png")
    Image.fromarray(np.full(SHAPE, 7, np.uint8)).save(masks / "tile1_mask.png")
    Image.fromarray(np.zeros((9, 9), np.uint8)).save(masks / "tile2_mask.png")
    Image.fromarray(np.zeros(SHAPE, np.uint8)).save(masks / "tile9_mask.png")
    Image.fromarray(np.zeros(SHAPE, np.uint8)).save(masks / "grey_mask.jpg")
    arguments = ("convert", "images", pictures, folder / "out", "--masks", masks, "--files", "{case}_mask")
    refused(
        Result(*command_line(*arguments, "--map", "255=cell")),
        f"clear.png is transparent in {20 * 24} of {20 * 24} pixels.",
        "pictures differ in channels",
        "broken.png cannot be read as a picture",
        "other.webp is no picture that boundseg reads.",
        "tile3_mask.gif is no picture that boundseg reads.",
        "pages.tif holds 2 pages",
        "tile0_mask.png is of colours",
        "tile1_mask.png holds 7, of which --map says nothing.",
        "tile2_mask.png has 9 x 9 pixels, its picture 20 x 24.",
        "tile9_mask.png is of no picture",
        "grey_mask.jpg is no label map.",
    )
    assert not (folder / "out").exists()
    assert not any(path.name.startswith(".out") for path in folder.iterdir())


@pytest.mark.parametrize(
    ("options", "fact"),
    [
        ((), "which classes are there?"),
        (("--map", "cell"), "'cell' is no VALUE=CLASS."),
        (("--map", "1="), "'1=' is no VALUE=CLASS."),
        (("--map", "1=cell,1=wall"), "1 means both 'cell' and 'wall'"),
        (("--map", "1=background"), "no value means a class"),
        (("--map", "1=cell", "--spacing", "0.5"), "--spacing 0.5 does not say its unit."),
        (("--map", "1=cell", "--spacing", "0.5furlong"), "--spacing '0.5furlong' is no length."),
        (("--map", "1=cell", "--series", "3"), "images takes no --series."),
        (("--map", "1=cell", "--target", "cell"), "images takes no --target"),
    ],
)
def test_what_was_meant_is_asked(folder: Path, command_line: CommandLine, options: tuple[str, ...], fact: str) -> None:
    refused(Result(*command_line("convert", "images", folder / "pictures", folder / "out", *options)), fact)
    assert not (folder / "out").exists()


def test_the_command_says_where_the_size_of_a_pixel_comes_from(folder: Path, command_line: CommandLine) -> None:
    arguments = ("convert", "images", folder / "pictures", folder / "out", "--map", "255=cell")
    code, out, _ = command_line(*arguments, "--masks", folder / "masks", "--files", "{case}_mask")
    assert code == 0
    assert "5 cases (train 3, validation 1, test 1), classes cell" in out
    assert "5 images: no size of a pixel in the file: taken as 1 mm" in out
    Image.fromarray(colours()).save(folder / "pictures" / "tile0.png", dpi=(72, 72))
    _, out, _ = command_line(*arguments[:3], folder / "again", *arguments[4:])
    assert "72 dpi, which programs write that know none" in " ".join(out.split())
    assert "without a mask: tile0, tile1, tile2, tile3 …" in out


def test_lengths_are_read_with_their_unit() -> None:
    assert parse_spacing("0.5um") == (0.0005, 0.0005)
    assert parse_spacing("1.25x1.5 mm") == (1.25, 1.5)
