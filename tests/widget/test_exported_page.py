import base64
import json
import re
import zlib

import pytest
import torch
from torch import nn

import nnmagic
from nnmagic.widget.exported_page import page_of


@pytest.fixture
def net():
    net = nn.Sequential(nn.Linear(4, 3), nn.ReLU())
    net.add_module("</script><script>owned=1</script>", nn.Identity())
    return net


def records(net):
    return nnmagic.trace(net, torch.rand(2, 4)), nnmagic.summary(net), nnmagic.params(net)


def test_a_page_holds_the_static_table_and_fetches_nothing(net):
    for record in records(net):
        page = page_of(record)

        assert page.startswith("<!doctype html>")
        assert page.count("<script") == page.count("</script>") == 1
        assert "owned=1&lt;/script&gt;" in page or isinstance(record, nnmagic.Params)
        assert '<div data-nnmagic="page"' in page
        assert not re.search(r"\b(src|href)=[\"']", page)


def test_a_page_of_a_network_that_is_gone_says_so(net):
    trace = nnmagic.trace(net, torch.rand(2, 4))
    alive = len(page_of(trace))
    del net

    assert len(page_of(trace)) > 0.5 * alive


def test_a_page_says_of_when_its_weights_are(net):
    page = page_of(nnmagic.trace(net, torch.rand(2, 4)))

    packed = zlib.decompress(base64.b64decode(re.search('packed = "([^"]+)"', page)[1]))
    assert b"weights as they were when this page was made" in packed
    assert b"as they are now" not in packed


def test_a_page_has_what_float32_cannot_hold():
    x = torch.linspace(-3e200, 3e200, 400, dtype=torch.float64).view(20, 20)

    page = page_of(nnmagic.trace(nn.Identity(), x))

    packed = zlib.decompress(base64.b64decode(re.search('packed = "([^"]+)"', page)[1]))
    assert x.numpy().tobytes() in packed


@pytest.mark.slow
def test_of_many_rows_those_that_matter_have_panels_in_a_page():
    layers = [nn.Identity() for _ in range(1200)]
    layers[1100] = nn.Linear(2, 2)
    net = nn.Sequential(*layers)
    with torch.no_grad():
        net[1100].weight.fill_(torch.nan)
        page = page_of(nnmagic.trace(net, torch.rand(1, 2)))

    packed = zlib.decompress(base64.b64decode(re.search('packed = "([^"]+)"', page)[1]))
    length = int.from_bytes(packed[:4], "little")
    panels = json.loads(packed[4 : 4 + length])["panels"]
    assert [*panels] == ["", *map(str, range(998)), "1100"]


@pytest.mark.slow
def test_the_page_of_a_resnet_is_below_250_kilobytes(tmp_path):
    import torchvision

    net = torchvision.models.resnet18().eval()
    trace = nnmagic.trace(net, torch.rand(1, 3, 224, 224))

    trace.to_html(tmp_path / "page.html")

    assert 100_000 < (tmp_path / "page.html").stat().st_size < 250_000
