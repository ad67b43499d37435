;; Announces that it may want all the memory that there can be.

(memory $memory 34 65536)
