"""Packing is exact, in numpy's little bit order, for every shape."""

import numpy as np
import pytest
import torch
from actsparse.codebooks.packing import count_active, pack, packed_width, unpack
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

masks = arrays(bool, array_shapes(min_dims=1, max_dims=3, min_side=1, max_side=67))


@given(masks)
def test_packs_as_numpy_does(mask):
    expected = np.packbits(mask, axis=-1, bitorder="little")
    packed = pack(torch.from_numpy(mask))
    assert packed.dtype == torch.uint8
    assert np.array_equal(packed.numpy(), expected)
    assert packed.shape[-1] == packed_width(mask.shape[-1])


@given(masks, st.sampled_from([torch.bool, torch.uint8, torch.int32, torch.float32, torch.bfloat16]))
def test_unpack_inverts_pack(mask, dtype):
    mask = torch.from_numpy(mask)
    unpacked = unpack(pack(mask), mask.shape[-1], dtype)
    assert unpacked.dtype == dtype
    assert torch.equal(unpacked, mask.to(dtype))


@given(masks)
def test_counts_the_active(mask):
    assert np.array_equal(count_active(pack(torch.from_numpy(mask))).numpy(), mask.sum(-1))


def test_packs_views_and_empty_masks():
    mask = torch.rand(6, 40, 5) > 0.5
    strided = mask.transpose(1, 2)[:, 1:4, ::2]
    assert torch.equal(unpack(pack(strided), 20), strided)
    assert pack(torch.zeros(0, 12, dtype=torch.bool)).shape == (0, 2)
    assert unpack(torch.zeros(0, 2, dtype=torch.uint8), 12).shape == (0, 12)


def test_refuses_other_dtypes_and_widths():
    with pytest.raises(TypeError, match="expected a bool mask"):
        pack(torch.zeros(8))
    with pytest.raises(ValueError, match="2 bytes cannot hold exactly 20 neurons"):
        unpack(torch.zeros(3, 2, dtype=torch.uint8), 20)
