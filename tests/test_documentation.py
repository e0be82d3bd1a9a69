"""What the documentation shows runs as it stands there."""

from __future__ import annotations

import re
import runpy
import sys
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import torch
import yaml

from boundseg.cli import app
from boundseg.constraints import QUANTITIES, Bounds, Constraint, Descriptor, Penalty
from boundseg.data.priors import COLUMNS
from boundseg.training.config import Config
from tests.constraints.cases import situation
from tests.constraints.test_descriptor_laws import crop
from tests.messages import is_ours, plain_source

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
CONSTRAINTS = ROOT / "docs" / "constraints"
RESULTS = CONSTRAINTS.parent / "results"
# the code of penalties.md is run by its own test
FAMILIES = sorted(page for page in CONSTRAINTS.glob("*.md") if page.name not in ("penalties.md", "lagrangian.md"))
PICTURES = ("size", "position-and-shape", "intensity", "boundary", "box")


def blocks(page: Path, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", page.read_text(encoding="utf-8"), flags=re.S | re.M)


def test_the_loss_of_the_readme_runs() -> None:
    code = next(block for block in blocks(ROOT / "README.md", "python") if "partial_cross_entropy" in block)
    logits = torch.randn(2, 3, 8, 8, requires_grad=True)
    labels = torch.full((2, 8, 8), 255)
    labels[:, 4, 4] = 1
    unknown = torch.full((2, 3), torch.inf)
    names = {"logits": logits, "labels": labels, "lower": -unknown, "upper": torch.full((2, 3), 9.0)}
    exec(code, names)
    names["loss"].backward()
    assert logits.grad.abs().sum() > 0
    assert isinstance(names["bounds"], Bounds)


@pytest.mark.parametrize(
    ("page", "code"),
    [pytest.param(page, code, id=page.stem) for page in FAMILIES for code in blocks(page, "python")],
)
def test_the_code_of_a_family_runs_as_it_stands(page: Path, code: str) -> None:
    names: dict[str, object] = {}
    exec(code, names)
    gradient = names["logits"].grad
    assert gradient.isfinite().all()
    assert gradient.abs().sum() > 0
    assert code.endswith("loss.backward()\n"), "the reader sees what to descend"


def test_whole_volumes_run_as_they_stand(capsys: pytest.CaptureFixture[str]) -> None:
    names: dict[str, object] = {}
    for code in blocks(ROOT / "docs" / "whole-volumes.md", "python"):
        exec(code, names)
    assert "tensor" in capsys.readouterr().out


TUTORIALS = ROOT / "docs" / "tutorials"
LONG = ("first-training", "penalties-and-weights")  # they train on volumes


@pytest.mark.parametrize(
    "page",
    [
        pytest.param(page, marks=[pytest.mark.slow] * (page.stem in LONG), id=page.stem)
        for page in TUTORIALS.glob("*.md")
    ],
)
def test_a_tutorial_runs_from_top_to_bottom(
    page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    # a config that has a name on the page is a file beside the code
    for name, config in re.findall(r"`(\w+\.yaml)`(?:(?!```).)*```yaml\n(.*?)```", page.read_text("utf-8"), flags=re.S):
        Path(name).write_text(config, encoding="utf-8")
    names: dict[str, object] = {}
    for code in blocks(page, "python"):
        exec(code.replace("pretrained=True", "pretrained=False"), names)  # a test fetches nothing
    shown = capsys.readouterr().out
    assert shown
    if page.stem == "own-loop":
        assert float(re.findall(r"DSC ([\d.]+)", shown)[0]) > 0.85
    if page.stem == "backbone":
        (told,) = blocks(page, "text")
        assert told.partition("…")[0] in shown


def test_scans_with_nan_outside_of_the_field_of_view_are_filled(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "scans").mkdir()
    monkeypatch.chdir(tmp_path)
    voxels = np.arange(24, dtype=np.float32).reshape(2, 3, 4) + 5
    voxels[0] = np.nan
    nib.save(nib.Nifti1Image(voxels, np.diag([2.0, 2, 8, 1])), tmp_path / "scans" / "a.nii.gz")
    (code,) = blocks(ROOT / "docs" / "troubleshooting.md", "python")
    exec(code, {})
    filled: Any = nib.load(tmp_path / "filled" / "a.nii.gz")
    assert np.array_equal(np.asarray(filled.dataobj), np.nan_to_num(voxels, nan=17.0))
    assert np.array_equal(filled.affine, np.diag([2.0, 2, 8, 1]))


def test_every_message_of_the_troubleshooting_is_one_of_ours() -> None:
    page = (ROOT / "docs" / "troubleshooting.md").read_text(encoding="utf-8")
    messages = page.split("## Symptoms")[0]
    for heading in re.findall(r"^### (.+)$", messages, flags=re.M):
        assert heading in plain_source(), heading


def test_proposals_and_multipliers_run_as_they_stand() -> None:
    for code in blocks(CONSTRAINTS / "lagrangian.md", "python"):
        names: dict[str, object] = {}
        exec(code, names)
        assert torch.isfinite(names["loss"])
    # sizes of half an image are above their bounds, and the multipliers of the upper sides have risen
    lower, upper = names["multipliers"].of("size")
    assert (upper > 0).all()
    assert (lower == 0).all()


def test_the_index_of_constraints_names_every_quantity_and_page() -> None:
    index = (CONSTRAINTS / "README.md").read_text(encoding="utf-8")
    units = dict(re.findall(r"^\| `([a-z_]+?)(?:_x|_xxy)?`.*?\|.*?\| (.*?) \|", index, flags=re.M))
    for name, quantity in QUANTITIES.items():
        assert tuple(re.findall(r"`(\w+)`", units[name])) == quantity.units, name
    for page in CONSTRAINTS.glob("*.md"):
        assert page.name == "README.md" or f"({page.name}" in index, page.name


def test_the_pictures_of_descriptors_can_be_drawn_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["draw_descriptors.py", "--out", str(tmp_path), "--steps", "3"])
    runpy.run_path(str(CONSTRAINTS / "draw_descriptors.py"), run_name="__main__")
    assert {path.stem for path in tmp_path.iterdir()} == set(PICTURES)
    for name in PICTURES:
        assert 5_000 < (CONSTRAINTS / f"{name}.png").stat().st_size < 100_000
        assert 5_000 < (tmp_path / f"{name}.png").stat().st_size < 100_000
        assert f"({name}.png)" in (CONSTRAINTS / f"{name}.md").read_text(encoding="utf-8")
    page = (CONSTRAINTS / "boundary.md").read_text(encoding="utf-8")
    for printed, shown in zip(_figures(capsys.readouterr().out), _figures(page.split("## Bias")[1]), strict=True):
        assert printed == pytest.approx(shown, abs=0.11), "to the last digit, which depends on the machine"


def test_the_pictures_of_the_tables_are_those_of_their_figures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["draw_tables.py", str(tmp_path)])
    runpy.run_path(str(RESULTS / "draw_tables.py"), run_name="__main__")
    drawn = {path.name for path in tmp_path.iterdir()}
    assert "figure4.png" in drawn
    for name in drawn:
        assert 5_000 < (RESULTS / "paper" / name).stat().st_size < 100_000
        assert f"(paper/{name})" in (RESULTS / "paper.md").read_text(encoding="utf-8")


