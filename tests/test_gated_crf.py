"""The gated CRF loss: two voxels by hand, laws, and every pair of voxels written out as the oracle."""

from __future__ import annotations

import re
from math import exp
from pathlib import Path
from typing import Any

import jaxtyping
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from boundseg.gated_crf import Kernel, gated_crf
from tests.plain import run_plain

PAGE = Path(__file__).parent.parent / "docs" / "constraints" / "gated-crf.md"
BOTH = (Kernel(0.9, 2.0, 0.5), Kernel(0.1, 1.5, None))


@pytest.fixture
def unchecked(monkeypatch: pytest.MonkeyPatch) -> None:
    """No checks of shapes: our own messages are what most people see."""
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)


def drawn(seed: int, *space: int, batch: int = 2, classes: int = 3) -> tuple[Tensor, Tensor, dict[str, Any]]:
    """Soft probabilities, an image of two channels, and gates and spacing for it, all in float64."""
    generator = torch.Generator().manual_seed(seed)
    new: dict[str, Any] = {"generator": generator, "dtype": torch.float64}
    probs = torch.randn(batch, classes, *space, **new).softmax(1)
    gates = torch.rand(2, batch, *space, **new)
    gates[torch.rand(gates.shape, **new) < 0.3] = 0
    options = {
        "source_gate": gates[0],
        "destination_gate": gates[1],
        "spacing_mm": torch.rand(batch, len(space), **new) + 0.5,
    }
    return probs, torch.rand(batch, 2, *space, **new), options


def every_pair(
    probs: Tensor,
    image: Tensor,
    kernels: tuple[Kernel, ...],
    radius: int,
    spacing_mm: Tensor | None = None,
    source_gate: Tensor | None = None,
    destination_gate: Tensor | None = None,
) -> float:
    """All ordered pairs of voxels of each image, with the classes that disagree added up one by one."""
    batch, classes, *space = probs.shape
    ones = torch.ones(batch, *space, dtype=torch.float64)
    source, destination = (ones if gate is None else gate for gate in (source_gate, destination_gate))
    places = np.indices(space).reshape(len(space), -1).T
    total = 0.0
    for n in range(batch):
        mm = np.ones(len(space)) if spacing_mm is None else spacing_mm[n].numpy()
        s, intensity = probs[n].reshape(classes, -1).numpy(), image[n].flatten(1).numpy()
        sends, takes = source[n].flatten().numpy(), destination[n].flatten().numpy()
        for i, j in np.ndindex(len(places), len(places)):
            if i == j or np.abs(places[i] - places[j]).max() > radius:
                continue
            tie = 0.0
            for kernel in kernels:
                z = np.linalg.norm((places[i] - places[j]) * mm) ** 2 / kernel.sigma_position**2
                if kernel.sigma_intensity is not None:
                    z += np.linalg.norm(intensity[:, i] - intensity[:, j]) ** 2 / kernel.sigma_intensity**2
                tie += kernel.weight * exp(-z / 2)
            differ = sum(s[a, i] * s[b, j] for a in range(classes) for b in range(classes) if a != b)
            total += takes[i] * sends[j] * tie * differ
    return total / max(float(source.sum()), 1)


def test_two_voxels_3_mm_apart() -> None:
    probs = torch.tensor([[[[0.9, 0.2]], [[0.1, 0.8]]]], dtype=torch.float64)
    image = torch.tensor([[[[0.5, 0.7]]]], dtype=torch.float64)
    differ = 0.9 * 0.8 + 0.1 * 0.2
    cost = gated_crf(probs, image, kernels=[Kernel(0.5, 2.0, 0.1)], spacing_mm=torch.tensor([[10.0, 3.0, 8.0]]))
    # two directions over two voxels
    assert cost.item() == pytest.approx(0.5 * exp(-(3**2) / (2 * 2**2) - 0.2**2 / (2 * 0.1**2)) * differ)
    along_rows = gated_crf(
        probs.mT, image.mT, kernels=[Kernel(1.0, 20.0, None)], spacing_mm=torch.tensor([[10.0, 3.0]])
    )
    assert along_rows.item() == pytest.approx(exp(-1 / 8) * differ)
    in_voxels = gated_crf(probs, image, kernels=[Kernel(1.0, 2.0, None)])
    assert in_voxels.item() == pytest.approx(exp(-1 / 8) * differ)


