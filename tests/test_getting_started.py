"""The page "Getting started" runs as it stands there: its folder, its commands, what they print, its messages."""

from __future__ import annotations

import csv
import io
import json
import re
import shlex
import shutil
import sys
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from PIL import Image
from scipy import ndimage

from boundseg.cli import main
from boundseg.data import phantom, volume_io
from boundseg.data.convert.acdc import convert_acdc
from boundseg.data.dataset import Dataset
from boundseg.data.volume_io import Volume
from boundseg.demo import PHANTOM_SEED
from tests.cli.cases import rewrite, voxels
from tests.messages import is_ours

ROOT = Path(__file__).parent.parent
PAGE = (ROOT / "docs" / "getting-started.md").read_text(encoding="utf-8")
GROUP, _, REST = PAGE.partition("\n## Your own scribbles and volumes from reports\n")
OWN, _, TROUBLE = REST.partition("\n## Troubleshooting\n")
HEADINGS = re.findall(r"^### (.+)$", TROUBLE, flags=re.M)

ELLIPSIS = "…"
Printed = tuple[int, str]


def fenced(text: str) -> list[tuple[str, str]]:
    """Language and content of every block."""
    return re.findall(r"^```(\w*)\n(.*?)^```$", text, flags=re.S | re.M)


def blocks(text: str, language: str = "") -> list[str]:
    return [block for named, block in fenced(text) if named == language]


def commands(text: str) -> list[tuple[str, list[str]]]:
    """The commands of a part of the page, each with the lines that it is shown to print; of ``sh`` there are none."""
    found: list[tuple[str, list[str]]] = []
    for language, block in fenced(text):
        for line in block.splitlines() if language in ("sh", "console") else ():
            if language == "sh" or line.startswith("$ "):
                found.append((line.removeprefix("$ "), []))
            else:
                found[-1][1].append(line)
    return found


def shortened(command: str) -> str:
    """A training of two epochs, which show its first line and its last one."""
    if command.startswith("boundseg train") and "training.epochs" not in command:
        return f"{command} --set training.epochs=2"
    return command.replace("training.epochs=12", "training.epochs=2")


def give(command: str, folder: Path) -> Printed:
    """Gives a line of the page to the command line, in this process: exit code, and what is on the screen."""
    screen = io.StringIO()
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(screen), redirect_stderr(screen):
        patch.chdir(folder)
        patch.setattr(sys, "argv", shlex.split(command, comments=True))
        code = 0
        try:
            main()
        except SystemExit as end:
            code = int(end.code or 0)
    return code, screen.getvalue()


def shows(shown: list[str], printed: str) -> bool:
    """Whether something was printed as the page shows it; its lines ``…`` stand for any."""
    lines = [r"(?:.*\n)*?" if line == ELLIPSIS else re.escape(line) + r"\n" for line in shown]
    return re.fullmatch("".join(lines), printed) is not None


def shape(text: str) -> str:
    """Lines of a training without what depends on data, epochs and the machine: numbers, their width, the best."""
    numbers = re.sub(r"\d[\d.:]*", "0", text)
    return re.sub(r"  best$", "", re.sub(r" {2,}(?=0)", " ", numbers), flags=re.M)


def draw(target: np.ndarray) -> np.ndarray:
    """What somebody drew in each slice: a line in the organ (1), and around it (2) an outline and lines across."""
    drawn = np.zeros_like(target)
    for index in range(target.shape[2]):
        organ, here = target[..., index] == 1, drawn[..., index]
        away = ndimage.distance_transform_edt(~organ) if organ.any() else np.full(organ.shape, np.inf)
        here[(away >= 4) & (away < 5)] = 2
        here[::24][away[::24] > 5] = 2
        inside = ndimage.binary_erosion(organ)
        row = inside.sum(axis=1).argmax()
        here[row, inside[row]] = 1
    return drawn


