"""``train-unet`` and ``train-gan``: from options to a configuration, and to a run."""

import shutil
from pathlib import Path

import pytest

from mammogan_tf.config import PRESETS, CrossValidationConfig, GANConfig, UNetConfig, preset
from mammogan_tf.errors import DataError
from mammogan_tf.training.run import Run
from tests.command_line import assert_one_line, call, fails, start, unfinished_files
from tests.mias_tree import draw_mias_tree

PATIENTS = "".join(f"mdb{number:03d} G NORM\n" for number in range(1, 7))


@pytest.fixture(scope="module")
def tree(tmp_path_factory):
    """Three patients, the fewest that can be split."""
    return draw_mias_tree(tmp_path_factory.mktemp("tree"), PATIENTS)


@pytest.fixture
def asked(monkeypatch):
    """What the commands ask the library for; nothing is trained."""
    seen = {}

    def create(workdir, config, films, data, unet=None):
        seen.update(workdir=workdir, config=config, films=films, data=data, unet=unet)
        raise DataError("enough: expected nothing more, received: nothing")

    monkeypatch.setattr("mammogan_tf.training.segmentation.create_unet_run", create)
    monkeypatch.setattr("mammogan_tf.training.cross_validation.create_cross_validation_run", create)
    monkeypatch.setattr("mammogan_tf.training.conditioning.create_gan_run", create)
    return seen


def test_without_options_the_defaults_count(tree, monkeypatch, tmp_path, asked):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MAMMOGAN_DATA", str(tree))
    fails("train-unet", says="enough")
    assert asked["config"] == UNetConfig()
    assert asked["data"] == (tree,)
    assert str(asked["workdir"]) == "runs"
    fails("train-gan", "--gp", 10, says="enough")
    assert asked["config"] == GANConfig(masks="annotation")


def test_options_of_the_command_line(tree, asked):
    options = [
        "--size",
        32,
        "--keep-background",
        "--gp",
        5,
        "--n-critic",
        3,
        "--critic",
        "film",
        "--generator",
        "plain",
        "--z-dim",
        16,
        "--steps",
        7,
        "--seed",
        2,
    ]
    options += ["--precision", "mixed_bfloat16", "--split-seed", 4, "--deterministic", "--masks", "annotation"]
    options += ["--classes", "benign, malignant", "--validation-share", 0.2, "--test-share", 0.25]
    options += ["--generator-learning-rate", 4e-4, "--critic-learning-rate", 3e-4]
    fails("train-gan", "--data", tree, *options, says="enough")
    changes = {
        "size": 32,
        "keep_background": True,
        "gp": 5.0,
        "n_critic": 3,
        "critic": "film",
        "generator": "plain",
        "z_dim": 16,
        "steps": 7,
        "seed": 2,
    }
    changes |= {"precision": "mixed_bfloat16", "split_seed": 4, "deterministic": True, "masks": "annotation"}
    changes |= {"labels": ("benign", "malignant"), "validation": 0.2, "test": 0.25}
    changes |= {"generator_learning_rate": 4e-4, "critic_learning_rate": 3e-4}
    assert asked["config"] == preset(GANConfig, "default", changes)


def test_options_of_the_segmentation_network(tree, asked):
    options = ["--widths", "8,16,32", "--attention", "--dropout", 0.2, "--lesion-loss", "focal-tversky"]
    options += ["--lesion-repeats", 3, "--epochs", 9, "--validation-share", 0.2]
    fails("train-unet", "--data", tree, *options, says="enough")
    changes = {"widths": (8, 16, 32), "attention": True, "dropout": 0.2, "lesion_loss": "focal-tversky"}
    changes |= {"lesion_repeats": 3, "epochs": 9, "validation": 0.2}
    assert asked["config"] == preset(UNetConfig, "default", changes)
    fails("cross-validate", "--data", tree, *options, "--folds", 3, says="enough")
    assert asked["config"] == preset(CrossValidationConfig, "default", {**changes, "folds": 3})


