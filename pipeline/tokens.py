"""Token estimates that calibrate themselves on what endpoints report. Pure.

A text is measured in units (a quarter of its UTF-8 bytes), and a line per script says how many tokens so many units are.
"""

from bisect import bisect_left, bisect_right
from collections.abc import Callable, Mapping
from typing import NamedTuple

# Four bytes of UTF-8 per token is OpenAI's rule of thumb for English; other scripts have more bytes per character
# and more tokens per character, so bytes stay nearer than characters do.
BYTES_PER_TOKEN = 4.0

# Sums per script, in the order of `_Line`: what a calibration is where it is stored or sent.
Calibration = Mapping[str, tuple[float, ...]]
NO_CALIBRATION: Calibration = {}

# A model's own tokenizer, where it is at hand.
TokenCount = Callable[[str | bytes], int]
# So many texts per script are counted with it: enough for the line, and a count takes as long as rendering 50 rows.
COUNTED = 200
# After so many answers the endpoint's own counts are as good, and they are of what it really counts.
ENOUGH_ANSWERS = 200

# Scripts whose texts cost alike, by code point: tokenizers know Latin best and cut the others finer.
_LATIN = "latin"
_SCRIPTS = (
    (0x0250, _LATIN),
    (0x0370, "marks"),
    (0x0400, "greek"),
    (0x0530, "cyrillic"),
    (0x0590, "armenian"),
    (0x0600, "hebrew"),
    (0x0900, "arabic"),
    (0x0E00, "indic"),
    (0x0F00, "thai"),
    (0x1100, "southeast"),
    (0x1200, "hangul"),
    (0x2E80, "symbols"),
    (0x3040, "han"),
    (0x3100, "kana"),
    (0xAC00, "han"),
    (0xD7B0, "hangul"),
    (0xF900, "private"),
    (0xFB00, "han"),
    (0x20000, "symbols"),
)
_ENDS = [end for end, _ in _SCRIPTS]
_NAMES = [*[name for _, name in _SCRIPTS], "han"]
_SAMPLED = 64  # characters that tell the script of a text
_MOSTLY = 0.8  # a text with so much Latin is Latin

# Before answers teach better, two texts of the rule of thumb hold the line.
_PRIOR = ((16.0, 0.5), (256.0, 0.5))
# A report this far from the units is no count of this text.
_ABSURD = 64.0
# Older answers weigh no more than this many, so that a line follows its data.
MOST_ANSWERS = 4096.0


def estimate_tokens(text: str) -> int:
    """Tokens of a text, at least 1, by the rule of thumb alone; used for packing and shares, never for accounting."""
    return max(1, round(units_of(text)))


def units_of(text: str | bytes) -> float:
    """A quarter of its UTF-8 bytes."""
    if isinstance(text, bytes) or text.isascii():
        return len(text) / BYTES_PER_TOKEN
    return len(text.encode("utf-8", "surrogatepass")) / BYTES_PER_TOKEN


