"""The module descends the objective; the callback logs what each epoch found."""

from __future__ import annotations

from functools import partial
from typing import Any

import lightning
import pytest
import torch
from torch import distributed
from torch.utils.data import DataLoader, DistributedSampler

from boundseg.constraints import Constraint, Multipliers, Size
from boundseg.errors import InputError
from boundseg.gated_crf import GatedCrf
from boundseg.integrations import batch
from boundseg.integrations.lightning import BoundedModule, LogConstraints
from boundseg.losses import Lagrangian, Objective

AREA = Constraint("area", Size("px"), ((1,),), weight=1e-2)
# workers are not worth their start here, and an accelerator is not what is tested
pytestmark = pytest.mark.filterwarnings(
    "ignore:.*num_workers.*", "ignore:.*log_every_n_steps.*", "ignore:GPU available", "ignore:.*LeafSpec:FutureWarning"
)


def images() -> list[dict[str, Any]]:
    torch.manual_seed(0)
    found = []
    for i in range(6):
        label = torch.full((16, 16), 255)
        label[4 + i, 5] = 1
        # of every other image the size is known
        pair = [20.0, 40.0] if i % 2 else [-torch.inf, torch.inf]
        found.append({"image": torch.randn(1, 16, 16), "label": label, "bounds": {"area": torch.tensor([pair])}})
    return found


def quiet(**options: Any) -> lightning.Trainer:
    return lightning.Trainer(
        accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False,
        enable_model_summary=False, **options,
    )  # fmt: skip


def trained(epochs: int, held_out: Any = None, **options: Any) -> tuple[BoundedModule, lightning.Trainer]:
    lightning.seed_everything(0, verbose=False)
    network = torch.nn.Conv2d(1, 2, 3, padding=1)
    module = BoundedModule(network, Objective(constraints=[AREA]), partial(torch.optim.SGD, lr=0.1))
    trainer = quiet(max_epochs=epochs, callbacks=[LogConstraints()], **options)
    judged = [DataLoader(some, batch_size=1) for some in held_out or [images()[:2]]]
    trainer.fit(module, DataLoader(images(), batch_size=3), judged)
    return module, trainer


def test_a_step_descends_the_objective_of_its_batch() -> None:
    module, _ = trained(1, max_steps=1)
    lightning.seed_everything(0, verbose=False)
    network = torch.nn.Conv2d(1, 2, 3, padding=1)
    first = next(iter(DataLoader(images(), batch_size=3)))
    batch.loss(Objective(constraints=[AREA]), network(first["image"]), first).total.backward()
    for ours, by_hand in zip(module.network.parameters(), network.parameters(), strict=True):
        assert by_hand.grad is not None
        torch.testing.assert_close(ours, by_hand - 0.1 * by_hand.grad)


def test_an_epoch_logs_values_bounds_and_what_is_kept_of_both_sides() -> None:
    _, trainer = trained(2)
    logged = {name: float(value) for name, value in trainer.callback_metrics.items()}
    assert logged["area/lower"] == logged["val/area/lower"] == 20
    assert logged["area/upper"] == 40
    assert 0 < logged["area/value"] < 256
    assert 0 <= logged["area/satisfied"] <= 1
    assert logged["loss"] > 0
    assert logged["val_loss"] > 0
    # of the held-out images one knows nothing: the figures are the other's
    assert 0 < logged["val/area/value"] < 256


def test_the_bound_moves_the_size_into_its_bounds() -> None:
    _, before = trained(1)
    _, after = trained(200)
    far, near = (float(trainer.callback_metrics["area/value"]) for trainer in (before, after))
    assert far > 100
    assert 18 < near < 0.6 * far, "one convolution of noise keeps what it can"


def test_processes_log_what_any_of_them_knows() -> None:
    """Of two held-out images, one process has the one of which nothing is known."""
    _, trainer = trained(1, devices=2, strategy="ddp_spawn", max_steps=1)
    logged = {name: float(value) for name, value in trainer.callback_metrics.items()}
    assert (logged["val/area/lower"], logged["val/area/upper"]) == (20, 40)
    _, alone = trained(1)
    assert logged["val/area/cost"] > 0
    assert set(logged) == set(alone.callback_metrics)


def test_multipliers_rise_after_each_step_and_are_saved_with_the_module() -> None:
    lightning.seed_everything(0, verbose=False)
    method = Lagrangian(Multipliers({"area": (6, 1)}), rate=0.5)
    network = torch.nn.Conv2d(1, 2, 3, padding=1)
    module = BoundedModule(network, Objective(constraints=[AREA], method=method), partial(torch.optim.SGD, lr=0.1))
    rows = [{**one, "rows": {"slice": i}} for i, one in enumerate(images())]
    trainer = quiet(max_epochs=2)
    trainer.fit(module, DataLoader(rows, batch_size=3), DataLoader(images()[:2], batch_size=1))
    raised = method.multipliers.of("area")
    assert (raised[1, 1::2] > 0).all(), "much too large at first"
    assert (raised[:, ::2] == 0).all(), "nothing is known"
    torch.testing.assert_close(module.state_dict()["multipliers.multipliers_area"], raised)
    predicted = trainer.predict(module, DataLoader(images()[:2], batch_size=2))
    assert predicted is not None
    assert predicted[0].shape == (2, 2, 16, 16)


