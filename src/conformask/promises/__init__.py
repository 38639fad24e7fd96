"""Order statistics, bounds and promises, on numbers alone. No torch, no images."""
