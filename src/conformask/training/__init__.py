"""Training by Lightning: what every network of the stream shares."""
