"""Scores from (x, y_hat): the paper's mask network, error regression, quantile regression."""
