"""When Python looks for garbage: seldom, and never in what a process has loaded to work with."""

import gc


def spare_what_is_loaded() -> None:
    """Exclude all objects there are from garbage collection, and collect later ones less often.

    Code and routes are half a million, which it would go through again and again: it took a fifth
    of a submit's time, and made one in a hundred twice as slow. Nor is it gone through before: to
    find the thousand that are garbage would take a tenth of a start.
    """
    gc.freeze()
    gc.set_threshold(20_000, 20, 50)
    gc.enable()
