"""The import graph of the library, and its picture: packages as floors, arrows downwards.

`make readme` draws `book/_static/house.svg`; a test compares it with the code.
"""

import ast
from functools import cache
from html import escape
from pathlib import Path
from textwrap import wrap

from mlp_lib.paths import PACKAGE, REPOSITORY

# From top to bottom: a package imports from floors below its own, and `cli` and `book` from each other. Modules that
# stand in no package, such as errors.py, are the ground floor.
FLOORS = (
    ("cli", "book"),
    ("chapters",),
    ("plots",),
    ("sweeps",),
    ("stats",),
    ("measures",),
    ("training",),
    ("models",),
    ("records",),
    ("datasets",),
)
PICTURE = REPOSITORY / "book" / "_static" / "house.svg"


def modules(package: Path = PACKAGE) -> list[Path]:
    """Every module of the library, in order of its path."""
    return sorted(package.rglob("*.py"))


@cache
def imports(path: Path, lazy: bool = True) -> frozenset[str]:
    """The modules of the library that a module imports, by dotted name; with `lazy`, those inside functions too."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    nodes = list(ast.walk(tree) if lazy else tree.body)
    found = {alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names}
    for node in nodes:
        if isinstance(node, ast.ImportFrom) and node.module:
            found |= {_module(node.module, alias.name) for alias in node.names}
    return frozenset(name for name in found if name.split(".")[0] == PACKAGE.name)


def _module(module: str, name: str) -> str:
    """What `from module import name` imports: the module of that name where there is one, else `module`."""
    place = PACKAGE.parent.joinpath(*module.split("."), name)
    return f"{module}.{name}" if place.is_dir() or place.with_suffix(".py").is_file() else module


def floor_of(module: Path | str) -> int | None:
    """The number of a module's floor, 0 at the top; that of the ground floor for a module in no package, and None for
    the library itself and for `__main__`."""
    if isinstance(module, Path):
        parts: tuple[str, ...] = module.relative_to(PACKAGE).with_suffix("").parts
    else:
        parts = tuple(module.split(".")[1:])
    if not parts or parts[0] in ("__init__", "__main__"):
        return None
    return next((i for i, floor in enumerate(FLOORS) if parts[0] in floor), len(FLOORS))


def jobs() -> dict[str, str]:
    """What each package says of itself: the first line of its `__init__`."""
    found = {}
    for name in (name for floor in FLOORS for name in floor):
        tree = ast.parse((PACKAGE / name / "__init__.py").read_text(encoding="utf-8"))
        found[name] = (ast.get_docstring(tree) or "").splitlines()[0]
    return found


def edges() -> list[tuple[str, str]]:
    """Which package imports from which: (from, to), for packages on different floors."""
    packages = set(jobs())
    found = set()
    for path in modules():
        source = path.relative_to(PACKAGE).parts[0]
        targets = {target.split(".")[1] for target in imports(path) if "." in target}
        found |= {(source, target) for target in targets & packages if source in packages}
    return sorted(pair for pair in found if floor_of(f"mlp_lib.{pair[0]}") != floor_of(f"mlp_lib.{pair[1]}"))


# --- the picture: sizes in pixels

WIDTH, ROW, BOX, LEFT, GAP = 900, 46, 30, 250, 118
LETTERS = 84  # in a line of text
COLOURS = ("#e8eef6", "#4477AA")  # fill and edge of a box
TOLD = "The packages of mlp_lib as floors, from the command line at the top to image sets; every import runs downwards."


def picture() -> str:
    """The house as SVG: a row a floor with the job of its packages, and an arrow from each package to those that it
    imports from."""
    place = {
        name: (LEFT - GAP * (len(floor) - 1 - j), 16 + ROW * i)
        for i, floor in enumerate(FLOORS)
        for j, name in enumerate(floor)
    }
    height = 16 + ROW * len(FLOORS)
    head = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" role="img" aria-label="{TOLD}"',
        '  font-family="Helvetica, Arial, sans-serif">',
        f'<rect width="{WIDTH}" height="{height}" rx="10" fill="#ffffff"/>',
    ]
    return "\n".join([*head, *_arrows(place), *_boxes(place), "</svg>", ""])


def _arrows(place: dict[str, tuple[int, int]]) -> list[str]:
    """Arcs left of the boxes, further out the more floors they pass; their tips point at the lower box."""
    lines = ['<g fill="none" stroke="#555555" opacity="0.6">']
    for source, target in edges():
        (x0, y0), (x1, y1) = place[source], place[target]
        start, end = y0 + BOX - 6, y1 + BOX / 2
        out = min(x0, x1) - 10 - 19 * (y1 - y0) / ROW
        lines.append(
            f'<path d="M{x0:g} {start:g}C{out:g} {start:g} {out:g} {end:g} {x1 - 6:g} {end:g}">'
            f"<title>{source} imports {target}</title></path>"
        )
    entered = [place[name] for name in place if any(target == name for _, target in edges())]
    tips = "".join(f"M{x - 7:g} {y + BOX / 2 - 4:g}l7 4-7 4z" for x, y in entered)
    return [*lines, "</g>", f'<path d="{tips}" fill="#555555"/>']


def _boxes(place: dict[str, tuple[int, int]]) -> list[str]:
    (fill, edge), told = COLOURS, jobs()
    lines = []
    for name, (x, y) in place.items():
        lines += [
            f'<rect x="{x}" y="{y}" width="104" height="{BOX}" rx="6" fill="{fill}" stroke="{edge}"/>',
            f'<text x="{x + 52}" y="{y + 20}" text-anchor="middle" font-size="14" font-weight="bold">{name}</text>',
        ]
    for floor in FLOORS:
        said = [told[name] if len(floor) == 1 else f"{name}: {told[name]}" for name in floor]
        texts = [text for job in said for text in wrap(job.replace("`", ""), LETTERS)]
        for i, text in enumerate(texts):
            at = place[floor[0]][1] + 19.5 + 14 * (i - (len(texts) - 1) / 2)
            lines.append(f'<text x="{LEFT + 118}" y="{at:g}" font-size="12" fill="#333333">{escape(text)}</text>')
    return lines


def draw(path: Path = PICTURE) -> bool:
    """Write the picture; True when that changed it."""
    before = path.read_text(encoding="utf-8") if path.is_file() else ""
    path.write_text(picture(), encoding="utf-8")
    return path.read_text(encoding="utf-8") != before
