"""Make digits.csv: images of handwritten digits, from scikit-learn.

    python book/data/digits.py     downloads a wheel by pip, and installs nothing

The rule: the rows in the order of the source, the digit first, then its 64 pixels.
"""

import gzip
import pathlib

from packages import read_file

SOURCE = "scikit-learn==1.9.1"
PACKED = "sklearn/datasets/data/digits.csv.gz"
PACKED_SHA256 = "09f66e6debdee2cd2b5ae59e0d6abbb73fc2b0e0185d2e1957e9ebb51e23aa22"
NAMED = pathlib.Path(__file__).with_name("digits.csv")


def named(rows):
    """The text of digits.csv, from lines of 64 pixels and a digit."""
    pixels = [f"r{row}c{column}" for row in range(8) for column in range(8)]
    lines = [",".join(["digit", *pixels])]
    for line in rows.splitlines():
        *values, digit = line.split(",")
        lines.append(",".join([digit, *values]))
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    rows = gzip.decompress(read_file(SOURCE, PACKED, PACKED_SHA256)).decode()
    NAMED.write_text(named(rows), encoding="utf-8", newline="\n")
    print(f"{NAMED.name}: made from {PACKED} of {SOURCE}.")
