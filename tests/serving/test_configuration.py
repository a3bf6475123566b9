"""Which models, versions and labels a client has served."""

import pytest
from tensorflow_serving.apis.model_pb2 import ModelSpec
from tensorflow_serving.config.model_server_config_pb2 import ModelConfig

from mammogan_tf.serving.refusal import Refusal
from mammogan_tf.serving.versions import Library
from tests.serving.version_states import AVAILABLE, END, states


def test_a_configuration_chooses_models_versions_and_labels(models, add_version):
    add_version(2)
    library = Library(models)
    library.refresh()

    def configure(**labels):
        policy = {"all": {}}
        library.configure({"film": ModelConfig(base_path="unet", model_version_policy=policy, version_labels=labels)})

    configure(stable=1)
    assert library.available() == {"film": 2}
    assert {version.number for version in library.versions("film")} == {1, 2}
    with library.borrow(ModelSpec(name="film", version_label="stable")) as (_, number):
        assert number == 1
    with (
        pytest.raises(Refusal, match="Unrecognized servable version label: canary"),
        library.borrow(ModelSpec(name="film", version_label="canary")),
    ):
        pass
    with pytest.raises(Refusal, match="version 3 of model film, which is not currently available"):
        configure(stable=2, canary=3)
    with library.borrow(ModelSpec(name="film", version_label="stable")) as (_, number):
        assert number == 1, "as before"


def test_a_configuration_leaves_none_of_the_labels_before_it(models):
    library = Library(models)
    for label in ("stable", "canary"):
        library.configure({"unet": ModelConfig(version_labels={label: 1})})
    with (
        pytest.raises(Refusal, match="Unrecognized servable version label: stable"),
        library.borrow(ModelSpec(name="unet", version_label="stable")),
    ):
        pass


def test_a_label_moves_before_its_old_version_goes(models, add_version, monkeypatch):
    library = Library(models)
    library.configure({"unet": ModelConfig(version_labels={"stable": 1})})
    add_version(2)
    asked = []
    retire = Library._retire

    def ask_first(self, name, keep):
        with self.borrow(ModelSpec(name="unet", version_label="stable")) as (_, number):
            asked.append(number)
        retire(self, name, keep)

    monkeypatch.setattr(Library, "_retire", ask_first)
    specific = {"specific": {"versions": [2]}}
    library.configure({"unet": ModelConfig(model_version_policy=specific, version_labels={"stable": 2})})
    assert asked == [2]
    assert states(library) == {2: AVAILABLE, 1: END}


def test_a_label_of_a_version_that_is_to_go_is_refused(models, add_version):
    library = Library(models)
    library.refresh()
    add_version(2)
    specific = {"specific": {"versions": [2]}}
    with pytest.raises(Refusal, match="version 1 of model unet, which is not currently available"):
        library.configure({"unet": ModelConfig(model_version_policy=specific, version_labels={"stable": 1})})
    assert states(library) == {2: AVAILABLE, 1: END}


def test_only_a_model_that_is_new_has_to_serve_at_once(models):
    library = Library(models)
    library.refresh()
    nothing = {"specific": {"versions": [9]}}
    for _ in range(2):
        library.configure({"unet": ModelConfig(model_version_policy=nothing)})
        assert library.available() == {}
    with pytest.raises(Refusal, match=r"1 servable.* did not become available: other"):
        library.configure({"unet": ModelConfig(), "other": ModelConfig(base_path="nowhere")})
    assert library.available() == {"unet": 1}
