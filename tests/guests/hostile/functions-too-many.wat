;; Has more functions than are compiled.

;; times 51000
(func)
