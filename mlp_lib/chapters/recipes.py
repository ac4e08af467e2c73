"""Recipes that several chapters share: the paper's augmentation, the usual ResNet18, how far a grid is widened."""

from mlp_lib.datasets import facts

WIDENINGS = 4  # at most, of a grid of learning rates whose best lies at an edge; each by a factor of three
PAPER_AUGMENT = "flip+crop+mixup"  # paper section 4: flips, random resized crops, MixUp


def augment_for(dataset: str, augment: str) -> str:
    """An augmentation as used on a data set: grey images are not flipped, since a mirrored digit is another sign."""
    parts = augment.split("+")
    if "flip" in parts and facts(dataset).grey:
        parts.remove("flip")
    return "+".join(parts) or "none"


# The usual recipe of a ResNet18 on CIFAR. Table 1 of the paper has one; how that was trained is not known to us.
RESNET18 = (
    ("model", "ResNet18"),
    ("augment", "flip+pad"),
    ("optimizer", "sgd"),
    ("lr", 0.1),
    ("momentum", 0.9),
    ("weight_decay", 5e-4),
    ("schedule", "cosine"),
    ("label_smoothing", 0.0),
    ("batch_size", 256),
    ("epochs", 200),
)
