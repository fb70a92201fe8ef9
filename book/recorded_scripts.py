"""Scripts that ran in another library, and what they gave, for pages that show it.

A part of a script is between `# show NAME` and `# end`. What the script gave is
recorded in the JSON beside it.
"""

import json
import pathlib
import re
import textwrap

from IPython.display import Markdown, display


def record_of(script):
    """What a script gave, as `make gpflow` or `make torch` recorded it."""
    record = pathlib.Path(script).with_suffix(".json")
    return json.loads(record.read_text(encoding="utf-8"))


def show_parts(script, *names):
    """Show parts of a script as code, each without its indentation."""
    code = pathlib.Path(script).read_text(encoding="utf-8")
    for name in names:
        part = re.search(rf"# show {name}\n(.+?)# end\n", code, re.DOTALL)
        if part is None:
            raise ValueError(f"{script} has no part {name!r}.")
        display(Markdown(f"```python\n{textwrap.dedent(part[1]).strip()}\n```"))
