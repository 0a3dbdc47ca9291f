"""Arrays by address: the arrays themselves, not copies."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from retrieval_draft.store.kernels import address as kernels
from tests.kernels import twins_address as twins
from tests.kernels.strategies import quick

sizes = st.integers(0, 4)


@quick(60)
@given(sizes, sizes, sizes)
def test_what_stands_at_an_address_is_the_array_itself(a: int, b: int, c: int) -> None:
    array = np.arange(a * b * c, dtype=np.int32)
    at = array.ctypes.data
    found = (
        (kernels.row_at(at, a * b * c), (a * b * c,)),
        (kernels.table_at(at, a * b, c), (a * b, c)),
        (kernels.cube_at(at, a, b, c), (a, b, c)),
    )
    for one, shape in found:
        assert one.shape == shape
        assert one.tolist() == twins.at(array, *shape).tolist()
        one += 1
    assert array.tolist() == [i + len(found) for i in range(a * b * c)]


@quick(60)
@given(sizes, sizes)
def test_what_stands_there_may_be_of_other_sizes(a: int, b: int) -> None:
    for found, kind, shape in (
        (kernels.bytes_at, "u1", (a, b)),
        (kernels.shares_at, "u2", (a, b)),
        (kernels.keys_at, "u8", (a * b,)),
    ):
        array = np.arange(200, 200 + a * b).astype(kind)
        one = found(array.ctypes.data, *shape)
        assert (one.dtype, one.shape) == (array.dtype, shape)
        assert one.tolist() == twins.at(array, *shape).tolist()
