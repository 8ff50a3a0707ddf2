"""Claims about regularisation, each shown by one file with a `main(config)`; public names of jaxreg only."""
