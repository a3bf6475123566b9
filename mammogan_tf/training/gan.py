"""Training of the GAN: its networks, its steps, its samples."""

import math
from collections.abc import Iterator, Sequence

import keras
import numpy as np
import tensorflow as tf

from mammogan_tf.config import CLASSES, KEEP, LABELS, GANConfig
from mammogan_tf.console import Console
from mammogan_tf.data.film import Film
from mammogan_tf.data.film_set import FilmSet
from mammogan_tf.data.label_maps import overlay
from mammogan_tf.data.pipeline import gan_batches
from mammogan_tf.data.transforms import from_network_range, one_hot
from mammogan_tf.errors import DataError, ModelError
from mammogan_tf.files import atomic_path, write_json, write_text
from mammogan_tf.metrics.intervals import MIN_PATIENTS
from mammogan_tf.models.blocks import Emphasis
from mammogan_tf.models.dcgan import build_critic, build_generator, build_plain_generator, seeded_noise
from mammogan_tf.pictures import BESIDE_REAL, save_picture, synthetic_notes, tile, to_bytes
from mammogan_tf.training.averaging import update_batch_norm
from mammogan_tf.training.callbacks import StepCallback, require_finite_values
from mammogan_tf.training.card import gan_card
from mammogan_tf.training.conditioning import load_anatomy_unet, mask_source, with_condition_masks, with_variants
from mammogan_tf.training.monitor import MAX_TRAINING, ValidationMonitor
from mammogan_tf.training.run import Run
from mammogan_tf.training.session import Session
from mammogan_tf.training.split_films import fingerprint, load_split, mean_grey
from mammogan_tf.training.strategy import describe_replicas, require_divisible, set_up_device, with_loss_scaling
from mammogan_tf.training.wgan_gp import WGANGP
from mammogan_tf.training.workers import broadcast_from_chief, require_same, writable_run
from mammogan_tf.validated import to_dict

__all__ = ["build_wgan_gp", "generator_inputs", "train_gan"]

RECORD_EVERY = 10
SAMPLE_ROWS = 8


def build_wgan_gp(config: GANConfig, model_class: type[WGANGP] = WGANGP, unet: keras.Model | None = None) -> WGANGP:
    """Both networks and their optimizers, as the configuration says; ``unet`` is that of the anatomy loss."""
    # The remapper cannot fuse the critic's second derivative, and says so at each start.
    tf.config.optimizer.set_experimental_options({"remapping": False})
    common = {"classes": len(CLASSES), "labels": len(LABELS)}
    build = build_plain_generator if config.generator == "plain" else build_generator
    generator = build(
        config.data.size,
        z_dim=config.z_dim,
        widths=config.generator_widths,
        black_background=not config.data.keep_background,
        **common,
    )
    emphasis = Emphasis(config.emphasis, config.octaves, dtype="float32", name="emphasis")
    critic = build_critic(
        config.data.size,
        widths=config.critic_widths,
        patches=config.critic == "patches",
        channels=emphasis.channels,
        **common,
    )
    model = model_class(
        generator,
        critic,
        gp=config.gp,
        n_critic=config.n_critic,
        ema=config.ema,
        emphasis=emphasis,
        unet=unet,
        anatomy_weight=config.anatomy_weight,
        energy_weight=config.energy_weight,
        seed=config.seed,
    )
    model.compile(
        generator_optimizer=with_loss_scaling(_adam(config, config.generator_learning_rate, config.steps)),
        critic_optimizer=_adam(config, config.critic_learning_rate, config.steps * config.n_critic),
    )
    return model


def _adam(config: GANConfig, rate: float, updates: int) -> keras.Optimizer:
    """Adam whose learning rate falls from ``rate`` to nothing within ``updates``, as half a cosine."""
    schedule = keras.optimizers.schedules.CosineDecay(rate, updates)
    return keras.optimizers.Adam(schedule, beta_1=config.beta_1, beta_2=config.beta_2)


