"""The models under a folder: which versions are wanted, loading and swapping them, and who may use them meanwhile."""

import gc
import logging
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import grpc
from tensorflow_serving.apis.get_model_status_pb2 import ModelVersionStatus
from tensorflow_serving.apis.model_pb2 import ModelSpec
from tensorflow_serving.config.model_server_config_pb2 import ModelConfig

from mammogan_tf.errors import first_line
from mammogan_tf.files import numbered_folders
from mammogan_tf.serving.servable import Servable
from mammogan_tf.serving.status_error import StatusError, invalid

__all__ = ["ModelManager", "Version", "version_folders"]

RETRIES, RETRY_SECONDS = 5, 60.0
"""How often a version that could not be loaded is tried again though its files are the same, and how far apart, as in TensorFlow
Serving: the disk may have been away, or memory short."""

logger = logging.getLogger(__name__)


@dataclass
class Version:
    """A version of a model and what became of it.

    ``error`` says why it could not be loaded, ``tried`` when that was (of ``time.monotonic``), and ``retries`` how often it
    was tried before with these files.
    """

    number: int
    state: "ModelVersionStatus.State" = ModelVersionStatus.LOADING
    servable: Servable | None = None
    error: str = ""
    fingerprint: tuple = ()
    tried: float = 0.0
    retries: int = 0
    requests: int = 0


class ModelManager:
    """The versions of every model under ``root``, kept up with the disk by :meth:`refresh`; ``wanted`` are the models that are
    to be served, whether they can be or not.

    A new version is loaded and warmed up beside the old one, then takes over; the old one is let go when its last
    request has ended, and so is one whose folder is taken away. A version that cannot be loaded is tried again once
    its files have changed, and a few times without that; what is left serves on, as it does where a model's folder cannot be
    read.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self.wanted: frozenset[str] = frozenset()
        self._models: dict[str, dict[int, Version]] = {}
        self._configs: dict[str, ModelConfig] | None = None
        self._labels: dict[str, dict[str, int]] = {}
        self._lock = threading.Lock()
        self._refreshing = threading.Lock()
        self._loads = True

    def available(self) -> dict[str, int]:
        """The newest version that serves, for each model that has one."""
        return dict(self.serving())

    def serving(self) -> list[tuple[str, int]]:
        """Every model and version that serves, in order."""
        with self._lock:
            return sorted((name, number) for name, versions in self._models.items() for number in _serving(versions))

    def versions(self, model: str) -> list[Version]:
        """Everything known of a model's versions, newest first; empty for an unknown model."""
        with self._lock:
            return sorted(self._models.get(model, {}).values(), key=lambda version: -version.number)

    @contextmanager
    def borrow(self, spec: ModelSpec) -> Iterator[tuple[Servable, int]]:
        """The servable that a request asks for and its version number; it stays loaded until the block ends.

        Raises:
            StatusError: INVALID_ARGUMENT without a name or for an unknown label, NOT_FOUND for an unknown model or version.
        """
        with self._lock:
            version = self._find(spec)
            version.requests += 1
            servable = version.servable
        assert servable is not None
        try:
            yield servable, version.number
        finally:
            with self._lock:
                version.requests -= 1
                _let_go_if_idle(version)

    def _find(self, spec: ModelSpec) -> Version:
        if not spec.name:
            raise invalid("ModelSpec has no name specified.")
        serving = _serving(self._models.get(spec.name, {}))
        choice = spec.WhichOneof("version_choice")
        if choice == "version":
            wanted = spec.version.value
        elif choice == "version_label":
            wanted = self._labelled(spec)
        else:
            wanted = max(serving, default=None)
        if wanted not in serving:
            asked = f"Specific({spec.name}, {wanted})" if choice else f"Latest({spec.name})"
            raise StatusError(grpc.StatusCode.NOT_FOUND, f"Servable not found for request: {asked}")
        return serving[wanted]

    def _labelled(self, spec: ModelSpec) -> int:
        labels = self._labels.get(spec.name, {})
        if spec.version_label not in labels:
            raise invalid(f"Unrecognized servable version label: {spec.version_label}")
        return labels[spec.version_label]

    def configure(self, configs: Mapping[str, ModelConfig]) -> None:
        """Serves exactly these models from now on, instead of every model found under the root, with their labels alone.

        Versions are loaded first, then labels move, and what is no longer wanted goes last: no label is ever without its
        version.

        Raises:
            StatusError: UNKNOWN where a model that was not served before has no version that serves, FAILED_PRECONDITION for a
                label of a version that does not serve. Labels stay as they were then; all else is as configured.
        """
        with self._refreshing:
            new = set(configs) - set(self._wanted())
            self._configs = dict(configs)
            kept = self._load_wanted()
            try:
                self._require_serving(new)
                self._label(kept)
            finally:
                self._retire_others(kept)

    def load_no_more(self) -> None:
        """Begins no further load, for a server that ends; one that is under way goes on."""
        self._loads = False

    def refresh(self) -> None:
        """Looks at the disk once: loads what is new and wanted, then lets go of what is no longer wanted."""
        with self._refreshing:
            self._retire_others(self._load_wanted())

    def _wanted(self) -> Mapping[str, ModelConfig]:
        return self._discover() if self._configs is None else self._configs

    def _load_wanted(self) -> dict[str, set[int]]:
        """Loads what is missing; returns the versions that are to serve on, by model."""
        configs = self._wanted()
        kept = {name: self._load_model(name, config) for name, config in sorted(configs.items())}
        if configs or self._configs is not None:  # Else the root may be away.
            self.wanted = frozenset(
                name
                for name, config in configs.items()
                if kept[name] or version_folders(self._base(name, config)) != {}
            )
        return kept

    def _base(self, name: str, config: ModelConfig) -> Path:
        return self.root / (config.base_path or name)

    def _retire_others(self, kept: Mapping[str, set[int]]) -> None:
        for name in list(self._models):
            if name in kept or self._configs is not None:
                self._retire(name, keep=kept.get(name, set()))

    def _require_serving(self, models: set[str]) -> None:
        idle = sorted(models - set(self.available()))
        if idle:
            raise StatusError(
                grpc.StatusCode.UNKNOWN, f"{len(idle)} servable(s) did not become available: {', '.join(idle)}"
            )

    def _label(self, kept: Mapping[str, set[int]]) -> None:
        """Names versions as configured, in place of the labels so far."""
        assert self._configs is not None
        labels = {name: dict(config.version_labels) for name, config in self._configs.items()}
        for name, numbers in labels.items():
            for number in numbers.values():
                if number not in kept[name]:
                    raise StatusError(
                        grpc.StatusCode.FAILED_PRECONDITION,
                        f"Request to assign label to version {number} of model {name}, which is not currently available "
                        "for inference",
                    )
        with self._lock:
            self._labels = labels

    def _discover(self) -> dict[str, ModelConfig]:
        """Every folder of versions, and every folder that was one: its last version may have been taken away."""
        folders = (folder for folder in self.folders() if folder.name in self._models or version_folders(folder))
        return {folder.name: ModelConfig() for folder in folders}

    def folders(self) -> list[Path]:
        """What lies in the root, but for hidden names; nothing where it cannot be read."""
        try:
            return sorted(path for path in self.root.iterdir() if not path.name.startswith("."))
        except OSError:
            return []

    def _load_model(self, name: str, config: ModelConfig) -> set[int]:
        """Loads the versions that are wanted; returns those that are to serve on."""
        found = version_folders(self._base(name, config))
        if found is None:
            return set(_serving(self._models.get(name, {})))
        known = self._models.get(name, {})
        broken = {number for number in set(found) & set(known) if _is_still_broken(known[number], found[number])}
        while True:
            wanted = _choose(config, set(found) - broken)
            missing = sorted(wanted - set(_serving(self._models.get(name, {}))))
            failed = {number for number in missing if not self._load(name, number, found[number])}
            if not failed:
                break
            broken |= failed  # Each is tried once a look, also one that is still being copied in.
        if wanted or not _choose(config, set(found)):
            return wanted
        return set(_serving(self._models.get(name, {})))  # Where what is wanted is broken, what serves goes on.

    def _load(self, name: str, number: int, path: Path) -> bool:
        if not self._loads:
            return False
        version = Version(number, fingerprint=_fingerprint(path), tried=time.monotonic())
        with self._lock:
            before = self._models.get(name, {}).get(number)
            if before and before.error and before.fingerprint == version.fingerprint:
                version.retries = before.retries + 1
            self._models.setdefault(name, {})[number] = version
        try:
            servable = Servable(path)
        except Exception as error:
            reason = first_line(error)
            with self._lock:
                version.state, version.error = ModelVersionStatus.END, reason
            logger.error("%s version %d cannot be served: %s", name, number, reason)
            return False
        with self._lock:
            version.state, version.servable = ModelVersionStatus.AVAILABLE, servable
        logger.info("%s version %d serves", name, number)
        return True

    def _retire(self, name: str, keep: set[int]) -> None:
        with self._lock:
            retired = [
                version for number, version in _serving(self._models.get(name, {})).items() if number not in keep
            ]
            for version in retired:
                version.state = ModelVersionStatus.UNLOADING
                _let_go_if_idle(version)
        for version in retired:
            logger.info("%s version %d is let go", name, version.number)
        if retired:
            gc.collect()


