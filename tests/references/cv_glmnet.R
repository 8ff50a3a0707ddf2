# Writes cv_glmnet.csv: mean (cvm) and standard error (cvsd) of cv.glmnet on fixed folds, with both choices of λ.
#     Rscript tests/references/cv_glmnet.R > tests/references/cv_glmnet.csv
suppressMessages(library(glmnet))
glmnet.control(fdev = 0, devmax = 1, eps = 1e-10)

n <- 80
p <- 10
i <- matrix(seq_len(n), n, p)
j <- matrix(seq_len(p), n, p, byrow = TRUE)
X <- sin(i * j * 0.37 + j^2) + 0.3 * cos(1.7 * i) + j / 10
noise <- cos(seq_len(n)^2 * 0.71)
z <- X[, 1] - 0.8 * X[, 2] + 0.5 * X[, 4]
weights <- 1 + (seq_len(n) %% 3)
foldid <- 1 + (seq_len(n) * 7) %% 5
targets <- list(
  gaussian = 3 * z + 2 * noise,
  binomial = as.numeric(z - mean(z) + 0.8 * noise > 0),
  poisson = round(exp(0.8 * (z - mean(z)) + 0.5 * noise)),
  multinomial = as.numeric(cut(z + 0.8 * noise, c(-Inf, -0.2, 0.9, Inf))) - 1,
  mgaussian = cbind(3 * z + 2 * noise, X[, 3] - z + noise)
)

cat("# Printed by", paste0("glmnet ", packageVersion("glmnet")), "in", R.version.string, "\n")
cat("case,index_min,index_1se,lambda,cvm,cvsd\n")
run <- function(case, family, measure = "deviance", ...) {
  options <- list(x = X, y = targets[[family]], family = family, thresh = 1e-16, maxit = 1e7, ...)
  # Without a grid cv.glmnet would interpolate the paths of the folds.
  lambda <- do.call(glmnet, c(options, nlambda = 12, lambda.min.ratio = 0.01))$lambda
  cv <- do.call(cv.glmnet, c(options, list(lambda = lambda, type.measure = measure, foldid = foldid)))
  choice <- c(match(cv$lambda.min, cv$lambda), match(cv$lambda.1se, cv$lambda)) - 1
  for (k in seq_along(cv$lambda)) {
    cat(case, choice[1], choice[2], sprintf("%.15g", c(cv$lambda[k], cv$cvm[k], cv$cvsd[k])), sep = ",")
    cat("\n")
  }
}
run("gaussian", "gaussian")
run("gaussian weights", "gaussian", weights = weights)
run("gaussian raw", "gaussian", standardize = FALSE)
run("gaussian mae", "gaussian", "mae")
run("binomial", "binomial")
run("binomial weights", "binomial", weights = weights)
run("binomial class", "binomial", "class")
run("binomial auc", "binomial", "auc", weights = weights)
run("poisson", "poisson")
run("multinomial", "multinomial")
run("mgaussian", "mgaussian")
