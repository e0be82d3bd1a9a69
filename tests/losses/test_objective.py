import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from boundseg.constraints import Bounds, Constraint, Groups, Size, quadratic
from boundseg.gated_crf import GatedCrf
from boundseg.losses import Loss, Objective, Proposals, full_cross_entropy, partial_cross_entropy
from tests.plain import run_plain

IGNORE = 255


def drawn(seed: int, batch: int, classes: int, *space: int, labelled: float = 0.3) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(batch, classes, *space, generator=generator, dtype=torch.float64)
    labels = torch.randint(classes, (batch, *space), generator=generator)
    hidden = torch.rand(batch, *space, generator=generator) > labelled
    return logits, labels.masked_fill(hidden, IGNORE)


@given(st.integers(0, 999), st.sampled_from([(4, 5), (3, 4, 2)]), st.sampled_from([0.0, 0.1, 1.0]))
def test_averages_over_labelled_pixels_of_an_image_then_over_images(seed, space, labelled) -> None:
    logits, labels = drawn(seed, 3, 4, *space, labelled=labelled)
    of_images = []
    for image, target in zip(logits, labels, strict=True):
        nats = [-image.log_softmax(0)[(target[p], *p)] for p in map(tuple, (target != IGNORE).nonzero())]
        if nats:
            of_images.append(sum(nats) / len(nats))
    expected = sum(of_images) / len(of_images) if of_images else torch.zeros((), dtype=torch.float64)
    torch.testing.assert_close(partial_cross_entropy(logits, labels, IGNORE), expected)


def test_published_and_text_averages() -> None:
    logits, labels = drawn(1, 3, 2, 6, 6)
    mean = torch.nn.functional.cross_entropy(logits, labels, ignore_index=IGNORE)
    total = torch.nn.functional.cross_entropy(logits, labels, ignore_index=IGNORE, reduction="sum")
    torch.testing.assert_close(partial_cross_entropy(logits, labels, IGNORE, "batch"), mean)
    torch.testing.assert_close(partial_cross_entropy(logits, labels, IGNORE, "sum"), total)
    one = partial_cross_entropy(logits[:1], labels[:1], IGNORE)
    torch.testing.assert_close(one, partial_cross_entropy(logits[:1], labels[:1], IGNORE, "batch"))


def test_a_sum_over_a_batch_is_the_sum_of_its_images_penalties_and_all() -> None:
    """Kervadec et al. 2019, eq. 2: an image's penalty weighs the same against its cross-entropy in any batch."""
    logits, labels = drawn(5, 3, 4, 5, 5)
    constraint = Constraint("size", Size(), ((1,), (2,)), scale=1.0, weight=0.3)
    # of the third image, the second class is not known
    bounds = Bounds.at_most(torch.tensor([[2.0, 3.0], [1.0, 9.0], [2.0, torch.inf]]))
    objective = Objective(IGNORE, [constraint], average="sum")
    whole = objective(logits, labels, {"size": bounds})
    alone = [
        objective(logits[i : i + 1], labels[i : i + 1], {"size": Bounds.at_most(bounds.upper[i : i + 1])}).total
        for i in range(3)
    ]
    torch.testing.assert_close(whole.total, torch.stack(alone).sum())
    violations = (logits.softmax(1)[:, [1, 2]].flatten(2).sum(2) - bounds.upper).clamp(min=0)
    torch.testing.assert_close(whole.parts["size"], 0.3 * violations.square().sum())


def test_full_supervision_is_the_case_with_nothing_ignored() -> None:
    logits, labels = drawn(2, 2, 3, 5, 5, labelled=1.0)
    torch.testing.assert_close(full_cross_entropy(logits, labels), partial_cross_entropy(logits, labels, IGNORE))
    torch.testing.assert_close(full_cross_entropy(logits, labels), torch.nn.functional.cross_entropy(logits, labels))
    with pytest.raises(IndexError):
        full_cross_entropy(logits, labels.index_fill(1, torch.tensor([0]), 3))


def test_one_channel_is_read_as_two() -> None:
    logits, labels = drawn(3, 2, 1, 4, 4, labelled=1.0)
    labels = labels.clone()
    labels[:, ::2] = 1
    expected = torch.nn.functional.binary_cross_entropy_with_logits(logits[:, 0], labels.double())
    torch.testing.assert_close(partial_cross_entropy(logits, labels), expected)


