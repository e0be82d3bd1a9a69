"""What is built holds what is needed, and installs into an environment that holds nothing."""

from __future__ import annotations

import os
import subprocess
import sys
import tomllib
import venv
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
CONSTRAINTS = str(ROOT / "constraints.txt")
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]

# what each extra is for, done once
DOORS = {
    "itk": """
import numpy as np
from pathlib import Path
from boundseg.data import volume_io
volume = volume_io.Volume(np.ones((3, 4, 5), np.uint8), np.diag([1.0, 2.0, 3.0, 1.0]))
volume_io.write(Path("a.nrrd"), volume.array, volume)
assert (volume_io.read(Path("a.nrrd")).array == 1).all()
""",
    "xlsx": """
from pathlib import Path
import openpyxl
from boundseg.data import spreadsheet
book = openpyxl.Workbook()
book.active.append(["case", "LV (mL)"])
book.active.append(["a", 120])
book.save("sizes.xlsx")
print(spreadsheet.read_sheet(Path("sizes.xlsx")))
""",
    "onnx": """
from pathlib import Path
import boundseg
from boundseg.demo import write_hearts
write_hearts(Path("hearts"), {"train": 1, "validation": 1, "test": 1})
config = boundseg.Config.parse({"data": {"folder": "hearts", "size": [64, 64], "fit": "crop"},
    "supervision": [{"cases": "train", "labels": "erosion"}], "training": {"epochs": 1, "batch_size": 8}})
boundseg.train(config, "run", device="cpu", quiet=True)
from boundseg.cli import app
app(["export", "run", "model.onnx"], standalone_mode=False)
assert Path("model.onnx").stat().st_size > 100_000
""",
    "lightning": "from boundseg.integrations.lightning import BoundedModule, LogConstraints",
    "monai": """
from monai.engines import SupervisedTrainer
from boundseg.integrations.monai import BoundsLoss, prepare_batch
""",
    "nnunet": "from boundseg.integrations.nnunet.trainer import nnUNetTrainerBoundseg",
    "docs": "import furo, latex2mathml, myst_nb, sphinx, sphinx_copybutton",
    "dev": "import cooper, hypothesis, lightning, mypy, onnxruntime, playwright, pydicom, pytest, skimage",
}


@pytest.fixture(scope="session")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the wheel and the sdist, built without a network."""
    folder = tmp_path_factory.mktemp("dist")
    run(sys.executable, "-m", "build", "--no-isolation", "--outdir", str(folder), str(ROOT))
    return folder


def run(*command: str, cwd: Path | None = None) -> str:
    # what is installed there, and not the checkout
    env = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=cwd, env=env)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def package_files() -> set[str]:
    found = (path for path in (ROOT / "src" / "boundseg").rglob("*") if path.is_file())
    return {path.relative_to(ROOT / "src").as_posix() for path in found if "__pycache__" not in path.parts}


def test_the_wheel_holds_the_package_and_nothing_else(built: Path) -> None:
    (wheel,) = built.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
        (metadata,) = (name for name in names if name.endswith(".dist-info/METADATA"))
        about = archive.read(metadata).decode()
    assert {name for name in names if ".dist-info/" not in name} == package_files()
    assert "boundseg/py.typed" in names
    assert any(name.endswith("/licenses/LICENSE") for name in names)
    assert "License-Expression: Apache-2.0" in about


def test_the_sdist_builds_the_same_wheel(built: Path, tmp_path: Path) -> None:
    (sdist,) = built.glob("*.tar.gz")
    run("tar", "xzf", str(sdist), "-C", str(tmp_path))
    (unpacked,) = tmp_path.iterdir()
    there = {path.relative_to(unpacked).as_posix() for path in unpacked.rglob("*") if path.is_file()}
    assert {
        "README.md",
        "LICENSE",
        "CHANGELOG.md",
        "CITATION.cff",
        "CONTRIBUTING.md",
        "Makefile",
        "constraints.txt",
    } <= there
    assert {f"src/{name}" for name in package_files()} <= there
    assert "tests/packaging/test_distributions.py" in there
    run(sys.executable, "-m", "build", "--no-isolation", "--wheel", "--outdir", str(tmp_path / "again"), str(unpacked))
    (first,), (again,) = built.glob("*.whl"), (tmp_path / "again").glob("*.whl")
    with zipfile.ZipFile(first) as one, zipfile.ZipFile(again) as other:
        assert sorted(one.namelist()) == sorted(other.namelist())


def test_what_is_pinned_is_allowed() -> None:
    """Every dependency has an exact version in constraints.txt, which is what the tests ran with."""
    from packaging.requirements import Requirement
    from packaging.utils import canonicalize_name

    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pins = dict(line.split("==") for line in lines if line and not line.startswith("#"))
    pins = {canonicalize_name(name): version for name, version in pins.items()}
    asked = [*PROJECT["dependencies"], *(one for extra in PROJECT["optional-dependencies"].values() for one in extra)]
    for requirement in map(Requirement, asked):
        version = pins.get(canonicalize_name(requirement.name))
        assert version is not None, f"{requirement.name} is not pinned"
        assert version in requirement.specifier, f"{requirement} excludes what is tested, {version}"


@pytest.fixture(scope="session")
def installed(built: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An environment that held nothing, with the wheel and what it depends on."""
    (wheel,) = built.glob("*.whl")
    folder = tmp_path_factory.mktemp("installed") / "venv"
    venv.create(folder, with_pip=True)
    run(str(folder / "bin" / "python"), "-m", "pip", "install", "--quiet", "-c", CONSTRAINTS, str(wheel))
    return folder


