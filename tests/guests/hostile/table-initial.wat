;; Has a larger table than is allowed from the start.

(table $table 1000000 funcref)
