"""What is known of the image sets before any image is read. Records can be read, and runs planned, from this alone.

The last entry has the form of a set of the reader's own (user_sets.py), but the project itself trains on it: see
data/README.md.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class Facts:
    """What one may know of a set without loading it. `mean` and `std` are per channel, for pixels in 0..1; those of a
    reader's own set are empty until it is loaded."""

    name: str
    title: str
    num_classes: int
    channels: int
    resolution: int
    train_size: int
    test_size: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    stats_source: str
    embedded: bool  # at hand without a download

    @property
    def grey(self) -> bool:
        """Whether the images have no colours: one channel, or three equal ones."""
        return self.channels == 1 or self.name == "digits-32"


COMPUTED = "all pixels of the training images"
IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))  # mean and std
FACTS = {
    facts.name: facts
    for facts in (
        Facts("digits", "scikit-learn digits", 10, 1, 8, 1437, 360, (0.3056,), (0.3759,), COMPUTED, True),
        Facts(
            "digits-32",
            "digits at 32 px",
            10,
            3,
            32,
            1437,
            360,
            (0.3056,) * 3,
            (0.3759,) * 3,
            COMPUTED,
            True,
        ),
        Facts(
            "shapes",
            "coloured shapes",
            10,
            3,
            32,
            5000,
            1000,
            (0.4536, 0.4556, 0.4546),
            (0.2848, 0.2833, 0.2849),
            COMPUTED,
            True,
        ),
        Facts(
            "shapes-centred",
            "coloured shapes, all in the middle",
            10,
            3,
            32,
            15_000,
            5000,
            (0.4534, 0.4564, 0.4538),
            (0.2852, 0.2833, 0.2853),
            COMPUTED,
            True,
        ),
        Facts(
            "shapes-near",
            "coloured shapes, near the middle",
            10,
            3,
            32,
            15_000,
            5000,
            (0.4534, 0.4564, 0.4538),
            (0.2852, 0.2833, 0.2853),
            COMPUTED,
            True,
        ),
        Facts(
            "shapes-moved",
            "coloured shapes, anywhere",
            10,
            3,
            32,
            15_000,
            5000,
            (0.4534, 0.4564, 0.4538),
            (0.2852, 0.2834, 0.2853),
            COMPUTED,
            True,
        ),
        Facts(
            "cifar10",
            "CIFAR-10",
            10,
            3,
            32,
            50_000,
            10_000,
            (0.49139968, 0.48215827, 0.44653124),
            (0.24703233, 0.24348505, 0.26158768),
            "the public code of the paper; the training images give the same to 4e-7",
            False,
        ),
        Facts(
            "cifar100",
            "CIFAR-100",
            100,
            3,
            32,
            50_000,
            10_000,
            (0.5071, 0.4865, 0.4409),
            (0.2673, 0.2564, 0.2762),
            "all pixels of the training images, rounded; the public code of the paper uses CIFAR-10's here, a slip",
            False,
        ),
        Facts(
            "fashion-mnist",
            "Fashion-MNIST",
            10,
            1,
            28,
            60_000,
            10_000,
            (0.2860,),
            (0.3530,),
            COMPUTED,
            False,
        ),
        Facts(
            "stl10",
            "STL-10",
            10,
            3,
            96,
            5000,
            8000,
            (0.4467, 0.4398, 0.4066),
            (0.2603, 0.2566, 0.2713),
            "as several public projects give them for the labelled training images; not computed by us",
            False,
        ),
        Facts(
            "tinyimagenet",
            "TinyImageNet",
            200,
            3,
            64,
            100_000,
            10_000,
            *IMAGENET,
            "ImageNet's, as in the public code of the paper",
            False,
        ),
        Facts(
            "npz:tinyimagenet32",
            "TinyImageNet at 32 px",
            200,
            3,
            32,
            100_000,
            10_000,
            (0.4782, 0.4499, 0.3954),
            (0.2623, 0.2542, 0.2675),
            COMPUTED + " of the lossy copy",
            False,
        ),
    )
}
