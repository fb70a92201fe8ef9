"""Make engel.csv: income and spending on food of 235 households, from statsmodels.

    python book/data/engel.py     downloads a wheel by pip, and installs nothing

The rule: the rows in the order of the source, rounded to two decimals.
"""

import csv
import io
import pathlib

from packages import read_file

SOURCE = "statsmodels==0.15.0"
EXACT = "statsmodels/datasets/engel/engel.csv"
EXACT_SHA256 = "796c3da0406291dd324c51901b51386be12b5f52e330afaf69584f57c06ad45c"
ROUNDED = pathlib.Path(__file__).with_name("engel.csv")


def rounded(exact):
    """The text of engel.csv, from one with the columns income and foodexp."""
    lines = ["income,food"]
    for row in csv.DictReader(io.StringIO(exact)):
        lines.append(f"{float(row['income']):.2f},{float(row['foodexp']):.2f}")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    exact = read_file(SOURCE, EXACT, EXACT_SHA256).decode()
    ROUNDED.write_text(rounded(exact), encoding="utf-8", newline="\n")
    print(f"{ROUNDED.name}: made from {EXACT} of {SOURCE}.")
