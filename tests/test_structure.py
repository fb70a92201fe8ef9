"""The frame around the chapters: contents, configuration, lock, README, build."""

import json
import pathlib
import re
import socket
import subprocess
import sys
import urllib.request
from importlib.metadata import version

import environment
import jupyter_book
import pytest
import sphinx_lock_versions
import yaml
from packaging.markers import Marker

from conftest import make

ROOT = pathlib.Path(__file__).parents[1]
# Packages that are needed only by older Pythons, or replaced on some systems: these alone may carry a marker.
LOCKS = ["requirements", "requirements-newest", "requirements-original", "requirements-gpflow"]
BACKPORTS = {"overrides", "lazy-importer"}


def read(name):
    return (ROOT / name).read_text(encoding="utf-8")


# ---- contents and configuration ------------------------------------------------------------------------------------


def pages_in_contents(toc):
    yield toc["root"]
    for part in toc["parts"]:
        assert part["chapters"], f"the part {part['caption']!r} is empty"
        for chapter in part["chapters"]:
            yield chapter["file"]


def test_every_page_is_in_the_table_of_contents():
    pages = [f"book/{path.stem}" for kind in ("*.md", "*.ipynb") for path in ROOT.glob(f"book/{kind}")]
    assert sorted(pages_in_contents(yaml.safe_load(read("_toc.yml")))) == sorted(pages)


def missing_from_the_map(index, toc):
    """The chapters that the table "The map" on the front page does not link to."""
    table = re.search(r"^## The map$(.+?)^## ", index, re.MULTILINE | re.DOTALL)[1]
    linked = {f"book/{name}" for name in re.findall(r"\]\(([\w-]+)\.(?:ipynb|md)[#)]", table)}
    return [page for page in pages_in_contents(toc) if page != toc["root"] and page not in linked]


def test_the_map_lists_every_page():
    assert missing_from_the_map(read("book/index.md"), yaml.safe_load(read("_toc.yml"))) == []


def test_a_page_that_the_map_lacks_is_found():
    index, toc = read("book/index.md"), yaml.safe_load(read("_toc.yml"))
    before, after = index.split("## The map")
    without = f"{before}## The map{after.replace('](07e-priors.ipynb)', '](07d-rows-and-stacked-layers.ipynb)')}"
    assert missing_from_the_map(without, toc) == ["book/07e-priors"]


def unknown_keys(config):
    """Keys of _config.yml that Jupyter Book does not know: it ignores them without a word."""
    known = yaml.safe_load((pathlib.Path(jupyter_book.__file__).parent / "default_config.yml").read_text())
    schema = json.loads((pathlib.Path(jupyter_book.__file__).parent / "config_schema.json").read_text())
    for key, value in config.items():
        if key not in schema["properties"] and key not in known:
            yield key
        if isinstance(value, dict):
            inside = {**schema["properties"].get(key, {}).get("properties", {}), **known.get(key, {})}
            yield from (f"{key}.{inner}" for inner in value if inner not in inside)


def test_configuration_has_no_unknown_key():
    assert list(unknown_keys(yaml.safe_load(read("_config.yml")))) == []


def test_unknown_keys_are_found():
    config = yaml.safe_load(read("_config.yml"))
    config["titel"] = "x"
    config["execute"]["execute_notebook"] = "off"
    config["html"]["use_repository_buton"] = True
    assert list(unknown_keys(config)) == ["execute.execute_notebook", "html.use_repository_buton", "titel"]


# ---- what is installed -----------------------------------------------------------------------------------------------


def lock_faults(lock):
    pins = re.findall(r"^([a-z0-9][a-z0-9._-]*)==(\S+)(.*?)(?=^[a-z]|\Z)", lock, flags=re.MULTILINE | re.DOTALL)
    names = [name for name, _, _ in pins]
    for name, _, rest in pins:
        marker = rest.splitlines()[0]
        if "--hash=sha256:" not in rest:
            yield f"{name}: no hash"
        if names.count(name) > 1:
            yield f"{name}: several versions"
        if re.search(r"python_(full_)?version", marker) and name not in BACKPORTS:
            yield f"{name}: only for some Pythons"
    if re.search(r"://|--index-url|--find-links", lock):
        yield "an address"
    if not pins:
        yield "no pin"


@pytest.mark.parametrize("name", LOCKS)
def test_lock_is_sound(name):
    lock = read(f"{name}.txt")
    if name == "requirements-gpflow":  # which is for some Pythons only, and says so in each line
        lines = re.findall(r"^[a-z].+==.+$", lock, re.MULTILINE)
        assert all(" ; python_full_version < '3.13'" in line for line in lines)
        lock = lock.replace("python_full_version < '3.13'", "")
    assert list(lock_faults(lock)) == []