def test_nothing_labelled_gives_zero_and_no_gradient() -> None:
    logits = torch.randn(2, 2, 3, 3, requires_grad=True)
    loss = partial_cross_entropy(logits, torch.full((2, 3, 3), IGNORE), IGNORE)
    loss.backward()
    assert loss == 0
    assert torch.equal(logits.grad, torch.zeros_like(logits))


def test_losses_are_single_precision_under_autocast() -> None:
    logits, labels = drawn(4, 1, 2, 300, 300, labelled=1.0)
    half = logits.bfloat16()
    with torch.autocast("cpu", torch.bfloat16):
        loss = partial_cross_entropy(half, labels)
    assert loss.dtype == torch.float32
    torch.testing.assert_close(loss, partial_cross_entropy(half.float(), labels))


def test_the_objective_is_the_lines_of_the_readme() -> None:
    logits, labels = drawn(5, 2, 3, 8, 8)
    lower = torch.tensor([[-torch.inf, 10, 0]] * 2, dtype=torch.float64)
    bounds = Bounds(lower, torch.tensor([[torch.inf, 20, 0]] * 2, dtype=torch.float64))
    probs = logits.softmax(1)
    cost = quadratic(Size()(probs), bounds, scale=probs[0, 0].numel())
    expected = partial_cross_entropy(logits, labels, ignore=IGNORE) + 1e-2 * bounds.mean(cost)
    constraint = Constraint("size", Size(), ((0,), (1,), (2,)))
    loss = Objective(IGNORE, [constraint])(logits, labels, {"size": bounds})
    torch.testing.assert_close(loss.total, expected)
    torch.testing.assert_close(
        loss.total, loss.cross_entropy + constraint.weight * loss.terms["size"].mean, rtol=0, atol=0
    )
    halved = Objective(IGNORE, [constraint])(logits, labels, {"size": bounds}, strength=0.5)
    torch.testing.assert_close(halved.total - halved.cross_entropy, (loss.total - loss.cross_entropy) / 2)


def test_unknown_bounds_and_absent_names_change_nothing() -> None:
    logits, labels = drawn(6, 2, 2, 5, 5)
    objective = Objective(IGNORE, [Constraint("size", Size(), ((1,),))])
    plain = partial_cross_entropy(logits, labels, IGNORE)
    assert torch.equal(objective(logits, labels, {}).total, plain)
    assert torch.equal(objective(logits, labels, {"size": Bounds.unknown(2, 1)}).total, plain)


def test_volume_constraints_need_groups() -> None:
    logits, labels = drawn(7, 2, 2, 5, 5)
    objective = Objective(IGNORE, [Constraint("v", Size(), ((1,),), scope="volume")])
    bounds = {"v": Bounds(torch.tensor([[5.0]]), torch.tensor([[6.0]]))}
    with pytest.raises(ValueError, match="'v' speaks of volumes"):
        objective(logits, labels, bounds)
    loss = objective(logits, labels, bounds, volumes=Groups.by_name(["a", "a"], {"a": 2}))
    assert loss.terms["v"].value.shape == (1, 1)


def test_compiles_without_a_break() -> None:
    run_plain(
        """
        import torch
        from boundseg.constraints import Bounds, Constraint, Groups, Relative, Size
        from boundseg.losses import Objective

        pair = Groups.by_name(["a", "a"], {"a": 2})
        for space in ((6, 6), (3, 4, 5)):
            logits, labels = torch.randn(2, 2, *space), torch.randint(2, (2, *space))
            objective = Objective(255, [
                Constraint("slice", Size(), ((1,),)),
                Constraint("volume", Size("fraction"), ((1,),), "volume", scale=Relative(0.1)),
            ])
            bounds = {"slice": Bounds(torch.ones(2, 1), torch.full((2, 1), 2.0)),
                      "volume": Bounds(torch.full((1, 1), 0.1), torch.full((1, 1), 0.2))}
            compiled = torch.compile(objective, fullgraph=True, backend="aot_eager")
            arguments = (logits, labels, bounds, None, pair)
            torch.testing.assert_close(compiled(*arguments).total, objective(*arguments).total)
        """
    )


def test_names_that_lead_nowhere_or_to_two_are_refused() -> None:
    size = Constraint("size", Size(), ((1,),))
    with pytest.raises(ValueError, match="two constraints are called 'size'"):
        Objective(constraints=[size, size])
    with pytest.raises(ValueError, match="there are bounds for 'sise', which is no constraint here: size"):
        Objective(constraints=[size])(
            torch.randn(1, 2, 4, 4), torch.zeros(1, 4, 4, dtype=torch.long), {"sise": Bounds.unknown(1, 1)}
        )


