"""Choice of hyperparameters by cross-validation, or by a criterion (`criteria`) and its gradients (`tune`)."""
