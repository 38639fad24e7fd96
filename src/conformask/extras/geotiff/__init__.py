"""GeoTIFF and COG of satellites and aerial cameras."""
