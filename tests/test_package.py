"""What importing the package does."""

import os
import platform
import subprocess
import sys

import pytest

PROGRAM = """
import mammogan_tf
from tensorflow.python.util import _pywrap_util_port
print(_pywrap_util_port.IsMklEnabled())
"""


@pytest.mark.skipif(platform.machine() not in ("x86_64", "AMD64"), reason="oneDNN is chosen on x86 alone")
@pytest.mark.parametrize(("asked", "enabled"), [(None, "True"), ("0", "False")])
def test_tensorflow_computes_with_onednn_unless_the_user_says_otherwise(asked, enabled):
    environment = {name: value for name, value in os.environ.items() if name != "TF_ENABLE_ONEDNN_OPTS"}
    if asked:
        environment["TF_ENABLE_ONEDNN_OPTS"] = asked
    ran = subprocess.run([sys.executable, "-c", PROGRAM], env=environment, capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == enabled