def test_spare_outputs_are_background_to_the_gated_crf() -> None:
    """Pixels that are two kinds of background are of one class."""
    images, labels = torch.randn(1, 1, 6, 6), torch.full((1, 6, 6), 255)
    logits = torch.zeros(1, 4, 6, 6)
    logits[:, 1:3] = -50
    logits[:, 3, :, :3] = 3  # the spare output takes half of the image
    folded = Objective(gated_crf=GatedCrf(1.0, classes=3))(logits, labels, {}, images=images).gated_crf
    torch.testing.assert_close(folded, torch.zeros(()), atol=1e-5, rtol=0)
    assert Objective(gated_crf=GatedCrf(1.0))(logits, labels, {}, images=images).gated_crf > 0.5


def test_bounds_that_are_none_say_what_to_give() -> None:
    """Without the tests' type checks, as users meet it."""
    run_plain(
        """
        import torch
        from boundseg.constraints import Constraint, Size
        from boundseg.losses import Objective

        objective = Objective(constraints=[Constraint("size", Size(), ((1,),))])
        logits, labels = torch.randn(2, 2, 4, 4), torch.zeros(2, 4, 4, dtype=torch.long)
        for bounds, message in (
            ({"size": torch.zeros(2, 1, 2)}, "the bounds of 'size' are a Tensor.\\n  Give Bounds(lower, upper)"),
            ({"size": (torch.zeros(2, 1), torch.ones(2, 1))}, "the bounds of 'size' are a tuple."),
            (None, "bounds are a NoneType.\\n  Give a dictionary"),
        ):
            try:
                objective(logits, labels, bounds)
                raise SystemExit(f"{bounds} was taken")
            except ValueError as error:
                assert message in str(error), error
        """
    )


@pytest.mark.parametrize("average", ["image", "batch", "sum"])
def test_processes_descend_in_the_mean_what_one_would_of_their_batches(average: str) -> None:
    """Of three images one process has the first, which is unlabelled and has both bounds; of volumes, too."""
    logits, labels = drawn(6, 3, 4, 5, 5)
    labels[0] = IGNORE
    asked = [
        Constraint("size", Size(), ((1,), (2,)), weight=0.3),
        Constraint("volume", Size(), ((3,),), "volume", weight=0.2),
        Constraint("unknown", Size(), ((3,),)),
    ]
    objective = Objective(IGNORE, asked, average, GatedCrf(0.1, radius=1))  # type: ignore[arg-type]
    upper = torch.tensor([[2.0, 3.0], [torch.inf, 1.0], [torch.inf, torch.inf]])
    images = torch.rand(3, 1, 5, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64)

    def found(rows: slice) -> tuple[Loss, Tensor]:
        given = logits[rows].clone().requires_grad_()
        bounds = {name: Bounds.at_most(up[rows]) for name, up in (("size", upper), ("volume", upper[:, :1]))}
        volumes = Groups.each(len(given))
        return objective(given, labels[rows], bounds, volumes=volumes, images=images[rows]), given

    whole, given = found(slice(0, 3))
    (expected,) = torch.autograd.grad(whole.total, given)
    rows = [slice(0, 1), slice(1, 3)]
    losses, inputs = zip(*map(found, rows), strict=True)
    counts = [torch.stack([*objective.counts(labels[r], f.terms).values()]) for r, f in zip(rows, losses, strict=True)]
    totals = [
        objective.over_processes(f, labels[r], add=lambda own: counts[0] + counts[1], count=2)
        for r, f in zip(rows, losses, strict=True)
    ]
    torch.testing.assert_close(torch.stack(totals).mean(), whole.total)
    slopes = torch.autograd.grad(torch.stack(totals).mean(), inputs)
    torch.testing.assert_close(torch.cat(slopes), expected)


def test_proposals_of_several_processes_are_refused() -> None:
    logits, labels = drawn(7, 2, 2, 4, 4)
    objective = Objective(IGNORE, method=Proposals())
    with pytest.raises(ValueError, match="Proposals are found for a whole batch at once, on one process"):
        objective.over_processes(objective(logits, labels, {}), labels, add=lambda own: own, count=1)
