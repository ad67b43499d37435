;; Has more functions than are compiled.

;; times 60000
(func)
