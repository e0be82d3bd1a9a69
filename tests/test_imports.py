"""A room imports from rooms before it only, and heavy packages where they are needed only."""

from __future__ import annotations

import ast
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

import boundseg
from boundseg.data.dataset import Dataset

from .plain import run_plain

PACKAGE = Path(boundseg.__file__).parent
# from the ground up, as the design has them; each may use those before it
ROOMS = [
    "errors",
    "nearest",
    "constraints",
    "gated_crf",
    "losses",
    "accumulate",
    "networks",
    "data",
    "asked",
    "inference",
    "evaluation",
    "benchmark",
    "integrations",
    "training",
    "report",
    "paper",
    "demo",
    "terminal",
    "cli",
    "__main__",
]
# what a room may use, where it is less than everything before it
ONLY: dict[str, set[str]] = {
    "nearest": set(),
    "constraints": {"errors"},
    "gated_crf": set(),
    "losses": {"errors", "constraints", "gated_crf"},
    "accumulate": {"errors", "constraints", "losses"},
    "networks": {"errors", "nearest"},
    "data": {"errors", "nearest", "constraints"},
    "asked": {"errors", "nearest", "constraints", "data"},
    "evaluation": {"errors"},
    "benchmark": {"errors", "nearest", "constraints", "losses", "networks"},
    "integrations": {"errors", "constraints", "losses", "accumulate", "data", "asked"},
    "terminal": set(),
    "report": {"errors", "data", "evaluation", "training.run", "__version__"},
}
MODULES = sorted(path for path in PACKAGE.rglob("*.py") if path != PACKAGE / "__init__.py")


def imports(path: Path) -> set[str]:
    """What a module imports anywhere in it, with full names."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: imports are absolute"
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def name(path: Path) -> str:
    return ".".join(path.relative_to(PACKAGE).with_suffix("").parts)


def room(module: str) -> str:
    return module.split(".")[0]


@pytest.mark.parametrize("path", MODULES, ids=name)
def test_a_room_imports_from_rooms_before_it_only(path: Path) -> None:
    own = room(name(path))
    assert own in ROOMS, f"{own} is no room of the design"
    before = ROOMS[: ROOMS.index(own)]
    for used in imports(path):
        package, _, module = used.partition(".")
        if package != "boundseg" or room(module) in (own, "__version__"):
            continue
        assert room(module) in before, f"{name(path)} imports {used}"
        allowed = ONLY.get(own, set(before))
        assert any(module == part or module.startswith(f"{part}.") for part in allowed), f"{name(path)}: {used}"


def top_level(path: Path) -> set[str]:
    return {module.split(".")[0] for module in imports(path)}


@pytest.mark.parametrize("path", [m for m in MODULES if room(name(m)) == "constraints"], ids=name)
def test_constraints_know_no_files_and_no_configs(path: Path) -> None:
    plain = {"__future__", "collections", "dataclasses", "functools", "itertools", "math", "typing"}
    allowed = {"torch", "jaxtyping", "boundseg"} | plain
    assert top_level(path) <= allowed
    calls = {node.id for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Name)}
    assert not calls & {"open", "eval", "exec"}


@pytest.mark.parametrize("path", MODULES, ids=name)
def test_nothing_is_evaluated_or_unpickled(path: Path) -> None:
    assert not top_level(path) & {"pickle", "dill", "joblib"}
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Name):
            assert node.id not in ("eval", "exec"), f"line {node.lineno}"
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "torch.load":
            # tensors and plain containers: what would run code is refused
            assert "weights_only=True" in ast.unparse(node), f"line {node.lineno}"
        elif isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.attr == "load":
            assert (node.value.id, node.attr) not in {("yaml", "load")}, f"line {node.lineno}"


PRINTS = ("cli", "training.progress", "demo")


@pytest.mark.parametrize("path", [m for m in MODULES if not {name(m), room(name(m))} & {*PRINTS}], ids=name)
def test_only_the_command_line_prints_and_ends_processes(path: Path) -> None:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            assert node.func.id not in ("print", "exit", "quit"), f"line {node.lineno}"
        if isinstance(node, ast.Attribute):
            assert ast.unparse(node) not in ("sys.exit", "os._exit"), f"line {node.lineno}"


def loaded(code: str) -> set[str]:
    """The packages that an interpreter has loaded after some code."""
    shown = run_plain(f"{code}\nimport sys, json\nprint(json.dumps(sorted({{m.split('.')[0] for m in sys.modules}})))")
    return set(json.loads(shown.splitlines()[-1]))


def test_importing_the_package_imports_nothing_heavy() -> None:
    assert not loaded("import boundseg") & {"torch", "numpy", "nibabel", "monai", "pydantic", "pandas", "typer"}


@pytest.mark.parametrize("verb", [[], ["train"], ["benchmark", "growth"]], ids=" ".join)
def test_help_needs_nothing_heavy(verb: list[str]) -> None:
    """Times are measured by benchmarks/start_up.py; pydantic is imported by typer itself, for options."""
    heavy = {"torch", "numpy", "nibabel", "monai", "pandas", "matplotlib", "scipy", "lightning_fabric"}
    code = f"""
import sys
from boundseg.cli import main
sys.argv = ["boundseg", *{verb}, "--help"]
try:
    main()
except SystemExit as end:
    assert not end.code
"""
    assert not loaded(code) & heavy


def test_every_public_name_is_there() -> None:
    for public in boundseg.__all__:
        assert getattr(boundseg, public) is not None
    with pytest.raises(AttributeError, match="has no attribute 'trian'"):
        boundseg.trian  # noqa: B018


def test_constraints_and_losses_are_used_alone() -> None:
    heavy = {"nibabel", "monai", "SimpleITK", "pydantic", "yaml", "typer", "rich", "pandas", "matplotlib", "scipy"}
    heavy |= {"lightning_fabric", "safetensors"}
    code = "from boundseg.constraints import Size\nfrom boundseg.losses import Objective"
    assert not loaded(code) & heavy


def test_training_on_prepared_data_needs_torch_numpy_and_light_packages_alone(
    tiny_dataset: Path, tmp_path: Path
) -> None:
    """As on a node where nothing else is installed: the imports of what is not needed fail."""
    config = tmp_path / "config.yaml"
    content = {
        "data": {"folder": str(tiny_dataset), "size": [24, 24]},
        "supervision": [
            {"cases": "few", "labels": "full"},
            {"cases": "train", "labels": "seeds", "constraints": [{"size": {"class": "LV", "set": "individual"}}]},
        ],
        "training": {"epochs": 1, "batch_size": 30},
    }
    config.write_text(json.dumps(content))  # JSON is YAML
    from boundseg.training.config import Config
    from boundseg.training.supervision import teach

    read = Config.load(config)
    teach(read, Dataset.open(tiny_dataset))  # prepares
    forbidden = ["nibabel", "monai", "SimpleITK", "scipy", "pandas", "matplotlib", "skimage"]
    code = f"""
import sys
for name in {forbidden}:
    sys.modules[name] = None  # importing it raises ImportError
from boundseg import Config, train
run = train(Config.load({str(config)!r}), {str(tmp_path / "run")!r}, device="cpu", quiet=True)
print(len(run.metrics()))
"""
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == "1\n"
