;; Puts bytes in a header's place that are none.

(func $packet (param $frame i32)
  (call $pass-whole (local.get $frame))
  (if (call $is-rtp (local.get $frame))
    (then (i32.store8 (i32.sub (global.get $out) (i32.const 12)) (i32.const 0x20)))))
