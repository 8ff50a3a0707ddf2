"""Claims about regularisation, one per file with a `main(config, out)`; public names of jaxreg only."""
