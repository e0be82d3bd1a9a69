"""What every descriptor keeps; a new one inherits all of it from its row in the table of tests.constraints.cases.

Where a law has exceptions, the row declares why: a surface, a value that says where, one that depends on the axes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import wraps
from inspect import Parameter, Signature, signature
from itertools import pairwise, product
from typing import Any

import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch import Tensor

from boundseg.constraints import (
    NEEDS,
    PENALTIES,
    Bounds,
    Constraint,
    Descriptor,
    Fractional,
    Frame,
    Groups,
    measure,
    priced,
)
from tests.constraints.cases import DESCRIPTORS, Situation, situation, slices
from tests.plain import run_plain

every = pytest.mark.parametrize("name", DESCRIPTORS)
Law = Callable[..., None]
SINGLES = ((0,), (1,), (2,), (3,))


def such(**traits: object) -> pytest.MarkDecorator:
    """The rows of the table in which these are so."""
    names = [n for n, row in DESCRIPTORS.items() if all(getattr(row, key) == value for key, value in traits.items())]
    return pytest.mark.parametrize("name", names)


def with_trait(trait: str) -> pytest.MarkDecorator:
    """The descriptors that declare that trait."""
    names = [n for n, row in DESCRIPTORS.items() if getattr(row.make(2).traits, trait)]
    return pytest.mark.parametrize("name", names)


def law(dims: int | None = None, weights: str | None = None) -> Callable[[Law], Law]:
    """Tests of situations in 2D and 3D. Only their seeds are drawn: the type checker picks the entries of a tuple that
    it looks at by chance, and hypothesis forbids chance in a strategy."""

    def decorate(test: Law) -> Law:
        @wraps(test)
        def built(*given_: Any, **arguments: Any) -> None:
            data = arguments.pop("data")
            space = data.draw(st.lists(st.integers(2, 5), min_size=dims or 2, max_size=dims or 3))
            kind = weights or data.draw(st.sampled_from(["uniform", "varying"]))
            case = situation(tuple(space), data.draw(st.integers(1, 3)), kind, data.draw(st.integers(0, 2**31)))
            if "data" in signature(test).parameters:
                arguments["data"] = data
            test(*given_, case=case, **arguments)

        others = [p for n, p in signature(test).parameters.items() if n not in ("case", "data")]
        taken = Parameter("data", Parameter.KEYWORD_ONLY)
        built.__signature__ = Signature([*others, taken])  # type: ignore[attr-defined]
        return settings(max_examples=4)(given(data=st.data())(built))

    return decorate


def made(name: str, case: Situation) -> Descriptor:
    affine = case.frame.affine
    return DESCRIPTORS[name].make(case.dims if affine is None else affine.shape[1])


def value(name: str, case: Situation, groups: Groups | None = None) -> Tensor:
    return measure(made(name, case), case.probs, case.frame, groups)


def assert_same(actual: Tensor, expected: Tensor) -> None:
    torch.testing.assert_close(actual, expected, rtol=1e-7, atol=1e-9)


def eye(case: Situation) -> Tensor:
    return torch.eye(case.dims, dtype=torch.float64)


def crop(case: Situation, start: tuple[int, ...], stop: tuple[int, ...], halo: tuple[int, ...] = ()) -> Situation:
    window = (..., *(slice(a, b) for a, b in zip(start, stop, strict=True)))
    return case.regridded(lambda voxels: voxels[window], eye(case), torch.tensor(start).double(), halo)


def chunks(case: Situation, cuts: list[list[int]], halo: int) -> Iterator[Situation]:
    """Parts of a case between cuts of every axis, with neighbours behind each that is not the last."""
    space = case.probs.shape[2:]
    edges = [sorted({0, *cut, n}) for cut, n in zip(cuts, space, strict=True)]
    for part in product(*(pairwise(along) for along in edges)):
        stop = tuple(min(end + halo, n) for (_, end), n in zip(part, space, strict=True))
        widths = tuple(s - end for (_, end), s in zip(part, stop, strict=True))
        yield crop(case, tuple(first for first, _ in part), stop, widths)


# what belongs together


@every
@law()
def test_regions_and_images_may_come_in_any_order(name: str, data: st.DataObject, case: Situation) -> None:
    arity = made(name, case).traits.arity
    pairs = torch.tensor(data.draw(st.permutations(range(4 // arity))))
    regions = (pairs.unsqueeze(1) * arity + torch.arange(arity)).flatten()
    assert_same(value(name, replace(case, probs=case.probs[:, regions])), value(name, case)[:, pairs])
    images = torch.arange(len(case.probs)).flip(0)
    assert_same(value(name, case.images(images)), value(name, case)[images])


@every
@law()
def test_sums_of_parts_add_up_to_the_whole(name: str, data: st.DataObject, case: Situation) -> None:
    """With neighbours of one voxel or more, which only boundaries need."""
    cuts = [data.draw(st.lists(st.integers(1, n - 1), max_size=2)) for n in case.probs.shape[2:]]
    halo = data.draw(st.sampled_from([1, 2] if DESCRIPTORS[name].surface else [0, 1]))
    descriptor = made(name, case)
    sums = [descriptor.sums(part.probs, part.frame) for part in chunks(case, cuts, halo)]
    assert_same(descriptor.value(torch.stack(sums).sum(0)), value(name, case))


@such(surface=False, flat=False)
@law(dims=3)
def test_a_volume_in_slices_is_the_volume(name: str, case: Situation) -> None:
    stack, groups = slices(case)
    assert_same(value(name, stack, groups), value(name, case))
    order = torch.arange(len(stack.probs)).flip(0)
    shuffled = replace(groups, index=groups.index[order])
    assert_same(value(name, stack.images(order), shuffled), value(name, case))


@such(surface=False, by_axes=False)
@law(dims=2)
def test_an_image_is_a_volume_of_one_slice(name: str, case: Situation) -> None:
    assert_same(value(name, one_slice(case.plain())), value(name, case.plain()))


@law(dims=2)
def test_a_third_axis_adds_a_component_or_changes_the_dimension(case: Situation) -> None:
    flat = case.plain()
    deep = one_slice(flat)
    for name, third in {"centroid": 0.0, "centroid in mm": 0.0, "spread": 12**-0.5}.items():
        in_plane, all_axes = value(name, flat), value(name, deep)
        assert_same(all_axes[..., :2], in_plane)
        assert_same(all_axes[..., 2], torch.full_like(all_axes[..., 2], third))
    # the size to the power 1 + order / D
    size = value("size in px", flat)
    for name, order in {"moment 2": 2, "moment 3": 3}.items():
        assert_same(value(name, deep) * size ** (1 + order / 3), value(name, flat) * size ** (1 + order / 2))
    assert (value("elongation", deep) > 0).all()


def one_slice(case: Situation) -> Situation:
    f = case.frame
    assert f.image is not None and f.bands is not None
    deep = replace(f, weight=f.weight.unsqueeze(-1), image=f.image.unsqueeze(-1), bands=f.bands.unsqueeze(-1))
    return Situation(case.probs.unsqueeze(-1), deep)


# where the voxels lie


@every
@law()
def test_flips_and_quarter_turns_change_nothing(name: str, data: st.DataObject, case: Situation) -> None:
    dims, space = case.dims, case.probs.shape[2:]
    order = data.draw(st.permutations(range(dims)))
    flipped = data.draw(st.lists(st.integers(0, dims - 1), unique=True))

    def change(voxels: Tensor) -> Tensor:
        kept = range(voxels.ndim - dims)
        return voxels.flip([axis - dims for axis in flipped]).permute(*kept, *(voxels.ndim - dims + a for a in order))

    sign = torch.tensor([-1.0 if axis in flipped else 1.0 for axis in range(dims)]).double()
    start = torch.tensor([space[axis] - 1.0 if axis in flipped else 0.0 for axis in range(dims)]).double()
    turned = case.regridded(change, torch.diag(sign)[:, order], start)
    assert_same(value(name, turned), value(name, case))


@every
@law()
def test_a_finer_grid_over_the_same_case_changes_nothing(name: str, case: Situation) -> None:
    """But the number of its own voxels, and surfaces: see the tests of their values."""
    row = DESCRIPTORS[name]
    factors = torch.tensor([2, 3, 1][: case.dims])
    start = (1 / factors.double() - 1) / 2  # the first small voxel's centre
    fine = case.regridded(lambda voxels: repeated(voxels, factors), torch.diag(1 / factors.double()), start)
    if row.unit == "grid":
        assert_same(value(name, fine), 6 * value(name, case))
    elif not row.surface:
        assert_same(value(name, fine), value(name, case))


@pytest.mark.parametrize("name", [n for n, r in DESCRIPTORS.items() if r.unit in ("mm", "") and not r.surface])
@law()
def test_a_case_of_smaller_voxels_is_the_same_in_mm(name: str, case: Situation) -> None:
    coarse = case.plain()
    f = coarse.frame
    assert f.spacing_mm is not None and f.image is not None and f.bands is not None
    if name == "ratio":  # to less than a voxel, which smaller voxels make more
        assume(bool((coarse.probs[:, 1::2].flatten(2).sum(2) >= 1).all()))
    factors = torch.tensor([2.0, 3.0, 1.0]).double()
    dims = factors[: case.dims]
    frame = replace(f, spacing_mm=f.spacing_mm / factors, image=repeated(f.image, dims), bands=repeated(f.bands, dims))
    fine = value(name, Situation(repeated(coarse.probs, dims), frame))
    if DESCRIPTORS[name].moves:
        # counted from the centre of the first voxel, which is nearer to the border now
        shift = ((1 - 1 / factors) / 2 * f.spacing_mm).unsqueeze(1)
        fine = fine - (shift[..., 1] if "axis 1" in name else shift[..., : case.dims])
    assert_same(fine, value(name, coarse))


def repeated(voxels: Tensor, factors: Tensor) -> Tensor:
    for axis, factor in enumerate(factors.int().tolist(), -len(factors)):
        voxels = voxels.repeat_interleave(factor, axis)
    return voxels


@every
@law()
def test_a_translation_moves_the_centroid_and_nothing_else(name: str, case: Situation, data: st.DataObject) -> None:
    f = case.frame
    assert f.affine is not None and f.spacing_mm is not None
    step = torch.tensor([data.draw(st.integers(-30, 30)), 2.0, -1.0][: case.dims]).double()
    offset = f.affine[:, :, -1:] + step.unsqueeze(1)
    there = replace(case, frame=replace(f, affine=torch.cat([f.affine[:, :, :-1], offset], 2)))
    before, after = value(name, case), value(name, there)
    if not DESCRIPTORS[name].moves:
        assert_same(after, before)
    elif name == "centroid":
        assert_same(after, before + step)
    elif name == "centroid in mm":
        assert_same(after, before + (step * f.spacing_mm[:, : case.dims]).unsqueeze(1))


@every
@law(weights="varying")
def test_padding_never_matters(name: str, data: st.DataObject, case: Situation) -> None:
    """Whatever is predicted there, and whether it is there at all."""
    if DESCRIPTORS[name].unit == "grid":
        return
    f, last = case.frame, case.probs.shape[-1] - 1
    assert f.image is not None and f.bands is not None
    probs, image, bands = case.probs.clone(), f.image.clone(), f.bands.clone()
    probs[..., last], image[..., last], bands[..., last] = 0.9, -5000, 1
    filled = Situation(probs, replace(f, image=image, bands=bands))
    assert_same(value(name, filled), value(name, case))
    width = data.draw(st.integers(1, 3))

    def pad(voxels: Tensor) -> Tensor:
        return torch.nn.functional.pad(voxels, (width, width + 1) * case.dims)

    padded = case.regridded(pad, eye(case), torch.full((case.dims,), -width).double())
    if data.draw(st.booleans()):
        outside = padded.frame.weight.unsqueeze(1) == 0
        padded = replace(padded, probs=padded.probs.where(~outside, 0.7))
    assert_same(value(name, padded), value(name, case))


# the oracle: every voxel as the points of a rule that is exact for polynomials of degree 5


def points(case: Situation, unit: str) -> tuple[Tensor, Tensor]:
    """Positions ``[B, axes, points]`` in the case, and how much of each region lies at each ``[B, R, points]``."""
    f, space = case.frame, case.probs.shape[2:]
    assert f.affine is not None and f.spacing_mm is not None
    axes = f.affine.shape[1]
    nodes, shares = (
        torch.tensor([-(0.15**0.5), 0, 0.15**0.5], dtype=torch.float64),
        torch.tensor([5.0, 8.0, 5.0]).double() / 18,
    )
    within = torch.cartesian_prod(*[nodes] * axes).T
    share = torch.cartesian_prod(*[shares] * axes).prod(1)
    centres = f.coordinates(space).flatten(2)
    position = (centres.unsqueeze(3) + (f.affine[:, :, :-1] @ within).unsqueeze(2)).flatten(2)
    mass = ((case.probs * f.weight.unsqueeze(1)).flatten(2).unsqueeze(3) * share).flatten(2)
    if unit == "mm":
        spacing = f.spacing_mm[:, :axes]
        return position * spacing.unsqueeze(2), mass * spacing.prod(1).reshape(-1, 1, 1)
    return position, mass


@pytest.mark.parametrize("unit", ["px", "mm"])
@pytest.mark.parametrize("sliced", [False, True])
@law()
def test_moments_agree_with_sums_over_points(unit: str, sliced: bool, case: Situation) -> None:
    if sliced and case.dims == 3:
        stack, _ = slices(case)
        case = stack.images(stack.frame.weight.flatten(1).sum(1).nonzero().flatten())  # the last may be padding
    assert case.frame.affine is not None
    x, mass = points(case, unit)
    axes, suffix = x.shape[1], " in mm" if unit == "mm" else ""
    size = mass.sum(2)
    centre = torch.einsum("bdp,brp->brd", x, mass) / size.unsqueeze(2)
    d = x.unsqueeze(1) - centre.unsqueeze(3)
    assert_same(value(f"centroid{suffix}", case), centre)
    apart = (centre[:, 0::2] - centre[:, 1::2]).norm(dim=2)
    assert_same(value(f"distance{suffix}", case), apart)
    sigma = torch.einsum("brip,brjp,brp->brij", d, d, mass) / size[..., None, None]
    assert_same(value(f"spread{suffix}", case), sigma.diagonal(dim1=2, dim2=3).sqrt())
    eigenvalues = torch.linalg.eigvalsh(sigma)
    assert_same(value(f"elongation{suffix}", case), 1 - eigenvalues.prod(2) / eigenvalues.mean(2) ** axes)
    rows = [(2, "moment 2", "px"), (3, "moment 3", "px"), (4, "moment 4", "px")]
    rows += [(3, "moment 3 in mm", "mm"), (4, "moment 4 in mm", "mm")]
    for order, name, of in rows:
        if of == unit:
            p = getattr(made(name, case), "powers")  # noqa: B009
            product_of_powers = torch.stack([d[:, :, axis] ** p[axis] for axis in range(axes)]).prod(0)
            eta = (product_of_powers * mass).sum(2) / size ** (1 + order / axes)
            torch.testing.assert_close(value(name, case), eta, rtol=1e-6, atol=1e-8)


@every
@law()
def test_about_what_squares_are_summed_changes_no_value(name: str, case: Situation) -> None:
    descriptor = made(name, case)
    if descriptor.traits.about is not None:
        about = measure(descriptor.traits.about, case.probs, case.frame)
        centre = about.reshape(*case.probs.shape[:2], -1) + 3
        moved = descriptor.value(descriptor.sums(case.probs, replace(case.frame, centre=centre)))
        torch.testing.assert_close(moved, value(name, case), rtol=1e-6, atol=1e-8)


@law()
def test_a_centroid_and_a_mean_intensity_are_means_of_potentials(case: Situation) -> None:
    frame = case.frame
    for axis in range(case.dims):
        coordinate = Fractional(lambda f, space, axis=axis: f.coordinates(space, "mm")[:, axis])
        assert_same(coordinate(case.probs, frame), value("centroid in mm", case)[..., axis])

    def image(f: Frame, space: torch.Size) -> Tensor:
        assert f.image is not None
        return f.image[:, 0]

    assert_same(Fractional(image)(case.probs, frame), value("mean intensity", case))


# what a descriptor says of itself


@every
@law()
def test_it_reads_what_it_needs_and_nothing_else(name: str, case: Situation) -> None:
    needs, frame = DESCRIPTORS[name].needs, case.frame
    parts = {"spacing_mm": None, "image": None, "bands": None}
    only = replace(frame, **{part: None for part in parts if part not in needs})
    assert torch.equal(value(name, replace(case, frame=only)), value(name, case))
    for part in needs:
        with pytest.raises(ValueError, match=f"needs the frame's {part}"):
            value(name, replace(case, frame=replace(frame, **{part: None})))


@with_trait("domain")
@law()
def test_values_lie_in_their_domain(name: str, case: Situation) -> None:
    found, domain = value(name, case), made(name, case).traits.domain
    # to rounding: an elongation and a variance are differences
    assert domain == "any" or (found >= -1e-9).all()
    assert domain != "share" or (found <= 1 + 1e-9).all()


@with_trait("grows")
@law()
def test_a_part_never_has_more_than_the_whole(name: str, data: st.DataObject, case: Situation) -> None:
    start = tuple(data.draw(st.integers(0, n - 1)) for n in case.probs.shape[2:])
    stop = tuple(data.draw(st.integers(a + 1, n)) for a, n in zip(start, case.probs.shape[2:], strict=True))
    assert (value(name, crop(case, start, stop)) <= value(name, case) + 1e-9).all()


@with_trait("counts")
@law(weights="uniform")
def test_a_voxel_more_adds_what_a_voxel_is_said_to_add(name: str, data: st.DataObject, case: Situation) -> None:
    descriptor = made(name, case)
    per_voxel = descriptor.per_voxel(case.frame, case.probs[0, 0].numel())  # type: ignore[attr-defined]
    voxel = tuple(data.draw(st.integers(0, n - 1)) for n in case.probs.shape[2:])
    more = case.probs.clone()
    more[(..., *voxel)] += 1
    added = value(name, replace(case, probs=more)) - value(name, case)
    each = per_voxel.reshape(-1, *([1] * (added.ndim - 1))).expand_as(added)
    if "bands" in DESCRIPTORS[name].needs:
        # or nothing, in every other band
        assert ((added - each).abs().minimum(added.abs()) < 1e-9 * each).all()
    else:
        assert_same(added, each)


def test_those_that_share_their_sums_have_the_same_sums() -> None:
    case = situation((4, 3))
    held: dict[object, Tensor] = {}
    shared = 0
    for name in DESCRIPTORS:
        descriptor = made(name, case)
        if descriptor.traits.shared is not None:
            sums = descriptor.sums(case.probs, case.frame)
            if descriptor.traits.shared in held:
                shared += 1
                assert torch.equal(sums, held[descriptor.traits.shared]), name
            held[descriptor.traits.shared] = sums
    assert shared >= 8


def test_a_shared_memo_changes_no_value() -> None:
    case = situation((3, 4))
    groups = Groups(torch.tensor([0, 0]), torch.tensor([2]))
    memo: dict[object, Tensor] = {}
    for scope, sharpness, name in product(("slice", "volume"), (1.0, 2.0), DESCRIPTORS):
        constraint = Constraint(name, made(name, case), SINGLES, scope, sharpness=sharpness)  # type: ignore[arg-type]
        with_memo = constraint.measure(case.probs, case.frame, groups, memo)  # type: ignore[arg-type]
        assert torch.equal(with_memo, constraint.measure(case.probs, case.frame, groups)), name
        alone = constraint.descriptor.value(groups.add(constraint.sums(case.probs, case.frame)))
        torch.testing.assert_close(alone, with_memo, rtol=1e-6, atol=1e-8)


# nothing there


@every
@pytest.mark.parametrize("dims", [2, 3])
@pytest.mark.parametrize("empty", ["region", "everything", "padding"])
def test_of_nothing_there_is_a_finite_value_no_gradient_and_no_cost(name: str, dims: int, empty: str) -> None:
    case = situation((3, 4, 3)[:dims])
    gone = torch.zeros(1, 4, *[1] * dims, dtype=torch.bool)
    gone[:, 1:3] = True
    probs = case.probs.masked_fill(gone if empty == "region" else gone | (empty == "everything"), 0).requires_grad_()
    frame = replace(case.frame, weight=case.frame.weight * (empty != "padding"))
    found = measure(made(name, case), probs, frame)
    assert found.isfinite().all()
    (slope,) = torch.autograd.grad(found.sum(), probs)
    assert slope.isfinite().all()
    # bands of a box are there or not whatever is predicted
    if not made(name, case).traits.partial or name == "box tightness":
        return
    descriptor = made(name, case)
    defined = descriptor.defined(descriptor.sums(probs, frame))  # type: ignore[attr-defined]
    arity = descriptor.traits.arity
    there = torch.tensor([True, False, False, True]) & (empty == "region")
    # a ratio over something that is there is one, though it be 0
    there = there.reshape(-1, arity)[:, -1] if name == "ratio" else there.reshape(-1, arity).all(1)
    # a haze on so few voxels has next to no boundary, and then no compactness either
    expected = there.expand(2, -1) & (defined.reshape(2, -1) | (not name.startswith("compactness")))
    assert torch.equal(defined.reshape(2, -1), expected)
    gone_values = (~expected).reshape(2, -1, *([1] * (found.ndim - 2))).expand_as(found)
    assert (found[gone_values] == 0).all()
    constraint = Constraint(name, descriptor, SINGLES)
    far = Bounds.at_least(torch.full_like(found.detach(), 1e4))
    term = constraint(probs, far, frame)
    assert (term.cost[gone_values] == 0).all()
    assert torch.equal(term.bounds.known, ~gone_values)
    (slope,) = torch.autograd.grad(term.cost[gone_values].sum() + 0 * probs.sum(), probs)
    assert (slope == 0).all()


# gradients


@every
@pytest.mark.parametrize("penalty", PENALTIES)
def test_gradients_of_costs_match_finite_differences(name: str, penalty: str) -> None:
    """Two images of one volume and one of another, violated below and above."""
    case = situation((3, 3), batch=3, seed=1)
    groups = Groups(torch.tensor([0, 1, 0]), torch.tensor([2, 1]))
    descriptor = made(name, case)
    if penalty not in priced(descriptor.traits.domain):
        return
    counts = descriptor.traits.counts
    function = PENALTIES[penalty]
    kinds = [k for k in NEEDS[function].scales if counts or k not in ("image", "voxels")]
    scale = 0.7 if kinds[0] in ("number", "relative") else None
    constraint = Constraint(name, descriptor, SINGLES, "volume", function, scale)
    logits = case.probs.log()
    found = constraint.measure(case.probs, case.frame, groups)
    off = 0.3 * found.abs() + 0.01
    above = torch.arange(found.numel()).reshape(found.shape) % 2 == 0
    bounds = Bounds((found + off).where(~above, -torch.inf), (found - off).where(above, torch.inf))

    def cost(x: Tensor) -> Tensor:
        return constraint(x.softmax(1), bounds, case.frame, groups).mean

    assert cost(logits) != 0
    assert torch.autograd.gradcheck(cost, logits.requires_grad_(), fast_mode=True)


# other ways to call it


@every
@pytest.mark.parametrize("dims", [2, 3])
def test_of_a_batch_of_nothing_there_are_no_values(name: str, dims: int) -> None:
    descriptor = DESCRIPTORS[name].make(dims)
    case, one = (situation((4, 5, 3)[:dims], batch) for batch in (0, 1))
    found, value = (measure(descriptor, s.probs, s.frame) for s in (case, one))
    assert found.shape == (0, *value.shape[1:])


@every
@pytest.mark.parametrize("dims", [2, 3])
def test_vmap_equals_a_loop(name: str, dims: int) -> None:
    case = situation((3, 4, 3)[:dims])
    groups = Groups(torch.tensor([0, 0]), torch.tensor([2]))
    stack = torch.stack([case.probs, case.probs.flip(2), case.probs.square()])
    descriptor = made(name, case)

    def measured(probs: Tensor) -> Tensor:
        return measure(descriptor, probs, case.frame, groups)

    assert_same(torch.func.vmap(measured)(stack), torch.stack([measured(probs) for probs in stack]))


def test_all_compile_into_one_graph() -> None:
    run_plain(
        """
        import warnings
        warnings.filterwarnings("ignore", category=DeprecationWarning)
        import torch
        from boundseg.constraints import Bounds, Constraint, Groups
        from tests.constraints.cases import DESCRIPTORS, situation

        torch.set_num_threads(1)
        case = situation((3, 4))
        groups = Groups(torch.tensor([0, 0]), torch.tensor([2]))
        regions = ((0,), (1,), (2,), (3,))
        # in mm, numbers differ and the code does not; sums are shared, so that as little as can be is traced
        rows = {name: row for name, row in DESCRIPTORS.items() if "in mm" not in name}
        constraints = [Constraint(name, row.make(2), regions) for name, row in rows.items()]
        values = [c.measure(case.probs, case.frame, groups) for c in constraints]
        bounds = [Bounds(v + 1, v + 2) for v in values]

        def costs(probs):
            memo = {}
            return [c(probs, b, case.frame, groups, memo=memo).cost for c, b in zip(constraints, bounds)]

        eager, graph = costs(case.probs), torch.compile(costs, fullgraph=True, backend="eager")(case.probs)
        for constraint, one, other in zip(constraints, eager, graph):
            torch.testing.assert_close(one, other, msg=constraint.name)
        """
    )