def test_the_defaults_are_the_papers() -> None:
    probs, image, _ = drawn(0, 7, 8)
    given_out = gated_crf(probs, image, kernels=[Kernel(1.0, sigma_position=6.0, sigma_intensity=0.1)], radius=5)
    assert torch.equal(gated_crf(probs, image), given_out)


def test_gates_choose_directions_by_hand() -> None:
    probs = torch.tensor([[[[1.0, 0.0]], [[0.0, 1.0]]]])
    image, kernels = torch.zeros(1, 1, 1, 2), [Kernel(1.0, 1.0, None)]
    first, second = torch.tensor([[[1.0, 0.0]]]), torch.tensor([[[0.0, 1.0]]])
    tie = exp(-1 / 2)

    def cost(**gates: Tensor) -> float:
        return gated_crf(probs, image, kernels=kernels, **gates).item()

    assert cost() == pytest.approx(tie)
    # one direction, over one source
    assert cost(source_gate=first) == pytest.approx(tie)
    # one direction, over two sources
    assert cost(destination_gate=first) == pytest.approx(tie / 2)
    assert cost(source_gate=first, destination_gate=second) == pytest.approx(tie)
    assert cost(source_gate=first, destination_gate=first) == 0
    assert cost(source_gate=first / 2, destination_gate=second / 2) == pytest.approx(tie / 4)
    assert cost(source_gate=torch.zeros(1, 1, 1)) == 0
    assert cost(destination_gate=second.bool()) == pytest.approx(tie / 2)


@settings(max_examples=15, deadline=None)
@given(
    seed=st.integers(0, 999),
    space=st.sampled_from([(4, 5), (1, 6), (2, 3, 4), (1, 3, 3)]),
    radius=st.integers(1, 3),
    options=st.sets(st.sampled_from(["spacing_mm", "source_gate", "destination_gate"])),
)
def test_equals_every_pair_written_out(seed: int, space: tuple[int, ...], radius: int, options: set[str]) -> None:
    probs, image, full = drawn(seed, *space)
    chosen = {name: full[name] for name in options}
    found = gated_crf(probs, image, kernels=BOTH, radius=radius, **chosen)
    assert found.item() == pytest.approx(every_pair(probs, image, BOTH, radius, **chosen), rel=1e-10)


