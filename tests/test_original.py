"""What `make original` compares, and that it can fail; the page original.md against the listings and the last run."""

import hashlib
import importlib.util
import json
import pathlib
import re

import flax
import jax
import jax.numpy as jnp
import original
import pytest
import sphinx_lock_versions

ROOT = pathlib.Path(__file__).parents[1]
PAGE = (ROOT / "book" / "original.md").read_text(encoding="utf-8")
RESULT = json.loads((ROOT / "tests" / "original" / "result.json").read_text(encoding="utf-8"))
FACTS = RESULT["facts"]
GPFLOW = json.loads((ROOT / "book" / "gpflow_reference" / "post.json").read_text(encoding="utf-8"))
LISTINGS = original.listings.LISTINGS
PRINTED, CORRECTED = "assert new_fixed_model(x) != fixed_model", "assert new_fixed_model(x) != fixed_model(x)"

specification = importlib.util.spec_from_file_location("run_original", ROOT / "tests" / "original" / "run.py")
run = importlib.util.module_from_spec(specification)
specification.loader.exec_module(run)


def failures(changed, book=None):
    """The lines that fail when these facts of the original are changed, or left out if None."""
    facts = {fact: value for fact, value in {**FACTS, **changed}.items() if value is not None}
    return [line for passed, line in original.compare(facts, FACTS if book is None else book) if not passed]


# ---- the comparison --------------------------------------------------------------------------------------------------


def test_equal_facts_pass():
    results = original.compare(FACTS, FACTS)
    assert len(results) == len(FACTS) and all(passed for passed, _ in results)


@pytest.mark.parametrize(
    ("fact", "planted"),
    [
        ("gradient of the free model", 2.0000002),
        ("gradient of the fixed model", 1e-30),
        ("gradient of the fixed model", float("nan")),
        ("loss of the free model", 1.0000001),
        ("output after replace", FACTS["parameter after replace"]),
        ("output with the new kwargs", 3.1401),
        ("output with the new kwargs", float("nan")),
        ("loss with the new kwargs", 9.8597),
        ("gradient with the new kwargs", False),
        ("fixed_model.params", "{'layer': {}}"),
        (PRINTED, "raises AssertionError"),
        (CORRECTED, "passes"),
    ],
)
def test_a_wrong_fact_fails(fact, planted):
    (line,) = failures({fact: planted})
    assert line == f"{fact}: original {planted}, book {FACTS[fact]}"


@pytest.mark.parametrize("fact", FACTS)
def test_a_missing_fact_fails_on_either_side(fact):
    assert failures({fact: None}) == [f"{fact}: missing in the original"]
    book = {name: value for name, value in FACTS.items() if name != fact}
    assert failures({}, book) == [f"{fact}: missing in the book"]


def test_rounding_is_tolerated_only_where_it_can_happen():
    assert failures({fact: FACTS[fact] * (1 + 2e-7) for fact in original.TOLERANCES}) == []
    assert len(failures({fact: FACTS[fact] * (1 + 2e-6) for fact in original.TOLERANCES})) == 3


@pytest.mark.parametrize("planted", [{}, {"loss of the free model": 3.0}])
def test_only_a_run_that_agrees_is_stored(planted, monkeypatch, tmp_path, capsys):
    text = json.dumps({**RESULT, "facts": {**FACTS, **planted}})
    monkeypatch.setattr(original, "RESULT", tmp_path / "result.json")
    monkeypatch.setattr(original.environment, "make", lambda name: original.sys.executable)
    monkeypatch.setattr(original, "run_original", lambda python: text)
    monkeypatch.setattr(original, "book_facts", lambda: FACTS)
    assert original.main() is (not planted)
    assert original.RESULT.exists() is (not planted)
    last = capsys.readouterr().out.splitlines()[-1]
    assert last == f"original: {len(FACTS) - len(planted)} passed, {len(planted)} failed"


# ---- what is read from the two sides ---------------------------------------------------------------------------------


def test_listing_tells_what_each_assertion_does():
    namespace = {}
    outcomes = run.run_listing("a = 1\nassert(a == 2)\nassert(a == 1)\nb = 2", namespace)
    assert outcomes == {"assert a == 2": "raises AssertionError", "assert a == 1": "passes"}
    assert namespace["b"] == 2
    with pytest.raises(NameError):
        run.run_listing("assert c", {})


def test_chapter_tells_what_each_assertion_does(capsys):
    cells = [("a = 1; print(a)\nassert a == 1, 'why'", False), ("assert a == 2", True)]
    namespace, outcomes = original.run_cells(cells, "chapter")
    assert outcomes == {"assert a == 1": "passes", "assert a == 2": "raises AssertionError"}
    assert namespace["a"] == 1 and capsys.readouterr().out == ""
    with pytest.raises(SystemExit, match=r"^original: chapter, code cell 1, raises KeyError\. Mend"):
        original.run_cells([("{}[0]", False)], "chapter")


def test_cells_come_without_magics_and_with_their_tag(tmp_path):
    cells = [
        {"cell_type": "markdown", "metadata": {}, "source": ["text"]},
        {"cell_type": "code", "metadata": {}, "source": ["a = 1\n", "%xmode Minimal"]},
        {"cell_type": "code", "metadata": {"tags": ["raises-exception"]}, "source": ["1 / 0"]},
    ]
    (tmp_path / "chapter.ipynb").write_text(json.dumps({"cells": cells}))
    assert list(original.code_cells(tmp_path / "chapter.ipynb")) == [("a = 1", False), ("1 / 0", True)]