def test_windows_have_no_variants_unless_they_are_asked_for(tree, asked):
    options = ["--data", tree, "--masks", "annotation", "--view", "roi"]
    fails("train-gan", *options, says="enough")
    assert asked["config"].variants == GANConfig.variants, "of which the run has none"
    says = "--variants: expected 0 for windows and for masks from a cross-validation, received: 2"
    fails("train-gan", *options, "--variants", 2, says=says, status=2)


def test_lists_in_a_file(tree, asked, tmp_path):
    file = tmp_path / "run.yaml"
    file.write_text("classes: [benign, malignant]\nmasks: annotation\n")
    fails("train-gan", "--data", tree, "--config", file, says="enough")
    assert asked["config"] == GANConfig(masks="annotation", labels=("benign", "malignant"))


def test_widths_that_are_no_numbers(tree):
    fails("train-unet", "--data", tree, "--widths", "8,x", says="expected numbers of channels such as", status=2)


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_is_the_starting_point(tree, asked, name):
    options = ["--data", tree, "--preset", name]
    fails("train-unet", *options, "--epochs", 3, says="enough")
    assert asked["config"] == preset(UNetConfig, name, {"epochs": 3})
    fails("train-gan", *options, "--masks", "annotation", says="enough")
    assert asked["config"] == preset(GANConfig, name, {"masks": "annotation"})


@pytest.mark.parametrize("in_a_file", [False, True])
@pytest.mark.parametrize(
    ("command", "kind", "given"),
    [
        ("train-gan", GANConfig, {"gp": 0, "emphasis": 0, "anatomy_weight": 0, "variants": 0}),
        ("train-unet", UNetConfig, {"dropout": 0}),
    ],
)
def test_a_zero_counts_as_any_other_value(tree, asked, tmp_path, command, kind, given, in_a_file):
    if in_a_file:
        (tmp_path / "run.yaml").write_text("".join(f"{name}: {value}\n" for name, value in given.items()))
        options = ["--config", tmp_path / "run.yaml"]
    else:
        options = [f"--{name.replace('_', '-')}={value}" for name, value in given.items()]
    fails(command, "--data", tree, *options, says="enough")
    assert {name: getattr(asked["config"], name) for name in given} == given
    assert not given.items() & vars(kind()).items(), "what would count without the options"


@pytest.mark.parametrize("in_a_file", [False, True])
def test_a_switch_turns_off_what_the_preset_turns_on(tree, asked, tmp_path, in_a_file):
    (tmp_path / "run.yaml").write_text("keep_background: false\n")
    switch = ["--config", tmp_path / "run.yaml"] if in_a_file else ["--black-background"]
    fails("train-unet", "--data", tree, "--preset", "paper", *switch, says="enough")
    assert preset(UNetConfig, "paper").data.keep_background
    assert not asked["config"].data.keep_background


@pytest.mark.parametrize(
    ("command", "train"),
    [
        ("train-unet", "segmentation.train_unet"),
        ("cross-validate", "cross_validation.cross_validate"),
        ("train-gan", "gan.train_gan"),
    ],
)
def test_devices_and_checkpoints_are_those_asked_for(tree, monkeypatch, command, train):
    seen = {}

    def stop(run, films, console, **options):
        seen.update(options)
        raise DataError("enough: expected nothing more, received: nothing")

    monkeypatch.setattr("mammogan_tf.training.strategy.make_strategy", lambda name, console: name)
    monkeypatch.setattr("mammogan_tf.training.workers.is_chief", lambda strategy: True)
    monkeypatch.setattr("mammogan_tf.training.workers.shared_run", lambda strategy, *rest: None)
    monkeypatch.setattr(f"mammogan_tf.training.{train}", stop)
    fails(command, "--data", tree, "--strategy", "mirrored", "--keep", 5, says="enough")
    expected = {"strategy": "mirrored", "keep": 5}
    assert seen == (expected if command == "cross-validate" else {**expected, "finish": False})


