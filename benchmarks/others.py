"""What a user would pick instead: torch's DataLoader with torchvision's transforms; a loop in the paper's own manner.

Both train the run's model on the run's augmentation (random resized crop, flip, MixUp) of as many random images. The
transforms work on one image at a time, on the host. The loader is given its best: what it reads and its number of
workers are tried out, workers persist, and memory is pinned where there is a GPU to copy to.
"""

import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import lion_pytorch
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, RandomSampler, default_collate
from torchvision.transforms import v2

from benchmarks.ours import loop_step, plain_step
from benchmarks.timing import Round, seconds_of, steady, take_turns
from mlp_lib.datasets import facts
from mlp_lib.records.run import Run
from mlp_lib.training.loaders import Data

PREFETCH = 2  # batches ahead for each worker: DataLoader's default
SHARED = Path("/dev/shm")  # where workers leave their batches on Linux; containers keep it small

TrainOn = Callable[[Tensor, Tensor], object]


class Samples(Dataset):
    """One augmented example at a time: (C, H, W) float32 and its label; read as a PIL image or as a tensor."""

    def __init__(self, run: Run, data: Data, as_pil: bool):
        f = facts(run.dataset)
        images = data.train.images.cpu()  # (N, C, H, W) uint8
        self.images = images.permute(0, 2, 3, 1).squeeze(-1).contiguous().numpy() if as_pil else images
        self.labels, self.as_pil = data.train.labels.tolist(), as_pil
        size, ratio = images.shape[-2:], (1 / run.crop_ratio, run.crop_ratio)
        self.transform = v2.Compose(
            [
                v2.RandomResizedCrop(size, scale=(run.crop_scale, 1.0), ratio=ratio, antialias=True),
                v2.RandomHorizontalFlip(),
                v2.ToImage(),
                v2.ToDtype(torch.float32, scale=True),
                v2.Normalize(f.mean, f.std),
            ]
        )

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        image = self.images[index]
        return self.transform(Image.fromarray(image) if self.as_pil else image), self.labels[index]


class Mixed:
    """Collates samples into a batch and mixes it up: (B, C, H, W) and (B, K), in the worker."""

    def __init__(self, run: Run, data: Data):
        self.mixup = v2.MixUp(alpha=run.mixup_alpha, num_classes=data.num_classes)

    def __call__(self, samples: list) -> tuple[Tensor, Tensor]:
        return self.mixup(*default_collate(samples))


class Setting(NamedTuple):
    """How the alternative's loader is set up."""

    as_pil: bool
    workers: int

    @property
    def ahead(self) -> int:
        return PREFETCH * self.workers


def loader_round(run: Run, data: Data, setting: Setting, train_on: TrainOn, calls: int) -> Round:
    """Rounds of `calls` steps from the middle of an epoch, images/s; between rounds the workers have nothing to do.

    As many batches as the workers may be ahead are trained on before the clock starts, and as many are left when it
    stops: what is timed has to be loaded in that time, no more and no less.
    """
    device = data.mean.device
    samples = Samples(run, data, setting.as_pil)
    batches = 2 * setting.ahead + calls
    loader = DataLoader(
        samples,
        run.batch_size,
        drop_last=True,
        collate_fn=Mixed(run, data),
        num_workers=setting.workers,
        sampler=RandomSampler(samples, num_samples=batches * run.batch_size),
        persistent_workers=setting.workers > 0,
        pin_memory=device.type == "cuda",
        prefetch_factor=PREFETCH if setting.workers else None,
    )

    def round_() -> float:
        epoch = iter(loader)

        def step() -> None:
            images, targets = next(epoch)
            train_on(images.to(device, non_blocking=True), targets.to(device, non_blocking=True))

        for _ in range(setting.ahead):
            step()
        seconds = seconds_of(step, calls, device)
        for _ in epoch:
            pass
        return calls * run.batch_size / seconds

    return round_


def tried_settings(run: Run, data: Data, train_on: TrainOn, candidates: list[int]) -> dict[Setting, float]:
    """The faster input with each number of workers, and its images/s in one short round of training."""

    def sample_seconds(as_pil: bool) -> float:
        samples, start = Samples(run, data, as_pil), time.perf_counter()
        for index in range(min(300, len(samples))):
            samples[index]
        return time.perf_counter() - start

    sample_seconds(True)  # the first use imports and compiles
    as_pil = sample_seconds(True) < sample_seconds(False)
    rates = {}
    for workers in candidates:
        setting = Setting(as_pil, workers)
        rates[setting] = loader_round(run, data, setting, train_on, calls=max(2, setting.ahead))()
    return rates


def worker_candidates(run: Run, data: Data, cores: int | None = None, shared: Path = SHARED) -> list[int]:
    """None, half the cores, all of them; no more than whose batches have room in shared memory."""
    cores = cores or os.cpu_count() or 1
    batch_bytes = 4 * run.batch_size * data.train.images[0].numel()
    room = shutil.disk_usage(shared).free // (2 * batch_bytes * (PREFETCH + 1)) if shared.exists() else cores
    return sorted({0, *(workers for workers in (cores // 2, cores) if workers <= room)})


def paper_step(run: Run, device: torch.device) -> TrainOn:
    """A step in the paper's manner: fp32, LION a parameter at a time, loss and accuracy read after every step."""

    def lion(parameters):
        return lion_pytorch.Lion(parameters, lr=run.lr, betas=run.betas, weight_decay=run.weight_decay)

    step = plain_step(run, "fp32", device, lion)

    def train_on(images: Tensor, targets: Tensor) -> tuple[float, float]:
        loss, logits = step(images, targets)
        return loss.item(), (logits.argmax(1) == targets.argmax(1)).float().mean().item()

    return train_on


def beside_others(
    run: Run, data: Data, precision: str, rounds: int, seconds: float, candidates: list[int]
) -> tuple[dict[Setting, float], dict[str, list[float]]]:
    """Images/s by round of `ours`, `dataloader` (same step, precision and optimiser) and `paper_loop`.

    Before them the settings tried for DataLoader, with the images/s that made the choice.
    """
    device = data.mean.device
    train_on = plain_step(run, precision, device)
    tried = tried_settings(run, data, train_on, candidates)
    setting = max(tried, key=tried.get)
    calls = max(2, setting.ahead, round(seconds * tried[setting] / run.batch_size))
    arms = {
        "ours": steady(loop_step(run, data, precision), run.batch_size, device, seconds),
        "dataloader": loader_round(run, data, setting, train_on, calls),
        "paper_loop": loader_round(run, data, setting, paper_step(run, device), calls),
    }
    arms["paper_loop"]()  # its workers start, its optimiser gets its state; the others are warm
    arms["dataloader"]()
    return tried, take_turns(arms, rounds)
