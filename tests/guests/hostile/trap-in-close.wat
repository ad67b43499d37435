;; Traps when its session ends.

(func $close
  (unreachable))
