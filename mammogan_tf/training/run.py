"""A run directory: everything that a training leaves behind, written so that it can be killed at any moment."""

import hashlib
import shlex
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any, TypeVar

from mammogan_tf.config import LABELS, CrossValidationConfig, DataConfig, GANConfig, UNetConfig
from mammogan_tf.data.film import Film
from mammogan_tf.data.label_maps import read_masks
from mammogan_tf.data.splits import Split
from mammogan_tf.environment import changes_since, environment
from mammogan_tf.errors import MammoganError, ModelError
from mammogan_tf.files import atomic_path, numbered_folders, read_json, write_json
from mammogan_tf.validated import from_dict, to_dict

__all__ = [
    "UNET",
    "Run",
    "is_run",
    "newest_run",
    "patient_digits",
    "run_folders",
]

Config = UNetConfig | GANConfig

C = TypeVar("C", bound=Config)

CONFIG = "config.json"
ENVIRONMENT = "environment.json"
MODEL = "model.keras"
UNET = "unet.keras"

CONFIGS: dict[str, type[UNetConfig] | type[GANConfig]] = {
    "train-unet": UNetConfig,
    "cross-validate": CrossValidationConfig,
    "train-gan": GANConfig,
}


class Run:
    """One run directory, ``<workdir>/<command>/<00001>``.

    Attributes:
        path: the directory.
        command: ``train-unet``, ``cross-validate`` or ``train-gan``.
        config: the hyper-parameters, from ``config.json``.
        split: which films trained, validated and tested, from ``split.json``.
        data: the data sets, as absolute paths.
    """

    def __init__(self, path: Path, command: str, config: Config, split: Split, data: tuple[str, ...]) -> None:
        self.path, self.command, self.config, self.split, self.data = path, command, config, split, data

    @classmethod
    def create(
        cls,
        workdir: str | Path,
        config: Config,
        split: Split,
        data: Sequence[str | Path],
        files: Mapping[str, Path] | None = None,
        films: Sequence[Film] = (),
    ) -> "Run":
        """Makes the next free run directory below ``workdir`` and writes down what will run, and on which data sets.

        ``files`` are copied into it under their names. ``patients.json`` names the patient of each of the ``films`` by
        :func:`patient_digits`, for a later training that must not mix them up with its test patients. It is a run once all of
        that is there.
        """
        command = next(name for name, kind in CONFIGS.items() if type(config) is kind)
        parent = Path(workdir) / command
        parent.mkdir(parents=True, exist_ok=True)
        number = max(numbered_folders(parent), default=0)
        while True:
            number += 1
            path = parent / f"{number:05d}"
            try:
                path.mkdir()
                break
            except FileExistsError:
                continue
        run = cls(path, command, config, split, _absolute(data))
        run.write_json("split.json", split.to_dict())
        if films:
            run.write_json("patients.json", {film.id: patient_digits(film.patient) for film in films})
        run.write_json(ENVIRONMENT, environment())
        for name, source in (files or {}).items():
            with atomic_path(path / name) as temporary:
                shutil.copyfile(source, temporary)
        run.write_json(CONFIG, {"command": command, "data_path": list(run.data), **to_dict(config)})
        return run

    @classmethod
    def open(cls, path: str | Path) -> "Run":
        """Opens an existing run.

        Raises:
            ModelError: the directory is not a run, of another version, or its files are broken.
        """
        path = Path(path)
        try:
            values = read_json(path / CONFIG)
            command, data = values.pop("command"), values.pop("data_path")
            if unknown := sorted(values.keys() - {field.name for field in fields(CONFIGS[command])}):
                raise ModelError(
                    f"{path}: expected a run of this version of mammogan-tf, received: one with {', '.join(unknown)}; "
                    "use the version that trained it, or train it again"
                )
            if not isinstance(data, list):
                raise ValueError(f"data_path: expected a list of folders, received: {data}; train it again")
            return cls(
                path,
                command,
                from_dict(CONFIGS[command], values),
                Split.from_dict(read_json(path / "split.json")),
                tuple(data),
            )
        except ModelError:
            raise
        except FileNotFoundError as error:
            received = f"one without {Path(error.filename).name}" if path.is_dir() else "no such folder"
            raise ModelError(
                f"{path}: expected a run directory, received: {received}; name one such as runs/train-gan/00001"
            ) from error
        except (ValueError, KeyError, TypeError, AttributeError, MammoganError) as error:
            raise ModelError(
                f"{path}: expected a run directory, received: broken config.json or split.json ({error})"
            ) from error

    def config_of(self, kind: type[C]) -> C:
        """The hyper-parameters, where they are of this kind.

        Raises:
            ModelError: the run is of another command.
        """
        if not isinstance(self.config, kind):
            expected = next(command for command, config in CONFIGS.items() if config is kind)
            raise ModelError(f"{self.path}: expected a {expected} run, received: a {self.command} run")
        return self.config

    @property
    def model_path(self) -> Path:
        """The trained network: the best U-Net, or the averaged generator. It exists once the run is finished."""
        return self.path / MODEL

    @property
    def masks_path(self) -> Path:
        """Masks: those that a GAN was trained on, or those that cross-validation found, with which it is finished."""
        return self.path / "masks.npz"

    @property
    def unet_path(self) -> Path:
        """Of a GAN: the U-Net that drew its masks, where one did."""
        return self.path / UNET

    @property
    def critic_path(self) -> Path:
        """Of a finished GAN: the critic of the last step."""
        return self.path / "critic.keras"

    @property
    def report_path(self) -> Path:
        """What the training ended with, as JSON."""
        return self.path / "report.json"

    @property
    def ended_with(self) -> dict[str, Any]:
        """The report of the training, or nothing where there is no whole one."""
        try:
            return dict(read_json(self.report_path))
        except (OSError, ValueError, TypeError):
            return {}

    @property
    def card_path(self) -> Path:
        """What the model is, what it is good for and what it is not, for people."""
        return self.path / "MODEL_CARD.md"

    @property
    def patients(self) -> dict[str, str]:
        """By film id the :func:`patient_digits` of its patient, as known when the run began.

        Raises:
            ModelError: the file that says so is missing or broken.
        """
        path = self.path / "patients.json"
        try:
            return {str(film): str(patient) for film, patient in read_json(path).items()}
        except (OSError, ValueError, AttributeError) as error:
            raise ModelError(
                f"{path}: expected the patients of the run, received: {getattr(error, 'strerror', None) or error}; train it again"
            ) from error

    @property
    def labels(self) -> tuple[str, ...]:
        """Labels of the films that were to take part."""
        return self.config.labels if isinstance(self.config, GANConfig) else LABELS

    @property
    def trained_labels(self) -> tuple[str, ...]:
        """Labels that the training films of a GAN have, of those that were to take part: its generator knows no other.

        Raises:
            DataError: the masks that the run keeps are broken.
        """
        if not self.masks_path.exists():
            return self.labels
        (found,) = read_masks(self.masks_path, ("labels",), "put it back, or train another run")
        return tuple(label for label in self.labels if LABELS.index(label) in found)

    @property
    def finished(self) -> bool:
        """Whether what the run is for is there: the network, or a cross-validation's masks."""
        return (self.masks_path if self.command == "cross-validate" else self.model_path).exists()

    def require_finished(self, *commands: str) -> None:
        """Raises ModelError unless this is a finished run of one of these commands."""
        expected = f"{self.path}: expected a finished {' or '.join(commands)} run"
        if self.command not in commands:
            has_unets = self.command == "cross-validate" and "train-unet" in commands
            advice = "; name one of the runs in its train-unet/" if has_unets else ""
            raise ModelError(f"{expected}, received: a {self.command} run{advice}")
        if not self.finished:
            resume = f"mammogan-tf {self.command} --resume {shlex.quote(str(self.path))}"
            raise ModelError(f"{expected}, received: one without {MODEL}; go on with: {resume}")

    @property
    def environment_changes(self) -> list[str]:
        """By what the run would go on with other rounding than it began with; none where that is not known."""
        try:
            return changes_since(read_json(self.path / ENVIRONMENT))
        except (OSError, ValueError, TypeError, AttributeError, KeyError):
            return []

    def is_on(self, data: Sequence[str | Path]) -> bool:
        """Whether the run's data sets are these, in whatever order."""
        return set(self.data) == set(_absolute(data))

    def write_json(self, name: str, value: Any) -> None:
        write_json(self.path / name, value)


