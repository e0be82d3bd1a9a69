"""A batch as a dictionary against the objective that it stands for."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch.utils.data import default_collate

from boundseg.constraints import Bounds, Constraint, Frame, Groups, Size
from boundseg.errors import InputError
from boundseg.integrations import batch
from boundseg.losses import Objective

INF = torch.inf
AREA = Constraint("area", Size("px"), ((1,),))
VOLUME = Constraint("volume", Size("px"), ((1,), (2,)), scope="volume")


def logits_and_labels(images: int = 4) -> tuple[torch.Tensor, torch.Tensor]:
    torch.manual_seed(0)
    return torch.randn(images, 3, 8, 9), torch.randint(0, 3, (images, 8, 9))


def test_labels_alone_are_the_cross_entropy() -> None:
    logits, labels = logits_and_labels()
    labels[:, 2:] = 255
    found = batch.loss(Objective(average="batch"), logits, labels.unsqueeze(1))
    torch.testing.assert_close(found.total, F.cross_entropy(logits, labels, ignore_index=255))
    assert set(batch.figures(found)) == {"cross_entropy"}


def test_a_dictionary_is_what_the_objective_is_given_by_hand() -> None:
    logits, labels = logits_and_labels()
    pairs = torch.tensor([[0.0, 2.0], [30.0, INF], [-INF, 9.0], [-INF, INF]])
    content = {
        "label": labels,
        "bounds": {"area": pairs, "volume": torch.tensor([[[0.0, 9.0], [1.0, 2.0]], [[5.0, 9.0], [-INF, INF]]])},
        "volume": ["a", "a", "b", "b"],
    }
    objective = Objective(constraints=[AREA, VOLUME])
    found = batch.loss(objective, logits, content)
    by_hand = objective(
        logits,
        labels,
        {
            "area": Bounds(pairs[:, :1], pairs[:, 1:]),
            "volume": Bounds(torch.tensor([[0.0, 1.0], [5.0, -INF]]), torch.tensor([[9.0, 2.0], [9.0, INF]])),
        },
        volumes=Groups(torch.tensor([0, 0, 1, 1]), torch.tensor([2, 2])),
    )
    torch.testing.assert_close(found.total, by_hand.total)


def test_figures_are_means_over_what_is_known() -> None:
    logits, labels = logits_and_labels()
    pairs = torch.tensor([[0.0, 1000.0], [30.0, INF], [-INF, 9.0], [-INF, INF]])
    found = batch.loss(Objective(constraints=[AREA]), logits, {"label": labels, "bounds": {"area": pairs}})
    told = batch.figures(found)
    sizes = logits.softmax(1)[:, 1].sum((1, 2))
    assert told["area/value"] == pytest.approx(float(sizes[:3].mean()), rel=1e-5)
    assert (float(told["area/lower"]), float(told["area/upper"])) == (15.0, 504.5)
    kept = (sizes[:3] >= pairs[:3, 0] - 1) & (sizes[:3] <= pairs[:3, 1] + 1)
    assert told["area/satisfied"] == pytest.approx(float(kept.float().mean()))
    assert told["area/cost"] == pytest.approx(float(found.total - found.cross_entropy), rel=1e-4)
    nothing = {"area": torch.tensor([[-INF, INF]] * 4)}
    unknown = batch.figures(batch.loss(Objective(constraints=[AREA]), logits, {"label": labels, "bounds": nothing}))
    assert torch.isnan(unknown["area/value"])
    assert torch.isnan(unknown["area/cost"])


def test_bounds_and_volumes_as_loaders_collate_them() -> None:
    logits, labels = logits_and_labels()
    one = default_collate([{"bounds": {"area": (1.0, 20.0)}, "volume": i // 2} for i in range(4)])
    found = batch.loss(Objective(constraints=[AREA]), logits, {"label": labels, **one})
    by_hand = {"area": Bounds(torch.ones(4, 1), torch.full((4, 1), 20.0))}
    same = batch.loss(Objective(constraints=[AREA]), logits, {"label": labels, "bounds": by_hand})
    torch.testing.assert_close(found.total, same.total)
    known = batch.Known.of({"label": labels, **one}, logits)
    assert known.volumes is not None
    assert known.volumes.index.tolist() == [0, 0, 1, 1]


def test_one_channel_has_the_frame_of_two_classes() -> None:
    logits, frame = torch.randn(2, 1, 8, 9), Frame(torch.ones(2, 8, 9), affine=torch.eye(2, 3).expand(2, 2, 3))
    written = {"affine": frame.affine, "weight": frame.weight, "spacing_mm": torch.ones(2, 2),
               "whole": torch.tensor([True, False])}  # fmt: skip
    content = {
        "label": torch.full((2, 8, 9), 255),
        "bounds": {"area": torch.tensor([[90.0, INF]] * 2)},
        "frame": written,
    }
    term = batch.loss(Objective(constraints=[AREA]), logits, content).terms["area"]
    assert term.bounds.lower.flatten().tolist() == [90, -INF], "of a part, only an upper bound holds"
    complete = batch.loss(Objective(constraints=[AREA]), logits, content, complete=[1]).terms["area"]
    assert complete.bounds.lower.flatten().tolist() == [90, 90]
    with pytest.raises(InputError, match="class 7 is said to be complete, and the network has 2"):
        batch.loss(Objective(constraints=[AREA]), logits, content, complete=[7])


def slices_of(numbers: list[int], inside: list[bool], slices: int) -> dict[str, torch.Tensor]:
    """The frame of slices of one volume, as AddFramed writes it."""
    affine = torch.eye(3, 4).repeat(len(numbers), 1, 1)
    affine[:, 2, 3] = torch.tensor(numbers, dtype=torch.float32)
    weight = torch.tensor(inside).float().reshape(-1, 1, 1).expand(-1, 8, 9)
    count = len(numbers)
    return {"affine": affine, "weight": weight, "spacing_mm": torch.ones(count, 3),
            "whole": torch.ones(count, dtype=torch.bool), "slices": torch.full((count,), slices)}  # fmt: skip


@pytest.mark.parametrize(
    ("numbers", "inside", "whole"),
    [
        ([0, 1, 2, 3], [True] * 4, True),
        ([3, 1, 0, 2], [True] * 4, True),
        ([0, 1, 2], [True] * 3, False),
        ([0, 1, 2, 4], [True] * 3 + [False], False),  # padding
        ([-1, 0, 1, 2, 3, 4], [False] + [True] * 4 + [False], True),
    ],
)
def test_of_a_volume_that_lacks_slices_only_upper_bounds_hold(
    numbers: list[int], inside: list[bool], whole: bool
) -> None:
    content = {
        "label": torch.full((len(numbers), 8, 9), 255),
        "bounds": {"volume": torch.tensor([[[90.0, 100.0]] * 2])},
        "volume": ["a"] * len(numbers),
        "frame": slices_of(numbers, inside, 4),
    }
    found = batch.loss(Objective(constraints=[VOLUME]), torch.randn(len(numbers), 3, 8, 9), content)
    bounds = found.terms["volume"].bounds
    assert bounds.lower.tolist() == [[90, 90]] if whole else [[-INF, -INF]]
    assert bounds.upper.tolist() == [[100, 100]]


def test_slices_that_are_drawn_twice_are_refused() -> None:
    frames = [slices_of([0, 1], [True] * 2, 4), slices_of([1, 3, 1, 4, 4], [True] * 3 + [False] * 2, 4)]
    frame = {name: torch.cat([one[name] for one in frames]) for name in frames[0]}
    content = {"label": torch.full((7, 8, 9), 255), "volume": ["a", "a", *["b"] * 5], "frame": frame}
    with pytest.raises(InputError, match="the batch holds slice 1 of the volume 'b' twice, which would be added twice"):
        batch.Known.of(content, torch.randn(7, 3, 8, 9))
    with pytest.raises(InputError, match="slice 1 of the volume 'b' twice"):
        batch.require_once(content)


def test_volumes_of_a_batch_have_their_own_numbers_of_slices() -> None:
    frames = [slices_of([0, 1], [True] * 2, 2), slices_of([0, 1], [True] * 2, 3)]
    content = {
        "label": torch.full((4, 8, 9), 255),
        "volume": ["a", "a", "b", "b"],
        "frame": {name: torch.cat([frame[name] for frame in frames]) for name in frames[0]},
    }
    known = batch.Known.of(content, torch.randn(4, 3, 8, 9))
    assert known.volumes is not None
    assert known.volumes.parts.tolist() == [2, 3]


@pytest.mark.parametrize("half", [torch.float16, torch.bfloat16])
def test_what_half_precision_has_changed_is_refused(half: torch.dtype) -> None:
    logits, labels = logits_and_labels()
    pairs = torch.tensor([[0.0, 1037.0]] * 4, dtype=half)
    frame = slices_of([0, 1, 2, 3], [True] * 4, 4)
    frame["weight"] = frame["weight"].to(half)
    for content in (
        {"bounds": {"area": pairs}},
        {"bounds": {"area": (pairs[:, 0], pairs[:, 1])}},
        {"bounds": {"area": Bounds(pairs[:, :1], pairs[:, 1:])}},
        {"frame": frame},
        {"frame": Frame(frame["weight"])},
    ):
        with pytest.raises(InputError, match=r"came in half precision, which changes numbers\.[\s\S]*bf16-mixed"):
            batch.Known.of({"label": labels, **content}, logits)
    assert batch.Known.of({"label": labels.to(half), "bounds": {"area": pairs.float()}}, logits.to(half)).bounds


@pytest.mark.parametrize(
    ("target", "message"),
    [
        ({"bounds": {}}, r"the batch has no 'label'; it has bounds\."),
        (torch.zeros(4, 3, 8, 9), r"labels of shape \[4, 3, 8, 9\] meet logits of shape \[4, 3, 8, 9\]\."),
        ({"label": torch.zeros(4, 8, 9), "bounds": {"area": torch.zeros(4)}}, r"the bounds of 'area' have shape \[4\]"),
        ({"label": torch.full((4, 8, 9), 0.5)}, "labels lie between classes: something has interpolated them"),
        ({"label": None}, "the batch's labels are None"),
        ({"label": torch.zeros(4, 8, 9), "bounds": torch.zeros(4, 2)}, "the batch's bounds are a Tensor"),
        ({"label": torch.zeros(4, 8, 9), "bounds": {"area": (None, 4.0)}}, "a bound of 'area' is None"),
        (
            {"label": torch.zeros(4, 8, 9), "bounds": {"area": [torch.zeros(2)] * 4}},
            r"'area' are a list of 4 tensors\.[\s\S]*two tensors would be all lower and all upper bounds",
        ),
        ({"label": torch.zeros(4, 8, 9), "frame": {"weight": torch.ones(4, 8, 9)}}, "the frame has no 'affine'"),
        ({"label": torch.zeros(4, 8, 9), "volume": ["a", "b"]}, "names the volume of 2 images, and has 4"),
    ],
)
def test_what_does_not_fit_is_named(target: object, message: str) -> None:
    logits, _ = logits_and_labels()
    with pytest.raises(InputError, match=message):
        batch.loss(Objective(constraints=[AREA]), logits, target)  # type: ignore[arg-type]
