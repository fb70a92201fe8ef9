"""Prove that each check of the book can fail: mutants of the chapters and of the package must be noticed.

    python tests/mutants/run.py                  what has no valid record in proved.json
    python tests/mutants/run.py NAME ...         all of which the name begins so, such as 03 or trainability/masks
    python tests/mutants/run.py --all            everything
    python tests/mutants/run.py --again COMMIT   beside what has no valid record, two chapters and a module that the
                                                 hash of a commit draws, whatever the record says
    python tests/mutants/run.py --list ...       only say what that would be

A proof that succeeds is recorded, one that fails is removed from the record.
"""

import argparse
import pathlib
import sys

HERE = pathlib.Path(__file__).parent
sys.path[:0] = [str(HERE), str(HERE.parents[1] / "scripts")]

import chapters  # noqa: E402
import package  # noqa: E402
import proofs  # noqa: E402

CHAPTERS_AGAIN, MODULES_AGAIN = 2, 1


def subjects():
    """{name: what proves it, `chapters` or `package`} of every chapter and module that has mutants."""
    found = {path.stem: chapters for path in sorted(HERE.glob("*.toml"))}
    found |= {f"trainability/{path.stem}": package for path in sorted(HERE.glob("trainability/*.toml"))}
    return found


def to_prove(found, record, chosen, everything, commit):
    """The names of what is to be proved now, in order."""
    if chosen:
        return [name for name in found if name.startswith(tuple(chosen))]
    again = set()
    if commit:
        for kind, count in ((chapters, CHAPTERS_AGAIN), (package, MODULES_AGAIN)):
            again.update(proofs.drawn([name for name in found if found[name] is kind], count, commit))
        print(f"mutants: proved again, whatever the record says: {', '.join(sorted(again))}", file=sys.stderr)
    return [name for name in found if everything or name in again or not record.holds(name, found[name].subject(name))]


def main(chosen, everything, commit, only_list):
    record, found = proofs.Record(HERE / "proved.json"), subjects()
    names = to_prove(found, record, chosen, everything, commit)
    if chosen and not names:
        sys.exit(f"There is no mutant for {' '.join(chosen)}.")
    if only_list:
        print("\n".join(names))
        return True
    if not chosen:
        record.keep_only(found)
    failed = []
    for name in names:
        proved, loaded = found[name].prove(name)
        if proved:
            record.write(name, found[name].subject(name), loaded)
        else:
            record.remove(name)
            failed.append(name)
    kept = 0 if chosen else len(found) - len(names)
    print(f"mutants: {len(names) - len(failed)} proved, {kept} proved before, {len(failed)} failed {' '.join(failed)}")
    return not failed


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*")
    parser.add_argument("--all", action="store_true")
    parser.add_argument("--again", metavar="COMMIT", default="")
    parser.add_argument("--list", action="store_true")
    arguments = parser.parse_args()
    sys.exit(0 if main(arguments.names, arguments.all, arguments.again, arguments.list) else 1)
