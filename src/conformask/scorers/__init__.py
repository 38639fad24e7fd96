"""Scores from (x, y_hat): the paper's mask network, quantile regression, a function of yours."""
