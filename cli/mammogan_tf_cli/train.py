"""``train-unet``, ``cross-validate`` and ``train-gan``."""

import dataclasses
import shlex
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import click
from click.core import ParameterSource

from mammogan_tf.config import (
    CRITICS,
    GENERATORS,
    MASK_SOURCES,
    PURPOSES,
    CrossValidationConfig,
    GANConfig,
    UNetConfig,
    preset,
)
from mammogan_tf.console import Console, duration
from mammogan_tf_cli.options import (
    RATE,
    Labels,
    finish_option,
    folder,
    test_share_option,
    training_options,
    unet_options,
)
from mammogan_tf_cli.quiet import import_tensorflow

__all__ = ["cross_validate", "train_gan", "train_unet"]

BEGINNING = ("preset", "workdir", "unet")
"""Options that only the beginning of a run asks for."""


@click.command("train-unet")
@unet_options
@test_share_option
@finish_option
def train_unet(
    data: tuple[Path, ...],
    workdir: Path,
    resume: Path | None,
    keep: int,
    strategy: str,
    preset: str,
    finish: bool,
    **changes: Any,
) -> None:
    """Train the U-Net that outlines anatomy and lesions.

    \b
    Example:
      mammogan-tf train-unet --data data/mias --epochs 80
    """
    config = _config(UNetConfig, preset, changes)
    resumed, sources, films = _open(resume, data, finish)
    import_tensorflow(onednn=True)
    from mammogan_tf.training.segmentation import create_unet_run
    from mammogan_tf.training.segmentation import train_unet as train

    run, report = _train(
        partial(train, finish=finish),
        lambda: create_unet_run(workdir, config, films, sources),
        films,
        resumed,
        config,
        workdir,
        keep,
        strategy,
    )
    click.echo("Dice on test patients (mean over films)   background black   film as it is   films")
    for region, cell in report["dice"]["cleaned"].items():
        other = report["dice"]["as_it_is"][region]
        click.echo(f"  {region:38}   {_number(cell):>16}   {_number(other):>13}   {cell['films']:5}")
    for name, value in report["lesions"]["cleaned"].items():
        other = report["lesions"]["as_it_is"][name]
        click.echo(f"  {name.replace('_', ' '):38}   {_figure(value):>16}   {_figure(other):>13}")
    if "disc" in report:
        cell = report["disc"]["cleaned"]
        click.echo(
            f"lesion Dice on {cell['films']} windows with a lesion: network {_figure(cell['network'])}, "
            f"a disc in the middle {_figure(cell['disc'])}"
        )
    click.echo(f"{run.path}: trained in {duration(report['seconds'])}, best epoch {report['best_epoch']}")


@click.command("cross-validate")
@unet_options
@click.option("--folds", type=click.IntRange(min=2), show_default=str(CrossValidationConfig.folds))
def cross_validate(
    data: tuple[Path, ...], workdir: Path, resume: Path | None, keep: int, strategy: str, preset: str, **changes: Any
) -> None:
    """Cross-validate the U-Net by patient; leaves a mask of every film that its own network never saw.

    \b
    Example:
      mammogan-tf cross-validate --data data/mias --folds 5
      mammogan-tf train-gan --data data/mias --unet runs/cross-validate/00001 --steps 1200
    """
    config = _config(CrossValidationConfig, preset, changes)
    resumed, sources, films = _open(resume, data)
    import_tensorflow(onednn=True)
    from mammogan_tf.training.cross_validation import ONE_MACHINE, create_cross_validation_run
    from mammogan_tf.training.cross_validation import cross_validate as train
    from mammogan_tf.training.strategy import several_machines

    if several_machines(strategy):
        raise click.UsageError(ONE_MACHINE)

    run, report = _train(
        train,
        lambda: create_cross_validation_run(workdir, config, films, sources),
        films,
        resumed,
        config,
        workdir,
        keep,
        strategy,
    )
    click.echo(run.card_path.read_text().partition("## Intended use")[0].rstrip())
    click.echo(f"{run.path}: {len(report['folds'])} folds in {duration(report['seconds'])}")