@pytest.mark.slow
def test_the_wheel_works_in_an_empty_environment(installed: Path, tmp_path: Path) -> None:
    """With what it depends on and no extra: a dataset is made, a network trained, judged and reported on."""
    python, boundseg = str(installed / "bin" / "python"), str(installed / "bin" / "boundseg")
    assert run(boundseg, "--version").startswith("boundseg ")
    # typer asks which shell it was started by; with a command behind, bash waits for it and is there to be found
    assert "_boundseg_completion" in run("bash", "-c", f"{boundseg} --show-completion && true")
    run(boundseg, "demo", "--help", cwd=tmp_path)
    code = """
from pathlib import Path
import boundseg
from boundseg.demo import write_hearts
write_hearts(Path("hearts"), {"train": 2, "validation": 1, "test": 1})
config = boundseg.Config.parse({"data": {"folder": "hearts", "size": [64, 64], "fit": "crop"},
    "supervision": [{"cases": "train", "labels": "erosion",
                     "constraints": [{"size": {"class": "LV", "set": "individual"}}]}],
    "training": {"epochs": 1, "batch_size": 8}})
run = boundseg.train(config, "run", device="cpu", quiet=True)
print(boundseg.evaluate(run, "test").summary())
"""
    assert "DSC (volumes)" in run(python, "-c", code, cwd=tmp_path)
    run(boundseg, "report", "run", cwd=tmp_path)
    run(boundseg, "reproduce", "figure1", "--out", "figures", cwd=tmp_path)


@pytest.mark.slow
def test_the_sdist_installs_as_the_wheel_does(built: Path, installed: Path, tmp_path: Path) -> None:
    """By pip, which fetches what builds it."""
    (sdist,) = built.glob("*.tar.gz")
    python = beside(installed, tmp_path / "venv")
    run(python, "-m", "pip", "install", "--quiet", "--no-deps", "--force-reinstall", str(sdist))
    assert run(python, "-m", "boundseg", "--version").startswith("boundseg ")
    where = run(python, "-c", "import boundseg; print(boundseg.__file__)", cwd=tmp_path)
    assert where.startswith(str(tmp_path))


@pytest.mark.slow
@pytest.mark.parametrize("extra", PROJECT["optional-dependencies"])
def test_every_extra_works_by_itself(extra: str, built: Path, installed: Path, tmp_path: Path) -> None:
    (wheel,) = built.glob("*.whl")
    python = beside(installed, tmp_path / "venv")
    asked = f"boundseg[{extra}] @ {wheel.as_uri()}"
    run(python, "-m", "pip", "install", "--quiet", "-c", CONSTRAINTS, asked)
    run(python, "-c", DOORS[extra], cwd=tmp_path)


def beside(installed: Path, folder: Path) -> str:
    """The Python of a new environment that sees what another holds, and changes nothing there."""
    venv.create(folder, with_pip=True)
    (there,) = (installed / "lib").glob("python*/site-packages")
    (here,) = (folder / "lib").glob("python*/site-packages")
    (here / "installed.pth").write_text(f"{there}\n", encoding="utf-8")
    return str(folder / "bin" / "python")
