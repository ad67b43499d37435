;; Divides by zero.

(func $packet (param $frame i32)
  (drop (i32.div_u (i32.const 1) (i32.load16_u offset=22 (local.get $frame)))))