def test_each_system_gets_one_tensorflow():
    """Both builds together are two gigabytes, and either one overwrites the other's files."""
    large, for_processors = re.findall(r"^tensorflow(?:-cpu)?==(\S+) ; (.+) \\$", read("requirements-gpflow.txt"), re.M)
    for system, machine in (("linux", "x86_64"), ("linux", "aarch64"), ("darwin", "arm64"), ("win32", "AMD64")):
        given = {"sys_platform": system, "platform_machine": machine, "python_full_version": "3.11.9"}
        chosen = [Marker(marker).evaluate(given) for _, marker in (large, for_processors)]
        assert chosen == [machine != "x86_64", machine == "x86_64"]
    assert large[0] == for_processors[0]


def test_lock_faults_are_found():
    bad = (
        "--index-url https://host/simple\n"
        "jax==1.0 ; python_full_version < '3.12' \\\n    --hash=sha256:00\n"
        "jax==2.0 ; python_full_version >= '3.12' \\\n    --hash=sha256:00\n"
        "flax==1.0\n"
        "librt==1.0 ; platform_python_implementation != 'PyPy' \\\n    --hash=sha256:00\n"
    )
    faults = list(lock_faults(bad))
    assert set(faults) == {"jax: several versions", "jax: only for some Pythons", "flax: no hash", "an address"}
    assert list(lock_faults("")) == ["no pin"]


@pytest.mark.parametrize("name", LOCKS)
def test_each_requirement_has_a_reason_and_a_pin(name):
    pinned = sphinx_lock_versions.locked_versions(read(f"{name}.txt"))
    lines = [line for line in read(f"{name}.in").splitlines() if line and not line.startswith("#")]
    assert lines
    for line in lines:
        assert re.search(r"\S\s+# \w+", line), f"no reason: {line}"
        assert re.match(r"[a-z0-9-]+", line)[0] in pinned, f"not in the lock: {line}"


def test_the_environment_is_the_lock():
    pinned = sphinx_lock_versions.locked_versions(read("requirements.txt"))
    for name in sphinx_lock_versions.SHOWN:
        assert version(name) == pinned[name]


def test_the_lock_is_complete():
    """It is installed without looking at what its packages need; so see that nothing is missing."""
    result = subprocess.run([sys.executable, "-m", "pip", "check"], capture_output=True, text=True)
    assert result.returncode == 0, result.stdout


# ---- commands --------------------------------------------------------------------------------------------------------


def test_help_lists_every_command():
    phony = re.search(r"^\.PHONY: (.+)$", read("Makefile"), re.MULTILINE)[1].split()
    listed = re.findall(r"^make (\w+) +\S", make("help").stdout, re.MULTILINE)
    assert sorted(listed) == sorted(set(phony) - {"environment"})


@pytest.mark.parametrize("page", ["README.md", "CONTRIBUTING.md", "CHANGELOG.md", ".ci/run"])
def test_documents_name_only_commands_that_exist(page):
    phony = re.search(r"^\.PHONY: (.+)$", read("Makefile"), re.MULTILINE)[1].split()
    named = set(re.findall(r"(?:`|^\s*)make ([a-z]+)", read(page), re.MULTILINE))
    assert named <= set(phony)


def test_files_named_in_the_readme_exist():
    for name in re.findall(r"\]\(([^)#:]+)\)", read("README.md")):
        assert (ROOT / name).exists(), name
    tree = re.search(r"```text\n(.+?)```", read("README.md"), re.DOTALL)[1]
    for line in tree.splitlines():
        for name in line[:32].split():
            assert list(ROOT.glob(name.rstrip("/"))), name


def test_lint():
    for task in (["check"], ["format", "--check"]):
        result = subprocess.run([sys.executable, "-m", "ruff", *task, ROOT], capture_output=True, text=True)
        assert result.returncode == 0, result.stdout


# ---- the environment says what is wrong ------------------------------------------------------------------------------


def fake_python(folder, body):
    """An executable that stands in for a Python."""
    path = folder / "python"
    path.write_text(f"#!/bin/sh\n{body}\n")
    path.chmod(0o755)
    return path


def pretend(statement):
    """The script of a Python that runs a file like any other, but after this statement."""
    code = f"import runpy, sys; {statement}; del sys.argv[0]; runpy.run_path(sys.argv[0], run_name='__main__')"
    return f'exec "{sys.executable}" -c "{code}" "$@"'


def said_by(result):
    return [line for line in result.stderr.splitlines() if not line.startswith("make")]


@pytest.mark.parametrize(
    ("statement", "sentence"),
    [
        ("sys.version_info = (3, 10, 1)", "Python 3.10 is too old"),
        ("sys.version_info = (2, 7, 18)", "Python 2.7 is too old"),
        ("sys.version_info = (3, 15, 0)", "Python 3.15 is too new"),
        ("sys.modules['ensurepip'] = None", "cannot make virtual environments"),
    ],
)
def test_unusable_python_is_refused_in_one_line(small_book, tmp_path_factory, statement, sentence):
    (small_book / ".venv").unlink()
    python = fake_python(tmp_path_factory.mktemp("python"), pretend(statement))
    result = make("book", f"PYTHON={python}", folder=small_book)
    said = said_by(result)
    assert result.returncode != 0
    assert len(said) == 1 and sentence in said[0] and "PYTHON=" in said[0], result.stderr
    assert not (small_book / ".venv").exists()


