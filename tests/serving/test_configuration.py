"""Which models, versions and labels a client has served."""

import pytest
from tensorflow_serving.apis.model_pb2 import ModelSpec
from tensorflow_serving.config.model_server_config_pb2 import ModelConfig

from mammogan_tf.serving.status_error import StatusError
from mammogan_tf.serving.versions import ModelManager
from tests.serving.version_states import AVAILABLE, END, states


def test_a_configuration_chooses_models_versions_and_labels(models, add_version):
    add_version(2)
    manager = ModelManager(models)
    manager.refresh()

    def configure(**labels):
        policy = {"all": {}}
        manager.configure({"film": ModelConfig(base_path="unet", model_version_policy=policy, version_labels=labels)})

    configure(stable=1)
    assert manager.available() == {"film": 2}
    assert {version.number for version in manager.versions("film")} == {1, 2}
    with manager.borrow(ModelSpec(name="film", version_label="stable")) as (_, number):
        assert number == 1
    with (
        pytest.raises(StatusError, match="Unrecognized servable version label: canary"),
        manager.borrow(ModelSpec(name="film", version_label="canary")),
    ):
        pass
    with pytest.raises(StatusError, match="version 3 of model film, which is not currently available"):
        configure(stable=2, canary=3)
    with manager.borrow(ModelSpec(name="film", version_label="stable")) as (_, number):
        assert number == 1, "as before"


def test_a_configuration_leaves_none_of_the_labels_before_it(models):
    manager = ModelManager(models)
    for label in ("stable", "canary"):
        manager.configure({"unet": ModelConfig(version_labels={label: 1})})
    with (
        pytest.raises(StatusError, match="Unrecognized servable version label: stable"),
        manager.borrow(ModelSpec(name="unet", version_label="stable")),
    ):
        pass


def test_a_label_moves_before_its_old_version_goes(models, add_version, monkeypatch):
    manager = ModelManager(models)
    manager.configure({"unet": ModelConfig(version_labels={"stable": 1})})
    add_version(2)
    asked = []
    retire = ModelManager._retire

    def ask_first(self, name, keep):
        with self.borrow(ModelSpec(name="unet", version_label="stable")) as (_, number):
            asked.append(number)
        retire(self, name, keep)

    monkeypatch.setattr(ModelManager, "_retire", ask_first)
    specific = {"specific": {"versions": [2]}}
    manager.configure({"unet": ModelConfig(model_version_policy=specific, version_labels={"stable": 2})})
    assert asked == [2]
    assert states(manager) == {2: AVAILABLE, 1: END}


def test_a_label_of_a_version_that_is_to_go_is_refused(models, add_version):
    manager = ModelManager(models)
    manager.refresh()
    add_version(2)
    specific = {"specific": {"versions": [2]}}
    with pytest.raises(StatusError, match="version 1 of model unet, which is not currently available"):
        manager.configure({"unet": ModelConfig(model_version_policy=specific, version_labels={"stable": 1})})
    assert states(manager) == {2: AVAILABLE, 1: END}


def test_only_a_model_that_is_new_has_to_serve_at_once(models):
    manager = ModelManager(models)
    manager.refresh()
    nothing = {"specific": {"versions": [9]}}
    for _ in range(2):
        manager.configure({"unet": ModelConfig(model_version_policy=nothing)})
        assert manager.available() == {}
    with pytest.raises(StatusError, match=r"1 servable.* did not become available: other"):
        manager.configure({"unet": ModelConfig(), "other": ModelConfig(base_path="nowhere")})
    assert manager.available() == {"unet": 1}
