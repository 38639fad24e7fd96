"""Predictors of y_hat from x: classical methods, networks trained here, and the user's own."""
