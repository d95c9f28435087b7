"""Write the breast-cancer data that scikit-learn ships as CSV, and a second batch that is dirty on purpose."""

from pathlib import Path

import pandas as pd
from sklearn.datasets import load_breast_cancer


def main(folder: Path = Path(__file__).parent / "data") -> None:
    data = load_breast_cancer(as_frame=True)
    rows = data.data.rename(columns=lambda name: name.replace(" ", "_"))
    rows["malignant"] = 1 - data.target  # scikit-learn calls benign 1
    folder.mkdir(exist_ok=True)
    rows.to_csv(folder / "measurements.csv", index=False)
    dirty(rows).to_csv(folder / "dirty.csv", index=False)
    print(f"wrote {len(rows)} rows to {folder}/measurements.csv, and a dirty copy to dirty.csv")


def dirty(rows: pd.DataFrame) -> pd.DataFrame:
    """Five bad rows: missing values, a value out of range, a wrong type, a label that does not exist."""
    batch = rows.astype(object)
    batch.loc[3, "mean_texture"] = None
    batch.loc[10, ["mean_area", "mean_radius"]] = None
    batch.loc[42, "mean_radius"] = -14.2
    batch.loc[77, "mean_smoothness"] = "n/a?"
    batch.loc[101, "malignant"] = 7
    return batch


if __name__ == "__main__":
    main()
