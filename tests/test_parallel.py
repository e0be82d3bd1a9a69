"""Data parallel training on two processes: bounds per slice need nothing more than DDP's mean of gradients."""

from __future__ import annotations

from tests.plain import run_plain


def test_two_ranks_step_as_one() -> None:
    """With one known bound per image on both ranks, the mean of their gradients is the gradient of the whole batch."""
    run_plain(
        """
        import torch
        from torch import nn
        from torch.nn.parallel import DistributedDataParallel

        from boundseg.constraints import Bounds, Centroid, Constraint, Frame, Intensity, Size, Spread
        from boundseg.losses import Objective

        from tests.ranks import on_two_ranks


        def case():
            torch.manual_seed(0)
            images = torch.randn(4, 1, 8, 8)
            labels = torch.full((4, 8, 8), 255)
            labels[:, 3, 3] = 1
            return images, labels


        def loss_of(network, part):
            images, labels = (x[part] for x in case())
            kinds = {"size": Size(), "centre": Centroid(), "spread": Spread(), "light": Intensity()}
            constraints = [Constraint(name, kind, ((1,),)) for name, kind in kinds.items()]
            count = len(images)
            both = {"centre": [2], "spread": [2]}  # axes
            bounds = {name: Bounds.at_most(torch.zeros(count, 1, *both.get(name, []))) for name in kinds}
            frame = Frame(torch.ones(count, 1, 1), image=images)
            return Objective(255, constraints)(network(images), labels, bounds, frame).total


        def network():
            torch.manual_seed(1)
            return nn.Sequential(nn.Conv2d(1, 4, 3, padding=1), nn.ReLU(), nn.Conv2d(4, 2, 1))


        def rank(number):
            model = DistributedDataParallel(network())
            loss_of(model, slice(2 * number, 2 * number + 2)).backward()
            alone = network()
            loss_of(alone, slice(0, 4)).backward()
            for ours, whole in zip(model.module.parameters(), alone.parameters(), strict=True):
                torch.testing.assert_close(ours.grad, whole.grad)


        on_two_ranks(rank)
        """
    )


def test_multipliers_of_two_ranks_come_together() -> None:
    """Slices are raised by the rank that saw them, a volume that lies on both ranks by both alike."""
    run_plain(
        """
        import torch
        import torch.distributed as dist

        from boundseg.constraints import Bounds, Multipliers

        from tests.ranks import on_two_ranks

        SLICES = {0: [0, 3], 1: [1, 4]}  # of five


        def sum_up(tensor):
            total = tensor.clone()
            dist.all_reduce(total)
            return total


        def epoch(multipliers, ranks):
            for rank in ranks:
                slices = torch.tensor(SLICES[rank])
                values = slices[:, None].float()
                multipliers.ascend("slices", values, Bounds.at_most(torch.zeros(2, 1)), slices, rate=1.0)
            volume = torch.tensor([2])
            multipliers.ascend("volumes", torch.ones(1, 1), Bounds.at_most(torch.zeros(1, 1)), volume, rate=1.0)


        def rank(number):
            shapes = {"slices": (5, 1), "volumes": (3, 1)}
            ours, alone = Multipliers(shapes), Multipliers(shapes)
            for _ in range(3):
                epoch(ours, [number])
                ours.merge(sum_up)
                epoch(alone, [0, 1])
            for name in shapes:
                assert torch.equal(ours.of(name), alone.of(name)), (name, ours.of(name), alone.of(name))
            assert ours.of("slices")[1, :, 0].tolist() == [0, 3, 0, 9, 12]


        on_two_ranks(rank)
        """
    )
