;; Puts bytes in a compound's place that are none.

(func $packet (param $frame i32)
  (call $pass-whole (local.get $frame))
  (if (i32.eqz (call $is-rtp (local.get $frame)))
    (then (i32.store8 (i32.sub (global.get $out) (i32.const 8)) (i32.const 0)))))