@pytest.fixture(scope="module")
def group(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder that holds ``ours``, as section 1 lays it out, with the drawings, a scan and the page's configs.

    The patients are the demo's first eight hearts.
    """
    folder = tmp_path_factory.mktemp("group")
    ours = folder / "ours"
    description, splits = blocks(GROUP, "json")
    members = json.loads(splits)["patients"]
    masks = {*json.loads(splits)["lists"]["masks"], *json.loads(splits)["test"]}
    drawn = {*json.loads(splits)["lists"]["scribbled"], *json.loads(splits)["validation"]}
    for number, (patient, cases) in enumerate(members.items(), 1):
        for case, heart in zip(cases, phantom.patient([PHANTOM_SEED, number]), strict=False):
            between, rows, columns = heart.spacing_mm
            image = np.moveaxis(np.rint(heart.image).astype(np.int16), 0, 2)
            volume = Volume(image, np.diag([rows, columns, between, 1.0]))
            target = np.moveaxis((heart.target == phantom.LABELS["LV"]).astype(np.uint8), 0, 2)
            side = "Ts" if patient in json.loads(splits)["test"] else "Tr"
            volume_io.write(ours / f"images{side}" / f"{case}_0000.nii.gz", image, volume)
            if patient in masks:
                volume_io.write(ours / f"labels{side}" / f"{case}.nii.gz", target, volume)
            if patient in drawn:
                volume_io.write(folder / "drawings" / f"{case}.nii.gz", draw(target), volume)
    (folder / "scans").mkdir()
    shutil.copy(ours / "imagesTr" / "p02_0000.nii.gz", folder / "scans" / "p02.nii.gz")
    (ours / "dataset.json").write_text(description, encoding="utf-8")
    (ours / "splits.json").write_text(splits, encoding="utf-8")
    (ours / "priors.csv").write_text(blocks(GROUP, "csv")[0], encoding="utf-8")
    for name, config in zip(("scribbles.yaml", "mixed.yaml"), blocks(GROUP, "yaml"), strict=True):
        assert f"`{name}`" in GROUP
        (folder / name).write_text(config, encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def walked(group: Path) -> dict[str, Printed]:
    """What every command of sections 2 to 7 printed, given in the order of the page."""
    return {command: give(shortened(command), group) for command, _ in commands(GROUP)}


def test_the_folder_is_the_one_that_is_laid_out(group: Path) -> None:
    (listing,) = (block for block in blocks(GROUP) if block.startswith("ours/\n"))
    for line in listing.splitlines()[1:]:
        paths = [name for name in line.split() if name.endswith((".json", ".nii.gz"))]
        for name in paths:
            # the first of a line says in which folder they are
            assert (group / "ours" / Path(paths[0]).parent / Path(name).name).is_file(), name
    cases, patients = len(Dataset.open(group / "ours").cases), len(Dataset.open(group / "ours").splits.patients)
    assert (cases, patients) == (9, 8)
    assert "nine scans of eight patients" in GROUP


@pytest.mark.parametrize(("command", "shown"), [pytest.param(*line, id=line[0]) for line in commands(GROUP)])
def test_a_command_prints_what_the_page_shows(walked: dict[str, Printed], command: str, shown: list[str]) -> None:
    code, printed = walked[command]
    assert code == 0, printed
    if shown and command.startswith("boundseg train"):
        assert shows(shape("\n".join(shown)).splitlines(), shape(printed)), printed
    elif shown:
        assert shows(shown, printed), printed


def test_every_file_of_a_run_that_the_page_names_is_there(group: Path, walked: dict[str, Printed]) -> None:
    named = {name.rstrip(".") for name in re.findall(r"\b(?:runs|predictions)/[\w./]+", GROUP)}
    assert {"runs/trial", "runs/mixed/report.html", "predictions/volumes.csv"} <= named
    for name in named:
        assert (group / name).exists(), name
    assert (group / "predictions" / "p02.nii.gz").is_file()
    assert {path.name for path in (group / "ours" / "labelsTr_scribble").iterdir()} == {
        path.name for path in (group / "drawings").iterdir()
    }


def test_scribbles_cover_as_little_as_the_troubleshooting_says(walked: dict[str, Printed]) -> None:
    _, printed = walked["boundseg info ours"]
    (share,) = re.findall(r"^scribble .*?([\d.]+%)", printed, flags=re.M)
    assert f"(here {share}, see `labels` in `boundseg info`)" in TROUBLE


def test_an_evaluation_prints_the_rows_that_the_page_speaks_of(walked: dict[str, Printed]) -> None:
    (printed,) = (said for command, (_, said) in walked.items() if command.startswith("boundseg evaluate"))
    for row in ("soft / hard / true volume", "bounds kept", "kept (soft)", "kept (argmax)"):
        assert row in printed


def test_bounds_of_a_table_and_of_one_patient_are_written_as_the_text_says(
    group: Path, walked: dict[str, Printed], tmp_path: Path
) -> None:
    shutil.copytree(group / "ours", tmp_path / "ours")
    (tmp_path / "volumes.csv").write_text("case;LV (mL)\np02;100\np05;70\n", encoding="utf-8")
    before = _rows(tmp_path / "ours")
    inline = re.findall(r"`(boundseg priors ours [^`]+)`", GROUP)
    assert len(inline) == 2
    for command in inline:
        code, printed = give(command, tmp_path)
        assert code == 0, printed
    written = _rows(tmp_path / "ours")
    assert written[: len(before)] == before, "a set of its own is never touched"
    assert {row["set"] for row in written[len(before) :]} == {"report", "common"}


def _rows(dataset: Path) -> list[dict[str, str]]:
    with (dataset / "priors.csv").open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


# --- your own scribbles and volumes from reports


@pytest.fixture(scope="module")
def acdc(real_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder that holds ACDC_LV and drawings of three patients; of all other patients the names suffice."""
    pytest.importorskip("SimpleITK", reason="pip install 'boundseg[itk]'")
    download = real_data / "acdc"
    if not (download / "split.csv").is_file():
        pytest.skip("BOUNDSEG_DATA holds no acdc/ with a split.csv")
    folder = tmp_path_factory.mktemp("acdc")
    (folder / "download").mkdir()
    shutil.copy(download / "split.csv", folder / "download")
    for patient in ("patient001", "patient002", "patient004"):
        (folder / "download" / patient).symlink_to(download / patient)
    data = folder / "ACDC_LV"
    convert_acdc(folder / "download", data, ["LV"])
    dataset = Dataset.open(data)
    for case in dataset.cases:
        image = dataset.read_grid(case)
        labels = dataset.read_labels(case, "scribble", image)
        drawn = np.array([2, 1, 0], np.uint8)[labels]  # background, LV, not labelled
        turned = Volume(drawn.transpose(2, 0, 1), image.affine[:, [2, 0, 1, 3]])
        volume_io.write(folder / "drawings" / f"{case}.nrrd", turned.array, turned)
    with (download / "split.csv").open(encoding="utf-8", newline="") as file:
        split = {row["patient"]: row["split"] for row in csv.DictReader(file)}
    for scan in download.glob("patient*/patient*_frame??.nii.gz"):
        side = "Ts" if split[scan.parent.name] == "test" else "Tr"
        if scan.name.removesuffix(".nii.gz") not in dataset.cases:
            (data / f"images{side}").mkdir(exist_ok=True)
            (data / f"images{side}" / f"{scan.name.removesuffix('.nii.gz')}_0000.nii.gz").touch()
    return folder


def test_drawings_of_another_tool_become_the_scribbles_that_they_are(acdc: Path) -> None:
    command, shown = commands(OWN)[0]
    code, printed = give(command, acdc)
    assert code == 0, printed
    assert shows(shown, printed), printed
    data = acdc / "ACDC_LV"
    written = sorted((data / "labelsTr_drawn").iterdir())
    assert len(written) == 6
    for path in written:
        assert np.array_equal(voxels(path), voxels(data / "labelsTr_scribble" / path.name))


def test_wrong_rows_of_a_spreadsheet_are_told_at_once_and_the_mended_ones_are_written(acdc: Path) -> None:
    data = acdc / "ACDC_LV"
    (wrong,) = (block for block in blocks(OWN) if block.startswith("scan;"))
    (refused, errors), (written, told), (cat, rows) = commands(OWN)[1:]
    table, bounds = acdc / "volumes.csv", data / "priors.csv"
    table.write_text(wrong, encoding="utf-8")
    code, printed = give(refused, acdc)
    assert code == 2, printed
    assert shows(errors, printed), printed
    assert not bounds.exists()
    mended = dict(re.findall(r"^- `(.+)` to `(.+)`", OWN, flags=re.M))
    assert len(mended) == 3
    table.write_text("\n".join(mended.get(line, line) for line in wrong.splitlines()), encoding="utf-8")
    code, printed = give(written, acdc)
    assert code == 0, printed
    assert shows(told, printed), printed
    assert cat == f"cat {bounds.relative_to(acdc)}"
    assert shows(rows, bounds.read_text(encoding="utf-8"))


# --- troubleshooting

Damage = Callable[[Path], None]


def of_another_affine(group: Path) -> None:
    labels = group / "ours/labelsTr_scribble/p04.nii.gz"
    affine: np.ndarray = nib.load(labels).affine.copy()  # type: ignore[attr-defined]
    affine[2, 2] = 1  # the tool knew no distance of slices
    rewrite(labels, affine=affine)


def of_unnamed_values(group: Path) -> None:
    labels = group / "ours/labelsTr_scribble/p07.nii.gz"
    rewrite(labels, np.where(voxels(labels) == 1, 7, voxels(labels)))


def copied_as_it_is(group: Path) -> None:
    shutil.copy(group / "drawings/p02.nii.gz", group / "ours/labelsTr_scribble")


def in_file(name: str, old: str, new: str) -> Damage:
    def write(group: Path) -> None:
        text = (group / name).read_text(encoding="utf-8")
        assert old in text
        (group / name).write_text(text.replace(old, new), encoding="utf-8")

    return write


def of_another_spacing(group: Path) -> None:
    path = group / "drawings/p02.nii.gz"
    affine: np.ndarray = nib.load(path).affine  # type: ignore[attr-defined]
    rewrite(path, affine=affine @ np.diag([1.02, 1.02, 1, 1]))


def renamed(old: str, new: str) -> Damage:
    def rename(group: Path) -> None:
        (group / old).rename(group / new)

    return rename


def table(text: str) -> Damage:
    def write(group: Path) -> None:
        (group / "volumes.csv").write_text(text, encoding="utf-8")

    return write


def transparent(group: Path) -> None:
    (group / "tiles").mkdir()
    Image.new("RGBA", (24, 20), (90, 60, 60, 128)).save(group / "tiles/tile.png")


def of_three_classes(group: Path) -> None:
    in_file("ours/dataset.json", '"LV": 1, "ignore": 2', '"LV": 1, "Myo": 2, "ignore": 3')(group)
    for path in (group / "ours/labelsTr_scribble").iterdir():
        rewrite(path, np.where(voxels(path) == 2, 3, voxels(path)))


def counted_up(group: Path) -> None:
    for number in (0, 1):
        shutil.copy(group / "scans/p02.nii.gz", group / f"scans/scan_{number:04d}.nii.gz")


def nothing(group: Path) -> None: ...


REPORT = "boundseg priors ours report --table volumes.csv --column"
CONVERT = 'boundseg convert labels drawings ours --name again --map "1=LV,2=background"'
# words of the heading: what is done to the folder, and the command that then prints the message
PROVOKED: dict[str, tuple[Damage, str]] = {
    "has another affine than its image": (of_another_affine, "boundseg check ours"),
    "holds the values [7]": (of_unnamed_values, "boundseg check ours"),
    "do not fit the grid": (nothing, "boundseg train scribbles.yaml --out runs/small --set data.size=[64,64]"),
    "'ml' is no unit": (in_file("ours/priors.csv", "110,mL", "110,ml"), "boundseg check ours"),
    "most as background": (copied_as_it_is, "boundseg check ours"),
    "are missing.": (in_file("ours/priors.csv", "quantity,lower,upper", "what,least,most"), "boundseg check ours"),
    "is no number": (in_file("ours/priors.csv", ",90,110,", ',"90,5",110,'), "boundseg check ours"),
    "p05.nii.gz is not there.": (in_file("mixed.yaml", "cases: reports", "cases: p06"), "boundseg train mixed.yaml"),
    "does not lie on its image's grid": (of_another_spacing, CONVERT),
    "is of no case of ours": (renamed("drawings/p02.nii.gz", "drawings/p02-label.nii.gz"), CONVERT),
    "names one column": (table("Volumes 2024\n\ncase,LV (mL)\np02,100\n"), f"{REPORT} 'LV (mL)'"),
    "does not say its unit": (table("case;LV\np02;100\n"), f"{REPORT} LV"),
    "has no image": (
        renamed("ours/imagesTr/p01_a_0000.nii.gz", "ours/imagesTr/p01_a.nii.gz"),
        "boundseg check ours",
    ),
    "exclude each other": (
        in_file("ours/priors.csv", "p05,,LV", "p02,,LV,size,120,,mL,typed,\np05,,LV"),
        "boundseg check ours",
    ),
    "the run folder": (nothing, "boundseg train scribbles.yaml --out runs/trial"),
    "tensors have another shape": (
        of_three_classes,
        "boundseg train scribbles.yaml --out runs/three --set training.start_from.weights=runs/trial",
    ),
    "is transparent": (transparent, "boundseg convert images tiles pictures --map 1=tumour"),
    "file(s), the network takes": (counted_up, "boundseg predict runs/trial scans --out looked"),
}


@pytest.fixture
def copied(group: Path, walked: dict[str, Printed], tmp_path: Path) -> Path:
    """A copy of the group's folder as the page leaves it; its runs are only read."""
    for path in group.iterdir():
        if path.name in ("ours", "drawings", "scans"):
            shutil.copytree(path, tmp_path / path.name)
        elif path.suffix == ".yaml":
            shutil.copy(path, tmp_path)
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs" / "trial").symlink_to(group / "runs" / "trial")
    return tmp_path


@pytest.mark.parametrize("words", PROVOKED)
def test_a_heading_of_the_troubleshooting_is_the_message_that_is_printed(copied: Path, words: str) -> None:
    (heading,) = (heading for heading in HEADINGS if words in heading)
    damage, command = PROVOKED[words]
    damage(copied)
    code, printed = give(command, copied)
    assert code == (0 if heading.startswith("note: ") else 2), printed
    # a message stands in several lines, and a heading leaves out what is long
    message = re.escape(heading).replace(re.escape(ELLIPSIS), ".*?")
    assert re.search(message, re.sub(r"\s+", " ", printed)), printed


def test_every_other_heading_of_the_troubleshooting_is_made_of_our_words() -> None:
    # a network of pictures in colour would have to be trained for it
    (heading,) = (heading for heading in HEADINGS if not any(words in heading for words in PROVOKED))
    assert is_ours(heading), heading
