;; Traps when a stream ends.

(func $unbind
  (unreachable))
