;; Never returns when it is asked something.

(func $control (result i32)
  (loop $ever (br $ever))
  (unreachable))
