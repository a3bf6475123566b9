import keras
import numpy as np
import pytest
import tensorflow as tf

from mammogan_tf.config import GANConfig, preset
from mammogan_tf.losses import gradient_penalty
from mammogan_tf.models.blocks import Foreground, MinibatchDeviation
from mammogan_tf.models.unet import build_unet
from mammogan_tf.training import wgan_gp
from mammogan_tf.training.gan import build_wgan_gp
from mammogan_tf.training.strategy import set_up_device

SIZE, BATCH = 16, 4


def build(precision="float32", seed=0, unet=None, **changes):
    config = preset(GANConfig, "tiny", {"precision": precision, "batch_size": BATCH, "seed": seed, **changes})
    set_up_device(precision, seed, deterministic=False)
    return build_wgan_gp(config, unet=unet)


def batch(films: int, seed: int = 0) -> dict[str, tf.Tensor]:
    random = np.random.default_rng(seed)
    mask = np.eye(5, dtype=np.float32)[random.integers(0, 5, (films, SIZE, SIZE))]
    image = random.uniform(-1, 1, (films, SIZE, SIZE, 1)).astype(np.float32) * (1 - mask[..., :1]) - mask[..., :1]
    return {"image": tf.constant(image), "mask": tf.constant(mask), "label": tf.constant(random.integers(0, 3, films))}


def weights(network):
    return [weight.numpy() for weight in network.weights]


@pytest.mark.parametrize("n_critic", [1, 3])
def test_n_critic_updates_to_one_of_the_generator(n_critic):
    model = build(n_critic=n_critic)
    before = {name: weights(getattr(model, name)) for name in ("generator", "critic", "ema_generator")}
    for step in (1, 2):
        model.train_step(batch(n_critic * BATCH))
        assert int(model.step.numpy()) == step
        assert int(model.critic_optimizer.iterations.numpy()) == step * n_critic
        assert int(model.generator_optimizer.iterations.numpy()) == step
    for name, old in before.items():
        network = getattr(model, name)
        changed = {
            weight.path: np.abs(weight.numpy() - was).max() > 0
            for weight, was in zip(network.weights, old, strict=True)
            if weight.path != "realism/bias"  # It cancels out between real and fake.
        }
        assert np.mean(list(changed.values())) > 0.9, name


def test_keras_saves_and_loads_its_weights(tmp_path):
    model, other = build(seed=0), build(seed=1)
    model.train_step(batch(2 * BATCH))
    model.save_weights(tmp_path / "model.weights.h5")
    other.load_weights(tmp_path / "model.weights.h5")
    for name in ("generator", "critic", "ema_generator"):
        for mine, theirs in zip(weights(getattr(model, name)), weights(getattr(other, name)), strict=True):
            np.testing.assert_array_equal(mine, theirs)


def test_optimizers_may_be_named():
    model = build()
    model.compile("adam", "sgd")
    model.train_step(batch(2 * BATCH))
    assert int(model.critic_optimizer.iterations.numpy()) == 2


