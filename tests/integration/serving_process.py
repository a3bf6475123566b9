"""``mammogan-tf serve`` in a process of its own, with tiny untrained networks, for tests that try to break it."""

import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

SIZE, Z_DIM = 16, 8


class Served:
    """A running server: its address, and what the system says of its process."""

    def __init__(self, process: subprocess.Popen, address: str, log: Path) -> None:
        self.process, self.address, self.log = process, address, log

    def megabytes(self, what: str = "VmRSS") -> float:
        """Resident memory, or with ``VmHWM`` the most that it ever was."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(re.search(rf"{what}:\s+(\d+)", status)[1]) / 1024  # type: ignore[index]


def export_tiny_models(folder: Path) -> Path:
    """Networks of a seed that sees no chest wall on the right in noise: films as PNG are then looked at once, as arrays are."""
    import keras

    from mammogan_tf.models.dcgan import build_generator
    from mammogan_tf.models.unet import build_unet
    from mammogan_tf.serving.export import export_generator, export_synthesize, export_unet

    keras.utils.set_random_seed(0)
    unet, generator = build_unet(SIZE, widths=(4, 8)), build_generator(SIZE, z_dim=Z_DIM, widths=(8, 4, 4))
    export_unet(unet, folder)
    export_generator(generator, folder)
    export_synthesize(unet, generator, folder)
    return folder


@contextmanager
def serving(models: Path, log: Path, *options: str) -> Iterator[Served]:
    """Serves from entry to exit; its log goes to a file. At the exit the server must still run, and end well."""
    command = [sys.executable, "-c", "from mammogan_tf_cli.main import cli; cli()", "serve", "--engine", "embedded"]
    with log.open("w") as stderr:
        process = subprocess.Popen(
            [*command, "--models", str(models), "--port", "0", *options],
            stdout=subprocess.PIPE,
            stderr=stderr,
            text=True,
        )
        try:
            assert process.stdout
            line = process.stdout.readline()
            assert line.startswith("Serving"), log.read_text()
            yield Served(process, line.split(" on ")[1].split()[0], log)
            assert process.poll() is None, log.read_text()[-2000:]
            process.terminate()
            assert process.wait(timeout=60) == 0
        finally:
            process.kill()
