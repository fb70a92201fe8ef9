"""Make co2.csv: monthly means of the weekly CO2 values that statsmodels holds.

    python book/data/co2.py     downloads a wheel by pip, and installs nothing

The rule: a week belongs to the month of its date. A month's value is the mean of
its weeks that have one, rounded to two decimals. A month without any has no row.
"""

import csv
import hashlib
import io
import pathlib
import statistics
import subprocess
import sys
import tempfile
import zipfile

SOURCE = "statsmodels==0.15.0"
WEEKLY = "statsmodels/datasets/co2/co2.csv"
WEEKLY_SHA256 = "16695fa2786e53414e5a6b54767a3fdf5de99cfbc68617f69d1362d92776a92f"
MONTHLY = pathlib.Path(__file__).with_name("co2.csv")


def download():
    """The text of the weekly file, out of the wheel that pip downloads."""
    with tempfile.TemporaryDirectory() as folder:
        pip = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps"]
        only_wheels = ["--only-binary=:all:", "--dest", folder, SOURCE]
        subprocess.run([*pip, *only_wheels], check=True)
        (wheel,) = pathlib.Path(folder).glob("*.whl")
        weekly = zipfile.ZipFile(wheel).read(WEEKLY)
    if hashlib.sha256(weekly).hexdigest() != WEEKLY_SHA256:
        sys.exit(
            f"co2: {WEEKLY} of {SOURCE} is not the file that co2.csv was made of"
        )
    return weekly.decode()


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
    MONTHLY.write_text(monthly(download()), encoding="utf-8", newline="\n")
    print(f"{MONTHLY.name}: made from {WEEKLY} of {SOURCE}.")
