"""Augmentation against torchvision, torch's own label smoothing, and loops written out in plain Python."""

import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torchvision.transforms import RandomResizedCrop
from torchvision.transforms.v2 import functional as TF

from mlp_lib.errors import UserError
from mlp_lib.training import augment
from mlp_lib.training.augment import Augmentation
from mlp_lib.training.seeds import stream_seed


def images_of(b: int, c: int = 3, size: int = 32) -> torch.Tensor:
    return torch.randn(b, c, size, size, generator=torch.Generator().manual_seed(0))


def run_of(augment: str, **changes):
    return SimpleNamespace(
        **{"augment": augment, "crop_scale": 0.08, "crop_ratio": 4 / 3, "pad": 4, "mixup_alpha": 0.8} | changes
    )


@pytest.mark.parametrize("size", [8, 32, 64])
def test_resized_crop_is_torchvisions(size):
    images = images_of(200, size=size)
    rng = np.random.default_rng(1)
    h, w = rng.integers(1, size + 1, (2, 200))
    h[:2], w[:2] = (1, size), (size, 1)
    top, left = rng.integers(0, size - h + 1), rng.integers(0, size - w + 1)
    ours = augment.resized_crop(images, *(torch.from_numpy(v) for v in (top, left, h, w)), size=size)
    theirs = torch.stack(
        [
            TF.resized_crop(images[i], int(top[i]), int(left[i]), int(h[i]), int(w[i]), [size, size], antialias=True)
            for i in range(200)
        ]
    )
    assert (ours - theirs).abs().max() < 1e-5


def test_resized_crop_to_a_larger_size_and_of_the_whole_image():
    images = images_of(3)
    zero, full = torch.zeros(3, dtype=torch.int64), torch.full((3,), 32)
    assert torch.allclose(augment.resized_crop(images, zero, zero, full, full, 32), images, atol=1e-5)
    larger = augment.resized_crop(images, zero, zero, full, full, 64)
    assert torch.allclose(larger, TF.resize(images, [64, 64], antialias=True), atol=1e-5)


def test_nothing_outside_the_box_leaks_in():
    images = torch.full((1, 1, 32, 32), 1e6)
    images[:, :, 10:15, 3:9] = 1.0
    box = [torch.tensor([v]) for v in (10, 3, 5, 6)]
    assert torch.equal(augment.resized_crop(images, *box, size=32), torch.ones(1, 1, 32, 32))


def boxes_in_plain_python(u, height, width, scale, ratio):
    """RandomResizedCrop as its documentation tells it, one image at a time, from 22 given uniforms."""
    for attempt in range(10):
        area = height * width * (scale + (1 - scale) * u[attempt])
        aspect = math.exp(-math.log(ratio) + 2 * math.log(ratio) * u[10 + attempt])
        w, h = round(math.sqrt(area * aspect)), round(math.sqrt(area / aspect))
        if 0 < w <= width and 0 < h <= height:
            return int(u[20] * (height - h + 1)), int(u[21] * (width - w + 1)), h, w
    h, w = height, width
    if width / height < 1 / ratio:
        h = round(width * ratio)
    elif width / height > ratio:
        w = round(height * ratio)
    return (height - h) // 2, (width - w) // 2, h, w


@pytest.mark.parametrize(
    ("height", "width", "scale", "ratio"),
    [
        (32, 32, 0.08, 4 / 3),
        (32, 32, 0.4, 1.0),
        (64, 64, 0.9, 4 / 3),
        (40, 20, 0.7, 4 / 3),
        (20, 40, 0.9, 1.2),
        (8, 8, 0.001, 4 / 3),
    ],
)
def test_crop_boxes_from_given_draws(height, width, scale, ratio):
    u = torch.rand(3000, 22, generator=torch.Generator().manual_seed(3))
    ours = torch.stack(augment.crop_boxes(u, height, width, scale, ratio), 1)
    plain = [boxes_in_plain_python(row, height, width, scale, ratio) for row in u.double().tolist()]
    assert ours.dtype == torch.int64
    assert ours.tolist() == [list(box) for box in plain]


