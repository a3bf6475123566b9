"""The JSON Schema of ``report.json``, as the package ships it."""

import json
from importlib.resources import files

__all__ = ["SCHEMA"]

SCHEMA = json.loads((files("mammogan_tf.evaluation") / "report.schema.json").read_text())
