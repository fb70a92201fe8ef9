"""Make co2.csv: monthly means of the weekly CO2 values that statsmodels holds.

    python book/data/co2.py     downloads a wheel by pip, and installs nothing

The rule: a week belongs to the month of its date. A month's value is the mean of
its weeks that have one, rounded to two decimals. A month without any has no row.
"""

import csv
import io
import pathlib
import statistics

from packages import read_file

SOURCE = "statsmodels==0.15.0"
WEEKLY = "statsmodels/datasets/co2/co2.csv"
WEEKLY_SHA256 = "16695fa2786e53414e5a6b54767a3fdf5de99cfbc68617f69d1362d92776a92f"
MONTHLY = pathlib.Path(__file__).with_name("co2.csv")


def monthly(weekly):
    """The text of co2.csv, from a weekly one with the columns date and co2."""
    weeks_of = {}
    for row in csv.DictReader(io.StringIO(weekly)):
        if row["co2"]:
            month = int(row["date"][:4]), int(row["date"][4:6])
            weeks_of.setdefault(month, []).append(float(row["co2"]))
    lines = ["year,month,ppm,weeks"]
    for (year, month), values in sorted(weeks_of.items()):
        lines.append(f"{year},{month},{statistics.mean(values):.2f},{len(values)}")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    weekly = read_file(SOURCE, WEEKLY, WEEKLY_SHA256).decode()
    MONTHLY.write_text(monthly(weekly), encoding="utf-8", newline="\n")
    print(f"{MONTHLY.name}: made from {WEEKLY} of {SOURCE}.")
