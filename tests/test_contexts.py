import gc

import pytest

from nnmagic.contexts import without_garbage_collection


@pytest.mark.parametrize("enabled", [True, False])
def test_garbage_is_collected_again_after_a_function_whatever_ends_it(enabled):
    @without_garbage_collection
    def seen(error=None):
        if error is not None:
            raise error
        return gc.isenabled()

    was_enabled = gc.isenabled()
    (gc.enable if enabled else gc.disable)()
    try:
        assert seen() is False
        assert gc.isenabled() is enabled
        with pytest.raises(KeyboardInterrupt):
            seen(KeyboardInterrupt())
        assert gc.isenabled() is enabled
    finally:
        (gc.enable if was_enabled else gc.disable)()
