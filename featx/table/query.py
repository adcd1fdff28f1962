"""Select images by an expression such as ``label == 'rose' and split_0 != 'test'``.

The expression is parsed as Python but never executed. This module evaluates only the comparisons that it knows.
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
from featx.table.image_table import ImageTable

Mask = NDArray[np.bool_]
Predicate = Callable[[str], bool]
ORDERS: dict[type[ast.cmpop], Callable[[Any, Any], bool]] = {
    ast.Eq: operator.eq, ast.NotEq: operator.ne, ast.Lt: operator.lt, ast.LtE: operator.le, ast.Gt: operator.gt,
    ast.GtE: operator.ge,
}  # fmt: skip
MIRRORED: dict[type[ast.cmpop], type[ast.cmpop]] = {ast.Lt: ast.Gt, ast.LtE: ast.GtE, ast.Gt: ast.Lt, ast.GtE: ast.LtE}
NEGATED: dict[type[ast.cmpop], type[ast.cmpop]] = {ast.NotEq: ast.Eq, ast.NotIn: ast.In}
MAX_LENGTH = 10_000
SHOWN = 200
"""Largest number of characters of a query that an error message shows."""
FORM = (
    "comparisons such as label == 'rose', split in ('train', 'val'), 'x' in path or weight > 0.5, "
    "combined with and, or, not"
)


def find_rows(rows: ImageTable, expression: str) -> Mask:
    """Find the rows of a table for which an expression is true.

    Parameters
    ----------
    rows : ImageTable
        The table.
    expression : str
        Comparisons (``==``, ``!=``, ``<``, ``<=``, ``>``, ``>=``, ``in``, ``not in``) of ``path``, ``label`` or a
        column with constants, combined with ``and``, ``or`` and ``not``.

        - If the constant is a string, values are compared as strings. If it is a number, values are compared as
          numbers, and the comparison is false for a row without a value. ``!=`` and ``not`` select all rows that the
          opposite does not select. So ``weight != 1`` also selects rows without a value.
        - ``'x' in path`` is true if the path contains ``x``.
        - For a multi-label image, ``label == 'a'`` is true if one of its labels is ``a``, and ``label != 'a'`` is true
          if none of its labels is ``a``. ``label == ''`` is true for an image without a label.

    Returns
    -------
    bool (rows,)

    Raises
    ------
    SpecError
        If the expression has another form or an unknown name.
    DataError
        If a column that is compared with a number has a value that is not a number.
    """
    if len(expression) > MAX_LENGTH:
        raise SpecError(f"a query must have at most {MAX_LENGTH:,} characters, got {len(expression):,}")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Python's syntax warnings do not help with queries.
            tree = ast.parse(expression.strip(), mode="eval")
        return _Query(rows, expression).mask(tree.body)
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        if isinstance(error, SpecError | DataError):
            raise
        raise SpecError(f"a query must consist of {FORM}, got {_short(expression)}: {error}") from None


class _Query:
    """Evaluate one expression on one table."""

    def __init__(self, rows: ImageTable, expression: str) -> None:
        self._rows, self._expression = rows, expression

    def mask(self, node: ast.expr) -> Mask:
        """Return for each row whether a part of the expression is true, bool (rows,)."""
        if isinstance(node, ast.BoolOp):
            join = np.logical_and if isinstance(node.op, ast.And) else np.logical_or
            return np.asarray(join.reduce([self.mask(value) for value in node.values]), bool)
        if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not):
            return ~self.mask(node.operand)
        if isinstance(node, ast.Compare):
            sides = [node.left, *node.comparators]
            links = zip(sides, node.ops, sides[1:], strict=False)
            return np.asarray(np.logical_and.reduce([self._compare(*link) for link in links]), bool)
        raise self._error(node)

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
            text = self._constant(left)
            if not isinstance(text, str):
                raise self._error(left, f"a string before in, such as '{text}'")
            is_label = right.id == "label"
            return self._where(right, lambda value: value == text if is_label else text in value)
        if isinstance(left, ast.Name) and kind is ast.In:
            raise self._error(right, "a list after in, such as ('train', 'val') or ('train',)")
        raise self._error(left)

    def _ordered(self, name: ast.Name, kind: type[ast.cmpop], side: ast.expr) -> Predicate:
        """Return a function that compares a value of the column with a constant."""
        constant, order = self._constant(side), ORDERS[kind]
        if isinstance(constant, str):
            return lambda value: order(value, constant)

        def test(value: str) -> bool:
            try:
                return value != "" and order(float(value), constant)
            except ValueError:
                raise DataError(
                    f"{name.id} has the value {value!r}, which is not a number; "
                    f"compare the column with a string, such as {_short(str(constant))}"
                ) from None

        return test

    def _constant(self, node: ast.expr) -> str | float:
        negative = isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub)
        value = ast.literal_eval(node) if negative else getattr(node, "value", None)
        if isinstance(value, bool) or not isinstance(value, str | int | float):
            raise self._error(node)
        return value

    def _where(self, name: ast.Name, test: Predicate) -> Mask:
        """Return for each row whether its value in a column passes a test. Each distinct value is tested once."""
        rows = self._rows
        if name.id == "path":
            return np.fromiter(map(test, rows.paths), bool, len(rows))
        if name.id == "label":
            return _test_column(rows.labels, lambda names: any(map(test, names or ("",))))
        if name.id not in rows.columns:
            known = ", ".join(["path", "label", *rows.columns])
            raise SpecError(f"a name in a query must be one of {known}, got {name.id!r} in {_short(self._expression)}")
        return _test_column(rows.columns[name.id], test)

    def _error(self, node: ast.expr, wanted: str = "") -> SpecError:
        part = ast.get_source_segment(self._expression.strip(), node) or ""
        must = f"must have {wanted}" if wanted else f"must consist of {FORM}"
        return SpecError(f"a query {must}, got {_short(part)} in {_short(self._expression)}")


def _short(text: str) -> str:
    """Return a string in the form that error messages show: in quotes, and cut after `SHOWN` characters."""
    return repr(text if len(text) <= SHOWN else text[:SHOWN] + "…")


def _test_column(column: CategoricalArray[T], test: Callable[[T], bool]) -> Mask:
    passed = np.fromiter(map(test, column.categories), bool, len(column.categories))
    return passed[column.codes]
