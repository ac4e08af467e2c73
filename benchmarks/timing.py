"""Rounds that take turns: A B C, A B C, ... so that whatever slows the machine for a while falls on all alike."""

import statistics
import time
from collections.abc import Callable, Iterator

import torch

Round = Callable[[], float]  # does some work and returns its rate, in units a second


def wait_for(device: torch.device) -> None:
    """Return when the device has done what was asked of it."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    elif device.type == "mps":
        torch.mps.synchronize()


def seconds_of(work: Callable[[], object], calls: int, device: torch.device) -> float:
    """Seconds that `calls` calls take together, the device waited for only at the end, as a training loop would."""
    wait_for(device)
    start = time.perf_counter()
    for _ in range(calls):
        work()
    wait_for(device)
    return time.perf_counter() - start


def steady(work: Callable[[], object], units: float, device: torch.device, seconds: float) -> Round:
    """Rounds of about `seconds` of a call that does `units` (images, operations). It is warmed up here, twice."""
    seconds_of(work, 1, device)
    calls = max(1, round(seconds / seconds_of(work, 1, device)))
    return lambda: calls * units / seconds_of(work, calls, device)


def take_turns(arms: dict[str, Round], rounds: int) -> dict[str, list[float]]:
    """Rates of each arm in each round."""
    rates: dict[str, list[float]] = {name: [] for name in arms}
    for _ in range(rounds):
        for name, arm in arms.items():
            rates[name].append(arm())
    return rates


def medians(rates: dict[str, list[float]]) -> dict[str, float]:
    return {name: statistics.median(values) for name, values in rates.items()}


def endless(epoch: Callable[[int], Iterator]) -> Iterator:
    """The items of epoch(0), epoch(1), ... one after the other."""
    number = 0
    while True:
        yield from epoch(number)
        number += 1
