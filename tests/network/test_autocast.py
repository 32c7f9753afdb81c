import pytest
import torch

from nnmagic.network.autocast import casting_to, casts_here


def test_what_autocast_casts_to_is_told_for_each_type_of_device():
    assert casts_here() == {}
    with torch.autocast("cpu", torch.float16):
        assert casts_here() == {"cpu": torch.float16}
        with torch.autocast("cpu", enabled=False):
            assert casts_here() == {}


@pytest.mark.parametrize("around", [{}, {"cpu": torch.float16}])
@pytest.mark.parametrize("wanted", [{}, {"cpu": torch.bfloat16}])
def test_it_casts_in_a_block_as_elsewhere_and_then_as_before(around, wanted):
    x = torch.rand(2, 2)
    with casting_to(around):
        with pytest.raises(ValueError, match="inside"), casting_to(wanted):
            assert casts_here() == wanted
            assert (x @ x).dtype is wanted.get("cpu", torch.float32)
            raise ValueError("inside")
        assert casts_here() == around
    assert casts_here() == {}
