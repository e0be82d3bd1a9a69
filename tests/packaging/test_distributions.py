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
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


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


@pytest.mark.slow
def test_the_wheel_works_in_an_empty_environment(built: Path, tmp_path: Path) -> None:
    """With what it depends on and no extra: a dataset is made, a network trained, judged and reported on."""
    (wheel,) = built.glob("*.whl")
    venv.create(tmp_path / "venv", with_pip=True)
    python = str(tmp_path / "venv" / "bin" / "python")
    run(python, "-m", "pip", "install", "--quiet", "-c", str(ROOT / "constraints.txt"), str(wheel))
    boundseg = str(tmp_path / "venv" / "bin" / "boundseg")
    assert run(boundseg, "--version").startswith("boundseg ")
    assert "boundseg" in run(boundseg, "--show-completion", "bash")
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
@pytest.mark.parametrize("extra", PROJECT["optional-dependencies"])
def test_every_extra_resolves_by_itself(extra: str, built: Path) -> None:
    (wheel,) = built.glob("*.whl")
    constraints = str(ROOT / "constraints.txt")
    asked = f"boundseg[{extra}] @ {wheel.as_uri()}"
    run(sys.executable, "-m", "pip", "install", "--dry-run", "--quiet", "--ignore-installed", "-c", constraints, asked)
