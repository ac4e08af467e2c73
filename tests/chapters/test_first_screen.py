"""What a chapter says on its first screen rests on sound choices of the learning rate, and on recorded ones."""

import re

import nbformat
import pytest

from mlp_lib.chapters import planning
from mlp_lib.chapters.claims import shown_of
from mlp_lib.chapters.registry import STUDIES
from mlp_lib.chapters.tuning import flagged
from mlp_lib.paths import REPOSITORY
from mlp_lib.records.store import Store

DECLARED = [study for study in STUDIES.values() if study.first_screen]


def glued_on_first_screen(cells) -> set[str]:
    """The names of the values glued in prose before the first heading of the second level."""
    prose = "\n".join(cell.source for cell in cells if cell.cell_type == "markdown")
    first = re.split(r"(?m)^## ", prose, maxsplit=1)[0]
    return {*re.findall(r"\{glue:(?:text|md)?\}`([^`:]+)", first)}


@pytest.mark.parametrize("study", DECLARED, ids=lambda study: study.name)
def test_every_value_of_the_first_screen_says_which_choices_it_rests_on(study):
    cells = nbformat.read(REPOSITORY / "notebooks" / f"{study.page}.ipynb", as_version=4).cells
    glued = glued_on_first_screen(cells)
    assert glued and glued == {*study.first_screen}
    assert not study.flags_told_in or study.flags_told_in in glued


@pytest.mark.parametrize("study", [s for s in DECLARED if not s.flags_told_in], ids=lambda study: study.name)
def test_no_sentence_of_the_first_screen_rests_on_a_flagged_choice(study):
    """At the preset that the page shows, from the committed records."""
    store = Store()
    preset = study.presets[planning.pick_preset(study, "auto", store)]
    results = study.collect(preset, planning.from_records(store))
    for name, choices_of in study.first_screen.items():
        found = flagged(dict(enumerate(choices_of(shown_of(study, results, store)))))
        assert not found, f"{study.page}: {name} rests on a choice of the learning rate {found}"


def test_the_first_screen_ends_at_the_first_heading():
    markdown, code = nbformat.v4.new_markdown_cell, nbformat.v4.new_code_cell
    cells = [
        markdown("# Title\n\n{glue:text}`a` and {glue:text}`b`"),
        code("glue('c', 1)"),
        markdown("{glue:}`d`\n\n## How sure is this?\n\n{glue:text}`e`"),
        markdown("{glue:text}`f`"),
    ]
    assert glued_on_first_screen(cells) == {"a", "b", "d"}