def test_crop_boxes_fall_back_to_the_centre():
    # Every attempt asks for the full area at ratio 4/3, which does not fit a square.
    u = torch.full((1, 22), 1 - 1e-7)
    assert [v.item() for v in augment.crop_boxes(u, 32, 32, 0.08, 4 / 3)] == [0, 0, 32, 32]
    assert [v.item() for v in augment.crop_boxes(u, 60, 30, 0.9, 4 / 3)] == [10, 0, 40, 30]


def test_crop_boxes_have_torchvisions_distribution():
    n, size = 6000, 32
    torch.manual_seed(0)
    theirs = np.array(
        [RandomResizedCrop.get_params(torch.empty(3, size, size), [0.08, 1.0], [3 / 4, 4 / 3]) for _ in range(n)],
        dtype=float,
    )
    u = torch.rand(n, 22, generator=torch.Generator().manual_seed(1))
    ours = torch.stack(augment.crop_boxes(u, size, size, 0.08, 4 / 3), 1).double().numpy()
    for f in (
        lambda t, l, h, w: h * w,
        lambda t, l, h, w: np.log(w / h),
        lambda t, l, h, w: t,
        lambda t, l, h, w: l,
        lambda t, l, h, w: (h * w) ** 2,
        lambda t, l, h, w: np.log(w / h) ** 2,
        lambda t, l, h, w: t * (size - h),
    ):
        a, b = f(*ours.T), f(*theirs.T)
        error = math.sqrt((a.var() + b.var()) / n)
        assert abs(a.mean() - b.mean()) < 4.5 * error


def test_hflip_and_padded_crop_are_torchvisions():
    images = images_of(40, size=9)
    mask = torch.arange(40) % 3 == 0
    flipped = augment.hflip(images, mask)
    for i in range(40):
        assert torch.equal(flipped[i], TF.hflip(images[i]) if mask[i] else images[i])
    rng = np.random.default_rng(0)
    dy, dx = rng.integers(0, 7, (2, 40))
    shifted = augment.padded_crop(images, torch.from_numpy(dy), torch.from_numpy(dx), 3)
    for i in range(40):
        padded = TF.pad(images[i], [3], fill=0)
        assert torch.equal(shifted[i], TF.crop(padded, int(dy[i]), int(dx[i]), 9, 9))


def test_soft_targets_are_torchs_label_smoothing():
    logits, labels = torch.randn(64, 10), torch.arange(64) % 10
    soft = F.cross_entropy(logits, augment.soft_targets(labels, 10, 0.3))
    assert torch.allclose(soft, F.cross_entropy(logits, labels, label_smoothing=0.3))
    assert torch.allclose(augment.soft_targets(labels, 10, 0.3).sum(1), torch.ones(64))


def test_mixed_soft_targets_give_the_mixed_loss():
    images, labels = images_of(64), torch.arange(64) % 10
    permutation, lam = torch.randperm(64), torch.tensor(0.37)
    mixed, targets = augment.mixup(images, augment.soft_targets(labels, 10, 0.3), lam, permutation)
    assert torch.allclose(
        mixed, torch.stack([0.37 * images[i] + 0.63 * images[permutation[i]] for i in range(64)]), atol=1e-6
    )
    logits = mixed.flatten(1) @ torch.randn(3 * 32 * 32, 10)

    def loss(y):
        return F.cross_entropy(logits, y, label_smoothing=0.3)

    assert torch.allclose(F.cross_entropy(logits, targets), lam * loss(labels) + (1 - lam) * loss(labels[permutation]))


def test_stream_seed_known_answers():
    # printf '["shuffle", 0, 3]' | b2sum -l 64, the last bit shifted out.
    assert stream_seed("shuffle", 0, 3) == 4144080325707598760
    assert stream_seed("shuffle", np.int64(0), 3) == 4144080325707598760
    assert stream_seed(1, 23) != stream_seed(12, 3)
    seeds = {stream_seed("x", seed, epoch) for seed in range(50) for epoch in range(50)}
    assert len(seeds) == 2500 and 0 <= min(seeds) and max(seeds) < 2**63
    with pytest.raises(TypeError):
        stream_seed(0.5)


