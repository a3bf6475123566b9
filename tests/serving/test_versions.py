import shutil

import pytest
import tensorflow as tf
from tensorflow_serving.apis import prediction_log_pb2
from tensorflow_serving.apis.model_pb2 import ModelSpec
from tensorflow_serving.config.model_server_config_pb2 import ModelConfig

from mammogan_tf.serving.status_error import StatusError
from mammogan_tf.serving.versions import RETRIES, ModelManager, _choose
from tests.serving.version_states import AVAILABLE, END, UNLOADING, states


@pytest.mark.parametrize(
    ("policy", "expected"),
    [
        ({}, {10}),
        ({"latest": {"num_versions": 2}}, {9, 10}),
        ({"latest": {"num_versions": 9}}, {1, 9, 10}),
        ({"all": {}}, {1, 9, 10}),
        ({"specific": {"versions": [1, 7]}}, {1}),
    ],
)
def test_version_policies(policy, expected):
    assert _choose(ModelConfig(model_version_policy=policy), {1, 9, 10}) == expected


def test_a_new_version_takes_over_and_the_old_one_waits_for_its_last_request(models, add_version):
    manager = ModelManager(models)
    manager.refresh()
    assert manager.available() == {"unet": 1}
    with manager.borrow(ModelSpec(name="unet")) as (old, number):
        assert number == 1
        add_version(2)
        manager.refresh()
        assert states(manager) == {2: AVAILABLE, 1: UNLOADING}
        with manager.borrow(ModelSpec(name="unet")) as (new, number):
            assert number == 2
            assert new is not old
    assert states(manager) == {2: AVAILABLE, 1: END}
    assert manager.versions("unet")[1].servable is None


def test_a_server_that_ends_begins_no_load(models, add_version, monkeypatch):
    manager = ModelManager(models)
    manager.refresh()
    add_version(2)
    add_version(3)
    loading = []

    def load(path):
        loading.append(path.name)
        manager.load_no_more()  # The server is told to end while a version loads.
        raise ValueError("broken")

    monkeypatch.setattr("mammogan_tf.serving.versions.Servable", load)
    manager.refresh()
    assert loading == ["3"]
    assert states(manager) == {3: END, 1: AVAILABLE}


def test_versions_are_in_the_order_of_their_numbers_not_of_their_digits(models, add_version):
    for number in (9, 10):
        add_version(number)
    manager = ModelManager(models)
    manager.configure({"unet": ModelConfig(model_version_policy={"all": {}})})
    assert [version.number for version in manager.versions("unet")] == [10, 9, 1]
    with manager.borrow(ModelSpec(name="unet")) as (_, number):
        assert number == 10


@pytest.fixture(scope="module")
def refused_warm_up(tmp_path_factory):
    """A record of a request whose PNG is none."""
    log = prediction_log_pb2.PredictionLog()
    log.predict_log.request.model_spec.signature_name = "segment_png"
    log.predict_log.request.inputs["png"].CopyFrom(tf.make_tensor_proto([b"no film"]))
    file = tmp_path_factory.mktemp("warm_up") / "requests"
    with tf.io.TFRecordWriter(str(file)) as writer:
        writer.write(log.SerializeToString())
    return file.read_bytes()


