"""Choice of hyperparameters by a criterion: `criteria`, and their minimisation by gradients, `tune`."""
