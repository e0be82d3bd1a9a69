"""Volumes in, label maps out, each on its own grid; nothing is overwritten by accident."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest

from boundseg.data import volume_io
from boundseg.data.dataset import Dataset, read_channels
from boundseg.data.picture_io import write_picture
from boundseg.errors import InputError, VolumeError
from boundseg.inference import label_map
from boundseg.training.loop import train
from boundseg.training.predict import PartlyPredictedError, _cases, predict
from boundseg.training.run import Run

from .cases import entry, resampling, tiny

NAMES = ("", "_probability_LV", "_probability_Myo")  # of the files of a case, by the value of their class
CASES = ("patient5_frame01", "patient5_frame07")


@pytest.fixture
def scans(trained: Run, tmp_path: Path) -> Path:
    """A folder with the two volumes that nobody learned from."""
    return Path(shutil.copytree(trained.config.data.folder / "imagesTs", tmp_path / "scans"))


def content(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def change(path: Path, array: np.ndarray | None = None, **header: Any) -> None:
    """Writes a volume again with other voxels or header fields."""
    old: Any = nib.load(path)
    new = nib.Nifti1Image(np.asarray(old.dataobj) if array is None else array, old.affine, old.header)
    for name, value in header.items():
        new.header[name] = value
    if array is not None:
        new.header.set_data_dtype(array.dtype)
    nib.save(new, path)


def test_a_label_map_lies_where_its_image_lies(trained: Run, scans: Path, tmp_path: Path) -> None:
    first = scans / f"{CASES[0]}_0000.nii.gz"
    change(first, scl_slope=0.5, scl_inter=3, cal_max=900, descrip=b"cine")
    done = predict(trained, [scans], tmp_path / "out")
    assert done.written == [tmp_path / "out" / f"{case}.nii.gz" for case in CASES]
    assert done.notes == []
    for case, path in zip(CASES, done.written, strict=True):
        ours: Any = nib.load(path)
        image: Any = nib.load(scans / f"{case}_0000.nii.gz")
        assert np.array_equal(ours.affine, image.affine)
        assert not np.allclose(image.affine[:3, :3], np.diag(np.diag(image.affine[:3, :3])))  # oblique
        assert ours.shape == image.shape
        assert nib.aff2axcodes(ours.affine) == nib.aff2axcodes(image.affine)
        for code in ("sform_code", "qform_code", "pixdim", "xyzt_units", "descrip"):
            assert np.array_equal(ours.header[code], image.header[code]), code
        assert ours.get_data_dtype() == np.uint8
        assert ours.header.get_slope_inter() in ((None, None), (1, 0))
        assert set(np.unique(ours.dataobj)) <= {0, 1, 2}
        assert np.any(ours.dataobj)


def test_probabilities_are_of_all_classes_and_the_label_map_their_largest(
    trained: Run, scans: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    predict(trained, [scans], out, probabilities=True)
    for case in CASES:
        probs = [nib.load(out / f"{case}_probability_{name}.nii.gz") for name in ("LV", "Myo")]
        assert all(p.get_data_dtype() == np.float32 for p in probs)  # type: ignore[attr-defined]
        foreground = np.stack([np.asarray(p.dataobj) for p in probs])  # type: ignore[attr-defined]
        background = 1 - foreground.sum(0)
        assert foreground.min() >= 0
        assert background.min() >= -1e-6
        labels = np.asarray(nib.load(out / f"{case}.nii.gz").dataobj)  # type: ignore[attr-defined]
        every = np.concatenate([background[None], foreground])
        clear = np.sort(every, 0)[-1] - np.sort(every, 0)[-2] > 1e-5
        assert np.array_equal(every.argmax(0)[clear], labels[clear])
    assert len(content(out)) == 7


def test_volumes_are_written_beside_label_maps(trained: Run, scans: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    predict(trained, [scans / f"{CASES[0]}_0000.nii.gz"], out)
    predict(trained, [scans / f"{CASES[1]}_0000.nii.gz"], out, largest_component=["all"])
    header, *rows = (out / "volumes.csv").read_text().splitlines()
    assert header == "case,class,voxels,mL,mm2"
    assert [row.split(",")[:2] for row in rows] == [[case, name] for case in CASES for name in ("LV", "Myo")]
    for row in rows:
        case, name, voxels, ml, mm2 = row.split(",")
        assert mm2 == ""  # of pictures only
        image: Any = nib.load(out / f"{case}.nii.gz")
        count = int((np.asarray(image.dataobj) == trained.labels[name]).sum())
        assert int(voxels) == count
        assert float(ml) == pytest.approx(count * np.prod(image.header.get_zooms()) / 1000, rel=1e-4)
    predict(trained, [scans / f"{CASES[0]}_0000.nii.gz"], out, overwrite=True)
    assert sorted((out / "volumes.csv").read_text().splitlines()[1:]) == sorted(rows)
    (out / "volumes.csv").write_text("case,class,voxels,mL,mm2\nold,LV,3,0.1,\n")
    predict(trained, [scans / f"{CASES[0]}_0000.nii.gz"], out, overwrite=True)
    assert "old,LV,3,0.1,\n" in (out / "volumes.csv").read_text()
    (out / "volumes.csv").write_text("my own\n")
    with pytest.raises(VolumeError, match=r"volumes.csv is no table of a prediction, and would be replaced"):
        predict(trained, [scans], out, overwrite=True)


def test_a_scan_that_lies_otherwise_than_all_of_the_training_is_noted(
    trained: Run, scans: Path, tmp_path: Path
) -> None:
    path = scans / f"{CASES[0]}_0000.nii.gz"
    (usual,) = trained.environment["orientations"]
    image: Any = nib.load(path)
    nib.save(image.as_reoriented(np.array([[0, -1], [1, 1], [2, -1]])), path)
    codes = "".join(nib.aff2axcodes(nib.load(path).affine))  # type: ignore[attr-defined]
    done = predict(trained, [scans], tmp_path / "out")
    assert done.notes == [
        f"{CASES[0]}: its axes are {codes}, those of the training {usual}. Nothing is turned: turn it first."
    ]


def picture(path: Path, spacing_mm: tuple[float, float] | None = None) -> Path:
    """A grey picture of 20 x 24 pixels."""
    path.parent.mkdir(exist_ok=True)
    write_picture(path, np.random.default_rng(0).integers(0, 256, (20, 24), np.uint8), spacing_mm)
    return path


def test_a_picture_that_the_trainings_spacing_would_blow_up_is_refused_before_it_is_predicted(
    trained: Run, tmp_path: Path
) -> None:
    run = resampling(trained, tmp_path / "run", 0.0005)
    untold, told = picture(tmp_path / "in" / "untold.png"), picture(tmp_path / "in" / "told.png", (0.0005, 0.0005))
    with pytest.raises(PartlyPredictedError) as caught:
        predict(run, [tmp_path / "in"], tmp_path / "out")
    assert str(caught.value) == (
        "untold has pixels of 1 x 1 mm, the training's are 0.0005 x 0.0005 mm: it would become 40000 x 48000 pixels.\n"
        f"  in {tmp_path / 'in'}. Write its resolution into the file; predict is also told by --spacing 0.5um."
    )
    assert caught.value.done.written == [tmp_path / "out" / "told.png"]
    done = predict(run, [untold], tmp_path / "said", spacing_mm=(0.0005, 0.0005))
    ours, theirs = (volume_io.read(tmp_path / name) for name in ("said/untold.png", "out/told.png"))
    assert np.array_equal(ours.array, theirs.array)
    assert np.allclose(ours.spacing_mm, volume_io.read(told).spacing_mm)
    assert not any("nothing says" in note for note in done.notes)


def test_a_volume_with_a_wrong_spacing_in_its_header_is_refused_as_well(
    trained: Run, scans: Path, tmp_path: Path
) -> None:
    path = scans / f"{CASES[0]}_0000.nii.gz"
    image: Any = nib.load(path)
    nib.save(nib.Nifti1Image(np.asarray(image.dataobj), np.diag([90.0, 90.0, 8.0, 1.0])), path)
    with pytest.raises(
        PartlyPredictedError, match=r"has pixels of 90 x 90 mm, the training's are 1\.5 x 1\.5 mm"
    ) as caught:
        predict(resampling(trained, tmp_path / "run", 1.5), [scans], tmp_path / "out")
    assert caught.value.problems[0].remedy == "Mend the spacing in its header."
    assert [written.name for written in caught.value.done.written] == [f"{CASES[1]}.nii.gz"]


def test_what_no_memory_holds_is_refused_and_what_it_holds_is_not(
    trained: Run, scans: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = scans / f"{CASES[0]}_0000.nii.gz"
    shape = (8, 400, 300)
    trained.require_size("large", path, shape, (1.5, 1.5, 8))
    monkeypatch.setattr("boundseg.data.enlarged._memory_gb", lambda: 1e-3)
    with pytest.raises(VolumeError, match=r"large has 400 x 300 pixels, which need 0.00192 GB"):
        trained.require_size("large", path, shape, (1.5, 1.5, 8))
    with pytest.raises(VolumeError, match=r"the training's are 0.5 x 0.5 mm: it would become 1200 x 900 pixels"):
        resampling(trained, tmp_path / "run", 0.5).require_size("large", path, shape, (1.5, 1.5, 8))


def test_sizes_of_pictures_are_told_where_somebody_measured_their_pixels(trained: Run, tmp_path: Path) -> None:
    for name, spacing_mm in (("a", None), ("b", None), ("c", (1.25, 1.5)), ("d", (0.001, 0.001))):
        picture(tmp_path / "in" / f"{name}.tif", spacing_mm)
    assert trained.environment["pixels_mm"] == pytest.approx([1.3, 1.5])
    done = predict(trained, [tmp_path / "in"], tmp_path / "out")
    there = "those of the training"
    assert done.notes[-2:] == [
        f"a, b: nothing says how large pixels are, 1 mm is taken ({there} measure 1.3 to 1.5 mm): no mL, no mm2. "
        "--spacing says it.",
        f"d: pixels measure 0.001 x 0.001 mm, {there} 1.3 to 1.5 mm. Is the spacing right?",
    ]
    rows = [row.split(",") for row in (tmp_path / "out" / "volumes.csv").read_text().splitlines()[1:]]
    for case, _, voxels, ml, mm2 in rows:
        if case in "ab":
            assert (ml, mm2) == ("", "")
        else:
            pixel_mm2 = {"c": 1.25 * 1.5, "d": 1e-6}[case]
            assert float(mm2) == pytest.approx(int(voxels) * pixel_mm2, rel=1e-4)
            assert float(ml) == pytest.approx(float(mm2) / 1000, rel=1e-4)


def test_spacing_is_said_of_pictures_alone(trained: Run, scans: Path, tmp_path: Path) -> None:
    with pytest.raises(VolumeError) as caught:
        predict(trained, [scans], tmp_path / "out", spacing_mm=(1, 1))
    assert [problem.what for problem in caught.value.problems] == [
        f"{scans / f'{case}_0000.nii.gz'} is no picture, and says its own spacing." for case in CASES
    ]
    assert not (tmp_path / "out").exists()


def test_what_a_folder_holds_beside_volumes_is_named(trained: Run, scans: Path, tmp_path: Path) -> None:
    for name in ("x.jpg", "y.dcm", "notes.txt", "split.csv", ".hidden.jpg"):
        (scans / name).touch()
    done = predict(trained, [scans], tmp_path / "out")
    assert done.notes == ["2 files passed over, no volume that boundseg reads: x.jpg, y.dcm"]
    for path in scans.glob("*.nii.gz"):
        path.unlink()
    with pytest.raises(VolumeError, match=r"scans holds no volume, but x\.jpg, y\.dcm\."):
        predict(trained, [scans], tmp_path / "none")


def test_a_file_of_another_format_is_refused_by_its_name(trained: Run, tmp_path: Path) -> None:
    (tmp_path / "x.jpg").touch()
    with pytest.raises(VolumeError) as caught:
        predict(trained, [tmp_path / "x.jpg", tmp_path / "y.gif"], tmp_path / "out")
    assert [problem.what for problem in caught.value.problems] == [
        "x.jpg has no ending of a volume that boundseg reads.",
        "y.gif is not there.",
    ]


def test_a_class_with_a_slash_has_its_probability_in_a_file(trained: Run, scans: Path, tmp_path: Path) -> None:
    run, out = Run.open(shutil.copytree(trained.folder, tmp_path / "run")), tmp_path / "out"
    environment = run.folder / "environment.json"
    environment.write_text(environment.read_text().replace('"LV"', '"GTV/CTV"'))
    predict(Run.open(run.folder), [scans], out, probabilities=True)
    assert {path.name for path in out.iterdir()} >= {f"{case}_probability_GTV_CTV.nii.gz" for case in CASES}
    environment.write_text(environment.read_text().replace('"Myo"', '"GTV_CTV"'))
    with pytest.raises(VolumeError, match="the probabilities of GTV/CTV, GTV_CTV would share a file"):
        predict(Run.open(run.folder), [scans], tmp_path / "other", probabilities=True)
    assert not (tmp_path / "other").exists()


def test_where_slices_are_stacked_in_the_file_makes_no_difference(write_dataset: Any, tmp_path: Path) -> None:
    """Two datasets with the same voxels, slices along the last and along the first axis."""
    written = []
    for axis in (2, 0):
        folder = write_dataset(f"axis{axis}", slice_axis=axis)
        config = tiny(folder, entry("full"), training={"epochs": 2, "batch_size": 15, "first_bias": "zero"})
        run = train(config, tmp_path / f"run{axis}", device="cpu", quiet=True)
        done = predict(run, [folder / "imagesTs"], tmp_path / f"out{axis}")
        dataset = Dataset.open(folder)
        arrays = [np.asarray(nib.load(path).dataobj) for path in done.written]  # type: ignore[attr-defined]
        assert [a.shape for a in arrays] == [dataset.read_image(c)[1].array.shape for c in CASES]
        written.append([dataset.to_slices(array) for array in arrays])
    for last, first in zip(*written, strict=True):
        assert last.any()
        assert np.array_equal(last, first)


def test_a_larger_image_is_tiled_and_none_of_it_left_out(trained: Run, scans: Path, tmp_path: Path) -> None:
    """An image that holds six hearts is larger than the grid, and each of them is found."""
    path = scans / f"{CASES[0]}_0000.nii.gz"
    small = np.asarray(nib.load(path).dataobj)  # type: ignore[attr-defined]
    change(path, np.tile(small, (3, 2, 1)))
    done = predict(trained, [path], tmp_path / "out")
    labels = np.asarray(nib.load(done.written[0]).dataobj)  # type: ignore[attr-defined]
    assert labels.shape == (3 * small.shape[0], 2 * small.shape[1], small.shape[2])
    assert done.notes == []
    for rows in range(3):
        for columns in range(2):
            part = labels[rows * small.shape[0] :, columns * small.shape[1] :][: small.shape[0], : small.shape[1]]
            assert part.any()


def test_a_run_on_crops_predicts_the_crop_and_says_so(trained_on_crops: Run, scans: Path, tmp_path: Path) -> None:
    done = predict(trained_on_crops, [scans], tmp_path / "out", probabilities=True)
    shape = nib.load(scans / f"{CASES[0]}_0000.nii.gz").shape  # type: ignore[attr-defined]
    assert done.notes == [
        f"{case}: trained on centre crops: predicts the central 16x16 of {shape[0]}x{shape[1]} pixels, "
        "background outside"
        for case in CASES
    ]
    outside = np.ones(shape, bool)
    rows, columns = ((n - 16 + 1) // 2 for n in shape[:2])
    outside[rows : rows + 16, columns : columns + 16] = False
    for case in CASES:
        for name in (f"{case}.nii.gz", f"{case}_probability_LV.nii.gz"):
            array = np.asarray(nib.load(tmp_path / "out" / name).dataobj)  # type: ignore[attr-defined]
            assert not array[outside].any()
            assert array[~outside].any()


def test_what_exists_is_not_overwritten_unless_asked(trained: Run, scans: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / f"{CASES[0]}.nii.gz").write_text("precious")
    with pytest.raises(InputError) as caught:
        predict(trained, [scans], out)
    assert f"{CASES[0]}.nii.gz exists." in str(caught.value)
    assert "--overwrite" in str(caught.value)
    assert content(out) == {f"{CASES[0]}.nii.gz": b"precious"}
    predict(trained, [scans], out, overwrite=True)
    assert content(out)[f"{CASES[0]}.nii.gz"] != b"precious"


def test_all_that_exists_is_named_before_anything_is_computed(
    trained: Run, scans: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    predict(trained, [scans], out)
    before = content(out)
    monkeypatch.setattr(Run, "predictor", None)
    (scans / "broken.nii.gz").write_text("never read")
    with pytest.raises(InputError) as caught:
        predict(trained, [scans], out)
    assert [problem.what for problem in caught.value.problems] == [f"{out / case}.nii.gz exists." for case in CASES]
    assert content(out) == before


@pytest.mark.parametrize("below", [(), ("deep", "er")])
def test_a_file_where_the_output_folder_should_be_is_refused(
    trained: Run, scans: Path, tmp_path: Path, below: tuple[str, ...]
) -> None:
    file = tmp_path / "notes.txt"
    file.write_text("precious")
    out = file.joinpath(*below)
    with pytest.raises(VolumeError) as caught:
        predict(trained, [scans], out)
    assert str(caught.value) == f"--out {out} cannot be a folder: {file} is a file.\n  Choose another --out."
    assert file.read_text() == "precious"


def test_a_full_disk_ends_the_prediction_with_one_message_and_no_half_of_a_file(
    trained: Run, scans: Path, tmp_path: Path
) -> None:
    resource = pytest.importorskip("resource")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    out = tmp_path / "out"
    resource.setrlimit(resource.RLIMIT_FSIZE, (600, before[1]))
    try:
        with pytest.raises(InputError) as caught:
            predict(trained, [scans], out, probabilities=True)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    refused, left = caught.value.problems
    assert refused.what.startswith(f"{CASES[0]}_probability_")
    assert "nii.gz cannot be written: " in refused.what
    assert left.what == "the prediction ended there; 2 of 2 cases are to be done."
    assert not any(out.rglob("*"))


@pytest.mark.parametrize("dtype", ["uint8", "int16", "uint16", "float32"])
def test_files_hold_what_one_array_of_the_whole_volume_gives(
    trained: Run, scans: Path, tmp_path: Path, dtype: str
) -> None:
    """Label maps and probabilities, voxel by voxel."""
    path = scans / f"{CASES[0]}_0000.nii.gz"
    array = np.asarray(nib.load(path).dataobj)  # type: ignore[attr-defined]
    change(path, np.concatenate([array % 256] * 4, axis=2).astype(dtype))
    change(path, scl_slope=0.5, scl_inter=-3)
    predict(trained, [path], tmp_path, probabilities=True)
    image, volume = read_channels([path])
    probs = trained.predictor()(np.moveaxis(image, 3, 1), volume.spacing_mm[:2])
    assert len(probs[0]) == 20
    written = {name: np.asarray(nib.load(tmp_path / f"{CASES[0]}{name}.nii.gz").dataobj) for name in NAMES}  # type: ignore[attr-defined]
    for name, found in written.items():
        expected = probs[NAMES.index(name)] if name else label_map(probs, 3)
        assert found.dtype == expected.dtype
        assert np.array_equal(np.moveaxis(found, 2, 0), expected)


def test_existing_probabilities_are_not_overwritten_either(trained: Run, scans: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / f"{CASES[0]}_probability_Myo.nii.gz").write_text("precious")
    with pytest.raises(InputError, match=r"_probability_Myo\.nii\.gz exists"):
        predict(trained, [scans / f"{CASES[0]}_0000.nii.gz"], out, probabilities=True)
    assert list(content(out)) == [f"{CASES[0]}_probability_Myo.nii.gz"]


@pytest.mark.parametrize("overwrite", [False, True])
def test_an_image_is_never_replaced_by_its_labels(trained: Run, scans: Path, overwrite: bool) -> None:
    path = (scans / f"{CASES[0]}_0000.nii.gz").rename(scans / "scan.nii.gz")
    before = content(scans)
    with pytest.raises(InputError, match=r"scan\.nii\.gz would replace its own image\.\n  Choose another --out"):
        predict(trained, [path], scans / ".." / "scans", overwrite=overwrite)
    assert content(scans) == before


def test_one_bad_volume_among_good_ones_is_named_and_the_good_ones_are_written(
    trained: Run, scans: Path, tmp_path: Path
) -> None:
    good = scans / f"{CASES[0]}_0000.nii.gz"
    array = np.asarray(nib.load(good).dataobj).astype(np.float32)  # type: ignore[attr-defined]
    for name in ("nan", "wide"):
        shutil.copy(good, scans / f"{name}.nii.gz")
    change(scans / "nan.nii.gz", np.full_like(array, np.nan))
    change(scans / "wide.nii.gz", np.stack([array, array], 3))
    (scans / "broken.nii.gz").write_bytes(good.read_bytes()[:200])
    (scans / "text.nii").write_text("no volume")
    with pytest.raises(InputError) as caught:
        predict(trained, [scans, tmp_path / "missing.nii.gz"], tmp_path / "out")
    facts = sorted(problem.what for problem in caught.value.problems)
    assert [fact.split(".nii")[0] for fact in facts] == ["broken", "missing", "nan", "text", "wide"]
    assert f"nan.nii.gz holds {array.size} voxels of {array.size} that are NaN or infinite." in facts
    assert "missing.nii.gz is not there." in facts
    assert sorted(content(tmp_path / "out")) == [*(f"{case}.nii.gz" for case in CASES), "volumes.csv"]


def test_another_number_of_channels_is_refused_before_anything_is_predicted(
    trained: Run, scans: Path, tmp_path: Path
) -> None:
    shutil.copy(scans / f"{CASES[0]}_0000.nii.gz", scans / f"{CASES[0]}_0001.nii.gz")
    with pytest.raises(VolumeError) as caught:
        predict(trained, [scans], tmp_path / "out")
    assert f"{CASES[0]} has 2 file(s), the network takes 1 channel(s)." in str(caught.value)
    assert "CASE_0000, CASE_0001" in str(caught.value)


def test_a_scan_that_is_named_twice_is_refused(trained: Run, scans: Path, tmp_path: Path) -> None:
    scan = scans / f"{CASES[0]}_0000.nii.gz"
    other = shutil.copy(scan, tmp_path / f"{CASES[0]}_0000.nii")
    for again in (scan, other):
        with pytest.raises(VolumeError) as caught:
            predict(trained, [scan, again], tmp_path / "out")
        assert str(caught.value).startswith(f"{CASES[0]} is named by 2 files: {scan}, {again}.\n")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("names", "channels", "cases"),
    [
        (["scan_2019"], 1, {"scan_2019": ["scan_2019"]}),
        (["scan_2019", "scan_2020"], 1, {"scan_2019": ["scan_2019"], "scan_2020": ["scan_2020"]}),
        (["scan_0001", "scan_0002"], 1, {"scan_0001": ["scan_0001"], "scan_0002": ["scan_0002"]}),
        (["scan_0000", "scan_2019"], 1, {"scan": ["scan_0000"], "scan_2019": ["scan_2019"]}),
        (["scan_2019_0000", "scan"], 1, {"scan_2019": ["scan_2019_0000"], "scan": ["scan"]}),
        (["a_0001", "b_19_0000", "a_0000", "b_19_0001"], 2, {c: [f"{c}_0000", f"{c}_0001"] for c in ("a", "b_19")}),
        (["scan_0000", "scan_0001"], 1, "scan has 2 file"),
        (["scan_0000", "scan"], 1, "scan is named by 2 files"),
        (["scan_0000", "scan"], 2, "scan is named by 2 files"),
        (["scan_0000", "scan_0002"], 2, "scan has 1 file"),
        (["scan_2019"], 2, "scan_2019 has 1 file"),
    ],
)  # fmt: skip
def test_a_number_at_the_end_is_a_channel_where_the_network_has_it_or_the_files_count_up(
    names: list[str], channels: int, cases: dict[str, list[str]] | str
) -> None:
    paths = [Path(f"{name}.nii.gz") for name in names]
    if isinstance(cases, str):
        with pytest.raises(VolumeError, match=cases):
            _cases(paths, channels)
    else:
        found = _cases(paths, channels)
        assert {case: [volume_io.stem(path) for path in of_case] for case, of_case in found.items()} == cases


def test_a_scan_named_by_its_year_keeps_its_name(trained: Run, scans: Path, tmp_path: Path) -> None:
    (scans / f"{CASES[0]}_0000.nii.gz").rename(scans / "scan_2019.nii.gz")
    done = predict(trained, [scans / "scan_2019.nii.gz"], tmp_path / "out")
    assert done.written == [tmp_path / "out" / "scan_2019.nii.gz"]


def test_two_channels_go_in_by_their_numbers(write_dataset: Any, tmp_path: Path) -> None:
    folder = write_dataset(channels=2)
    config = tiny(folder, entry("full"), training={"epochs": 1, "batch_size": 15})
    run = train(config, tmp_path / "run", device="cpu", quiet=True)
    paths = sorted((folder / "imagesTs").iterdir(), reverse=True)
    done = predict(run, paths, tmp_path / "out")
    dataset = Dataset.open(folder)
    for case, path in zip(reversed(CASES), done.written, strict=True):
        array, image = dataset.read_image(case)
        assert np.array_equal(dataset.read_label_file(path, image), run.predict(array, image.spacing_mm))
    with pytest.raises(VolumeError, match=r"patient5_frame01 has 1 file\(s\), the network takes 2"):
        predict(run, [folder / "imagesTs" / "patient5_frame01_0000.nii.gz"], tmp_path / "none")


def test_a_folder_without_volumes_is_refused(trained: Run, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty" / "notes.txt").write_text("none")
    with pytest.raises(VolumeError, match=r"empty holds no volume\.\n  Volumes end in \.nii\.gz, \.nii, \.mha"):
        predict(trained, [tmp_path / "empty"], tmp_path / "out")


def test_the_input_format_is_the_outputs(trained: Run, scans: Path, tmp_path: Path) -> None:
    itk = pytest.importorskip("SimpleITK")
    image = itk.ReadImage(str(scans / f"{CASES[0]}_0000.nii.gz"))
    itk.WriteImage(image, str(tmp_path / "scan.mha"))
    done = predict(trained, [tmp_path / "scan.mha", scans / f"{CASES[0]}_0000.nii.gz"], tmp_path / "out")
    meta, nifti = (itk.ReadImage(str(path)) for path in done.written)
    assert done.written[0].name == "scan.mha"
    for name in ("GetSize", "GetSpacing", "GetOrigin", "GetDirection"):
        assert np.allclose(getattr(meta, name)(), getattr(image, name)(), atol=1e-4), name
    assert np.array_equal(itk.GetArrayFromImage(meta), itk.GetArrayFromImage(nifti))
    assert meta.GetPixelIDTypeAsString() == "8-bit unsigned integer"
