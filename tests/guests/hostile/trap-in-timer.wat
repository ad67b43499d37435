;; Traps when its timer is due.

(func $timer (param $frame i32)
  (unreachable))
