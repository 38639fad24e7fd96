"""How beartype checks types and shapes while tests run: an int may stand where a float is wanted.

The streams with which pytest captures output are text streams that lack an attribute of `TextIO`.
"""

from io import TextIOBase
from typing import TextIO

from beartype import BeartypeConf, FrozenDict, beartype

STREAMS = FrozenDict({TextIO: TextIOBase})
typechecked = beartype(conf=BeartypeConf(is_pep484_tower=True, hint_overrides=STREAMS))
