"""Compact storage: what is unpacked is what was packed."""

import pytest
import torch

from metarl.fewshot.data.packed import decode, pack_bits, quarter_turns, unpack_bits


def test_bits_are_packed_eight_to_a_byte_lowest_first():
    pixels = torch.zeros(1, 16, dtype=torch.bool)
    pixels[0, [0, 3, 15]] = True
    assert pack_bits(pixels).tolist() == [[0b1001, 0b10000000]]


def test_unpacking_undoes_packing():
    pixels = torch.rand(5, 7, 56, generator=torch.Generator().manual_seed(0)) < 0.4
    assert unpack_bits(pack_bits(pixels)).bool().equal(pixels)
    with pytest.raises(ValueError, match="pixels must be a multiple of 8 to be packed, got 9"):
        pack_bits(torch.zeros(2, 9, dtype=torch.bool))


def test_each_encoding_is_decoded_to_float32():
    assert decode(torch.tensor([[0, 51, 255]], dtype=torch.uint8), "uint8").tolist() == [
        pytest.approx([0, 0.2, 1])
    ]
    assert decode(torch.tensor([[5]], dtype=torch.uint8), "bits").tolist() == [
        [1, 0, 1, 0, 0, 0, 0, 0]
    ]
    assert decode(torch.tensor([[3, 0, -4]], dtype=torch.int8), "counts").tolist() == [
        pytest.approx([0.6, 0, -0.8])
    ]
    floats = torch.tensor([[1.5, -2.0]])
    assert decode(floats, "float32").equal(floats)


def test_a_text_without_features_stays_zero():
    assert decode(torch.zeros(1, 3, dtype=torch.int8), "counts").tolist() == [[0, 0, 0]]


@pytest.mark.parametrize("channels", [1, 3])
def test_quarter_turns_are_those_of_rot90(channels):
    images = torch.rand(2, channels, 4, 4)
    table = quarter_turns((channels, 4, 4), "cpu")
    for k in range(4):
        turned = decode(images.flatten(1), "float32", table[k]).view_as(images)
        assert turned.equal(images.rot90(k, (2, 3)))


@pytest.mark.parametrize("shape", [(3,), (1, 2, 3), (4, 4)])
def test_only_square_images_can_be_turned(shape):
    with pytest.raises(ValueError, match="rotations need square images"):
        quarter_turns(shape, "cpu")
