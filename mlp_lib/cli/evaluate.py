"""`evaluate`: the paper's published weights on a test set."""

from typing import Annotated, Any

import typer

from mlp_lib.cli.app import Device, app, last_line
from mlp_lib.errors import UserError


@app.command()
def evaluate(
    checkpoint: Annotated[
        str, typer.Option(metavar="PATH", help="file of weights, by torch or safetensors, in the paper's layout")
    ],
    model: Annotated[str, typer.Option(help="its architecture, for example B-12/Wi-1024")],
    dataset: Annotated[str, typer.Option(help="the set that it was fine-tuned to: cifar10, cifar100, folder:imagenet")],
    resolution: Annotated[
        int, typer.Option(min=4, max=512, help="pixels that the model sees; images are resized")
    ] = 64,
    tta: Annotated[
        int, typer.Option(min=0, help="random crops and flips whose logits are averaged; the paper: 100")
    ] = 0,
    crop_scale: Annotated[
        float, typer.Option(help="of those, the least share of the area; the paper's fine-tuning")
    ] = 0.4,
    real_labels: Annotated[
        str | None, typer.Option(metavar="PATH", help="real.json, for ImageNet's validation images")
    ] = None,
    device: Device = "auto",
    as_json: Annotated[bool, typer.Option("--json", help="print one JSON object instead")] = False,
) -> None:
    """Test published weights: the row of the paper's Table 2, beside the paper's numbers. Executes nothing in them."""
    from mlp_lib.measures.table2_row import row
    from mlp_lib.measures.test_crops import Views
    from mlp_lib.paths import user_path
    from mlp_lib.records.architectures import parse
    from mlp_lib.training.how import pick_device

    if not 0 < crop_scale <= 1:
        raise UserError(f"--crop-scale {crop_scale:g}: a share of the image's area, above 0 and at most 1")
    name = parse(model).name
    if tta:
        _say_how_long(name, dataset, resolution, tta)
    found = row(
        user_path(checkpoint, "--checkpoint"),
        name,
        dataset,
        resolution,
        views=tta,
        crops=Views(crop_scale, 1.0),
        real_labels=None if real_labels is None else user_path(real_labels, "--real-labels"),
        device=pick_device(device),
    )
    found["paper"] = papers_numbers(name, dataset)
    if as_json:
        last_line(True, **found)
        return
    typer.echo(
        f"{name} on {dataset} at {resolution} pixels: {found['parameters'] / 1e6:.1f}M parameters, "
        f"{found['images']:,} test images"
    )
    for line in _lines(found):
        typer.echo(line)


def _say_how_long(model: str, dataset: str, resolution: int, views: int) -> None:
    """One line on stderr where the views take more than a minute on two CPU cores."""
    import torch

    from mlp_lib import datasets
    from mlp_lib.models import build
    from mlp_lib.models.flops import cost
    from mlp_lib.sweeps.costs import PLANNED_RATE, human_seconds

    facts = datasets.facts(dataset)
    with torch.device("meta"):
        network = build(model, facts.num_classes, resolution, channels=facts.channels)
    flops = 2 * cost(network, facts.channels, resolution).macs * facts.test_size * views
    if (seconds := flops / PLANNED_RATE["wide"]) > 60:
        line = (
            f"{views} crops of {facts.test_size:,} images: {flops:.2g} FLOPs, {human_seconds(seconds)} on two CPU cores"
        )
        typer.echo(line, err=True)


def papers_numbers(model: str, dataset: str) -> dict[str, float | None]:
    """Table 2 of the paper for a model and data set: "top1", "top1_views" (100 crops), "real", "real_views"; None for
    what it does not have."""
    from mlp_lib.chapters.claims import paper_table

    table = paper_table("table2")
    known = dataset.split(":")[-1].split("@")[0].split("/")[-1]
    own = table[(table["model"] == model) & (table["augmented"] == "yes")]

    def number(name: str, tta: str) -> float | None:
        there = own.loc[(own["dataset"] == name) & (own["tta"] == tta), "top1"]
        return float(there.iloc[0]) if len(there) else None

    kinds = {"top1": (known, "no"), "top1_views": (known, "yes")}
    kinds |= {"real": (f"{known}-real", "no"), "real_views": (f"{known}-real", "yes")}
    return {name: number(*kind) for name, kind in kinds.items()}


def _lines(found: dict[str, Any]) -> list[str]:
    """One line an accuracy that was asked for, with the paper's beside it."""
    views = f"mean of {found['views']} crops"
    texts = {"top1": "test top-1", "top1_views": f"test top-1, {views}", "real": "ReaL", "real_views": f"ReaL, {views}"}
    lines = []
    for name, text in texts.items():
        if found[name] is not None:
            fifth = {"top1": "top5", "top1_views": "top5_views"}.get(name)
            beside = f" (top-5 {found[fifth]:.1f}%)" if fifth else ""
            paper = found["paper"][name]
            lines.append(
                f"{text}: {found[name]:.1f}%{beside}; the paper: {'none' if paper is None else f'{paper:.1f}%'}"
            )
    return lines
