"""Reading and writing images, triplets, splits, true images and packaged photographs."""
