"""How fast a server answers: percentiles of the latency, and throughput, of some clients that ask as fast as they can.

python serving/load_test.py --server 127.0.0.1:8500 --ask segment --clients 8 --batch 8 --seconds 10
"""

import argparse
import json
import threading
import time
from collections.abc import Callable, Sequence

import numpy as np

from mammogan_tf.errors import ServingError
from mammogan_tf.serving.client import MammoganClient

PIXEL = bytes.fromhex(
    "89504e470d0a1a0a0000000d49484452000000010000000108000000003a7e9b550000000a49444154789c63600000000200"
    "0148afa4710000000049454e44ae426082"
)
"""A PNG of one pixel."""


def make_question(ask: str, size: int, batch: int) -> Callable[[MammoganClient], object]:
    """What every client asks again and again: random films or label maps of the model's size."""
    random = np.random.default_rng(0)
    if ask == "segment":
        films = random.random((batch, size, size), np.float32)
        return lambda client: client.segment(films)
    seeds = np.arange(batch)
    if ask == "generate":
        label_maps, labels = random.integers(0, 5, (batch, size, size)), seeds % 3
        return lambda client: client.generate(seeds, label_maps, labels)
    return lambda client: client.synthesize([PIXEL] * batch, seeds)


def measure(server: str, ask: str, size: int, clients: int, batch: int, seconds: float) -> dict[str, float]:
    """Milliseconds at p50, p90, p99 and at most, requests and films a second."""
    question = make_question(ask, size, batch)
    with MammoganClient(server) as client:
        question(client)
    latencies: list[float] = []
    failures: list[Exception] = []
    end = time.perf_counter() + seconds

    def work() -> None:
        with MammoganClient(server) as client:
            try:
                while (begin := time.perf_counter()) < end:
                    question(client)
                    latencies.append(time.perf_counter() - begin)
            except Exception as error:
                failures.append(error)

    begin = time.perf_counter()
    threads = [threading.Thread(target=work) for _ in range(clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    passed = time.perf_counter() - begin
    if failures:
        raise failures[0]
    if not latencies:
        raise ServingError("load test: expected answers, received: none; take --clients 1 or more and more --seconds")
    p50, p90, p99, most = np.percentile(latencies, [50, 90, 99, 100]) * 1000
    return {
        "requests": len(latencies),
        "p50_ms": round(p50, 2),
        "p90_ms": round(p90, 2),
        "p99_ms": round(p99, 2),
        "max_ms": round(most, 2),
        "requests_per_second": round(len(latencies) / passed, 1),
        "films_per_second": round(len(latencies) * batch / passed, 1),
    }


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--server", default="127.0.0.1:8500")
    parser.add_argument("--ask", choices=["segment", "generate", "synthesize"], default="segment")
    parser.add_argument("--size", type=int, default=64, help="side of the model's films in pixels")
    parser.add_argument("--clients", type=int, default=8)
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--seconds", type=float, default=10.0)
    try:
        print(json.dumps(measure(**vars(parser.parse_args(arguments))), indent=2))
    except ServingError as error:
        parser.exit(1, f"{error}\n")


if __name__ == "__main__":
    main()
