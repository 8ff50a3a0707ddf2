"""Models that are linear in their weights, solved to a certificate.

The public doors (`Problem`, `solve`, `path`, `lambda_max`, `certify` and the methods of results) ask for
matrix products of full precision, for all that they call: some devices multiply float32 with fewer digits
otherwise.
"""