def is_run(path: str | Path) -> bool:
    """Whether a folder is a run, whole or broken."""
    return (Path(path) / CONFIG).exists()


def run_folders(workdir: str | Path, command: str) -> list[Path]:
    """The runs of a command below ``workdir``, in order of their numbers."""
    parent = Path(workdir) / command
    folders = numbered_folders(parent) if parent.is_dir() else {}
    return [folders[number] for number in sorted(folders) if is_run(folders[number])]


def newest_run(workdir: str | Path, command: str, data: Sequence[str | Path], prepared: DataConfig) -> Run | None:
    """The newest run of a command whose network is there, below ``workdir``, on these data sets, prepared and split in this
    way, or None.

    Raises:
        ModelError: a newer run, or the one that is meant, cannot be read.
    """
    for path in reversed(run_folders(workdir, command)):
        if (path / MODEL).exists():
            try:
                run = Run.open(path)
            except ModelError as error:
                raise ModelError(f"{error}; name the run that is meant, or move this one away") from error
            if run.is_on(data) and run.config.data == prepared:
                return run
    return None


def patient_digits(patient: str) -> str:
    """The first 16 hexadecimal digits of the SHA-256 of a patient's id.

    A pseudonym, which keeps names and numbers out of a run. It hides nothing from somebody who tries all ids.
    """
    return hashlib.sha256(patient.encode()).hexdigest()[:16]


def _absolute(data: Sequence[str | Path]) -> tuple[str, ...]:
    return tuple(str(Path(path).resolve()) for path in data)
