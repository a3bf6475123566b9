import os
import signal
import subprocess
import sys
import threading
import time

import pytest
import tensorflow as tf

from mammogan_tf.errors import ServingError
from mammogan_tf.serving.client import MammoganClient
from mammogan_tf.serving.engines import serve


def test_nothing_to_serve_is_one_line(tmp_path):
    with pytest.raises(ServingError, match=r"<model>/<version>/, received: none; run mammogan-tf export"):
        serve(tmp_path / "absent", port=0)
    (tmp_path / "unet" / "1").mkdir(parents=True)
    with pytest.raises(ServingError, match=r"received: unet 1: .*saved_model\.pb"):
        serve(tmp_path, port=0)


def test_an_engine_that_is_not_there_is_one_line(models, monkeypatch):
    monkeypatch.setenv("PATH", "")
    with pytest.raises(ServingError, match="expected it on the PATH"):
        serve(models, engine="tensorflow_model_server")
    with pytest.raises(ServingError, match="received: torchserve"):
        serve(models, engine="torchserve")


def test_tensorflow_model_server_gets_its_flags(models, tmp_path, monkeypatch, capfd):
    binary = tmp_path / "tensorflow_model_server"
    show_config = 'for flag in "$@"; do case $flag in --model_config_file=*) cat "${flag#*=}";; esac; done'
    binary.write_text(f'#!/bin/sh\necho "$@"\n{show_config}\nexit 3\n')
    binary.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    with pytest.raises(ServingError, match="exit status 3"):
        serve(models, port=18500)
    output = capfd.readouterr()
    assert "--port=18500" in output.out
    assert f'base_path: "{models / "unet"}"' in output.out
    assert 'name: "unet"' in output.out
    assert "listens on every interface" in output.err


def test_sigterm_drains_and_ends_well(models, films):
    slow = tf.io.encode_png(tf.zeros([4096, 4096, 1], tf.uint8)).numpy()
    code = f"from mammogan_tf.serving.engines import serve; serve({str(models)!r}, port=0, engine='embedded')"
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout
        line = process.stdout.readline()
        assert line.startswith("Serving unet 1 on 127.0.0.1:")
        address = line.split(" on ")[1].split()[0]
        answers = []
        with MammoganClient(address) as client:
            client.segment(films)
            asker = threading.Thread(target=lambda: answers.append(client.segment([slow] * 8)))
            asker.start()
            time.sleep(0.3)
            process.send_signal(signal.SIGTERM)
            asker.join()
        assert len(answers[0].label_map) == 8
        assert process.wait(timeout=30) == 0
    finally:
        process.kill()