def generator_inputs(films: FilmSet, config: GANConfig) -> Iterator[dict[str, tf.Tensor]]:
    """What the generator gets for the films, in batches that are each drawn from all over the set.

    A batch has the size of a training step to less than twice that, or all films where they are fewer.
    """
    films = films.spaced(MAX_TRAINING).cropped()
    noise = seeded_noise(tf.range(len(films)), config.z_dim)
    count = max(1, len(films) // (config.batch_size * config.n_critic))
    for batch in (slice(first, None, count) for first in range(count)):
        mask, label = one_hot(tf.constant(films.label_maps[batch])), tf.constant(films.labels[batch])
        yield {"noise": noise[batch], "mask": mask, "label": label}


def train_gan(
    run: Run,
    films: Sequence[Film],
    console: Console | None = None,
    *,
    strategy: tf.distribute.Strategy | None = None,
    keep: int = KEEP,
    finish: bool = False,
) -> dict:
    """Trains the GAN of a run, or goes on from its last checkpoint.

    Writes ``history.csv``, ``tensorboard/``, ``samples/``, ``checkpoints/``, ``model.keras`` (the averaged generator as it
    was at its lowest ``validation_kid``), ``critic.keras`` (that of the last step, for ``evaluate``), ``masks.npz`` (the
    training masks, for ``generate``), ``report.json`` and ``MODEL_CARD.md`` into the run directory.
    On Ctrl-C or SIGTERM it writes a checkpoint first.

    Args:
        run: the run.
        films: the films.
        console: for progress messages.
        strategy: the devices to train on, out of :func:`make_strategy`; one by default.
        keep: checkpoints that stay.
        finish: train no further, and end the run with what the last checkpoint holds. It may go on later.

    Returns:
        The report: films, the step whose generator is kept, seconds, parameters, and the last row of the history.

    Raises:
        ConfigError: the devices cannot share a batch, or options or films are not those of the checkpoint.
        ModelError: a loss or a weight is not finite, the critic diverges, there is no room for a checkpoint, or another
            worker is gone; the last good checkpoint stays. Or there is no generator yet to ``finish`` with.
        DataError: there are fewer than two training films, or all are the same, one of the split is missing, or a part of it has
            no picture.
    """
    console = console or Console()
    config = run.config_of(GANConfig)
    strategy = strategy or tf.distribute.get_strategy()
    require_divisible(config, strategy)
    policy = set_up_device(config.precision, config.seed, config.deterministic)
    training, validation, test = load_split(run, films, console)
    if len(training) < 2:
        raise DataError(
            f"training films: expected two or more, received: {len(training)}; add films or --classes, or lower "
            "--min-mask-confidence"
        )
    run_settings = {**to_dict(config), "policy": policy, "films": fingerprint(training, validation, test)}
    augmented = with_variants(run, films, training, console.progress("preparing variants"))
    conditioned = with_condition_masks(run, training)
    augmented = conditioned if augmented is training else with_condition_masks(run, augmented)
    training = conditioned
    variants = len(augmented) - len(training)
    and_variants = f" and {variants} variants" if variants else ""
    console.line(
        f"{run.path}: {len(training)} films{and_variants} train, masks from {mask_source(run)}, "
        f"{policy}{describe_replicas(strategy)}"
    )
    if (patients := len(set(test.patients))) < MIN_PATIENTS:
        console.line(f"test films of {patients} patients: evaluate needs {MIN_PATIENTS}; add patients or labels")
    with writable_run(run, strategy) as output_run:
        require_same(strategy, run_settings)
        with strategy.scope():
            model = build_wgan_gp(config, unet=load_anatomy_unet(run))
        first = min(RECORD_EVERY, config.sample_every, config.steps)
        session = Session(
            run, output_run, model, model.ema_generator, run_settings, console, keep=keep, index="step", first_row=first
        )
        if not finish:
            _train(session, config, augmented, training, with_condition_masks(run, validation).cropped())
        session.best.restore()
        counts = {"train": len(training), "validation": len(validation), "test": len(test)}
        counts["variants"] = variants
        return _finish(session, training.cropped(), counts)


def _train(
    session: Session[WGANGP], config: GANConfig, augmented: FilmSet, training: FilmSet, validation: FilmSet
) -> None:
    """Trains on films and variants (``augmented``) to the last step; training and validation films validate it."""
    model, history, console = session.model, session.history, session.console
    progress = console.progress("step")
    shown = validation.select(list(dict.fromkeys(validation.ids))[:SAMPLE_ROWS])

    def warn(step: int, text: str) -> None:
        console.line(f"step {step}: {text}")
        history.text("warning", text, step)

    monitor = ValidationMonitor(model, training, validation, config.batch_size, warn)
    if not monitor.measures_diversity:
        console.line("no validation patient has two films: no warning where the generator collapses")
    monitor.recall(history.rows)

    def record(step: int) -> None:
        losses, watched = model.pop_metrics(), {}
        require_finite_values("step", step, losses)
        if step % config.sample_every == 0 or step == config.steps:
            model.require_finite_weights()
            update_batch_norm(model.ema_generator, generator_inputs(training, config))
            watched = monitor(step)
            session.best.update(step, -broadcast_from_chief(model.distribute_strategy, watched["validation_kid"]))
        history.record(step, {**losses, **watched})
        require_convergence(step, losses["wasserstein"], config)
        progress(step, config.steps, f"Wasserstein {losses['wasserstein']:.2f}  penalty {losses['penalty']:.3f}")

    def sample(step: int) -> None:
        model.require_finite_weights()
        pixels = _samples(model, shown)
        save_picture(session.output_run.path / "samples" / f"step-{step:06d}.png", pixels, synthetic_notes(BESIDE_REAL))
        history.picture("samples", pixels, step)

    def batches(context: tf.distribute.InputContext) -> tf.data.Dataset:
        size = config.batch_size * config.n_critic
        return gan_batches(augmented, size, seed=config.seed, start=session.begin, context=context)

    callbacks = [
        StepCallback(record, config.steps, RECORD_EVERY, config.sample_every),
        StepCallback(sample, config.steps, config.sample_every),
        StepCallback(session.save, config.steps, config.checkpoint_every),
    ]
    session.fit(batches, config.steps, callbacks)


def require_convergence(step: int, wasserstein: float, config: GANConfig) -> None:
    """Raises ModelError where the critic diverges.

    The scores of a critic of slope 1 differ by at most the distance of two films as it sees them: 2 S for S x S pixels in
    [-1, 1], times the gain of the emphasis; its compressed channels add little. A larger estimate shows that the penalty no
    longer holds the slope.
    """
    limit = 2 * config.data.size * Emphasis(config.emphasis, config.octaves).max_gain
    if abs(wasserstein) > limit:
        raise ModelError(
            f"step {step}: expected a Wasserstein estimate within {limit:.0f}, received: {wasserstein:.3g}, the critic "
            "diverges; end the run with its best generator so far by --resume --finish, or start another one with another "
            "--seed or a higher --gp"
        )


def _finish(session: Session[WGANGP], training: FilmSet, counts: dict[str, int]) -> dict:
    """Writes what the run ends with; the averaged generator has its best weights."""
    run, model, last_row = session.output_run, session.model, session.history.rows[-1]
    ended = run.ended_with.get("last", {}).get("step")
    same = run.finished and ended == last_row["step"]  # Then the card may say what was measured.
    if not same:
        run.model_path.unlink(missing_ok=True)  # One that was finished early is not to stand beside what is new.
    report = {
        "films": counts,
        "mean_grey": mean_grey(training),
        "best_step": session.best.best_step,
        "seconds": round(session.seconds, 1),
        "parameters": {"generator": model.generator.count_params(), "critic": model.critic.count_params()},
        "last": {name: value for name, value in last_row.items() if math.isfinite(value)},
    }
    with atomic_path(run.masks_path) as temporary:
        np.savez_compressed(
            temporary, label_maps=training.label_maps, labels=training.labels, ids=np.array(training.names)
        )
    if not same:
        write_text(run.card_path, gan_card(run, report))
    write_json(run.report_path, report)
    for path, network in ((run.critic_path, model.critic_of_films()), (run.model_path, model.ema_generator)):
        with atomic_path(path) as temporary:
            network.save(temporary)
    return report


def _samples(model: WGANGP, films: FilmSet, columns: int = 5) -> np.ndarray:
    """A sheet ``mask | real | synthetic ...``: the noise of a column is the same at every call."""
    rows = [[overlay(image, mask), image] for image, mask in zip(films.images, films.label_maps, strict=True)]
    mask = one_hot(tf.constant(films.label_maps))
    for seed in range(columns):
        noise = seeded_noise(tf.fill([len(films)], seed), model.z_dim)
        images = model.ema_generator({"noise": noise, "mask": mask, "label": tf.constant(films.labels)}, training=False)
        for row, image in zip(rows, to_bytes(from_network_range(np.asarray(images)[..., 0])), strict=True):
            row.append(image)
    return tile(rows)
