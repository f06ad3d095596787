"""The optimiser's step alone: SparseAdam at 5 % of the weights against torch's fused Adam on one flat tensor.

The fused kernel moves every weight and has the gradient, moments and weights in one pass; SparseAdam keeps the moments of all
and moves the selected weights. The last line is the ratio of the median times; below 1 the product is faster.
"""

import argparse
import statistics
import time
from collections.abc import Callable

import torch

from ams_server.coordinates import coordinate_count, uniform_coordinates
from ams_server.optimizer import SparseAdam


def main() -> None:
    arguments = parse_arguments()
    torch.manual_seed(0)
    torch.set_num_threads(arguments.threads)
    fused, sparse = fused_adam(arguments), sparse_adam(arguments)
    times_ms = interleaved([fused, sparse], arguments.rounds, arguments.device)
    fused_ms, sparse_ms = map(statistics.median, times_ms)
    print(f"{arguments.parameters} parameters, {arguments.threads} threads, {arguments.device}")
    print(f"torch.optim.Adam(fused=True)  {fused_ms:7.3f} ms")
    print(f"SparseAdam                    {sparse_ms:7.3f} ms")
    print(f"ratio {sparse_ms / fused_ms:.2f}")


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--parameters", type=int, default=2_113_043)
    parser.add_argument("--fraction", type=float, default=0.05)
    parser.add_argument("--rounds", type=int, default=100)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    return parser.parse_args()


def fused_adam(arguments: argparse.Namespace) -> Callable[[], object]:
    parameter = torch.nn.Parameter(torch.randn(arguments.parameters, device=arguments.device))
    parameter.grad = torch.randn_like(parameter)
    return torch.optim.Adam([parameter], lr=1e-3, fused=True).step


def sparse_adam(arguments: argparse.Namespace) -> Callable[[], object]:
    size = arguments.parameters
    weights = torch.randn(size, device=arguments.device)
    optimizer = SparseAdam(weights, torch.randn_like(weights), learning_rate=1e-3)
    count = coordinate_count(size, arguments.fraction)
    positions = torch.from_numpy(uniform_coordinates(size, count, torch.Generator().manual_seed(0))).to(arguments.device)

    def step() -> None:
        optimizer.accumulate()
        optimizer.apply(positions)

    return step


def interleaved(runs: list[Callable[[], object]], rounds: int, device: str) -> list[list[float]]:
    for run in runs:
        run()
    times_ms: list[list[float]] = [[] for _ in runs]
    for _ in range(rounds):
        for run, own in zip(runs, times_ms, strict=True):
            finish(device)
            start = time.perf_counter()
            run()
            finish(device)
            own.append(1e3 * (time.perf_counter() - start))
    return times_ms


def finish(device: str) -> None:
    if device.startswith("cuda"):
        torch.cuda.synchronize()


if __name__ == "__main__":
    main()
