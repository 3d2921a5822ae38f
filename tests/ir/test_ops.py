"""Every op against its own declarations."""

import pytest

from planish.ir.ops import all_ops
from planish.testing import check_op, check_quantized


@pytest.mark.parametrize("op", all_ops(), ids=lambda op: op.name)
def test_op_holds_its_declarations(op):
    check_op(op)


@pytest.mark.parametrize("op", all_ops(), ids=lambda op: op.name)
def test_integer_form_is_within_one_step(op):
    check_quantized(op)
