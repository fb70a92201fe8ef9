"""Make penguins.csv: species and measurements of penguins, from palmerpenguins.

    python book/data/penguins.py     downloads a wheel by pip, and installs nothing

The rule: the rows in the order of the source, but for those without measurements.
"""

import csv
import io
import pathlib

from packages import read_file

SOURCE = "palmerpenguins==0.1.6"
ALL = "palmerpenguins/data/penguins.csv"
ALL_SHA256 = "f204db2c753b0937caac3cb35258562c14f073e4bbc76be24b4c51ce22767a93"
MEASURED = pathlib.Path(__file__).with_name("penguins.csv")
SPECIES = ["Adelie", "Chinstrap", "Gentoo"]
COLUMNS = ["bill_length_mm", "bill_depth_mm", "flipper_length_mm", "body_mass_g"]


def measured(penguins):
    """The text of penguins.csv, from the one of the package."""
    lines = [",".join(["species", *COLUMNS])]
    for row in csv.DictReader(io.StringIO(penguins)):
        measurements = [row[name] for name in COLUMNS]
        if "NA" not in measurements:
            species = str(SPECIES.index(row["species"]))
            lines.append(",".join([species, *measurements]))
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    penguins = read_file(SOURCE, ALL, ALL_SHA256).decode()
    MEASURED.write_text(measured(penguins), encoding="utf-8", newline="\n")
    print(f"{MEASURED.name}: made from {ALL} of {SOURCE}.")
