"""A trained network as an ONNX file, for programs that have neither torch nor boundseg."""

from __future__ import annotations

import json
import logging
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from boundseg import __version__
from boundseg.data.atomic import replacing
from boundseg.errors import RunError
from boundseg.training.run import Run, Which

OPSET = 18
IMAGE, LOGITS = "image", "logits"
TOLERANCE = 1e-3  # of logits: ONNX Runtime adds up in another order
PROTOBUF_BYTES = 2**31


def export(run: Run, path: Path, which: Which = "best", *, overwrite: bool = False) -> float:
    """Writes a run's network as ONNX: images ``[B, C, *size]`` in, logits ``[B, outputs, *size]`` out, any B.

    The file's metadata say what the images have to be (``size``, ``spacing_mm``, ``fit``, ``intensity``, ``channels``)
    and what the outputs are (``labels``; outputs beyond them are spare kinds of background). Before it is written, it
    is run by ONNX Runtime beside the network.

    Args:
        run: A run with a checkpoint.
        path: The file, ``.onnx``.
        which: ``best`` or ``last`` weights.
        overwrite: Replace a file that exists.

    Returns:
        The largest difference of two logits, the file's and the network's, on a random image.

    Raises:
        RunError: Packages are missing, the file exists or cannot be written, the network has an operation that ONNX has
            not, or the file's logits are others. Nothing is written then.
    """
    if path.suffix.lower() != ".onnx":
        raise RunError(f"{path.name} is no ONNX file.", str(path.parent), "Name it MODEL.onnx.")
    if path.exists() and not overwrite:
        raise RunError(f"{path} exists.", remedy="Choose another name, or give --overwrite.")
    onnx, runtime = _packages()
    network, data, channels = run.trained(which).eval(), run.config.data, len(run.environment["channels"])
    size = data.window or data.grid.size
    # two images: a batch of one would be taken for a constant
    example = torch.randn(2, channels, *size, generator=torch.Generator().manual_seed(0))
    model = _converted(network, example, run.config.network.name)
    if model.ByteSize() >= PROTOBUF_BYTES:
        raise RunError(f"the network is larger than a file of ONNX ({PROTOBUF_BYTES // 2**30} GB).", str(run.folder))
    for key, value in _metadata(run, which, size).items():
        entry = model.metadata_props.add()
        entry.key, entry.value = key, value if isinstance(value, str) else json.dumps(value)
    content = model.SerializeToString()
    apart = _compared(content, network, example, runtime)
    if not apart <= TOLERANCE:
        fact = f"the file's logits differ from the network's by up to {apart:.3g}."
        raise RunError(fact, str(run.folder), f"The network {run.config.network.name} cannot be exported faithfully.")
    onnx.checker.check_model(model)
    try:
        with replacing(path) as temporary:
            temporary.write_bytes(content)
    except OSError as error:
        fact = f"{path.name} cannot be written: {error.strerror or error}."
        raise RunError(fact, str(path.parent), "Make room there, or choose another folder.") from error
    return apart


def _packages() -> tuple[Any, Any]:
    try:
        import onnx
        import onnxruntime
        import onnxscript  # noqa: F401 - torch's exporter is written in it
    except ImportError as error:
        fact = f"an ONNX file needs {error.name}, which is not installed."
        raise RunError(fact, remedy="Install it with: pip install 'boundseg[onnx]'") from error
    return onnx, onnxruntime


def _converted(network: nn.Module, example: Tensor, name: str) -> Any:
    logger = logging.getLogger("torch.onnx")
    before = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(), torch.no_grad():
            warnings.simplefilter("ignore")  # of torch's own, about itself
            program = torch.onnx.export(
                network,
                (example,),
                dynamo=True,
                opset_version=OPSET,
                input_names=[IMAGE],
                output_names=[LOGITS],
                dynamic_shapes=({0: torch.export.Dim("batch", min=1)},),
                verbose=False,
            )
    except Exception as error:  # torch's exporter has no common error, and a network may raise anything
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        cause = error.__cause__ or error
        reason = next((line for line in str(cause).splitlines() if line.strip()), lines[0] if lines else "")
        fact = f"the network {name} cannot be exported: {type(cause).__name__}: {reason.strip()[:300]}"
        remedy = "ONNX lacks an operation of it, or it decides by its data. Export another network."
        raise RunError(fact, "network", remedy) from error
    finally:
        logger.setLevel(before)
    assert program is not None
    return program.model_proto


def _metadata(run: Run, which: Which, size: tuple[int, ...]) -> Mapping[str, Any]:
    data, environment = run.config.data, run.environment
    return {
        "boundseg": __version__,
        "network": run.config.network.name,
        "labels": environment["labels"],
        "spare_outputs": run.config.network.spare_outputs,
        "channels": environment["channels"],
        "slice_axis": environment["slice_axis"],
        "size": list(size),
        "fit": data.fit,
        "spacing_mm": list(data.spacing_mm) if data.spacing_mm else None,
        "intensity": data.intensity,
        "weights": which,
        "epoch": run.checkpoint(which).state["epoch"],
    }


def _compared(content: bytes, network: nn.Module, example: Tensor, runtime: Any) -> float:
    options = runtime.SessionOptions()
    options.log_severity_level = 3
    session = runtime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    apart = 0.0
    for images in (example, example[:1]):
        (theirs,) = session.run([LOGITS], {IMAGE: images.numpy()})
        with torch.inference_mode():
            ours = network(images).numpy()
        apart = max(apart, float(np.abs(theirs - ours).max()))
    return apart
