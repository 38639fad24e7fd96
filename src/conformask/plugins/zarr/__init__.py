"""OME-Zarr images, and masks of them."""
