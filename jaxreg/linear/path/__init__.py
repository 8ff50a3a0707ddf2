"""Solutions along a grid of λ.

`path` is the public function, `result` its result, and `grid` computes λ_max and grids. A path runs on all
columns (`all_columns`), or on a working set of them: `working_set` is the loop on the host, `matrix_columns`
and `matrix_free_columns` hold the columns, `kernels` solves a block of λ in one compiled program, and
`checks` certifies the block on all columns.
"""
