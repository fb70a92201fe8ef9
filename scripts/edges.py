"""In a kernel: mark each printed number whose digits hang on a rounding edge.

Another processor computes other last bits. A number that stands near a rounding edge, such as 0.00825 printed with four
decimals, is 0.0082 on one machine and 0.0083 on the next. After `install`, a number that a cell formats inside an
f-string is formatted three times, as it is and a little less and more; where the three differ, the mark is printed.
"""

import ast
import builtins

LITTLE = 3e-6  # relative: some fifty units in the last place of a 32-bit float
MARK = "<on a rounding edge>"
NAME = "__format_and_mark__"


def is_real(value):
    """Whether a value is one number with a fraction: a float, or an array of one such number without a shape."""
    dtype = getattr(value, "dtype", None)
    return isinstance(value, float) or (getattr(value, "ndim", None) == 0 and getattr(dtype, "kind", "") in "fV")


def format_and_mark(value, spec):
    """`format(value, spec)`, with the mark if a number that differs by `LITTLE` would be printed otherwise."""
    text = format(value, spec)
    if is_real(value) and "." in spec:
        number = float(value)
        if len({format(number * factor, spec) for factor in (1 - LITTLE, 1, 1 + LITTLE)}) > 1:
            return text + MARK
    return text


class MarkNumbers(ast.NodeTransformer):
    """Replaces `{value:spec}` in f-strings by a call of `format_and_mark`."""

    def visit_FormattedValue(self, node):
        self.generic_visit(node)
        if node.format_spec is None or node.conversion != -1:
            return node
        call = ast.Call(ast.Name(NAME, ast.Load()), [node.value, node.format_spec], [])
        return ast.fix_missing_locations(ast.copy_location(ast.FormattedValue(call, -1), node))


def install(shell):
    """Mark the numbers of all cells that this IPython shell runs from now on."""
    setattr(builtins, NAME, format_and_mark)
    shell.ast_transformers.append(MarkNumbers())
