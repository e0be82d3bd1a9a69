"""Settings of a config in words, a line each."""

from __future__ import annotations

from boundseg.asked.constraints import BoundsConfig, BoxConfig, SizeConfig
from boundseg.training.config import Config


def network(config: Config) -> str:
    """The network and its options."""
    spare = {"spare_outputs": config.network.spare_outputs} if config.network.spare_outputs else {}
    options = ", ".join(f"{key} {value}" for key, value in (spare | config.network.options).items())
    return config.network.name + (f" ({options})" if options else "")


def grid(config: Config) -> str:
    """The prepared grid."""
    data = config.data
    sides = " x ".join("the file's" if side is None else f"{side:g}" for side in data.spacing_mm or ())
    spacing = f" of {sides} mm" if sides else ""
    complete = ", ".join(f"{name} but for {share:.0%}" for name, share in data.complete.items())
    whole = f", declared to hold {complete}" if complete else ""
    size = " x ".join(map(str, data.size))
    fit = (
        f"patches, {data.patches_per_case} a case, {data.foreground:.0%} about labelled voxels"
        if data.batch == "patches"
        else f"fit: {data.fit}"
    )
    return f"{size} px{spacing}, {fit}{whole}; intensity: {data.intensity}"


def method(config: Config) -> str:
    """How constraints teach."""
    content = config.method.model_dump()
    options = ", ".join(f"{key} {value}" for key, value in content.items() if key != "name" and value is not None)
    return config.method.name + (f" ({options})" if options else "")


def training(config: Config) -> str:
    """Batches, optimiser, schedule, augmentation, precision."""
    training, parts = config.training, []
    parts.append(f"batches of {training.batch_size} {config.data.batch}")
    parts.append(f"{training.optimizer.name}, lr {training.optimizer.lr:g}")
    parts.append(f"{training.schedule.name} schedule")
    parts += [f"stop after {training.stop_after}"] if training.stop_after else []
    parts += [f"warm-up {training.warm_up}"] if training.warm_up else []
    parts.append(f"augmented by {' and '.join(map(str, training.augment))}" if training.augment else "not augmented")
    parts.append(training.precision)
    return "; ".join(parts)


def selection(config: Config) -> str:
    """What chooses the best epoch."""
    asked = config.selection
    seldom = f", after every {asked.every} epochs" if asked.every > 1 else ""
    return f"by {asked.by}, on {asked.cases}{seldom}"


def constraint(asked: BoundsConfig | BoxConfig) -> str:
    """What is asked of which class, where its bounds come from, and what a violation costs."""
    options = {"scale": asked.scale, "floor": asked.floor, "softening": asked.softening, "tolerance": asked.tolerance}
    told = [f"{k} {v:g}" if isinstance(v, float) else f"{k} {v}" for k, v in options.items() if v is not None]
    told += [f"sharpness {asked.sharpness:g}"] if asked.sharpness != 1 else []
    priced = f"{asked.penalty} ({', '.join(told)}), weight {asked.weight:g}"
    return f"{asked.quantity} {asked.class_} {_known(asked)}, {priced}"


def _known(asked: BoundsConfig | BoxConfig) -> str:
    if isinstance(asked, BoxConfig):
        fill = "" if asked.fill is None else f", filled to {_pair(asked.fill)}"
        outside = ", nothing outside" if asked.outside else ""
        return f"in bands of {asked.width} px{outside}{fill}, by the set {asked.set} of {asked.from_}"
    if asked.between is not None:
        return f"between {_pair(asked.between)} {asked.unit} in every {asked.per}"
    if asked.set is not None:
        return f"by the set {asked.set} of {asked.from_}"
    assert isinstance(asked, SizeConfig), "the config has checked that there is a source"
    sides = {"present": asked.present, "absent": asked.absent}
    given = [f"{name} {_pair(pair)}" for name, pair in sides.items() if pair is not None]
    return f"{', '.join(given)} {asked.unit}, by the set {asked.tags} of {asked.from_}"


def _pair(pair: tuple[float | None, float | None]) -> str:
    lower, upper = ("unknown" if side is None else f"{side:g}" for side in pair)
    return f"[{lower}, {upper}]"
