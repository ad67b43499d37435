;; Has ten thousand functions.

;; times 10000
(func)