def _figures(text: str) -> list[float]:
    return [float(number) for number in re.findall(r"([+-]?\d[\d.]*)(?: %)? \|", text)]


@pytest.fixture(scope="module")
def our_own() -> dict[str, object]:
    """What the page about one's own descriptor and penalty defines."""
    names: dict[str, object] = {}
    for code in blocks(CONSTRAINTS / "your-own.md", "python"):
        exec(code, names)
    return names


@pytest.mark.parametrize("name", ["Undecided", "BrightSize"])
def test_our_own_descriptor_adds_up(our_own: dict[str, object], name: str) -> None:
    descriptor: Descriptor = our_own[name]()
    assert isinstance(descriptor, Descriptor)
    for space in ((4, 5), (4, 5, 3)):
        case, start = situation(space), (0,) * len(space)
        # the first half has the second one's first row behind it, as a neighbour
        halves = [crop(case, start, (3, *space[1:]), (1, *start[1:])), crop(case, (2, *start[1:]), space)]
        sums = [descriptor.sums(half.probs, half.frame) for half in halves]
        whole = descriptor.sums(case.probs, case.frame)
        torch.testing.assert_close(descriptor.value(sums[0] + sums[1]), descriptor.value(whole))
        assert (descriptor.value(0 * whole) == 0).all()


