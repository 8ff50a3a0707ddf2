"""The command `jaxreg`: read a file, sweep over λ, draw, report. No other module imports it."""
