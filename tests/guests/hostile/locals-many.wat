;; Has a function with fifty thousand variables.

(func $variables
;; times 50000
  (local i64)
)
