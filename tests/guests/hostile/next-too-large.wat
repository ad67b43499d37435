;; Puts a header in place that is larger than the MTU.

(func $packet (param $frame i32)
  (local $head i32)
  (local.set $head (global.get $out))
  (call $pass-whole (local.get $frame))
  (if (call $is-rtp (local.get $frame))
    (then
      (i32.store16 offset=2 (local.get $head) (i32.const 4016))
      (i32.store8 offset=24 (local.get $head) (i32.const 0x90))
      ;; An extension of 1000 words.
      (i32.store offset=36 (local.get $head) (i32.const 0xe803debe))
      (global.set $out (i32.add (local.get $head) (i32.const 4040))))))