@pytest.mark.parametrize("name", ["Undecided", "BrightSize"])
def test_our_own_descriptor_and_penalty_have_the_gradients_of_finite_differences(
    our_own: dict[str, object], name: str
) -> None:
    penalty: Penalty = our_own["soft_corner"]
    constraint = Constraint(name, our_own[name](), ((0,), (1, 2)), penalty=penalty, scale=0.5)
    case = situation((3, 3))
    value = constraint(case.probs, Bounds.unknown(2, 2), case.frame).value
    bounds = Bounds(value + torch.tensor([0.3, -torch.inf]), value + torch.tensor([torch.inf, -0.3]))

    def cost(logits: torch.Tensor) -> torch.Tensor:
        return constraint(logits.softmax(1), bounds, case.frame).mean

    logits = case.probs.log().requires_grad_()
    assert cost(logits) > 0
    assert torch.autograd.gradcheck(cost, logits)
    kept = penalty(value, Bounds(value, value), 0.5)
    assert (kept == 0).all()


# a boundseg.yaml for nnU-Net is no config; tests/integrations/test_nnunet_settings.py reads that of its page
@pytest.mark.parametrize("page", [page for page in PAGES if page.name != "nnunet.md"], ids=lambda page: page.name)
def test_configs_on_a_page_parse(page: Path) -> None:
    for block in blocks(page, "yaml"):
        config = Config.parse(yaml.safe_load(block), str(page))
        assert Config.parse(yaml.safe_load(config.dump())) == config


@pytest.mark.parametrize("path", sorted((ROOT / "docs").rglob("*.yaml")), ids=lambda path: path.name)
def test_configs_that_made_results_parse(path: Path) -> None:
    assert str(Config.load(path).data.folder) in ("ACDC_LV", "ACDC", "VERTEBRAE", "PROSTATE")
    assert path.read_text().startswith("# "), "a config opens with its claim"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_between_pages_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\((?!https?:)([^)#]+)\)", page.read_text(encoding="utf-8")):
        assert (page.parent / target).exists(), target


def test_every_verb_has_a_heading() -> None:
    page = (ROOT / "docs" / "verbs.md").read_text(encoding="utf-8")
    headings = re.findall(r"^## (\w+)$", page, flags=re.M)
    verbs = [verb.name or verb.callback.__name__ for verb in app.registered_commands if verb.callback]
    assert sorted(headings) == sorted(verbs)


def test_the_tables_of_files_name_every_column_of_priors() -> None:
    page = (ROOT / "docs" / "files.md").read_text(encoding="utf-8")
    table = page.split("### priors.csv")[1].split("### ")[0]
    assert tuple(re.findall(r"^\| `(\w+)` \|", table, flags=re.M)[: len(COLUMNS)]) == COLUMNS


@pytest.mark.parametrize("example", ["own_training", "monai_training", "lightning_module"])
@pytest.mark.filterwarnings("ignore:.*LeafSpec:FutureWarning")  # Lightning's, of torch
def test_the_example_gains_by_the_bound(
    example: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", [f"{example}.py"])
    runpy.run_path(str(ROOT / "examples" / f"{example}.py"), run_name="__main__")
    without, with_bound = map(float, re.findall(r"DSC ([\d.]+)", capsys.readouterr().out))
    assert with_bound > without + 0.2


def test_every_verb_is_a_function_too() -> None:
    verbs = [command.name or command.callback.__name__ for command in app.registered_commands if command.callback]
    verbs += [str(group.name) for group in app.registered_groups]
    rows = re.findall(r"^\| `(\w+)", (ROOT / "docs" / "api" / "verbs.md").read_text(encoding="utf-8"), flags=re.M)
    assert set(rows) == set(verbs)


def test_every_message_of_the_integrations_is_one_of_ours() -> None:
    section = (ROOT / "docs" / "integrations.md").read_text(encoding="utf-8").split("## Messages")[1]
    messages = re.findall(r"^- \*\*(.+?)\*\*:", section, flags=re.M | re.S)
    assert len(messages) > 10
    for message in messages:
        assert is_ours(message), message
    assert not is_ours("the network gave a list, and no images")
