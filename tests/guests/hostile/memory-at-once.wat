;; Wants all the memory that there can be, and traps without it.

(func $packet (param $frame i32)
  (if (i32.eq (memory.grow (i32.const 60000)) (i32.const -1)) (then (unreachable))))
