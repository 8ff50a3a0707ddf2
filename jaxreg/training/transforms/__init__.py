"""optax transforms for penalties: weight decay, proximal steps that make exact zeros, proximal optimisers.

`links` has transforms for a chain, `optimizers` whole optimisers. Each solves the following problem, for a
loss f, a penalty g and weights w:

| transform | ends at | L2 penalty of the cost |
|---|---|---|
| `chain(l2_decay(lam), adam(η))` | ∇f(w) + λw = 0 | `SquaredL2(lam)` in the cost |
| `chain(adam(η), decoupled_l2_decay(lam, η))` | min f(w) over ‖w‖∞ ≤ 1/λ | none: AdamW's decay |
| `chain(sgd(η), decoupled_l2_decay(lam, η))` | ∇f(w) + λw = 0 | `SquaredL2(lam)` in the cost |
| `proximal_sgd(η, g)`, `proximal_adam(η, g)`, … | min f(w) + g(w) | whatever g is, `SquaredL2(lam)` too |

The second row holds without noise and for a run that is long against 1/(1 − b2): at rest Adam's direction is
the sign of the gradient, so that sign(∇f) = −λw or ∇f = 0 (Xie and Li 2024, "Implicit bias of AdamW").
"""

from jaxreg.training.transforms.links import (
    ProximalState,
    apply_prox,
    decoupled_l2_decay,
    l2_decay,
    proximal,
    require_last,
)
from jaxreg.training.transforms.optimizers import (
    proximal_adagrad,
    proximal_adam,
    proximal_lion,
    proximal_sgd,
)

__all__ = [
    "ProximalState",
    "apply_prox",
    "decoupled_l2_decay",
    "l2_decay",
    "proximal",
    "proximal_adagrad",
    "proximal_adam",
    "proximal_lion",
    "proximal_sgd",
    "require_last",
]
