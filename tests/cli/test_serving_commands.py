"""``export`` and ``serve``."""

import shutil
from pathlib import Path

from tests.command_line import call, fails, little_room


def test_each_export_is_the_next_version(exports, unet_run, tmp_path):
    shutil.copytree(exports / "unet", tmp_path / "unet")
    assert call("export", unet_run, "--to", tmp_path).stdout == f"{tmp_path / 'unet' / '2'}\n"


def test_export_says_where_it_makes_no_synthesize(unet_run, tmp_path):
    other, to = shutil.copytree(unet_run, tmp_path / "other"), ["--to", tmp_path / "models"]
    result = call("export", unet_run, other, *to)
    assert [Path(line).name for line in result.stdout.splitlines()] == ["1", "2"]
    assert result.stderr.startswith("no synthesize: it takes a U-Net and a generator")
    assert not call("export", unet_run, *to).stderr


def test_export_wants_finished_runs(unet_run, tmp_path):
    (tmp_path / "random").mkdir()
    to = ["--to", tmp_path / "saved_models"]
    fails("export", tmp_path / "random", *to, says="random: expected a run directory")
    shutil.copytree(unet_run, tmp_path / "run", ignore=shutil.ignore_patterns("model.keras"))
    fails(
        "export",
        tmp_path / "run",
        *to,
        says="expected a finished train-unet or train-gan run, received: one without model.keras",
    )
    (tmp_path / "run" / "model.keras").write_bytes((unet_run / "model.keras").read_bytes()[:999])
    fails("export", tmp_path / "run", *to, says="model.keras: expected a trained network, received: a broken file")
    fails("export", *to, says="Missing argument 'RUN...'", status=2)
    assert not (tmp_path / "saved_models").exists()


def test_export_on_a_full_disk(unet_run, tmp_path):
    with little_room(30_000):
        fails("export", unet_run, "--to", tmp_path, says="expected a folder with room ... --to")
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


def test_serve_on_a_port_in_use(server, exports):
    options = ["serve", "--models", exports, "--port", server.port]
    fails(*options, says=f"127.0.0.1:{server.port}: expected a free address ... in use ... --port")
    fails("serve", "--models", exports, "--host", "127..0.0.1", says="127..0.0.1:8500: expected a free address")
    fails("serve", "--port", 65536, says="65536 is not in the range 0<=x<=65535", status=2)


def test_serve_wants_exports(tmp_path):
    for folder in (tmp_path, tmp_path / "none"):
        fails("serve", "--models", folder, "--port", 0, says="expected exported models ... received: none ... export")


def test_serve_of_an_export_without_its_graph(exports, tmp_path):
    shutil.copytree(exports / "unet", tmp_path / "unet")
    (tmp_path / "unet" / "1" / "saved_model.pb").unlink()
    options = ["serve", "--models", tmp_path, "--port", 0, "--engine", "embedded"]
    result = call(*options)
    assert result.exit_code == 1
    assert result.stderr.splitlines()[-1].startswith(f"Error: {tmp_path}: expected exported models")
    assert "unet 1: " in result.stderr.splitlines()[-1]


def test_serve_without_the_engine_asked_for(exports, monkeypatch):
    monkeypatch.setenv("PATH", "")
    options = ["serve", "--models", exports, "--port", 0, "--engine", "tensorflow_model_server"]
    fails(*options, says="tensorflow_model_server: expected it on the PATH ... --engine embedded")


def test_waiting_without_end_is_refused(exports):
    serve = ["serve", "--models", exports, "--port", 0, "--batch-timeout-ms"]
    fails(*serve, "inf", says="is not in the range 0<=x<=60000", status=2)
    fails(*serve, "nan", says="batch_timeout_ms: expected 0 to 60000, received: nan")
