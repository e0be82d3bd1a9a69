"""Tests mirror the rooms. Here is what holds for all of them."""

from beartype import BeartypeConf, beartype
from hypothesis import settings

# shapes and types of every call are checked, an int serving as a float (PEP 484)
typechecker = beartype(conf=BeartypeConf(is_pep484_tower=True))

# a law is tested for its truth, never for its speed: the first call of a kernel can take a second
settings.register_profile("laws", deadline=None, print_blob=True)
settings.load_profile("laws")