def test_missing_python_is_refused_in_one_line(small_book):
    result = make("book", "PYTHON=python-that-is-not-there", folder=small_book)
    said = said_by(result)
    assert result.returncode != 0 and len(said) == 1 and "there is no python-that-is-not-there" in said[0]


def test_environment_is_made_kept_and_mended(small_book):
    """With a lock of nothing, so that it takes seconds and no network."""
    venv, lock = small_book / ".venv", small_book / "requirements.txt"
    venv.unlink()
    lock.write_text("# nothing\n")
    named = f"PYTHON={sys.executable}"

    def made_again():
        return make("environment", named, folder=small_book)

    made = made_again()
    assert made.returncode == 0 and "installing" in made.stdout, made.stdout + made.stderr
    again = made_again()
    assert again.returncode == 0 and again.stdout == ""

    lock.write_text("# nothing, but another nothing\n")
    changed = made_again()
    assert changed.returncode == 0 and "the lock has changed" in changed.stdout
    assert made_again().stdout == ""

    (venv / "bin" / "python").unlink()
    broken = made_again()
    assert broken.returncode == 0 and "incomplete; making it again" in broken.stdout
    assert made_again().stdout == ""

    lock.write_text("there-is-no-such-file @ file:///nowhere.whl --hash=sha256:" + "0" * 64 + "\n")
    failed = made_again()
    assert failed.returncode != 0 and "Mend that" in said_by(failed)[-1]
    assert (venv / "unfinished").exists()
    lock.write_text("# nothing\n")
    recovered = made_again()
    assert recovered.returncode == 0 and "incomplete; making it again" in recovered.stdout, recovered.stderr
    assert made_again().stdout == ""


@pytest.mark.parametrize("name", environment.LOCKS)
def test_environment_is_made_in_a_folder_of_its_own(name, tmp_path, monkeypatch, capsys):
    """With a lock of nothing, and an installation that does nothing; what all of them share is tested above."""
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit, match=r"^\.venv\S*: there is no requirements\S*\.txt\. Run make lock\.$"):
        environment.make(name)
    lock, oldest, newest = environment.LOCKS[name]
    (tmp_path / lock).write_text("# nothing\n")
    made = pathlib.Path(environment.make(name))  # absolute, so that it can be run from another folder
    assert made.relative_to(tmp_path).parts[0] == (".venv" if name == "book" else f".venv-{name}")
    assert oldest <= environment.version_of(made) <= newest
    assert environment.make(name) == str(made) and capsys.readouterr().out.count("installing") == 1


def test_environment_without_a_python_for_it_is_refused_in_one_line(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(environment.LOCKS, "newest", ("nothing.txt", (3, 98), (3, 99)))
    (tmp_path / "nothing.txt").write_text("# nothing\n")
    assert environment.find_python("newest") is None
    with pytest.raises(SystemExit, match=r"^\.venv-newest: there is no Python 3\.98 to 3\.99 here\. Install one.*\.$"):
        environment.make("newest")
    assert not (tmp_path / ".venv-newest").exists()


def test_todays_newest_versions_are_not_taken_for_the_lock(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(environment.LOCKS, "newest", ("nothing.txt", (3, 11), (3, 14)))
    for name in ("nothing.txt", "nothing.in"):
        (tmp_path / name).write_text("# nothing\n")
    for unlocked, said in ((True, "installing nothing.in"), (False, "incomplete; making it again"), (False, "")):
        environment.make("newest", unlocked=unlocked)
        assert said in capsys.readouterr().out


def test_unknown_environment_is_refused_in_one_line():
    result = subprocess.run(
        [sys.executable, ROOT / "scripts/environment.py", "gpu"], capture_output=True, text=True, cwd=ROOT
    )
    assert result.returncode != 0 and result.stderr.startswith("There is no environment gpu. There are: book, ")


def test_serve_says_when_the_port_is_in_use():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        result = subprocess.run([sys.executable, ROOT / "scripts/serve.py", port], capture_output=True, text=True)
    assert result.returncode != 0
    assert len(result.stderr.splitlines()) == 1 and f"port {port} cannot be used" in result.stderr


def test_serve_serves_the_book_on_localhost(site):
    command = [sys.executable, "-u", ROOT / "scripts/serve.py", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        try:
            address = re.search(r"http://localhost:\d+/\S+", server.stdout.readline())[0]
            with urllib.request.urlopen(address) as page:
                assert b"trainable == False" in page.read()
        finally:
            server.terminate()
