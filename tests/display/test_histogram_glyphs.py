from nnmagic.display.histogram_glyphs import histogram_glyphs
from nnmagic.display.table import Histogram


def test_the_fullest_bin_is_the_tallest_bar_and_an_empty_one_is_blank():
    assert histogram_glyphs(Histogram((0, 1, 4, 8), 1.0, 2.0)) == " ▁▄█ "
    assert histogram_glyphs(Histogram((8, 0, 1, 8), -1.0, 1.0)) == "█ |▁█"
    assert histogram_glyphs(Histogram((8, 1, 1, 1), 0.0, 1.0)) == "|█▁▁▁"
