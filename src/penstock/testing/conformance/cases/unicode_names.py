"""Names and values outside ASCII are like any other: of the pipeline, its steps, parameters and outputs."""

from typing import NamedTuple

from penstock import pipeline, step


class Maße(NamedTuple):
    größe: float
    цвет: str


@step
def messen(worte: list[str]) -> Maße:
    return Maße(float(sum(map(len, worte))), "синий")


@step(name="数える")
def count(größe: float, цвет: str) -> dict[str, object]:
    return {"größe": größe, "цвет": цвет, "é\u0301": 'a\tb\n"c" \\ \u2028'}


@pipeline(name="Größen-模型")
def unicode_names(wörter: list[str] = ["straße", "日本", "🌊"]) -> dict[str, object]:
    größe, цвет = messen(wörter)
    return count(größe, цвет)
