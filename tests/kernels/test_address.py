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
    cube = array.reshape(a, b, c)
    assert kernels.address_of(cube) == twins.address_of(cube) == at
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