@click.command("train-gan")
@partial(training_options, runs=("--resume", "--unet"))
@test_share_option
@finish_option
@click.option(
    "--unet",
    type=folder,
    metavar="RUN",
    show_default="newest train-unet run on this data",
    help="Whose masks: a train-unet run, or a cross-validate run, whose masks no network has memorised.",
)
@click.option(
    "--masks",
    type=click.Choice(MASK_SOURCES),
    show_default="unet, annotation where there is none",
    help="Masks to condition on.",
)
@click.option(
    "--classes",
    "labels",
    type=Labels(),
    metavar="LABEL,...",
    show_default=",".join(GANConfig.labels),
    help="Train on films of these labels alone, the only ones that the generator then knows; the paper has benign,malignant.",
)
@click.option(
    "--gp", type=click.FloatRange(min=0), show_default=str(GANConfig.gp), help="Lambda of the gradient penalty."
)
@click.option(
    "--n-critic",
    type=click.IntRange(min=1),
    show_default=str(GANConfig.n_critic),
    help="Critic updates to one of the generator.",
)
@click.option(
    "--generator-learning-rate",
    type=RATE,
    show_default=str(GANConfig.generator_learning_rate),
)
@click.option(
    "--critic-learning-rate",
    type=RATE,
    show_default=str(GANConfig.critic_learning_rate),
)
@click.option(
    "--generator",
    type=click.Choice(GENERATORS),
    show_default=GANConfig.generator,
    help="residual: mask and noise enter at every resolution. plain: that of a DCGAN, both enter once.",
)
@click.option(
    "--critic",
    type=click.Choice(CRITICS),
    show_default=GANConfig.critic,
    help="What it scores: patches, averaged over places, or the film as a whole.",
)
@click.option(
    "--emphasis",
    type=click.FloatRange(min=0),
    show_default=str(GANConfig.emphasis),
    help="Gain of the fine detail that the critic sees; it also sees the finest detail alone. 0: films as they are, as in the "
    "paper.",
)
@click.option(
    "--anatomy-weight",
    type=click.FloatRange(min=0),
    show_default=str(GANConfig.anatomy_weight),
    help="How much it counts for the generator that the U-Net that drew a mask finds it in the synthetic film; without such "
    "a U-Net, and of windows, it does not.",
)
@click.option(
    "--energy-weight",
    type=click.FloatRange(min=0),
    show_default=str(GANConfig.energy_weight),
    help="How much it counts for the generator that films of one mask are as varied in shading as the real films that could "
    "have it; 0.2 and 1 were measured. It needs an even number of films on each device.",
)
@click.option(
    "--variants",
    type=click.IntRange(min=0),
    show_default=f"{GANConfig.variants}; 0 where there are none",
    help="Of each whole film, moved at random with its mask, to train on beside it: fewer films are memorised, and it takes "
    "more steps. None of windows (--view roi), nor with masks from a cross-validation: give fewer --steps there, such as "
    "1200.",
)
@click.option(
    "--z-dim", type=click.IntRange(min=1), show_default=str(GANConfig.z_dim), help="Length of the noise vector."
)
@click.option(
    "--steps",
    type=click.IntRange(min=1),
    show_default=str(GANConfig.steps),
    help="Generator updates, over which both learning rates fall to nothing.",
)
@click.option(
    "--sample-every",
    type=click.IntRange(min=1),
    show_default=str(GANConfig.sample_every),
    help="Steps to a sample sheet, and to a generator that may be the one that is kept.",
)
@click.option(
    "--checkpoint-every",
    type=click.IntRange(min=1),
    show_default=str(GANConfig.checkpoint_every),
    help="Steps to a checkpoint.",
)
def train_gan(
    data: tuple[Path, ...],
    workdir: Path,
    resume: Path | None,
    keep: int,
    strategy: str,
    unet: Path | None,
    preset: str,
    finish: bool,
    **changes: Any,
) -> None:
    """Train the conditional DCGAN as a WGAN with gradient penalty.

    \b
    Example:
      mammogan-tf train-gan --data data/mias --gp 10
    """
    from mammogan_tf.training.run import Run, newest_run

    config = _config(GANConfig, preset, changes)
    if unet and config.masks == "annotation":
        raise click.UsageError("--masks: expected unet where --unet is given, received: annotation")
    mask_run = Run.open(unet) if unet and not resume else None
    resumed, sources, films = _open(resume, data or (mask_run.data if mask_run else ()), finish)
    if not (resumed or mask_run or config.masks == "annotation"):
        mask_run = newest_run(workdir, "train-unet", sources, config.data)
        if mask_run:
            click.echo(f"masks from the newest U-Net, {mask_run.path}", err=True)
        elif not changes["masks"]:
            config = dataclasses.replace(config, masks="annotation")
            click.echo(
                "no finished train-unet run on this data with the same options of the films (--size, --view ...): "
                "masks come from the annotations",
                err=True,
            )
    import_tensorflow(onednn=True)
    from mammogan_tf.training.conditioning import create_gan_run, supports_variants
    from mammogan_tf.training.gan import train_gan as train

    if not (resumed or supports_variants(config, mask_run)):
        if changes["variants"]:
            raise click.UsageError(
                f"--variants: expected 0 for windows and for masks from a cross-validation, received: {config.variants}"
            )
        if config.variants and not changes["steps"]:
            click.echo(
                f"no variants of windows, nor of masks from a cross-validation: {config.steps} steps may be too many",
                err=True,
            )

    run, report = _train(
        partial(train, finish=finish),
        lambda: create_gan_run(workdir, config, films, sources, mask_run),
        films,
        resumed,
        config,
        workdir,
        keep,
        strategy,
    )
    click.echo(f"{run.path}: trained {report['last']['step']} steps in {duration(report['seconds'])}")
    gan, out = (shlex.quote(str(path)) for path in (run.path, run.path / "evaluation"))
    click.echo(f"look at {run.path / 'samples'}, then: mammogan-tf evaluate --gan {gan} --out {out}")


