# Writes rms.csv: what the package rms of F. E. Harrell says of two models: calibration on new rows, the model's
# likelihood ratio, and bootstrap estimates of training and test values.
#     Rscript tests/references/rms.R > tests/references/rms.csv
suppressMessages(library(rms))

n <- 120
p <- 5
i <- matrix(seq_len(n), n, p)
j <- matrix(seq_len(p), n, p, byrow = TRUE)
X <- sin(i * j * 0.37 + j^2) + 0.3 * cos(1.7 * i) + j / 10
colnames(X) <- paste0("x", seq_len(p))
noise <- cos(seq_len(n)^2 * 0.71)
z <- X[, 1] - 0.8 * X[, 2] + 0.5 * X[, 4]
data <- data.frame(X, real = 3 * z + 4 * noise, class = as.numeric(z - mean(z) + 1.6 * noise > 0))
train <- data[1:60, ]
new <- data[61:120, ]

cat("# Printed by", paste0("rms ", packageVersion("rms")), "in", R.version.string, "\n")
cat("model,quantity,value\n")
say <- function(model, quantity, value) cat(model, quantity, format(value, digits = 12), sep = ",", fill = TRUE)
bootstrap <- function(model, fit, rows) {
  set.seed(1)
  # It prints how many samples had no fit.
  invisible(capture.output(found <- validate(fit, B = 20000)))
  for (row in rows) for (column in c("training", "test")) say(model, paste(row, column), found[row, column])
}

ls <- ols(real ~ x1 + x2 + x3 + x4 + x5, data = train, x = TRUE, y = TRUE)
predicted <- predict(ls, newdata = new)
calibrated <- coef(lm(new$real ~ predicted))
say("ols", "R2", ls$stats["R2"])
say("ols", "intercept on new rows", calibrated[1])
say("ols", "slope on new rows", calibrated[2])
bootstrap("ols", ls, c("R-square", "MSE", "Slope", "Intercept"))

logistic <- lrm(class ~ x1 + x2 + x3 + x4 + x5, data = train, x = TRUE, y = TRUE, eps = 1e-12)
on.new <- val.prob(plogis(predict(logistic, newdata = new)), new$class, pl = FALSE)
say("lrm", "likelihood ratio", logistic$stats["Model L.R."])
say("lrm", "intercept on new rows", on.new["Intercept"])
say("lrm", "slope on new rows", on.new["Slope"])
say("lrm", "AUC on new rows", on.new["C (ROC)"])
bootstrap("lrm", logistic, c("Dxy", "Slope", "Intercept"))
