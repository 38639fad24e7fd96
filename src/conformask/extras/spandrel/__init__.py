"""Networks that enlarge and restore photographs, as spandrel reads them."""