def script_of(text: str | bytes) -> str:
    """The script that most of a text is in, of equals the first in Unicode; from a sample of its characters."""
    if text.isascii():
        return _LATIN
    if isinstance(text, bytes):
        text = text.decode("utf-8", "replace")
    # in order, so that one search finds all characters of a script: to look each one up was most of an estimate
    points = sorted(map(ord, text[:: max(1, len(text) // _SAMPLED)]))
    counts: dict[str, int] = {}
    start = 0
    while start < len(points):
        script = bisect_right(_ENDS, points[start])
        end = bisect_left(points, _ENDS[script], start) if script < len(_ENDS) else len(points)
        counts[_NAMES[script]] = counts.get(_NAMES[script], 0) + end - start
        start = end
    if counts.pop(_LATIN, 0) >= _MOSTLY * len(points) or not counts:
        return _LATIN
    return max(counts, key=counts.__getitem__)


class _Line(NamedTuple):
    """Sums behind the line tokens = base + slope * units, each text weighted by 1 / units.

    So weighted, errors count in proportion to the text, and the estimates of all texts sum to what was reported.
    """

    inverse: float = 0.0  # sum of 1 / units
    answers: float = 0.0
    units: float = 0.0
    ratios: float = 0.0  # sum of tokens / units
    tokens: float = 0.0

    def plus(self, units: float, tokens: float, weight: float = 1.0) -> "_Line":
        return _Line(
            self.inverse + weight / units,
            self.answers + weight,
            self.units + weight * units,
            self.ratios + weight * tokens / units,
            self.tokens + weight * tokens,
        )

    def faded(self) -> "_Line":
        share = MOST_ANSWERS / self.answers
        return self if share >= 1 else _Line(*[share * value for value in self])

    def with_line(self, other: "_Line") -> "_Line":
        return _Line(*map(sum, zip(self, other, strict=True)))

    def fitted(self) -> tuple[float, float]:
        """Base and slope, neither below 0."""
        spread = self.inverse * self.units - self.answers**2  # 0 where all texts are of one size
        if spread > 1e-6 * self.answers**2:
            base = (self.ratios * self.units - self.answers * self.tokens) / spread
            slope = (self.inverse * self.tokens - self.answers * self.ratios) / spread
            if base >= 0 and slope >= 0:
                return base, slope
        return 0.0, self.tokens / self.units


class Estimator:
    """Estimates tokens of texts, and learns from reports. Starts from a calibration, and hands on what it added.

    `count` teaches it before answers do; what is only counted is not handed on.
    """

    def __init__(self, calibration: Calibration = NO_CALIBRATION, count: TokenCount | None = None) -> None:
        self._count = count
        self._counted: dict[str, _Line] = {}
        self._lines = {script: _Line(*sums) for script, sums in calibration.items()}
        self._added: dict[str, _Line] = {}
        self._fits: dict[str, tuple[float, float]] = {}

    def estimate(self, text: str | bytes) -> int:
        """Tokens, at least 1, of a text or of the JSON that a message list is sent as."""
        script = script_of(text)
        if self._count is not None and self._is_worth_counting(script) and (units := units_of(text)):
            tokens = max(1, self._count(text))
            self._counted[script] = self._counted.get(script, _Line()).plus(units, tokens)
            self._fits.pop(script, None)
            return tokens
        base, slope = self._fits.get(script) or self._fit(script)
        return max(1, round(base + slope * units_of(text)))

    def learn(self, text: str | bytes, reported: int) -> None:
        """An endpoint has counted `reported` tokens in this text. What cannot be a count of it is passed over."""
        units = units_of(text)
        if not units / _ABSURD <= reported <= _ABSURD * (units + 1) or units == 0:
            return
        script = script_of(text)
        self._lines[script] = self._lines.get(script, _Line()).plus(units, reported).faded()
        self._added[script] = self._added.get(script, _Line()).plus(units, reported).faded()
        self._fits.pop(script, None)

    @property
    def added(self) -> Calibration:
        """What `learn` has added to the calibration that this one started from."""
        return {script: tuple(line) for script, line in self._added.items()}

    @property
    def answers(self) -> float:
        """How many reports stand behind the estimates."""
        return sum(line.answers for line in self._lines.values())

    def _is_worth_counting(self, script: str) -> bool:
        counted, reported = self._counted.get(script, _Line()), self._lines.get(script, _Line())
        return counted.answers < COUNTED and reported.answers < ENOUGH_ANSWERS

    def _fit(self, script: str) -> tuple[float, float]:
        line = self._lines.get(script, _Line())
        if line.answers < ENOUGH_ANSWERS:
            line = line.with_line(self._counted.get(script, _Line()))
        for units, weight in _PRIOR:
            line = line.plus(units, units, weight)
        self._fits[script] = fit = line.fitted()
        return fit


def merged(first: Calibration, second: Calibration) -> Calibration:
    """Both together."""
    sums = {
        script: _Line(*first.get(script, ())).with_line(_Line(*second.get(script, ()))).faded()
        for script in {*first, *second}
    }
    return {script: tuple(line) for script, line in sorted(sums.items())}
