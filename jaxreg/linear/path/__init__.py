"""Solutions along a grid of λ.

`path` is the public function, which chooses a method; `result` is its result, and `grid` computes λ_max and
grids. Newton's method runs on a working set of columns: `working_set` is the host loop, `matrix_columns` and
`matrix_free_columns` hold the columns, `kernels` solves a block of λ in one compiled program, `checks`
certifies the block on all columns, and `record` keeps the results. `outputs` solves output by output, `ridge`
by one eigendecomposition, and `all_columns` by a solver on all columns, for any penalty.
"""
