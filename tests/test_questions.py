"""The page of questions: every answer leads to a section and to the thread itself, and says what the thread asks."""

import functools
import json
import pathlib
import re
import urllib.parse

import pytest
from bs4 import BeautifulSoup

ROOT = pathlib.Path(__file__).parents[1]
SECTION = re.compile(r"[\w-]+\.html#[\w-]+")
THREAD = re.compile(
    r"https://(github\.com/[\w.-]+/[\w.-]+/(issues|pull|discussions)/\d+|stackoverflow\.com/questions/\d+)"
)


@pytest.fixture(scope="module")
def page(site):
    html = (site / "book" / "questions.html").read_text(encoding="utf-8")
    return BeautifulSoup(html, "html.parser").select_one("article")


@functools.cache
def headings(site, name):
    """The anchors of a page that have a heading, each with its text."""
    html = BeautifulSoup((site / "book" / name).read_text(encoding="utf-8"), "html.parser")
    sections = html.select("article section[id]")
    return {section["id"]: section.find(["h1", "h2", "h3"], recursive=False) for section in sections}


def faults(page, site):
    """What is wrong with the answers, as a list of sentences."""
    found, asked = [], []
    for question in page.select("dt"):
        text = question.get_text().rstrip("#").strip()
        answer = question.find_next_sibling("dd")
        links = [link["href"] for link in answer.select("a[href]")]
        sections = [link for link in links if SECTION.fullmatch(link)]
        threads = [link for link in links if THREAD.fullmatch(link)]
        found += [f"{text}: no section"] * (not sections) + [f"{text}: no public thread"] * (not threads)
        if not re.search(r"\basks?\b", answer.get_text()):
            found.append(f"{text}: not a word on what the thread asks")
        for name, anchor in (urllib.parse.urldefrag(link) for link in sections):
            heading = headings(site, name).get(anchor) if (site / "book" / name).exists() else None
            if heading is None or not heading.get_text().strip():
                found.append(f"{text}: {name}#{anchor} is no heading")
        asked.append(text)
    found += [f"{text}: asked twice" for text in set(asked) if asked.count(text) > 1]
    return found


def test_every_answer_leads_to_a_section_and_to_a_thread(page, site):
    assert len(page.select("dt")) >= 40, "there are probably questions that were not found"
    assert faults(page, site) == []


def test_answers_are_short(page):
    for answer in page.select("dd"):
        assert len(answer.get_text().split()) <= 60, answer.get_text()


def test_what_the_page_says_about_gpflow_was_run():
    folder, text = ROOT / "book" / "gpflow_reference", (ROOT / "book" / "questions.md").read_text(encoding="utf-8")
    version = json.loads((folder / "questions.json").read_text(encoding="utf-8"))["versions"]["gpflow"]
    assert f"was run with GPflow {version}, by `book/gpflow_reference/questions.py`" in text
    script = (folder / "questions.py").read_text(encoding="utf-8")
    run = set(re.findall(r"GPflow#(\d+)", script))
    said = {
        number
        for answer in re.findall(r"^: (.+)$", text, re.MULTILINE)
        if "GPflow" in re.sub(r"GPflow#|GPflow/", "", answer.split("[GPflow#")[0])
        for number in re.findall(r"\[GPflow#(\d+)\]", answer)
    }
    assert said - {"322"} <= run <= {*said, "1184"}  # 322 asks what 538 asks; the question names the line of 1184


@pytest.mark.parametrize(
    ("old", "new", "fault"),
    [
        ("#nothing-trains", "#nothing-there", "is no heading"),
        ("06a-differentiate-only-what-trains.html#nothing-trains", "06x.html#nothing-trains", "is no heading"),
        ("06a-differentiate-only-what-trains.html#nothing-trains", "index.html", "no section"),
        ("https://github.com/pytorch/pytorch/issues/1266", "https://github.com/pytorch/pytorch", "no public thread"),
        (
            "https://stackoverflow.com/questions/61998940",
            "https://a.mirror.org/stackoverflow/61998940",
            "no public thread",
        ),
        ("asks why every parameter must have", "wants to know why every parameter has", "what the thread asks"),
        ("Should it be an error if a fixed parameter reaches the optimizer?", "How do I tie weights?", "asked twice"),
    ],
)
def test_planted_fault_is_found(page, site, old, new, fault):
    assert str(page).count(old) == 1
    planted = BeautifulSoup(str(page).replace(old, new), "html.parser")
    (found,) = faults(planted, site)
    assert fault in found
