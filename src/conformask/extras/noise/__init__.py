"""References with noise, and images of counts."""
