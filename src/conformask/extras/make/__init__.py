"""Making triplets: x from true images by a task, y_hat by a network; and a first look."""
