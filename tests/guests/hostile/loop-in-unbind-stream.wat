;; Never returns when a stream ends.

(func $unbind
  (loop $ever (br $ever)))