@pytest.mark.parametrize("classes", ["benign,dense", ""])
def test_classes_that_there_are_not_are_named_by_their_option(tree, classes):
    says = f"'--classes': expected some of benign,malignant,normal, received: {classes}"
    fails("train-gan", "--data", tree, "--classes", classes, says=says, status=2)


def test_the_command_line_wins_over_the_file(tree, tmp_path, asked):
    file = tmp_path / "run.yaml"
    file.write_text(f"data: {tree}\nsize: 32\nkeep-background: true\nlearning_rate: 0.01\nepochs: 7\nseed:\n")
    fails("train-unet", "--config", file, "--epochs", 9, says="enough")
    changes = {"size": 32, "keep_background": True, "learning_rate": 0.01, "epochs": 9}
    assert asked["config"] == preset(UNetConfig, "default", changes)
    assert asked["data"] == (tree,)


@pytest.fixture
def folder(tree, tmp_path):
    """A folder data set of one film."""
    (tmp_path / "mine" / "images").mkdir(parents=True)
    shutil.copy(tree / "mdb001.pgm", tmp_path / "mine" / "images")
    (tmp_path / "mine" / "dataset.json").write_text("{}")
    return tmp_path / "mine"


@pytest.mark.parametrize("command", ["train-unet", "train-gan"])
def test_several_data_sets(tree, folder, tmp_path, asked, command):
    fails(command, "--data", tree, "--data", folder, says="enough")
    assert asked["data"] == (tree, folder)
    assert [film.id for film in asked["films"]] == [*(f"mdb{n:03d}" for n in range(1, 7)), "mine-mdb001"]
    (tmp_path / "run.yaml").write_text(f"data: [{folder}, {tree}]\n")
    fails(command, "--config", tmp_path / "run.yaml", says="enough")
    assert asked["data"] == (folder, tree)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (
            "steps: 3\nstep: 3\n",
            "--config ... expected options of this command, switches by their first name, received: step",
        ),
        ("config: run.yaml\n", "switches by their first name, received: config"),
        ("fast: true\n", "switches by their first name, received: fast"),
        ("gp: -1\n", "--gp ... -1.0 is not in the range x>=0"),
        ("gp: [1, 2]\n", "--gp ... '[1, 2]'"),
        ("gp: true\n", "--gp ... 'True'"),
        ("size: 65\n", "--size ... '65' is not one of"),
        ("deterministic: 3\n", "--deterministic ... '3'"),
        ("- gp\n", "--config ... expected option names with values, received: ['gp']"),
        ("gp: [", "--config ... expected YAML, received: line 1: expected the node content"),
        ("gp: 3\nseed: 4: 5\n", "--config ... expected YAML, received: line 2: mapping values are not allowed here"),
        ("seed: 2026-13-01\n", "--config ... expected YAML, received: month must be in 1..12"),
        ("\0", "--config ... expected YAML"),
    ],
)
def test_a_bad_file(tmp_path, text, says):
    (tmp_path / "run.yaml").write_text(text)
    fails("train-gan", "--config", tmp_path / "run.yaml", says=says, status=2)


def test_no_file(tmp_path):
    fails("train-gan", "--config", tmp_path / "none.yaml", says="--config ... does not exist", status=2)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--test-share", "0.5"], "'--test-share': 0.5 is not in the range 0<x<0.5"),
        (["--gp", "-1"], "'--gp': -1.0 is not in the range x>=0"),
        (["--gp", "nan"], "gp: expected ... received: nan"),
        (["--gp", "ten"], "'--gp': 'ten' is not a valid float"),
        (["--size", "65"], "'--size': '65' is not one of"),
        (["--steps", "0"], "'--steps': 0 is not in the range x>=1"),
        (["--precision", "float64"], "'--precision': 'float64' is not one of"),
        (["--masks", "annotation", "--unet", "run"], "--masks: expected unet where --unet is given"),
        (["--gamma", "3"], "No such option ... --gamma"),
    ],
)
def test_wrong_usage_exits_with_2(options, says):
    fails("train-gan", *options, says=says, status=2)


