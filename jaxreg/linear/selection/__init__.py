"""Choice of hyperparameters: cross-validation, and criteria that are minimised by gradients (`tune`)."""
