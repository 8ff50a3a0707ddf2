"""Models that are linear in their weights, solved to a certificate.

The public functions (`Problem`, `solve`, `path`, `lambda_max`, `certify` and the methods of results) set
`jax.default_matmul_precision("highest")` for everything that they call: by default some devices multiply
float32 matrices with fewer digits.
"""
