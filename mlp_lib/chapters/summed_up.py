"""All verdicts in one or two sentences, for the claims page and the front page."""

from collections.abc import Sequence

from mlp_lib.chapters.claims import INCONCLUSIVE, NOT_TESTED, Verdict

NUMBERS = (
    *("no", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve"),
    *("thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen", "nineteen", "twenty"),
)
TOLD = {"supported": "supported", "not supported": "not supported", INCONCLUSIVE: "inconclusive"}


def summed_up(verdicts: Sequence[Verdict], listed: bool = False) -> str:
    """How many claims are tested, how many of these have each verdict, and how many are not tested; a verdict that no
    claim has is left out. `listed`: with the numbers of the claims in parentheses."""
    by_word = {word: [v.claim for v in verdicts if v.verdict == word] for word in (*TOLD, NOT_TESTED)}
    untested = by_word.pop(NOT_TESTED)
    everything, tested = _number(len(verdicts)), len(verdicts) - len(untested)
    if not tested:
        return f"None of the paper's {everything} claims is tested yet."

    def counted(claims: list[int], word: str) -> str:
        numbers = f" ({', '.join(map(str, claims))})" if listed else ""
        return f"{_number(len(claims))} {_are(len(claims))} {word}{numbers}"

    *most, last = (counted(claims, TOLD[word]) for word, claims in by_word.items() if claims)
    answers = f"{', '.join(most)} and {last}" if most else last
    first = f"Of the paper's {everything} claims, {_number(tested)} {_are(tested)} tested: {answers}."
    if not untested:
        return first
    numbers = f" ({', '.join(map(str, untested))})" if listed else ""
    return f"{first} The other {_number(len(untested))} {_are(len(untested))} not tested yet{numbers}."


def _number(count: int) -> str:
    return NUMBERS[count] if count < len(NUMBERS) else str(count)


def _are(count: int) -> str:
    return "is" if count == 1 else "are"