def test_several_held_out_loaders_have_figures_of_their_own() -> None:
    module, trainer = trained(1, held_out=[images()[1:2], images()[3:4]])
    logged = {name: float(value) for name, value in trainer.callback_metrics.items()}
    value = [logged[f"val/area/value/loader_{i}"] for i in (0, 1)]
    assert value[0] != value[1]
    assert {"val_loss/dataloader_idx_0", "val_loss/dataloader_idx_1"} < set(logged)
    assert "val/area/value" not in logged
    (first, second) = trainer.test(module, [DataLoader(images()[:2]), DataLoader(images()[2:])], verbose=False)
    assert first["test_loss/dataloader_idx_0"] > 0
    assert second["test_loss/dataloader_idx_1"] > 0


def test_bounds_that_half_precision_would_change_are_refused() -> None:
    with pytest.raises(InputError, match="bounds came in half precision"):
        trained(1, precision="bf16-true")


def test_labels_are_looked_at_before_they_are_moved() -> None:
    network = torch.nn.Conv2d(1, 2, 3, padding=1)
    module = BoundedModule(network, Objective(), partial(torch.optim.SGD, lr=0.1))
    with pytest.raises(InputError, match="labels lie between classes"):
        module.on_before_batch_transfer({"label": torch.full((1, 4, 4), 0.5)}, 0)
    whole = {"label": torch.ones(1, 4, 4)}
    assert module.on_before_batch_transfer(whole, 0) is whole


def taught(callbacks: Any = (), **options: Any) -> tuple[BoundedModule, lightning.Trainer]:
    """A training whose network stays as it is, so that what the multipliers become does not hang on the order."""
    lightning.seed_everything(0, verbose=False)
    method = Lagrangian(Multipliers({"area": (6, 1)}), rate=0.5)
    network = torch.nn.Conv2d(1, 2, 3, padding=1)
    module = BoundedModule(network, Objective(constraints=[AREA], method=method), partial(torch.optim.SGD, lr=0.0))
    rows = [{**one, "rows": {"slice": i}} for i, one in enumerate(images())]
    trainer = quiet(max_epochs=3, callbacks=list(callbacks), **options)
    trainer.fit(module, DataLoader(rows, batch_size=1), DataLoader(images()[:2], batch_size=1))
    return module, trainer


class OfAllProcesses(lightning.Callback):
    """Logs by how much the multipliers of a validation, which writes checkpoints, differ between processes."""

    def on_validation_epoch_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        own = pl_module.get_submodule("multipliers").of("area")  # type: ignore[operator]
        ends = [own.clone(), own.clone()]
        distributed.all_reduce(ends[0], distributed.ReduceOp.MAX)
        distributed.all_reduce(ends[1], distributed.ReduceOp.MIN)
        pl_module.log("apart", (ends[0] - ends[1]).max(), sync_dist=True)


def test_multipliers_of_two_processes_are_those_of_one() -> None:
    """Each process raises those of its own images, and all of them are known to both."""
    alone, _ = taught()
    shared, trainer = taught(callbacks=[OfAllProcesses()], devices=2, strategy="ddp_spawn")
    assert alone.multipliers is not None
    assert shared.multipliers is not None
    assert (alone.multipliers.of("area")[1, 1::2] > 0).all()
    torch.testing.assert_close(shared.multipliers.of("area"), alone.multipliers.of("area"))
    assert float(trainer.callback_metrics["apart"]) == 0


class Watch(lightning.Callback):
    """How many multipliers are raised at the end of each batch, where a callback would write a checkpoint."""

    def __init__(self) -> None:
        self.seen: list[int] = []

    def on_train_batch_end(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        assert isinstance(pl_module, BoundedModule)
        assert pl_module.multipliers is not None
        self.seen.append(int((pl_module.multipliers.of("area")[1] > 0).sum()))


def test_multipliers_wait_for_the_optimiser_where_gradients_are_accumulated() -> None:
    watch = Watch()
    taught(callbacks=[watch], accumulate_grad_batches=4)
    # of every other image nothing is known; the last two batches make a step by themselves
    assert watch.seen[:6] == [0, 0, 0, 2, 2, 3]


def weights_of(known: list[dict[str, Any]], devices: int, **options: Any) -> torch.Tensor:
    """After an epoch in steps of two images."""
    lightning.seed_everything(0, verbose=False)
    network = torch.nn.Conv2d(1, 2, 3, padding=1)
    objective = Objective(constraints=[AREA], gated_crf=GatedCrf(0.1, radius=1))
    module = BoundedModule(network, objective, partial(torch.optim.SGD, lr=0.01))
    trainer = quiet(max_epochs=1, devices=devices, **options)
    trainer.fit(module, DataLoader(known, batch_size=2 // devices), DataLoader(images()[:2], batch_size=1))
    return torch.cat([parameter.detach().flatten() for parameter in module.parameters()])


def test_two_processes_train_as_one_on_the_batches_of_both() -> None:
    """Of the two images of each step one has bounds; of one step, one alone has a label."""
    known = images()
    known[0]["label"].fill_(255)
    # as Lightning deals them out, shuffled
    hands = [DistributedSampler(range(6), 2, number, shuffle=True, seed=0) for number in (0, 1)]  # type: ignore[arg-type]
    in_steps = [known[i] for pair in zip(*hands, strict=True) for i in pair]
    alone = weights_of(in_steps, devices=1)
    torch.testing.assert_close(weights_of(known, devices=2, strategy="ddp_spawn"), alone, rtol=1e-4, atol=1e-6)
