"""Classes that are called as their readers call them: a training, its figures, the page and the exported network."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd
import pytest
from markupsafe import escape

from boundseg.data.dataset import Dataset
from boundseg.report.page import report
from boundseg.training.evaluate import evaluate
from boundseg.training.export import export
from boundseg.training.loop import train
from boundseg.training.predict import predict

from .cases import entry, tiny

VENTRICLE, MUSCLE = "Linke Kammer (Höhle)", "心筋 <b>&amp;</b></script>"


@pytest.fixture
def called(tiny_dataset: Path) -> Path:
    """The dataset with classes of two alphabets, one of which looks like a page's own markup."""
    for name in ("dataset.json", "priors.csv"):
        path = tiny_dataset / name
        text = path.read_text()
        if name == "dataset.json":
            content = json.loads(text)
            content["labels"] = {{"LV": VENTRICLE, "Myo": MUSCLE}.get(k, k): v for k, v in content["labels"].items()}
            text = json.dumps(content, ensure_ascii=False)
        else:
            text = text.replace("LV", VENTRICLE).replace("Myo", MUSCLE)
        path.write_text(text, encoding="utf-8")
    return tiny_dataset


def test_a_class_may_be_called_in_any_alphabet_and_as_a_page_is_written(called: Path, tmp_path: Path) -> None:
    sizes = entry(constraints=[{"size": {"class": VENTRICLE, "set": "individual"}}])
    run = train(tiny(called, sizes), tmp_path / "run")
    found = evaluate(run, "validation")
    assert set(found.volumes["class"]) == set(pd.read_csv(run.folder / "evaluation" / "volumes.csv")["class"])
    assert set(found.volumes["class"]) == {VENTRICLE, MUSCLE}

    images = [path for case in ("patient4_frame01",) for path in Dataset.open(called).image_paths(case)]
    predict(run, images, tmp_path / "out", probabilities=True)
    assert sorted(path.name for path in (tmp_path / "out").glob("*probability*")) == sorted(
        f"patient4_frame01_probability_{name.replace('/', '_')}.nii.gz" for name in (VENTRICLE, MUSCLE)
    )

    page = report([run.folder], tmp_path / "report.html").read_text(encoding="utf-8")
    assert VENTRICLE in page
    assert MUSCLE not in page, "markup of a name is shown, and not obeyed"
    assert escape(MUSCLE) in page

    pytest.importorskip("onnxruntime", reason="pip install 'boundseg[onnx]'")
    import onnx

    export(run, tmp_path / "model.onnx")
    facts = {entry.key: entry.value for entry in onnx.load(tmp_path / "model.onnx").metadata_props}
    assert json.loads(facts["labels"]) == {"background": 0, VENTRICLE: 1, MUSCLE: 2}