@pytest.mark.parametrize("command", ["train-unet", "train-gan"])
def test_without_data_it_says_how_to_get_them_before_tensorflow_starts(tmp_path, command):
    script = """
import sys
from mammogan_tf_cli.main import cli
try:
    cli()
finally:
    print(sorted({"tensorflow", "keras"} & set(sys.modules)))
"""
    process = start(command, "--data", tmp_path / "none", "--workdir", tmp_path / "runs", script=script)
    stdout, stderr = process.communicate(timeout=60)
    assert (process.returncode, stdout) == (1, "[]\n")
    assert_one_line(stderr, "none: expected a folder of mammograms, received: no such folder ... data fetch")
    assert stderr.count("\n") == 1
    assert not (tmp_path / "runs").exists()


def test_a_tilde_is_the_home_folder_in_quotes_and_in_a_file_too(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "run.yaml").write_text("data: ~/none\n")
    for options in (["--data", "~/none"], ["--config", "~/run.yaml"]):
        fails("train-unet", *options, says=f"{tmp_path / 'none'}: expected a folder of mammograms")


def test_train_unet_prints_dice_on_the_test_patients(phantom_root, tmp_path):
    result = call("train-unet", "--preset", "tiny", "--data", phantom_root, "--workdir", tmp_path)
    assert result.exit_code == 0
    run = Run.open(tmp_path / "train-unet" / "00001")
    for region in ("breast", "pectoral", "dense", "lesion"):
        assert region in result.stdout
    assert str(run.path) in result.stdout.splitlines()[-1]
    assert run.finished
    assert not unfinished_files(tmp_path)


def test_train_gan_takes_the_newest_unet_on_the_same_data(phantom_root, unet_run, asked):
    workdir = unet_run.parents[1]
    result = call("train-gan", "--preset", "tiny", "--data", phantom_root, "--workdir", workdir)
    assert f"masks from the newest U-Net, {unet_run}" in result.stderr
    assert asked["unet"].path == unet_run
    assert asked["config"].masks == "unet"


def test_train_gan_takes_the_films_of_the_unet_that_is_named(unet_run, tmp_path, monkeypatch, asked):
    monkeypatch.chdir(tmp_path)  # Without data/mias.
    fails("train-gan", "--preset", "tiny", "--unet", unet_run, "--workdir", tmp_path, says="enough")
    assert asked["data"] == tuple(map(Path, Run.open(unet_run).data))


def test_train_gan_wants_a_finished_unet_of_its_size(phantom_root, unet_run, gan_run, tmp_path):
    options = ["train-gan", "--data", phantom_root, "--workdir", tmp_path / "runs"]
    fails(*options, "--unet", unet_run, "--size", 32, says="expected a U-Net trained with size 32, received: size 16")
    fails(*options, "--unet", gan_run, says="expected a finished train-unet or cross-validate run")
    fails(*options, "--unet", tmp_path, says="expected a run directory, received: one without config.json")
    fails(*options, "--masks", "unet", says="expected a finished train-unet or cross-validate run, received: none")
    assert not (tmp_path / "runs").exists()


def test_a_broken_network_of_the_unet(phantom_root, unet_run, tmp_path):
    shutil.copytree(unet_run, tmp_path / "unet")
    (tmp_path / "unet" / "model.keras").write_bytes(b"broken")
    options = ["--preset", "tiny", "--data", phantom_root, "--workdir", tmp_path / "runs"]
    fails(
        "train-gan",
        *options,
        "--unet",
        tmp_path / "unet",
        says=".keras: expected a trained network, received: a broken",
    )
