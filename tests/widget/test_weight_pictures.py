import numpy as np
import pytest
import torch
from torch import nn

from nnmagic.widget.weight_pictures import parameter_picture, weight_pictures


@pytest.mark.parametrize(
    ("layer", "kind", "axes", "shown"),
    [
        (nn.Conv2d(3, 8, 5), "kernels", "out in kh kw", lambda w: w),
        (nn.Conv2d(32, 128, 3), "channels", "out in kh kw", lambda w: w[:64, :16]),
        (nn.Conv2d(8, 8, 3, groups=8), "channels", "out kh kw", lambda w: w[:, 0]),
        (nn.ConvTranspose2d(4, 8, 3), "channels", "in out kh kw", lambda w: w),
        (nn.Conv1d(4, 8, 3), "channels", "out in k", lambda w: w),
        (nn.Conv3d(4, 8, 3), "channels", "out in kd kh kw", lambda w: w),
        (nn.Linear(784, 100), "matrix", "out in", lambda w: w[:, ::7]),
        (nn.Conv2d(4, 8, 1), "matrix", "out in", lambda w: w[..., 0, 0]),
        (nn.Embedding(300, 7), "matrix", "id feature", lambda w: w[::3]),
    ],
)
def test_a_layer_s_weight_is_drawn_by_its_axes(layer, kind, axes, shown):
    (drawn,) = weight_pictures(layer)

    assert (drawn.name, drawn.kind, " ".join(drawn.axes)) == ("weight", kind, axes)
    assert np.array_equal(drawn.picture.sample.real_array(), shown(layer.weight.detach()).numpy())
    assert len(drawn.shape) == len(drawn.axes) == len(drawn.picture.steps)


def test_vectors_zeros_lazy_and_meta_weights_are_not_drawn():
    zeros = nn.Linear(3, 3)
    nn.init.zeros_(zeros.weight)
    layers = (zeros, nn.BatchNorm2d(3), nn.LazyLinear(3), nn.Linear(3, 3, device="meta"), nn.ReLU())

    assert [weight_pictures(layer) for layer in layers] == [()] * 5


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_nan_between_the_drawn_rows_of_a_weight_is_seen(dtype):
    layer = nn.Linear(784, 300, dtype=dtype)
    with torch.no_grad():
        layer.weight[4, 6] = torch.nan

    (drawn,) = weight_pictures(layer)

    values = drawn.picture.sample.real_array()
    assert drawn.picture.steps == (3, 7)
    assert np.argwhere(~np.isfinite(values)).tolist() == [[1, 0]]


def test_half_precision_is_drawn():
    layer = nn.Linear(4, 4, dtype=torch.bfloat16)

    (drawn,) = weight_pictures(layer)

    expected = layer.weight.detach().float().numpy()
    assert np.array_equal(drawn.picture.sample.real_array(), expected)


@pytest.mark.parametrize(
    ("parameter", "steps"),
    [
        (torch.arange(40_000.0), (3,)),
        (torch.rand(8, 1024, 1024), (1, 8, 8)),  # as of the experts of a mixture
        (torch.rand(40, 30, 3, 3), (1, 1, 1, 1)),
        (torch.rand(300, 2, dtype=torch.float64) * 1e200, (3, 1)),
        (torch.rand(300, 2).to(torch.float8_e4m3fn), (3, 1)),
        (torch.arange(600).view(300, 2), (3, 1)),
        (torch.rand(300, 2) > 0.5, (3, 1)),
    ],
)
def test_a_parameter_of_any_rank_and_dtype_has_a_picture_of_bounded_size(parameter, steps):
    picture = parameter_picture(parameter, is_finite=True)

    values = picture.sample.real_array()
    every = parameter[tuple(slice(None, None, step) for step in steps)]
    expected = every.double().numpy()[tuple(map(slice, values.shape))]
    assert picture.steps == steps
    assert values.size <= 16_384
    np.testing.assert_array_equal(values, expected)


def test_a_sparse_parameter_has_no_picture():
    assert parameter_picture(torch.eye(300).to_sparse(), is_finite=True) is None