def test_one_gate_for_both_ends_is_two_alike() -> None:
    probs, image, options = drawn(3, 5, 6)
    gate = options["source_gate"]
    found = gated_crf(probs, image, kernels=BOTH, radius=2, source_gate=gate, destination_gate=gate)
    alike = {"source_gate": gate, "destination_gate": gate.clone()}
    assert found.item() == pytest.approx(every_pair(probs, image, BOTH, 2, **alike), rel=1e-10)
    torch.testing.assert_close(found, gated_crf(probs, image, kernels=BOTH, radius=2, **alike))


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 999), space=st.sampled_from([(5, 6), (3, 4, 5)]), data=st.data())
def test_order_of_classes_channels_and_images_does_not_matter(seed: int, space: tuple[int, ...], data: Any) -> None:
    probs, image, options = drawn(seed, *space, batch=3, classes=4)
    cost = gated_crf(probs, image, kernels=BOTH, radius=2, **options)
    images, classes = (data.draw(st.permutations(range(n))) for n in (3, 4))
    turned = {name: value[images] for name, value in options.items()}
    found = gated_crf(probs[images][:, classes], image[images].flip(1), kernels=BOTH, radius=2, **turned)
    torch.testing.assert_close(found, cost)


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 999), space=st.sampled_from([(5, 6), (3, 4, 5)]), data=st.data())
def test_turning_image_and_prediction_together_changes_nothing(seed: int, space: tuple[int, ...], data: Any) -> None:
    probs, image, options = drawn(seed, *space)
    cost = gated_crf(probs, image, kernels=BOTH, radius=2, **options)
    axes = data.draw(st.permutations(range(len(space))))
    mirrored = data.draw(st.lists(st.integers(-len(space), -1), unique=True))

    def turn(voxels: Tensor) -> Tensor:
        lead = voxels.ndim - len(space)
        return voxels.permute(*range(lead), *[axis + lead for axis in axes]).flip(mirrored)

    turned = {name: value[:, axes] if name == "spacing_mm" else turn(value) for name, value in options.items()}
    torch.testing.assert_close(gated_crf(turn(probs), turn(image), kernels=BOTH, radius=2, **turned), cost)


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 999), space=st.sampled_from([(6, 7), (3, 4, 5)]), dtype=st.sampled_from([32, 64]))
def test_one_class_everywhere_costs_nothing_at_all(seed: int, space: tuple[int, ...], dtype: int) -> None:
    probs, image, options = drawn(seed, *space)
    hard = torch.zeros_like(probs)
    hard[:, 1] = 1
    kind = getattr(torch, f"float{dtype}")
    assert gated_crf(hard.to(kind), image.to(kind), kernels=BOTH, radius=3) == 0
    assert gated_crf(hard.to(kind), image.to(kind), kernels=BOTH, radius=3, **options) == 0
    assert gated_crf(probs, image, kernels=BOTH, radius=3) > 0


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 999), axis=st.integers(0, 2))
def test_one_slice_in_3d_is_2d(seed: int, axis: int) -> None:
    probs, image, options = drawn(seed, 5, 6)
    spacing = options.pop("spacing_mm")
    cost = gated_crf(probs, image, kernels=BOTH, radius=3, spacing_mm=spacing, **options)
    thick = torch.cat([spacing[:, :axis], torch.full_like(spacing[:, :1], 8.0), spacing[:, axis:]], dim=1)
    gates = {name: gate.unsqueeze(axis + 1) for name, gate in options.items()}
    slab = [voxels.unsqueeze(axis + 2) for voxels in (probs, image)]
    torch.testing.assert_close(gated_crf(*slab, kernels=BOTH, radius=3, spacing_mm=thick, **gates), cost)


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 999), where=st.integers(1, 5))
def test_what_lies_behind_a_gate_of_zero_does_not_matter(seed: int, where: int) -> None:
    probs, image, _ = drawn(seed, 6, 6)
    inside = torch.zeros(1, 1, 6, dtype=torch.float64)
    inside[..., :where] = 1
    gates = {"source_gate": inside.expand(2, 6, 6), "destination_gate": inside.expand(2, 1, 6)}
    cut = gated_crf(probs[..., :where], image[..., :where], kernels=BOTH)
    torch.testing.assert_close(gated_crf(probs, image, kernels=BOTH, **gates), cut)


@pytest.mark.parametrize("edge", [4, 5, 6])
def test_the_best_boundary_is_the_edge_of_the_image(edge: int) -> None:
    image = torch.zeros(1, 1, 6, 10)
    image[..., edge:] = 1
    costs = []
    for boundary in range(3, 8):
        probs = torch.zeros(1, 2, 6, 10)
        probs[:, 0, :, :boundary] = 1
        probs[:, 1, :, boundary:] = 1
        costs.append(gated_crf(probs, image, kernels=[Kernel(1.0, 6.0, 0.1)], radius=2).item())
    nearer_is_cheaper = sorted(range(5), key=lambda index: costs[index])
    assert nearer_is_cheaper[0] == edge - 3
    assert costs[edge - 3] < 1e-6 < min(costs[index] for index in nearer_is_cheaper[1:])


@pytest.mark.parametrize("space", [(3, 4), (2, 2, 3)])
@pytest.mark.parametrize("gated", [False, True])
def test_gradient_matches_finite_differences(space: tuple[int, ...], gated: bool) -> None:
    probs, image, options = drawn(3, *space)

    def cost(probs: Tensor) -> Tensor:
        return 0.7 * gated_crf(probs, image, kernels=BOTH, radius=2, **(options if gated else {}))

    assert torch.autograd.gradcheck(cost, probs.requires_grad_())


