"""Order statistics and bounds: numbers in, numbers out. No torch, no images."""
