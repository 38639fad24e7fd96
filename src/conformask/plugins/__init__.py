"""Plugins, one folder per optional library, found by entry points; no other module imports them."""