def test_both_sides_name_the_same_numbers():
    assert set(original.SOURCES) == {*run.NUMBERS, "fixed_model.params"}
    assert set(original.TOLERANCES) <= set(run.NUMBERS)


# ---- the listings and the page ---------------------------------------------------------------------------------------


def test_listings_are_as_printed():
    """If this fails, somebody has edited a quotation: take it from the post again."""
    assert (
        hashlib.sha256("".join(LISTINGS).encode()).hexdigest()
        == "365307311bb2214773a7593af8e15a10d5e8cc3b1e6e05939f89eb11e570bd06"
    )
    with pytest.raises(SyntaxError):
        compile(original.listings.FIXED_PARAMS.splitlines()[1], "output", "eval")


def test_page_quotes_every_listing_verbatim_and_says_whose_it_is():
    blocks = re.findall(r"quoted from \{cite:p\}`tait2020trainable`:\n\n```\w+\n(.+?)```\n", PAGE, flags=re.DOTALL)
    assert blocks == list(LISTINGS)


def table_rows():
    """{first cell: the other cells} of every row of the page's tables."""
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in PAGE.splitlines() if line[:1] == "|"]
    return {row[0].strip("`"): row[1:] for row in rows}


@pytest.mark.parametrize("fact", [fact for fact in FACTS if fact != "fixed_model.params"])
def test_page_tells_what_the_run_gave(fact):
    value = FACTS[fact]
    shown = value if isinstance(value, str) else f"{value:.6g}"
    original_value, book_value, *_, link = table_rows()[fact]
    assert [original_value, book_value] == [shown, shown]
    chapter = original.SOURCES.get(fact, [original.SECOND if "new_" in fact else original.FIRST])[0]
    assert link == f"[chapter {int(chapter[:2])}]({chapter}.ipynb)"


def test_page_has_the_rest_of_the_run():
    facts = [fact for fact, row in table_rows().items() if row[-1].startswith("[chapter")]
    assert set(facts) == set(FACTS) - {"fixed_model.params"}
    assert f"`{FACTS['fixed_model.params']}`" in PAGE
    assert f"`{len(FACTS)} passed, 0 failed`" in PAGE
    for name in ("flax", "jax"):
        assert f"{name} {RESULT['versions'][name]}" in PAGE


def test_page_tells_what_gpflow_gave():
    """The column GPflow is the record of `make gpflow`, and the line that was run there is the quoted one."""
    column = {fact: row[2] for fact, row in table_rows().items() if len(row) == 4 and row[3].startswith("[chapter")}
    assert set(column) == set(original.SOURCES) - {"fixed_model.params"}
    for fact, shown in column.items():
        value = GPFLOW.get(fact, "—")
        assert shown == (value if isinstance(value, str) else f"{value:.6g}"), fact
    assert [fact for fact, shown in column.items() if shown == "—"] == [fact for fact in column if "new kwargs" in fact]
    assert "This line was run with GPflow {gpflow} and TensorFlow {tensorflow}".format(**GPFLOW["versions"]) in PAGE
    script = (ROOT / "book" / "gpflow_reference" / "post.py").read_text(encoding="utf-8")
    assert script.count(original.listings.SET_TRAINABLE) == 1
    assert script.count("# show model\n") == 1 and script.split("# show model\n")[1].startswith("import gpflow")


def test_chapter_1_tells_what_gpflow_gave():
    chapter = (ROOT / "book" / f"{original.FIRST}.ipynb").read_text(encoding="utf-8")
    told = re.search(r"We ran this line in GPflow, (.+?)\[The 2020 original", chapter)[1]
    start, free, output = (
        GPFLOW[f"{fact} model"] for fact in ("parameter of the fixed", "gradient of the free", "output of the fixed")
    )
    assert f"is one number, {start:g}, beside" in told and output == start
    assert f"the gradient of `param` is {free:g}, and after it there is none" in told
    assert GPFLOW["gradient of the fixed model"] == "None"
    replaced, moved = GPFLOW["parameter after replace"], GPFLOW["offset after a fit"]
    assert f"set by hand to {replaced:g}, and the output becomes {GPFLOW['output after replace']:g}" in told
    assert GPFLOW["parameter after a fit"] == replaced and moved < -3  # the fit moves the offset only
    assert abs(GPFLOW["parameter after a fit of both"] - replaced) > 1  # and with True, `param` again


def test_names_of_2020_are_gone_and_todays_are_there():
    """What the page says about each name, in the Flax and JAX of the book."""
    gone = [(flax, "nn"), (flax.linen.Module, "partial"), (flax.linen.Module, "init_by_shape"), (jnp, "DeviceArray")]
    assert not any(hasattr(owner, name) for owner, name in gone)
    assert hasattr(flax.linen.Module, "lazy_init")
    assert flax.linen.initializers.ones is jax.nn.initializers.ones
    keys = jax.random.key_data(jax.random.key(0)), jax.random.PRNGKey(0)
    assert (keys[0] == keys[1]).all()
    section = PAGE.split("## The post's names today")[1].split("\n## ")[0]
    for name in ("lazy_init", "functools.partial", "DeviceArray", "random.key(0)", "input_shape_and_dtype"):
        assert name in section


def test_run_was_made_with_the_lock():
    pinned = sphinx_lock_versions.locked_versions((ROOT / "requirements-original.txt").read_text(encoding="utf-8"))
    assert {name: pinned[name] for name in RESULT["versions"]} == RESULT["versions"]
