;; Never returns when its timer is due.

(func $timer (param $frame i32)
  (loop $ever (br $ever)))