def test_the_learning_rates_fall_to_nothing_by_the_last_step():
    model = build(n_critic=3, steps=10, generator_learning_rate=4e-4, critic_learning_rate=1e-4)
    for optimizer, rate, updates in ((model.generator_optimizer, 4e-4, 10), (model.critic_optimizer, 1e-4, 3 * 10)):
        rates = []
        for done in (0, updates // 2, updates):
            optimizer.iterations.assign(done)
            rates.append(float(optimizer.learning_rate))
        assert rates == pytest.approx([rate, rate / 2, 0], abs=1e-9)


def test_options_reach_the_networks_and_the_optimizers():
    model = build(gp=3.0, ema=0.5, beta_1=0.1, beta_2=0.7, keep_background=True)
    assert (model.gp, model.ema) == (3.0, 0.5)
    for optimizer in (model.generator_optimizer, model.critic_optimizer):
        assert (optimizer.beta_1, optimizer.beta_2) == (0.1, 0.7)
    # Films that keep their background are synthesised with one.
    for generator, black in ((model.generator, False), (build().generator, True)):
        assert any(isinstance(layer, Foreground) for layer in generator.layers) == black


def test_options_of_size_width_and_seed_reach_the_networks():
    model = build(critic="film", size=128, width=4, max_width=8, generator_min_width=9, seed=5)
    assert not any(isinstance(layer, MinibatchDeviation) for layer in model.critic.layers), "it scores whole films"
    assert [model.generator.get_layer(f"block{side}_conv").filters for side in (4, 64, 128)] == [9, 9, 9]
    assert [model.critic.get_layer(f"conv{side}").filters for side in (128, 64, 4)] == [4, 8, 8]
    assert model.emphasis.octaves == 2
    plain = build(generator="plain", size=32, width=4, max_width=8, generator_min_width=9).generator
    assert [plain.get_layer(f"up{side}").filters for side in (8, 16)] == [9, 9]
    assert model.random.state.numpy()[0] == 5


def test_xla_is_not_taken_where_keras_would(monkeypatch):
    monkeypatch.setattr(keras.Model, "_resolve_auto_jit_compile", lambda self: True)
    assert not build().jit_compile


def test_every_critic_update_sees_films_of_its_own(monkeypatch):
    model, seen = build(n_critic=3), []
    films = batch(3 * BATCH)
    real_step = model._critic_step

    def spy(real, fake, mask, label):
        seen.append((real.numpy(), mask.numpy(), label.numpy()))
        real_step(real, fake, mask, label)

    asked = []
    monkeypatch.setattr(model, "_critic_step", spy)
    monkeypatch.setattr(model, "_generator_step", lambda *given: asked.extend(given))
    model.train_step(films)
    assert len(seen) == 3
    for place, name in enumerate(("image", "mask", "label")):
        np.testing.assert_array_equal(
            np.stack([part[place] for part in seen], axis=1).reshape(films[name].shape), films[name]
        )
    for given, name in zip(asked, ("image", "mask", "label"), strict=True):
        np.testing.assert_array_equal(given, films[name][::3])  # The generator's are those of the first part.


def test_noise_is_drawn_anew_at_every_step():
    model = build()
    one, other = (model._generator_inputs(batch(BATCH))["noise"].numpy() for _ in range(2))
    assert (one != other).all()


def test_the_films_for_the_critic_count_in_the_generators_statistics():
    model = build()
    statistics = [v for v in model.generator.non_trainable_variables if v.path.endswith("moving_mean")]
    before = [v.numpy() for v in statistics]
    model._generate_for_critic(batch(2 * BATCH))
    assert statistics
    assert all((v.numpy() != was).any() for v, was in zip(statistics, before, strict=True))


def test_alpha_is_uniform_with_one_draw_for_each_film(monkeypatch):
    model, drawn = build(n_critic=1, batch_size=64), []

    def spy(critic, real, fake, alpha):
        drawn.append(alpha.numpy())
        return gradient_penalty(critic, real, fake, alpha)

    monkeypatch.setattr(wgan_gp, "gradient_penalty", spy)
    films = batch(64)
    for _ in range(20):
        model._critic_step(films["image"], -films["image"], films["mask"], films["label"])
    assert {alpha.shape for alpha in drawn} == {(64,)}
    alphas = np.sort(np.concatenate(drawn))
    assert len(np.unique(alphas)) > 0.99 * len(alphas)
    # Kolmogorov and Smirnov: 1.95 / sqrt(n) is passed once in a thousand times.
    uniform = (np.arange(len(alphas)) + 0.5) / len(alphas)
    assert np.abs(alphas - uniform).max() < 1.95 / np.sqrt(len(alphas))


def test_critic_and_penalty_see_films_through_the_emphasis(monkeypatch):
    model, seen = build(n_critic=1, emphasis=8.0), []

    def spy(critic, real, fake, alpha):
        seen.extend([real, fake])
        return gradient_penalty(critic, real, fake, alpha)

    monkeypatch.setattr(wgan_gp, "gradient_penalty", spy)
    films = batch(BATCH)
    model._critic_step(films["image"], -films["image"], films["mask"], films["label"])
    np.testing.assert_allclose(seen[0], model.emphasis(films["image"]), rtol=1e-5)
    np.testing.assert_allclose(seen[1], model.emphasis(-films["image"]), rtol=1e-5)
    assert np.abs(seen[0][..., :1] - films["image"]).max() > 1


def test_the_penalty_is_about_the_slope_at_each_film_whatever_the_other_films_are(monkeypatch):
    model, slopes = build(n_critic=1), []

    def spy(critic, real, fake, alpha):
        with tf.GradientTape() as tape:
            tape.watch(real)
            score = critic(real)[0]
        slopes.append(tape.gradient(score, real).numpy())
        return gradient_penalty(critic, real, fake, alpha)

    monkeypatch.setattr(wgan_gp, "gradient_penalty", spy)
    films = batch(BATCH)
    model._critic_step(films["image"], -films["image"], films["mask"], films["label"])
    ((own, *others),) = slopes
    assert np.abs(own).max() > 0
    assert not np.any(others)


def test_the_critic_of_films_has_the_emphasis_before_it():
    model = build(emphasis=8.0)
    films = batch(BATCH)
    expected = model.critic({**films, "image": model.emphasis(films["image"])})
    np.testing.assert_allclose(model.critic_of_films()(films), expected, rtol=1e-5, atol=1e-5)
    as_they_are = model.critic({**films, "image": tf.repeat(films["image"], model.emphasis.channels, axis=-1)})
    assert np.abs(as_they_are - expected).max() > 1e-3


@pytest.fixture
def differentiated(monkeypatch):
    """The losses that were differentiated, in their order."""
    losses: list[float] = []
    original = tf.GradientTape.gradient

    def spy(tape, target, *arguments, **options):
        losses.append(float(tf.reduce_sum(target)))
        return original(tape, target, *arguments, **options)

    monkeypatch.setattr(tf.GradientTape, "gradient", spy)
    return losses


def test_the_penalty_weighs_as_much_as_it_is_told(monkeypatch, differentiated):
    model = build(n_critic=1, gp=10.0)
    monkeypatch.setattr(wgan_gp, "gradient_penalty", lambda *arguments: tf.constant(3.0))
    monkeypatch.setattr(wgan_gp, "wasserstein_critic", lambda real, fake: 0.0 * tf.reduce_sum(real) + 2.0)
    films = batch(BATCH)
    model._critic_step(films["image"], -films["image"], films["mask"], films["label"])
    assert differentiated == [2 + 10 * 3]
    assert float(model.trackers["wasserstein"].result()) == -2
    assert float(model.trackers["penalty"].result()) == 3


@pytest.mark.parametrize(("precision", "scale"), [("float32", 1), ("mixed_bfloat16", 1), ("mixed_float16", 2**15)])
def test_the_generators_loss_is_scaled_in_float16(precision, scale, differentiated):
    model = build(precision)
    films = batch(BATCH)
    model._generator_step(films["image"], films["mask"], films["label"])
    assert differentiated == [pytest.approx(scale * float(model.trackers["generator_loss"].result()))]


def test_the_generator_alone_moves_in_its_step():
    unet = build_unet(SIZE, widths=(4, 8))
    model = build(unet=unet, anatomy_weight=1.0)
    others, generator = weights(model.critic) + weights(unet), [v.numpy() for v in model.generator.trainable_variables]
    films = batch(BATCH)
    model._generator_step(films["image"], films["mask"], films["label"])
    for was, now in zip(others, weights(model.critic) + weights(unet), strict=True):
        np.testing.assert_array_equal(was, now)
    assert any(
        (was != now.numpy()).any() for was, now in zip(generator, model.generator.trainable_variables, strict=True)
    )


def test_the_anatomy_loss_weighs_as_much_as_it_is_told(monkeypatch, differentiated):
    model, seen = build(unet=build_unet(SIZE, widths=(4, 8)), anatomy_weight=10.0), []

    def spy(mask, probabilities):
        seen.append((mask, probabilities))
        return tf.constant(3.0)

    monkeypatch.setattr(wgan_gp, "anatomy_loss", spy)
    monkeypatch.setattr(wgan_gp, "wasserstein_generator", lambda scores: 0.0 * tf.reduce_sum(scores) + 2.0)
    films = batch(BATCH)
    model._generator_step(films["image"], films["mask"], films["label"])
    assert differentiated == [2 + 10 * 3]
    ((mask, probabilities),) = seen
    np.testing.assert_array_equal(mask, films["mask"])
    np.testing.assert_allclose(tf.reduce_sum(probabilities, axis=-1), 1, rtol=1e-5)
    assert float(model.trackers["anatomy_loss"].result()) == 3
    assert float(model.trackers["generator_loss"].result()) == 32


def test_the_unet_gets_films_in_its_own_range(monkeypatch):
    model, given = build(unet=build_unet(SIZE, widths=(4, 8)), anatomy_weight=1.0), []
    outline = model.segment

    def spy(films):
        given.append(films.numpy())
        return outline(films)

    model.segment = spy
    films = batch(BATCH)
    asked = model._generator_inputs(films)
    monkeypatch.setattr(model, "_generator_inputs", lambda condition: asked)
    made = model.generator(asked, training=True)
    model._generator_step(films["image"], films["mask"], films["label"])
    (seen,) = given
    np.testing.assert_allclose(seen, (made + 1) / 2, atol=1e-5)
    background = films["mask"].numpy()[..., :1] == 1
    assert seen[background].tolist() == [0] * background.sum()
    assert 0 <= seen.min() < seen.max() <= 1


def test_the_anatomy_loss_moves_films_towards_their_masks():
    # A "U-Net" that sees breast wherever a film is bright: the mask asks for it everywhere.
    bright = keras.layers.Lambda(lambda x: tf.concat([1 - x, x, 0 * x, 0 * x, 0 * x], axis=-1))
    film = keras.Input((SIZE, SIZE, 1))
    model = build(unet=keras.Model(film, bright(film)), anatomy_weight=1e4, generator_learning_rate=0.01, steps=10)
    films = batch(BATCH)
    mask = tf.one_hot(tf.ones((BATCH, SIZE, SIZE), tf.int32), 5)
    losses = []
    for _ in range(10):
        model._generator_step(films["image"], mask, films["label"])
        losses.append(model.pop_metrics()["anatomy_loss"])
    assert losses[-1] < 0.5 * losses[0]


def test_the_unet_of_the_anatomy_loss_is_in_no_checkpoint():
    with_unet, without = build(unet=build_unet(SIZE, widths=(4, 8)), anatomy_weight=1.0), build()
    assert [v.shape for v in with_unet.variables] == [v.shape for v in without.variables]


def test_the_energy_score_weighs_as_much_as_it_is_told(monkeypatch, differentiated):
    model, seen = build(energy_weight=5.0), []

    def spy(real, first, second):
        seen.extend([real, first, second])
        return tf.constant(3.0)

    monkeypatch.setattr(wgan_gp, "energy_score", spy)
    monkeypatch.setattr(
        wgan_gp, "wasserstein_generator", lambda scores: 0.0 * tf.reduce_sum(scores) + float(len(scores))
    )
    films = batch(BATCH)
    model._generator_step(films["image"], films["mask"], films["label"])
    assert differentiated == [BATCH + 5 * 3]  # The critic scores as many films as without the energy score.
    real, first, second = (film.numpy() for film in seen)
    np.testing.assert_array_equal(real, films["image"][::2])
    tissue = films["mask"].numpy()[::2, ..., :1] == 0
    assert (first[~tissue] == -1).all()  # Both are of every other mask, each of noise of its own.
    assert (second[~tissue] == -1).all()
    assert (first[tissue] != second[tissue]).mean() > 0.9
    assert float(model.trackers["energy_score"].result()) == 3


def test_the_average_is_not_trained():
    model = build()
    assert model.ema_generator.trainable_variables == []
    for one, other in zip(weights(model.generator), weights(model.ema_generator), strict=True):
        np.testing.assert_array_equal(one, other)


def test_one_seed_one_training():
    runs = []
    for seed in (1, 1, 2):
        model = build(seed=seed)
        logs = [model.train_step(batch(2 * BATCH, seed=step)) for step in range(2)][-1]
        runs.append({name: value.numpy().item() for name, value in logs.items()})
    assert runs[0] == pytest.approx(runs[1], rel=1e-5)
    assert runs[0] != pytest.approx(runs[2], rel=1e-2)


def test_random_states_belong_to_the_model():
    model = build()
    assert any(variable is model.random.state for variable in model.variables)
    before = model.random.state.numpy()
    model.train_step(batch(2 * BATCH))
    assert (model.random.state.numpy() != before).any()


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["mixed_float16", "mixed_bfloat16"])
def test_thirty_steps_in_mixed_precision(precision):
    model = build(precision, steps=30)
    step = tf.function(model.train_step)
    scaled = isinstance(model.generator_optimizer, keras.optimizers.LossScaleOptimizer)
    assert scaled == (precision == "mixed_float16")
    assert not isinstance(model.critic_optimizer, keras.optimizers.LossScaleOptimizer)
    scales = []
    for number in range(30):
        logs = step(batch(2 * BATCH, seed=number))
        scales.append(float(model.generator_optimizer.dynamic_scale.numpy()) if scaled else 1.0)
    assert scales[-1] >= (2**10 if scaled else 1), "it does not collapse"
    # A step that overflows is skipped and halves the scale.
    skipped = np.log2(2**15 / scales[-1]) if scaled else 0
    assert int(model.generator_optimizer.iterations.numpy()) == 30 - skipped
    assert all(np.isfinite(value).all() for value in logs.values())
    for network in (model.generator, model.critic, model.ema_generator):
        assert all(np.isfinite(weight).all() for weight in weights(network))
