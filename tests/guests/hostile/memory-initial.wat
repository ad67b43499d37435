;; Has more memory than is allowed from the start.

(memory $memory 2000)
