"""How beartype checks types and shapes while tests run: an int may stand where a float is wanted."""

from beartype import BeartypeConf, beartype

typechecked = beartype(conf=BeartypeConf(is_pep484_tower=True))
