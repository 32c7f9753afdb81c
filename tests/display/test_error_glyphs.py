from math import inf

import pytest

from nnmagic.display.error_glyphs import error_glyphs
from nnmagic.display.table import RelativeError


@pytest.mark.parametrize(
    ("number", "bound", "bar"),
    [
        (1.0, None, "━━━━━━━━"),
        (1e-4, None, "━━━━    "),
        (10**-4.5, None, "━━━╸    "),
        (1e-12, None, "╸       "),
        (inf, 1e-6, "━━┿━━━━━"),
        (1e-4, 1e-6, "━━┿━    "),
        (1e-7, 1e-3, "━    │  "),
        (1e-7, 10.0, "━      │"),
        (0.0, 1e-6, ""),
    ],
)
def test_a_bar_has_a_glyph_a_decade_and_a_tick_at_the_bound(number, bound, bar):
    assert error_glyphs(RelativeError(number, bound)) == bar