def _serving(versions: Mapping[int, Version]) -> dict[int, Version]:
    return {number: version for number, version in versions.items() if version.state == ModelVersionStatus.AVAILABLE}


def _let_go_if_idle(version: Version) -> None:
    if version.state == ModelVersionStatus.UNLOADING and version.requests == 0:
        version.state, version.servable = ModelVersionStatus.END, None


def version_folders(base: Path) -> dict[int, Path] | None:
    """Folders of versions; None where nothing can be read: a volume may hold a ``lost+found`` of another user."""
    try:
        return numbered_folders(base)
    except OSError:
        return None


def _fingerprint(path: Path) -> tuple:
    """Changes when a file below ``path`` does: a version that was copied in slowly gets its second chance."""
    try:
        stats = ((file, file.stat()) for file in sorted(path.rglob("*")) if file.is_file())
        return tuple((str(file), stat.st_size, stat.st_mtime_ns) for file, stat in stats)
    except OSError:  # A file went away meanwhile; the next look will see.
        return ()


def _is_still_broken(version: Version, path: Path) -> bool:
    if not version.error or version.fingerprint != _fingerprint(path):
        return False
    return version.retries == RETRIES or time.monotonic() < version.tried + RETRY_SECONDS


def _choose(config: ModelConfig, numbers: set[int]) -> set[int]:
    """The versions that TensorFlow Serving's version policy asks for; the newest one unless told otherwise."""
    policy = config.model_version_policy
    kind = policy.WhichOneof("policy_choice")
    if kind == "all":
        return numbers
    if kind == "specific":
        return numbers & set(policy.specific.versions)
    return set(sorted(numbers)[-max(policy.latest.num_versions, 1) :])
