"""``python -m mammogan_tf_cli``, where the command is not on the PATH."""

from mammogan_tf_cli.main import cli

cli(prog_name="mammogan-tf")
