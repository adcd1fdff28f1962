"""Queries: which images are meant by an expression such as ``label == 'rose' and split_0 != 'test'``.

The text is parsed as Python and then read node by node: nothing of it is ever run.
"""

import ast
import operator
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from featx.errors import DataError, SpecError
from featx.table.arrays import CategoricalArray, T
from featx.table.rows import Rows

Mask = NDArray[np.bool_]
Test = Callable[[str], bool]
ORDERS: dict[type[ast.cmpop], Callable[[Any, Any], bool]] = {
    ast.Eq: operator.eq, ast.NotEq: operator.ne, ast.Lt: operator.lt, ast.LtE: operator.le, ast.Gt: operator.gt,
    ast.GtE: operator.ge,
}  # fmt: skip
MIRRORED: dict[type[ast.cmpop], type[ast.cmpop]] = {ast.Lt: ast.Gt, ast.LtE: ast.GtE, ast.Gt: ast.Lt, ast.GtE: ast.LtE}
NEGATED: dict[type[ast.cmpop], type[ast.cmpop]] = {ast.NotEq: ast.Eq, ast.NotIn: ast.In}
MAX_LENGTH = 10_000
SHOWN = 200
"""Characters of a query that a message shows."""
WAYS = "comparisons such as label == 'rose', split in ('train', 'val'), 'x' in path or weight > 0.5, and, or, not"


def find_rows(rows: Rows, expression: str) -> Mask:
    """Which rows an expression is true of, bool (rows,).

    Names are ``path``, ``label`` and the split columns. Texts are compared as texts, with a number as numbers, which
    no row without a value passes; ``!=`` and ``not`` take all rows that the opposite does not, so ``weight != 1`` also
    those without a value. ``'x' in path`` asks for a part of it. Of an image with several labels, ``label == 'a'`` is
    true if one of them is, ``label != 'a'`` if none is, ``label == ''`` if it has none.

    Raises
    ------
    SpecError
        If the expression is of another form, or has an unknown name.
    DataError
        If a column that is compared with a number has a value that is none.
    """
    if len(expression) > MAX_LENGTH:
        raise SpecError(f"a query must have at most {MAX_LENGTH} characters, got {len(expression)}")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Python's advice on what it parses is none on queries.
            tree = ast.parse(expression.strip(), mode="eval")
        return _Query(rows, expression).mask(tree.body)
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        if isinstance(error, SpecError | DataError):
            raise
        raise SpecError(f"a query must be {WAYS}, got {_short(expression)}: {error}") from None


class _Query:
    """One expression, asked of some rows."""

    def __init__(self, rows: Rows, expression: str) -> None:
        self._rows, self._expression = rows, expression

    def mask(self, node: ast.expr) -> Mask:
        """The rows of which a part of the expression is true."""
        if isinstance(node, ast.BoolOp):
            join = np.logical_and if isinstance(node.op, ast.And) else np.logical_or
            return np.asarray(join.reduce([self.mask(value) for value in node.values]), bool)
        if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not):
            return ~self.mask(node.operand)
        if isinstance(node, ast.Compare):
            sides = [node.left, *node.comparators]
            links = zip(sides, node.ops, sides[1:], strict=False)
            return np.asarray(np.logical_and.reduce([self._compare(*link) for link in links]), bool)
        raise self._wrong(node)

    def _compare(self, left: ast.expr, op: ast.cmpop, right: ast.expr) -> Mask:
        kind = type(op)
        if kind in NEGATED:
            return ~self._compare(left, NEGATED[kind](), right)
        if isinstance(left, ast.Name) and kind in ORDERS:
            return self._where(left, self._ordered(left, kind, right))
        if isinstance(left, ast.Name) and kind is ast.In and isinstance(right, ast.Tuple | ast.List):
            tests = [self._ordered(left, ast.Eq, value) for value in right.elts]
            return self._where(left, lambda value: any(test(value) for test in tests))
        if isinstance(right, ast.Name) and kind in ORDERS:
            return self._where(right, self._ordered(right, MIRRORED.get(kind, kind), left))
        if isinstance(right, ast.Name) and kind is ast.In:
            part = self._constant(left)
            if not isinstance(part, str):
                raise self._wrong(left, f"a text before in, such as '{part}'")
            is_label = right.id == "label"
            return self._where(right, lambda value: value == part if is_label else part in value)
        if isinstance(left, ast.Name) and kind is ast.In:
            raise self._wrong(right, "a list after in; of one text it needs a comma, ('train',)")
        raise self._wrong(left)

    def _ordered(self, name: ast.Name, kind: type[ast.cmpop], side: ast.expr) -> Test:
        """Whether a value of a column stands so to a constant."""
        constant, order = self._constant(side), ORDERS[kind]
        if isinstance(constant, str):
            return lambda value: order(value, constant)

        def test(value: str) -> bool:
            try:
                return value != "" and order(float(value), constant)
            except ValueError:
                raise DataError(f"{name.id} has a row {value!r}, which is no number: compare it with a text, "
                                f"{_short(str(constant))}") from None  # fmt: skip

        return test

    def _constant(self, node: ast.expr) -> str | float:
        negative = isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub)
        value = ast.literal_eval(node) if negative else getattr(node, "value", None)
        if isinstance(value, bool) or not isinstance(value, str | int | float):
            raise self._wrong(node)
        return value

    def _where(self, name: ast.Name, test: Test) -> Mask:
        """The rows whose value in a column passes a test, which each different value takes once."""
        rows = self._rows
        if name.id == "path":
            return np.fromiter(map(test, rows.paths), bool, len(rows))
        if name.id == "label":
            return _spread(rows.labels, lambda names: any(map(test, names or ("",))))
        if name.id not in rows.splits:
            known = ", ".join(["path", "label", *rows.splits])
            raise SpecError(f"a query may name {known}, got {name.id!r} in {_short(self._expression)}")
        return _spread(rows.splits[name.id], test)

    def _wrong(self, node: ast.expr, wanted: str = "") -> SpecError:
        part = ast.get_source_segment(self._expression.strip(), node) or ""
        must = f"must have {wanted}" if wanted else f"must be {WAYS}"
        return SpecError(f"a query {must}, got {_short(part)} in {_short(self._expression)}")


def _short(text: str) -> str:
    """A text as a message shows it, cut where it is long."""
    return repr(text if len(text) <= SHOWN else text[:SHOWN] + "…")


def _spread(column: CategoricalArray[T], test: Callable[[T], bool]) -> Mask:
    passed = np.fromiter(map(test, column.values), bool, len(column.values))
    return passed[column.codes]