@pytest.mark.parametrize("breakage", ["no variables", "truncated graph", "bad warm-up", "refused warm-up", "empty"])
def test_a_corrupt_version_is_refused_until_it_is_mended(models, add_version, refused_warm_up, breakage):
    manager = ModelManager(models)
    manager.refresh()
    version = add_version(2)
    broken = {
        "no variables": version / "variables" / "variables.index",
        "truncated graph": version / "saved_model.pb",
        "bad warm-up": version / "assets.extra" / "tf_serving_warmup_requests",
        "refused warm-up": version / "assets.extra" / "tf_serving_warmup_requests",
        "empty": version / "saved_model.pb",
    }[breakage]
    content = broken.read_bytes()
    broken.unlink()
    if breakage == "truncated graph":
        broken.write_bytes(content[: len(content) // 2])
    if breakage == "empty":
        broken.write_bytes(b"")
    if breakage == "bad warm-up":
        broken.write_bytes(b"not a TFRecord")
    if breakage == "refused warm-up":
        broken.write_bytes(refused_warm_up)
    manager.refresh()
    assert manager.available()["unet"] == 1
    assert manager.versions("unet")[0].state == END
    assert ("expected a graph, received: a file without one" in manager.versions("unet")[0].error) == (
        breakage == "empty"
    )
    error = manager.versions("unet")[0].error
    assert error
    assert ("tf_serving_warmup_requests: expected warm-up requests, received: " in error) == (breakage == "bad warm-up")
    before = manager.versions("unet")[0]
    manager.refresh()
    assert manager.versions("unet")[0] is before, "unchanged files are not tried again"
    broken.write_bytes(content)
    manager.refresh()
    assert manager.available()["unet"] == 2


def test_a_version_mended_without_a_change_of_size_is_tried_again(models, add_version):
    graph = add_version(2) / "saved_model.pb"
    content = graph.read_bytes()
    graph.write_bytes(bytes(len(content)))
    manager = ModelManager(models)
    manager.refresh()
    assert manager.available() == {"unet": 1}
    graph.write_bytes(content)
    manager.refresh()
    assert manager.available() == {"unet": 2}


def test_a_model_that_is_taken_away_before_it_ever_served_is_not_waited_for(models):
    broken = shutil.copytree(models / "unet" / "1", models / "other" / "1")
    (broken / "saved_model.pb").write_bytes(b"nonsense")
    manager = ModelManager(models)
    manager.refresh()
    assert manager.wanted == {"unet", "other"}
    shutil.rmtree(broken)
    manager.refresh()
    assert manager.wanted == {"unet"}


@pytest.mark.parametrize(("failures", "serves"), [(RETRIES, 2), (99, 1)])
def test_a_version_that_failed_is_tried_a_few_times(models, add_version, monkeypatch, failures, serves):
    monkeypatch.setattr("mammogan_tf.serving.versions.RETRY_SECONDS", 0)
    tries = []

    def servable(path):
        if path.name == "2":
            tries.append(path)
            if len(tries) <= failures:
                raise OSError("the disk is away")
        return object()

    monkeypatch.setattr("mammogan_tf.serving.versions.Servable", servable)
    add_version(2)
    manager = ModelManager(models)
    for _ in range(RETRIES + 3):
        manager.refresh()
    assert len(tries) == RETRIES + 1
    assert manager.available() == {"unet": serves}


def test_at_the_start_the_newest_version_that_loads_serves(models, add_version):
    (add_version(2) / "saved_model.pb").write_bytes(b"nonsense")
    (models / "unet" / "latest").mkdir()
    manager = ModelManager(models)
    manager.refresh()
    assert manager.available()["unet"] == 1


def test_several_broken_versions_give_way_to_the_one_before(models, add_version):
    for number in (2, 3):
        (add_version(number) / "saved_model.pb").write_bytes(b"nonsense")
    manager = ModelManager(models)
    manager.refresh()
    assert states(manager) == {3: END, 2: END, 1: AVAILABLE}
    with manager.borrow(ModelSpec(name="unet")) as (_, number):
        assert number == 1


def test_where_the_version_asked_for_is_broken_what_serves_goes_on(models, add_version):
    manager = ModelManager(models)
    manager.refresh()
    (add_version(2) / "saved_model.pb").write_bytes(b"nonsense")
    manager.configure({"unet": ModelConfig(model_version_policy={"specific": {"versions": [2]}})})
    assert manager.available() == {"unet": 1}


def test_where_the_root_cannot_be_read_what_serves_goes_on(models):
    manager = ModelManager(models)
    manager.refresh()
    models.rename(models.with_name("elsewhere"))
    manager.refresh()
    assert manager.available() == {"unet": 1}


def test_a_version_that_waits_for_its_last_request_takes_no_other(models, add_version):
    manager = ModelManager(models)
    manager.refresh()
    first = ModelSpec(name="unet", version={"value": 1})
    with manager.borrow(first):
        add_version(2)
        manager.refresh()
        with pytest.raises(StatusError, match=r"Specific\(unet, 1\)"), manager.borrow(first):
            pass


def test_a_version_is_let_go_after_a_request_that_failed(models, add_version):
    manager = ModelManager(models)
    manager.refresh()
    with pytest.raises(ZeroDivisionError), manager.borrow(ModelSpec(name="unet")):
        raise ZeroDivisionError
    add_version(2)
    manager.refresh()
    assert states(manager) == {2: AVAILABLE, 1: END}


def test_a_version_taken_away_gives_way_to_the_one_before(models, add_version):
    add_version(2)
    manager = ModelManager(models)
    manager.refresh()
    shutil.rmtree(models / "unet" / "2")
    manager.refresh()
    assert manager.available()["unet"] == 1
    shutil.rmtree(models / "unet")
    manager.refresh()
    assert manager.available()["unet"] == 1, "where there is no folder to look into, what is in memory goes on"


def test_a_model_whose_last_version_is_taken_away_or_never_was_is_let_go(models):
    manager = ModelManager(models)
    manager.refresh()
    manager.configure({"unet": ModelConfig(model_version_policy={"specific": {"versions": [99]}})})
    assert states(manager) == {1: END}
    discovering = ModelManager(models)
    discovering.refresh()
    shutil.rmtree(models / "unet" / "1")
    discovering.refresh()
    assert states(discovering) == {1: END}
    assert discovering.available() == {}


def test_a_version_that_is_being_copied_in_is_tried_once_a_look(models, add_version, monkeypatch):
    manager = ModelManager(models)
    manager.refresh()
    (add_version(2) / "saved_model.pb").write_bytes(b"half of it")
    tried = []
    monkeypatch.setattr("mammogan_tf.serving.versions._fingerprint", lambda path: tried.append(path) or (len(tried),))
    manager.refresh()
    assert len(tried) == 1
    assert manager.available() == {"unet": 1}
    manager.refresh()
    assert manager.versions("unet")[0].fingerprint == (3,), "changed since: tried again"


def test_a_path_that_cannot_be_read_keeps_no_other_model_from_serving(models, add_version):
    manager = ModelManager(models)
    with pytest.raises(StatusError, match="did not become available: film"):
        manager.configure({"film": ModelConfig(base_path="unet/../" * 1000 + "unet"), "unet": ModelConfig()})
    assert manager.available() == {"unet": 1}
    add_version(2)
    manager.refresh()
    assert manager.available() == {"unet": 2}


def test_a_hidden_folder_is_no_model(models):
    shutil.copytree(models / "unet", models / ".unet")
    manager = ModelManager(models)
    manager.refresh()
    assert manager.available() == {"unet": 1}
