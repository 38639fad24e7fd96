"""Scores from (x, y_hat): the paper's mask network, quantile regression, or a user's own function."""
