"""Export of a masker: the formats, which are plugins, and the common parts of exported folders."""