def test_the_image_gets_no_gradient() -> None:
    probs, image, options = drawn(5, 4, 4)
    gated_crf(probs.requires_grad_(), image.requires_grad_(), **options).backward()
    assert image.grad is None
    assert probs.grad is not None
    assert probs.grad.abs().sum() > 0


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_is_raised_to_single(dtype: torch.dtype) -> None:
    probs, image, options = drawn(6, 40, 40)
    half = probs.to(dtype).requires_grad_()
    with torch.autocast("cpu", torch.bfloat16):
        cost = gated_crf(half, image.to(dtype), **options)
    cost.backward()
    assert cost.dtype == torch.float32
    torch.testing.assert_close(cost, gated_crf(half.float(), image.to(dtype).float(), **options))
    assert half.grad is not None
    assert half.grad.isfinite().all()


def test_compiles_without_a_break() -> None:
    run_plain(
        """
        import torch
        from boundseg.gated_crf import Kernel, gated_crf

        kernels = (Kernel(0.9, 2.0, 0.5), Kernel(0.1, 1.5, None))
        compiled = torch.compile(gated_crf, fullgraph=True, dynamic=False, backend="eager")
        for space in ((5, 6), (2, 3, 4)):
            probs, image = torch.randn(2, 3, *space).softmax(1).requires_grad_(), torch.rand(2, 1, *space)
            options = {"kernels": kernels, "radius": 1, "spacing_mm": torch.rand(2, 3),
                       "destination_gate": torch.rand(2, *space)}
            found, expected = compiled(probs, image, **options), gated_crf(probs, image, **options)
            torch.testing.assert_close(found, expected)
            torch.testing.assert_close(torch.autograd.grad(found, probs), torch.autograd.grad(expected, probs))
        """
    )


def test_a_kernel_is_checked_when_it_is_made() -> None:
    with pytest.raises(ValueError, match="sigma_position = 0 is no width; give a positive number"):
        Kernel(sigma_position=0.0)
    with pytest.raises(ValueError, match="sigma_intensity = -1 is no width"):
        Kernel(sigma_intensity=-1.0)
    with pytest.raises(ValueError, match="weight = -1 would reward differences; give 0 or more"):
        Kernel(weight=-1.0)
    with pytest.raises(ValueError, match="sigma_position = nan"):
        Kernel(sigma_position=float("nan"))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"kernels": ()}, "no kernels are given, so nothing ties two voxels; give at least one Kernel"),
        ({"radius": 0}, "radius = 0 leaves a voxel without neighbours; give 1 or more"),
        ({"probs": torch.ones(2, 1, 4, 5)}, "probs have one channel; give all classes, the background as well"),
        ({"image": torch.ones(2, 1, 4, 6)}, r"\[2, 4, 6\] and probs have \[2, 4, 5\]; resample the image"),
        ({"image": torch.ones(1, 1, 4, 5)}, r"\[1, 4, 5\] and probs have \[2, 4, 5\]"),
        ({"spacing_mm": torch.ones(2, 1)}, r"spacing_mm has shape \[2, 1\]; give 2 images x 2 axes or more"),
        ({"source_gate": torch.ones(2, 4, 4)}, r"source_gate has shape \[2, 4, 4\] and probs ask for \[2, 4, 5\]"),
        ({"destination_gate": torch.ones(2, 1, 4, 5)}, r"destination_gate has shape \[2, 1, 4, 5\]"),
    ],
)
def test_what_does_not_fit_is_named(change: dict[str, Any], message: str, unchecked: None) -> None:
    arguments: dict[str, Any] = {"probs": torch.full((2, 2, 4, 5), 0.5), "image": torch.ones(2, 1, 4, 5), **change}
    with pytest.raises(ValueError, match=message):
        gated_crf(**arguments)


def test_the_example_on_the_page_runs() -> None:
    (code,) = re.findall(r"^```python\n(.*?)^```", PAGE.read_text(encoding="utf-8"), flags=re.S | re.M)
    names: dict[str, Any] = {}
    exec(code, names)
    assert names["logits"].grad.abs().sum() > 0
