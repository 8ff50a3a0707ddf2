"""Solutions along a grid of λ: `path` is the public function, `grid` says where a grid starts.

A warm path walks down the grid on the host (`working_set`), with the columns in use in a buffer (`columns`)
on which compiled programs solve several λ at once (`kernels`).
"""
