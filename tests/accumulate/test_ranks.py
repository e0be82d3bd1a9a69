"""A step that is divided over processes is the step of one."""

from __future__ import annotations

from tests.plain import run_plain


def test_two_ranks_train_as_one() -> None:
    """Volumes that lie on one rank, on both, or (an odd number of cases) on the other one only; 20 steps."""
    run_plain(
        """
        from dataclasses import replace

        import torch
        import torch.distributed as dist
        from torch.nn.parallel import DistributedDataParallel

        from boundseg.accumulate import Ranks, accumulate, nothing_of
        from boundseg.constraints import Multipliers
        from boundseg.gated_crf import GatedCrf
        from boundseg.losses import Lagrangian, Objective

        from tests.accumulate.cases import IGNORE, constraints, cut, difference, gradient, network, some, step
        from tests.ranks import add_up, on_two_ranks

        ASKED = constraints()
        NAMES = [constraint.name for constraint in ASKED]
        SHAPES = {"slice size": (15, 1), "slice centre": (15, 1), "size": (3, 2), "centre": (3, 2, 3)}
        SHAPES |= {"spread": (3, 2, 3), "light": (3, 2), "contrast": (3, 2)}
        ALL = step([4, 5, 6])
        # of the volume that lies on both, rank 0 is told nothing
        known = {name: torch.tensor([True, False, True]).reshape(-1, *[1] * (len(SHAPES[name]) - 1)) for name in SHAPES}
        told = {name: b if "slice" in name else b.only(known[name]) for name, b in ALL.bounds.items()}
        UNTOLD = replace(ALL, bounds=told)
        NOBODY = torch.tensor([], dtype=torch.long)
        # by rank, the images of a step; volumes are 0 to 3, 4 to 8, 9 to 14
        STEPS = [
            (torch.arange(0, 6), torch.arange(6, 9)),  # the second volume lies on both
            (NOBODY, torch.arange(9, 15)),  # rank 0 has nothing
            (torch.arange(4, 9), torch.arange(0, 4)),  # each has its own
        ]


        def chunks_of(index, size=2, silent=False):
            if not len(index):
                empty = nothing_of(some(ALL, torch.arange(2), NAMES))
                return [lambda: empty]
            untold = silent and 4 in index and 0 in index
            return cut(some(UNTOLD if untold else ALL, index, NAMES), size, NAMES)


        def mean_over_ranks(figure):
            return add_up(figure) / 2


        def rank(number):
            for multipliers in (False, True):
                train(number, multipliers)


        def train(number, multipliers):
            model = DistributedDataParallel(network("group", dropout=0.0))
            alone = network("group", dropout=0.0)
            ranks = Ranks(add_up, 2, volumes=3 if multipliers else [2, 0, 1], hold=model.no_sync)
            kinds = [Multipliers(SHAPES) for _ in range(2)]
            methods = [{"method": Lagrangian(kind, 0.5, 2.0)} if multipliers else {} for kind in kinds]
            crf = None if multipliers else GatedCrf(0.1, radius=1)
            ours, theirs = (Objective(IGNORE, ASKED, gated_crf=crf, **method) for method in methods)
            kind = torch.optim.Adam if multipliers else torch.optim.SGD
            optimizers = [kind(m.parameters(), lr=1e-3) for m in (model, alone)]
            for n in range(20 if not multipliers else 6):
                images = STEPS[n % len(STEPS)]
                for optimizer in optimizers:
                    optimizer.zero_grad()
                mine = accumulate(model, ours, chunks_of(images[number], 1 + number, silent=number == 0), ranks=ranks)
                whole = accumulate(alone, theirs, chunks_of(torch.cat(images), 99))
                assert difference(gradient(model), gradient(alone)) < 1e-5 or n, n
                for optimizer in optimizers:
                    optimizer.step()
                for name, part in whole.loss.parts.items():
                    torch.testing.assert_close(mean_over_ranks(mine.loss.parts[name]), part, rtol=1e-4, atol=1e-5)
                torch.testing.assert_close(mean_over_ranks(mine.loss.total), whole.loss.total, rtol=1e-4, atol=1e-5)
                for name, term in whole.loss.terms.items():
                    total, count = (add_up(x) for x in mine.loss.terms[name].bounds.total(mine.loss.terms[name].cost))
                    torch.testing.assert_close((total / count).double(), term.mean.double(), rtol=1e-4, atol=1e-5)
                if multipliers:
                    methods[0]["method"].ascend(ASKED, mine.loss.terms, mine.rows)
                    methods[1]["method"].ascend(ASKED, whole.loss.terms, whole.rows)
                    kinds[0].merge(add_up)
            weights = [torch.cat([p.detach().flatten() for p in m.parameters()]) for m in (model, alone)]
            assert difference(*weights) < 1e-4, difference(*weights)
            if multipliers:
                for name in SHAPES:
                    torch.testing.assert_close(kinds[0].of(name), kinds[1].of(name), rtol=1e-4, atol=1e-4)


        on_two_ranks(rank)
        """
    )
