"""The reference pages of the book, written from the code at build time so that they cannot fall behind it.

Each function returns MyST: the library from its sources (read, not imported, so no torch), the command line from the
commands themselves, the schemas of runs and records from their pydantic fields. The pages in book/ include them.
"""

import ast
import inspect
import re
from pathlib import Path

from mlp_lib.paths import PACKAGE

LEFT_OUT = {"__init__.py", "__main__.py", "cli"}  # the command line has a page of its own
SPECIAL = re.compile(r"([\\*_{}\[\]<>$#|~^])")


def write(folder: Path, address: str | None = None) -> None:
    """Write every generated part into `folder`, which is made if need be. `address`: the repository's, for links to
    the sources."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in {"api": api(address=address), "cli": command_line(), "schema": schema()}.items():
        (folder / f"{name}.md").write_text(text, encoding="utf-8")


# --- the library


def api(package: Path = PACKAGE, address: str | None = None) -> str:
    """Every public function and class of every module, with signature, docstring and, where the repository has an
    address, links to its lines."""
    parts = []
    for path in sorted(package.rglob("*.py"), key=lambda p: (len(p.parts), p)):
        if path.relative_to(package).parts[0] in LEFT_OUT:
            continue
        module = ".".join(path.relative_to(package.parent).with_suffix("").parts).removesuffix(".__init__")
        file = path.relative_to(package.parent).as_posix()
        source = f"{address}/blob/main/{file}" if address else ""
        parts.append(_room(module, file, ast.parse(path.read_text(encoding="utf-8")), source))
    return "\n".join(parts)


def _room(module: str, file: str, tree: ast.Module, source: str) -> str:
    where = f"[`{file}`]({source})" if source else f"`{file}`"
    lines = [f"## {module}\n", prose(ast.get_docstring(tree) or ""), "", f"Source: {where}", ""]
    lines.append(f"```{{py:currentmodule}} {module}\n```\n")
    for node in tree.body:
        if isinstance(node, ast.FunctionDef) and not node.name.startswith("_"):
            lines.append(_function(node.name, node, source=source))
        elif isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
            lines.append(_class(node.name, node, source))
    return "\n".join(lines)


def _line(node: ast.AST, source: str) -> str:
    """A link to where a name is defined; nothing without an address."""
    return f"\n[source]({source}#L{node.lineno})\n" if source else ""


def _function(name: str, node: ast.FunctionDef, kind: str = "function", fence: str = "`````", source: str = "") -> str:
    arguments = ast.unparse(node.args)
    if kind in ("method", "classmethod"):
        arguments = re.sub(r"^(self|cls)(, )?", "", arguments)
    returns = f" -> {ast.unparse(node.returns)}" if node.returns else ""
    signature = name if kind == "property" else f"{name}({arguments}){returns}"
    told = f"{prose(ast.get_docstring(node) or '')}\n{_line(node, source)}"
    return f"{fence}{{py:{kind}}} {signature}\n{told}{fence}\n"


def _class(name: str, node: ast.ClassDef, source: str = "") -> str:
    lines = [f"``````{{py:class}} {name}", prose(ast.get_docstring(node) or "")]
    fields = [n for n in node.body if isinstance(n, ast.AnnAssign) and not ast.unparse(n.target).startswith("_")]
    if fields:
        listed = ", ".join(f"`{ast.unparse(field.target)}: {ast.unparse(field.annotation)}`" for field in fields)
        lines += ["", f"Fields: {listed}."]
    for member in node.body:
        if isinstance(member, ast.FunctionDef) and not member.name.startswith("_") and ast.get_docstring(member):
            marks = {ast.unparse(decorator) for decorator in member.decorator_list}
            kind = "property" if marks & {"property", "cached_property"} else "method"
            lines += ["", _function(member.name, member, kind)]
    lines.append(_line(node, source))
    return "\n".join([*lines, "``````", ""])


def prose(docstring: str) -> str:
    """A plain docstring as MyST: `names` stay code, indented parts stay as they stand, all else is escaped."""
    blocks = []
    for block in re.split(r"\n\s*\n", docstring.strip("\n")):
        text, indented = _split_indented(block)
        if text:
            pieces = re.split(r"(`[^`]+`)", text)
            blocks.append("".join(p if p.startswith("`") else SPECIAL.sub(r"\\\1", p) for p in pieces))
        if indented:
            blocks.append(f"```text\n{indented}\n```")
    return "\n\n".join(blocks)


def _split_indented(block: str) -> tuple[str, str]:
    """The lines of a paragraph up to the first indented one, and the rest."""
    lines = block.splitlines()
    first = next((i for i, line in enumerate(lines) if line.startswith("    ")), len(lines))
    return "\n".join(lines[:first]), "\n".join(line.removeprefix("    ") for line in lines[first:])


# --- the command line


def command_line() -> str:
    """Every command with its arguments and options."""
    import typer

    from mlp_lib.cli import app

    group = typer.main.get_command(app)
    parts = []
    for name, command in group.commands.items():
        parts.append(f"## {name}\n\n{prose(command.help or '')}\n")
        arguments = [p.name.upper() for p in command.params if p.param_type_name == "argument"]
        parts.append(f"```bash\npython -m mlp_lib {' '.join([name, *arguments, '[OPTIONS]'])}\n```\n")
        rows = [_option(parameter) for parameter in command.params if parameter.name != "help"]
        parts.append(table(("option", "meaning"), rows))
    return "\n".join(parts)


def _option(parameter) -> tuple[str, str]:
    """Its spellings, and what it means with its default. Only what every version of typer tells is asked for."""
    if parameter.param_type_name == "argument":
        names = f"`{parameter.name.upper()}`"
    else:
        names = ", ".join(f"`{name}`" for name in [*parameter.opts, *parameter.secondary_opts])
    meaning, default = prose(parameter.help or ""), parameter.default
    if parameter.required or isinstance(default, bool) or default is None or not str(default):
        return names, meaning
    return names, f"{meaning} (default `{default}`)"


# --- runs and records


def schema() -> str:
    """The fields of a run, of where its weights start, and of a record."""
    from mlp_lib.records.record import Record
    from mlp_lib.records.run import Init, Run

    titles = {"The fields of a run": Run, "Where the weights start": Init, "The entries of a record": Record}
    parts = [f"## {title}\n\n{prose(inspect.getdoc(kind) or '')}\n" for title, kind in titles.items()]
    return "\n".join(f"{part}\n{_fields(kind)}" for part, kind in zip(parts, titles.values(), strict=True))


def _fields(model) -> str:
    rows = []
    for name, field in model.model_fields.items():
        default = "required" if field.is_required() else f"`{_number(field.default)}`"
        bounds = ", ".join(_bound(part) for part in field.metadata)
        rows.append(
            (
                f"`{name}`",
                f"`{_type(field.annotation)}`{f', {bounds}' if bounds else ''}",
                default,
                prose(field.description or ""),
            )
        )
    return table(("field", "type", "default", "meaning"), rows)


def _number(value) -> str:
    return f"{value:.4g}" if isinstance(value, float) else repr(value)


def _type(annotation) -> str:
    """A type as a reader would write it: without module names, unions with a bar."""
    text = annotation.__name__ if isinstance(annotation, type) and "[" not in repr(annotation) else repr(annotation)
    text = re.sub(r"\b(?:typing|mlp_lib\.\w+)\.", "", text)
    return re.sub(r"^Optional\[(.*)\]$", r"\1 | None", re.sub(r"ForwardRef\('(\w+)'\)", r"\1", text))


def _bound(constraint) -> str:
    signs = {"ge": "≥", "gt": ">", "le": "≤", "lt": "<"}
    found = [name for name in signs if hasattr(constraint, name)]
    return " ".join(f"{signs[name]} {getattr(constraint, name):g}" for name in found)


def table(head: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    """A MyST table; a bar inside a cell is escaped, line breaks become spaces."""
    cells = [[re.sub(r"(?<!\\)\|", r"\\|", " ".join(cell.split())) for cell in row] for row in rows]
    lines = [head, ["---"] * len(head), *cells]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines) + "\n"
