# glmnet as a worker: `Rscript glmnet.R FOLDER` speaks the protocol of worker.py.

read_npy <- function(path) {
  file <- file(path, "rb")
  on.exit(close(file))
  start <- readBin(file, "raw", 10)
  header <- rawToChar(readBin(file, "raw", as.integer(start[9]) + 256L * as.integer(start[10])))
  text <- sub(".*'shape': \\(([^)]*)\\).*", "\\1", header)
  shape <- as.integer(strsplit(gsub(" ", "", text), ",")[[1]])
  whole <- grepl("'<i4'", header)
  values <- readBin(file, if (whole) "integer" else "double", prod(shape), size = if (whole) 4 else 8)
  if (length(shape) == 2) matrix(values, shape[1], shape[2]) else values
}

write_npy <- function(path, values, shape) {
  text <- paste(c(shape, if (length(shape) == 1) ""), collapse = ", ")
  header <- sprintf("{'descr': '<f8', 'fortran_order': True, 'shape': (%s), }", text)
  header <- paste0(header, strrep(" ", 117 - nchar(header)), "\n")
  file <- file(path, "wb")
  on.exit(close(file))
  writeBin(as.raw(c(0x93, utf8ToInt("NUMPY"), 1, 0, 118, 0)), file)
  writeBin(charToRaw(header), file)
  writeBin(as.double(values), file, size = 8)
}

field <- function(line, name) sub(paste0('.*"', name, '": *"?([^",}]*).*'), "\\1", line)
answer <- function(text) { cat(text, "\n", sep = ""); flush(stdout()) }
refuse <- function(e) {
  answer(sprintf('{"error": "%s"}', gsub('[\\\\"\n\t]', " ", conditionMessage(e))))
}
peak <- function() {
  lines <- tryCatch(readLines("/proc/self/status"), error = function(e) "VmHWM: 0", warning = function(w) "VmHWM: 0")
  as.numeric(gsub("[^0-9]", "", grep("VmHWM", lines, value = TRUE)[1])) / 1e3
}

# If glmnet stops before the end of the grid, its last solution is used for the remaining values.
fill <- function(values, total) values[, pmin(seq_len(total), ncol(values)), drop = FALSE]

solver <- function(folder, about) {
  at <- function(name) read_npy(file.path(folder, paste0(name, ".npy")))
  y <- at("y")
  lambdas <- at("lambdas")
  if (field(about, "sparse") == "true") {
    shape <- as.integer(strsplit(sub('.*"shape": *\\[([^]]*)\\].*', "\\1", about), ",")[[1]])
    x <- Matrix::sparseMatrix(i = at("X_indices"), p = at("X_indptr"), x = at("X_data"), dims = shape, index1 = FALSE)
  } else {
    x <- at("X")
  }
  loss <- field(about, "loss")
  intercept <- field(about, "intercept") == "true"
  ratio <- as.numeric(field(about, "l1_ratio"))
  family <- c(squared = "gaussian", logistic = "binomial", poisson = "poisson", multinomial = "multinomial")[[loss]]
  # The Gaussian family divides y by its standard deviation, so that its ridge part acts as lambda/deviation.
  center <- if (intercept) mean(y) else 0
  deviation <- if (loss == "squared") sqrt(mean((y - center)^2)) else 1
  total <- ratio + (1 - ratio) * deviation
  target <- if (family %in% c("binomial", "multinomial")) factor(y) else y
  glmnet::glmnet.control(fdev = 0, devmax = 1)
  list(
    fit = function(tolerance) {
      glmnet::glmnet(x, target, family,
        alpha = ratio / total, lambda = lambdas * total, standardize = FALSE, intercept = intercept,
        thresh = tolerance, maxit = 1e9)
    },
    dense = function(fit) {
      L <- length(lambdas)
      if (family == "multinomial") {
        coef <- vapply(fit$beta, function(b) t(fill(as.matrix(b), L)), matrix(0, L, ncol(x)))
        list(coef = coef, shape = c(L, ncol(x), length(fit$beta)), intercept = t(fill(fit$a0, L)))
      } else {
        coef <- t(fill(as.matrix(fit$beta), L))
        list(coef = coef, shape = c(L, ncol(x)), intercept = fill(matrix(fit$a0, 1), L))
      }
    }
  )
}

main <- function(folder) {
  begun <- proc.time()[["elapsed"]]
  about <- paste(readLines(file.path(folder, "task.json")), collapse = "")
  solve <- tryCatch(solver(folder, about), error = function(e) { refuse(e); NULL })
  if (is.null(solve)) return(invisible())
  answer(sprintf('{"version": "%s", "start": %f}', packageVersion("glmnet"), proc.time()[["elapsed"]] - begun))
  input <- file("stdin")
  open(input)
  while (length(line <- readLines(input, 1)) > 0) {
    tryCatch({
      times <- c()
      while (length(times) == 0 || (sum(times) < as.numeric(field(line, "min_seconds")) && length(times) < 20)) {
        begun <- Sys.time()
        fit <- suppressWarnings(solve$fit(as.numeric(field(line, "tol"))))
        times <- c(times, as.numeric(difftime(Sys.time(), begun, units = "secs")))
      }
      found <- solve$dense(fit)
      out <- field(line, "out")
      write_npy(paste0(out, ".coef.npy"), found$coef, found$shape)
      shape <- if (length(found$shape) == 3) found$shape[c(1, 3)] else found$shape[1]
      write_npy(paste0(out, ".intercept.npy"), found$intercept, shape)
      answer(sprintf('{"seconds": %.9f, "memory": %f}', median(times), peak()))
    }, error = refuse)
  }
}

main(commandArgs(trailingOnly = TRUE)[1])