def _config(kind: type, name: str, changes: dict[str, Any]) -> Any:
    given = {option: value for option, value in changes.items() if value is not None}
    if "size" in given:
        given["size"] = int(given["size"])
    return preset(kind, name, given)


def _open(resume: Path | None, data: Sequence[str | Path], finish: bool = False) -> tuple[Any, Any, Any]:
    """The run to go on with or to finish, None for a new one; the data sets; and their films."""
    from mammogan_tf.data.sources import find_data, load_all
    from mammogan_tf.training.run import is_run

    if finish and not resume:
        raise click.UsageError("--finish: expected the run that is to end here, --resume RUN, received: none")
    resumed = _open_run(resume) if resume else None
    if finish and resumed and is_run(whole := resumed.path.resolve().parent.parent):
        raise click.UsageError(f"--finish: expected a run of its own, received: a part of {whole}")
    sources = find_data(data or (resumed.data if resumed else ()))
    return resumed, sources, load_all(sources)


def _open_run(path: Path) -> Any:
    """The run to go on with; it keeps its own options, and the file it began with may still say where it began."""
    from mammogan_tf.training.run import Run

    context = click.get_current_context()
    run = Run.open(path)
    kept = {**vars(run.config), **vars(run.config.data)}
    given = {
        parameter.opts[0]: str(parameter.name)
        for parameter in context.command.params
        if parameter.name not in ("resume", "finish", "config", "data", "keep", "strategy")
        and (source := context.get_parameter_source(str(parameter.name))) is not ParameterSource.DEFAULT
        and not (source is ParameterSource.DEFAULT_MAP and parameter.name in BEGINNING)
    }
    changed = [
        f"{option} {context.params[name]} (the run has {kept[name]})" if name in kept else option
        for option, name in given.items()
        if name not in kept or str(context.params[name]) != str(kept[name])
    ]
    if changed:
        raise click.UsageError(
            f"--resume: expected the options that the run began with, received: {', '.join(changed)}; "
            "leave them out, or start another run"
        )
    if run.command != context.info_name:
        raise click.UsageError(f"--resume: expected a {context.info_name} run, received: a {run.command} run")
    return run


def _train(
    train: Any, create: Any, films: Any, resumed: Any, config: Any, workdir: Path, keep: int, strategy_name: str
) -> tuple[Any, dict[str, Any]]:
    """Trains a run, which is to be created or resumed, and ends the process of a worker that reports nothing."""
    from mammogan_tf.training.strategy import make_strategy, require_divisible
    from mammogan_tf.training.workers import is_chief, shared_run

    context = click.get_current_context()
    strategy = make_strategy(strategy_name, Console())

    def create_shared() -> Any:
        require_divisible(config, strategy)
        return create()

    run = shared_run(strategy, resumed, create_shared, workdir / str(context.info_name))
    console = Console(quiet=not is_chief(strategy))
    if not resumed:
        name = context.params["preset"]
        console.line(f"preset {name}: {PURPOSES[name]}")
    elif changes := run.environment_changes:
        console.line(f"{run.path}: goes on with other rounding, as it began with {'; '.join(changes)}")
    try:
        report = train(run, films, console, strategy=strategy, keep=keep)
    except KeyboardInterrupt as error:
        on = f"mammogan-tf {run.command} --resume {shlex.quote(str(run.path))}"
        here = (
            ", or end it here with --finish too, once it has validated its network"
            if "finish" in context.params
            else ""
        )
        raise click.ClickException(f"stopped; go on with: {on}{here}") from error
    if not is_chief(strategy):
        context.exit()
    return run, report


def _number(cell: dict[str, Any]) -> str:
    return _figure(cell["mean"])


def _figure(value: float | None) -> str:
    return "none" if value is None else f"{value:.3f}"