def test_a_draw_depends_on_the_example_not_on_its_batch():
    augmentation = Augmentation(flip=True, crop=True, pad=2)
    images = images_of(48, size=16)
    table = augment.draws(augmentation, 48, seed=1, epoch=2)
    whole = augment.apply(images, torch.arange(48), table, augmentation)
    order = torch.randperm(48)
    for part in order.split(7):
        assert torch.allclose(augment.apply(images[part], part, table, augmentation), whole[part], atol=1e-6)


def test_draws_repeat_and_differ_between_epochs_and_seeds():
    augmentation = Augmentation(flip=True, crop=True, pad=4)
    first = augment.draws(augmentation, 500, seed=0, epoch=0)
    again = augment.draws(augmentation, 500, seed=0, epoch=0)
    for a, b in zip(first, again, strict=True):
        assert torch.equal(a, b)
    for seed, epoch in [(0, 1), (1, 0)]:
        for a, b in zip(first, augment.draws(augmentation, 500, seed, epoch), strict=True):
            assert not torch.equal(a, b)
    # Paired comparisons: who is flipped does not hang on what else is on.
    assert torch.equal(augment.draws(Augmentation(flip=True), 500, 0, 0).flip, first.flip)
    assert set(first.shift.unique().tolist()) == set(range(9))
    assert 190 < first.flip.sum() < 310


@pytest.mark.parametrize("pad", [0, 3])
def test_apply_is_crop_then_pad_then_flip(pad):
    augmentation = Augmentation(flip=True, crop=True, pad=pad, crop_scale=0.3)
    images, index = images_of(5, size=16), torch.tensor([4, 9, 2, 7, 0])
    table = augment.draws(augmentation, 10, seed=0, epoch=0)
    assert 0 < table.flip[index].sum() < 5
    out = augment.apply(images, index, table, augmentation)
    for k, i in enumerate(index.tolist()):
        top, left, h, w = boxes_in_plain_python(table.crop[i].double().tolist(), 16, 16, 0.3, 4 / 3)
        image = TF.resized_crop(images[k], top, left, h, w, [16, 16], antialias=True)
        if pad:
            image = TF.crop(TF.pad(image, [3], fill=0), int(table.shift[i, 0]), int(table.shift[i, 1]), 16, 16)
        image = TF.hflip(image) if table.flip[i] else image
        assert torch.allclose(out[k], image, atol=1e-5)


def test_nothing_on_changes_nothing():
    off = Augmentation.from_run(run_of("none"))
    images = images_of(4)
    assert torch.equal(augment.apply(images, torch.arange(4), augment.draws(off, 4, 0, 0), off), images)
    assert torch.equal(augment.mixup_lambda(off, 0, 0, 3), torch.ones(3))


def test_from_run_reads_the_parts():
    both = Augmentation.from_run(run_of("flip+crop+mixup", crop_scale=0.4, crop_ratio=1.0))
    assert both == Augmentation(flip=True, crop=True, mixup_alpha=0.8, crop_scale=0.4, crop_ratio=1.0)
    assert Augmentation.from_run(run_of("pad", pad=2)) == Augmentation(pad=2)


@pytest.mark.parametrize(
    ("augment", "changes", "words"),
    [
        ("flip+rotate", {}, "rotate"),
        ("crop", {"crop_scale": 0.0}, "crop_scale"),
        ("crop", {"crop_ratio": 0.5}, "crop_"),
        ("pad", {"pad": 0}, "pad"),
        ("mixup", {"mixup_alpha": 0.0}, "mixup_alpha"),
    ],
)
def test_from_run_refuses(augment, changes, words):
    with pytest.raises(UserError, match=words):
        Augmentation.from_run(run_of(augment, **changes))


def test_mixup_lambda_is_beta():
    augmentation = Augmentation(mixup_alpha=0.8)
    lam = augment.mixup_lambda(augmentation, 0, 0, 20_000)
    assert lam.dtype == torch.float32 and lam.shape == (20_000,) and 0 <= lam.min() and lam.max() <= 1
    assert abs(lam.mean() - 0.5) < 0.01
    assert abs(lam.var() - 1 / (4 * (2 * 0.8 + 1))) < 0.003  # the variance of Beta(a, a)
    assert torch.equal(lam[:100], augment.mixup_lambda(augmentation, 0, 0, 100))
    assert not torch.equal(lam[:100], augment.mixup_lambda(augmentation, 0, 1, 100))
