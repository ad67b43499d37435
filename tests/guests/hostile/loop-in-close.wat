;; Never returns when its session ends.

(func $close
  (loop $ever (br $ever)))
