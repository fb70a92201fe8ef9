"""The data sets of the book: each is whole, made by its script, described, and in the zip only."""

import pathlib
import runpy

import numpy as np
import sphinx_book_zip

ROOT = pathlib.Path(__file__).parents[1]
DATA = ROOT / "book" / "data"


def test_each_data_set_has_its_script_and_a_description():
    names = sorted(path.stem for path in DATA.glob("*.csv"))
    assert names == sorted(path.stem for path in DATA.glob("*.py"))
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
    year, month, ppm, weeks = np.loadtxt(DATA / "co2.csv", delimiter=",", skiprows=1, unpack=True)
    count = 12 * year + month - 1
    assert len(ppm) == 521 and (np.diff(count) > 0).all()
    assert (year[0], month[0], year[-1], month[-1]) == (1958, 3, 2001, 12)
    missing = set(range(int(count[0]), int(count[-1]))) - set(count.astype(int))
    assert sorted(divmod(m, 12) for m in missing) == [(1958, 5), (1958, 9), (1964, 1), (1964, 2), (1964, 3)]
    assert 312 < ppm.min() < 314 and 373 < ppm.max() < 375 and np.abs(np.diff(ppm)).max() < 3
    assert set(weeks) == {1, 2, 3, 4, 5} and weeks.sum() == 2284 - 59 and (weeks == 1).sum() == 4


def test_monthly_means_follow_the_rule():
    """A week counts for the month of its date; one without a value for none, and so a month may have no row."""
    weekly = "date,co2\n19580531,1.1\n19580607,\n19580705,2.0\n19580712,2.1\n19580719,\n19580802,3.0\n19590801,4.0\n"
    made = runpy.run_path(str(DATA / "co2.py"))["monthly"](weekly)
    assert made == "year,month,ppm,weeks\n1958,5,1.10,1\n1958,7,2.05,2\n1958,8,3.00,1\n1959,8,4.00,1\n"
