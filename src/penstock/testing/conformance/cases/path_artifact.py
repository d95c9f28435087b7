"""A step may return a folder, and the next one gets a folder with the same files."""

import tempfile
from pathlib import Path

from penstock import pipeline, step


@step
def write(words: list[str]) -> Path:
    folder = Path(tempfile.mkdtemp())
    (folder / "below").mkdir()
    for number, word in enumerate(words):
        (folder / "below" / f"{number}.txt").write_text(word, encoding="utf-8")
    return folder


@step
def look(folder: Path) -> dict[str, str]:
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): path.read_text(encoding="utf-8") for path in files}


@pipeline
def path_artifact(words: list[str] = ["one", "zwei"]) -> dict[str, str]:
    return look(write(words))
